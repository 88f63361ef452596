"""Questions about painted frames with meanings and answers, in words of the templates and in free words."""
from __future__ import annotations

import hashlib
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import new_folder, write_file
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.subjects import OBJECTS, Subject
from mpnp_ros.questions.vocabulary import RELATIONS, lies
from mpnp_ros.questions.wording import Description
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.dataset import Example, Frame, TokenDataset

MEANINGS = 'meanings.json'
WORDINGS = 8
"""Free wordings of each meaning; further frames reuse them."""


class Painted(Protocol):
    """A painted frame of any subject: tokens, and the truth drawn from them."""

    @property
    def tokens(self) -> ModalityTokens:
        """Return the tokens of a sensor."""

    def asked(self, rng: random.Random, per_kind: int) -> list[tuple[Meaning, str, str]]:
        """Return meanings, their answers, and a wording of templates or an empty text.

        per_kind: maximum of each kind.
        """


@dataclass(frozen=True, eq=False)
class PaintedDataset:
    """Questions about painted frames with their meanings.

    dataset: its frames have tokens of one modality.  meanings: of every text in it, and of other texts.
    beyond: texts of questions that counts cannot answer.
    """

    dataset: TokenDataset
    meanings: Mapping[str, Meaning]
    beyond: tuple[str, ...] = ()

    @cached_property
    def identity(self) -> str:
        """Return a sha256 of the questions."""
        digest = hashlib.sha256(repr(self.beyond).encode())
        for example in self.dataset.examples:
            digest.update(f'{example.question}\n{example.answer}\n{example.frame}\n'.encode())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically."""
        with new_folder(folder) as path:
            self.write(path)

    def write(self, folder: Path) -> None:
        """Write the files into an empty folder."""
        self.dataset.write(folder)
        meanings = {text: asdict(meaning) for text, meaning in self.meanings.items()}
        write_file(folder / MEANINGS, json.dumps({'meanings': meanings, 'beyond': self.beyond}).encode())

    @classmethod
    def load(cls, folder: str | Path) -> PaintedDataset:
        """Read a saved folder.  Raises DatasetError if it is unusable."""
        dataset = TokenDataset.load(folder)
        try:
            entries = json.loads((Path(folder) / MEANINGS).read_bytes())
            meanings = {text: Meaning(**{
                **entry, 'thing': Description(**entry['thing']),
                'second': None if entry['second'] is None else Description(**entry['second'])})
                for text, entry in entries['meanings'].items()}
            return cls(dataset, meanings, tuple(entries['beyond']))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f'painted frames {folder} cannot be read ({error}); make them again') from None


def painted_questions(frames: Iterable[Painted], seed: int = 0, per_kind: int = 10,
                      of_each_type: int = 0, free: float = 0.65, beyond: int = 0,
                      wordings: int = 0, subject: Subject = OBJECTS, choices: Sequence[str] = (),
                      held_out: bool = False) -> PaintedDataset:
    """Return questions about frames, balanced so that no meaning gives its answer away.

    of_each_type: maximum number of each type; 0: all.  free: share in free words; the others are in words of
    the templates where one fits.  beyond: number of questions that counts cannot answer.  wordings: number of
    additional texts, of random meanings.  choices: closed list; default: that of the subject.  held_out: use
    words that do not occur in training.
    """
    tokens: dict[str, Frame] = {}
    rng, choices = random.Random(f'{seed}/questions'), tuple(choices) or subject.answers
    piles: dict[Meaning, dict[str, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
    for number, frame in enumerate(frames):
        tokens[str(number)] = {frame.tokens.modality: frame.tokens}
        for meaning, answer, text in frame.asked(rng, per_kind):
            piles[meaning][answer].append((text, number))
    by_type: dict[str, list[Example]] = defaultdict(list)
    meanings: dict[str, Meaning] = {}
    for meaning, answers in piles.items():
        sizes = sorted(map(len, answers.values()), reverse=True)
        cap = sizes[1] if len(sizes) > 1 else 0
        words: list[str] = []
        for answer, asked in answers.items():
            for text, number in asked if len(asked) <= cap else rng.sample(asked, cap):
                if not text or rng.random() < free:
                    if len(words) < WORDINGS:
                        words.append(subject.say(meaning, rng, held_out))
                    text = rng.choice(words)
                if meanings.setdefault(text, meaning) == meaning:
                    by_type[meaning.type].append(Example(text, answer, choices, meaning.type, 0, str(number)))
    chosen: list[Example] = []
    for questions in by_type.values():
        chosen += rng.sample(questions, of_each_type) if 0 < of_each_type < len(questions) else questions
    used = {example.question for example in chosen}
    meanings = {text: meaning for text, meaning in meanings.items() if text in used}
    for _ in range(wordings):
        meaning = subject.any_meaning(rng)
        meanings.setdefault(subject.say(meaning, rng, held_out), meaning)
    return PaintedDataset(TokenDataset(tokens, tuple(chosen)), meanings,
                          tuple(sorted({subject.say_beyond(rng) for _ in range(beyond)} - meanings.keys())))


def target_of(meaning: Meaning, azimuths: np.ndarray, distances: np.ndarray,
              probes: int = 2) -> tuple[np.ndarray, np.ndarray, tuple[Description, ...]]:
    """Return where the first probes should count, 0 or 1: [probes, azimuths], [probes, distances], and what.

    The second probe counts what things are compared to; in other questions the same as the first.  Those
    behind count all around.  Where something is, is asked of each of the six directions, as many as there are
    probes.
    """
    looks: list[tuple[Description, str | None]] = [(meaning.thing, meaning.direction)]
    if meaning.type == 'where':
        looks = [(meaning.thing, direction) for direction in RELATIONS]
    else:
        looks.append((meaning.second, None) if meaning.second else looks[0])
        looks += [(meaning.thing, None)] * (probes - len(looks))
    looks = looks[:probes]
    around = np.array([[asked is None or lies(asked, math.cos(angle), math.sin(angle)) for angle in azimuths]
                       for _, asked in looks], np.float32)
    reach = math.inf if meaning.reach is None else meaning.reach
    return around, np.stack([(distances <= reach).astype(np.float32)] * probes), \
        tuple(thing for thing, _ in looks)

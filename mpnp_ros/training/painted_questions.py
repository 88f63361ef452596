"""Questions about painted frames: meanings, answers and wordings."""
from __future__ import annotations

import hashlib
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.files import new_folder, write_file
from mpnp_ros.questions.generator import Fact, SceneFacts, chosen_facts
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.phrasing import Meaning, say, say_beyond
from mpnp_ros.questions.vocabulary import (
    ANSWERS,
    CATEGORIES,
    RELATIONS,
    SIDES,
    STATUSES,
    STATUSES_OF_CATEGORY,
    THING,
    lies,
)
from mpnp_ros.questions.wording import TEMPLATES, TYPES, Description, descriptions
from mpnp_ros.training.dataset import Example, Frame, TokenDataset
from mpnp_ros.training.dense_frames import PaintedFrame

REACHES = (5., 8., 10., 12., 15., 20., 25.)
MEANINGS = 'meanings.json'
WORDINGS = 8
"""Wordings of each meaning that are read; further frames reuse them."""


@dataclass(frozen=True, eq=False)
class PaintedDataset:
    """Questions about painted frames with their meanings.

    dataset: frames have tokens of one modality.  meanings: of every text in it, and of other wordings.
    beyond: texts that counts cannot answer.
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
            meanings = {text: _meaning(entry) for text, entry in entries['meanings'].items()}
            return cls(dataset, meanings, tuple(entries['beyond']))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f'painted frames {folder} cannot be read ({error}); make them again') from None


def ask(painted: PaintedFrame, rng: random.Random, per_kind: int) -> list[tuple[Meaning, str, str]]:
    """Meanings, their answers and a wording of the templates (empty where none fits) for one frame.

    per_kind: of each type and hop count at most, and as many again of left and right, and of distances where
    the tokens carry some.
    """
    objects = painted.frame.objects
    asked = [_of_fact(fact, rng) for fact in chosen_facts(SceneFacts(objects, anchors=False), per_kind, rng)]
    for side in SIDES:
        group = [item for item in objects if lies(side, *item.centre[:2])]
        asked += [_of_fact(fact, rng, direction=side)
                  for fact in chosen_facts(_plain(group), per_kind // 2, rng)]
    if len(painted.tokens.distance):
        reach, direction = rng.choice(REACHES), rng.choice((None, *SIDES, *RELATIONS))
        group = [item for item in objects if item.distance <= reach
                 and (direction is None or lies(direction, *item.centre[:2]))]
        asked += [_of_fact(fact, rng, direction=direction, reach=reach)
                  for fact in chosen_facts(_plain(group), per_kind, rng)]
    return asked


def painted_questions(frames: Iterable[PaintedFrame], seed: int = 0, per_kind: int = 10,
                      of_each_type: int = 0, free: float = 0.65, beyond: int = 0,
                      wordings: int = 0) -> PaintedDataset:
    """Questions about frames, balanced so that no meaning gives its answer away.

    of_each_type: so many at most, 0: all.  free: the share in free words; the rest is in words of the
    templates where there are some.  beyond: how many questions that counts cannot answer.  wordings: how many
    more texts, whose meanings are drawn from all that can be meant.
    """
    tokens: dict[str, Frame] = {}
    rng = random.Random(f'{seed}/questions')
    piles: dict[Meaning, dict[str, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
    for number, frame in enumerate(frames):
        tokens[str(number)] = {frame.tokens.modality: frame.tokens}
        for meaning, answer, text in ask(frame, rng, per_kind):
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
                        words.append(say(meaning, rng))
                    text = rng.choice(words)
                if meanings.setdefault(text, meaning) == meaning:
                    by_type[meaning.type].append(Example(text, answer, ANSWERS, meaning.type, 0, str(number)))
    chosen: list[Example] = []
    for questions in by_type.values():
        chosen += rng.sample(questions, of_each_type) if 0 < of_each_type < len(questions) else questions
    used = {example.question for example in chosen}
    meanings = {text: meaning for text, meaning in meanings.items() if text in used}
    for _ in range(wordings):
        meaning = drawn_meaning(rng)
        meanings.setdefault(say(meaning, rng), meaning)
    return PaintedDataset(TokenDataset(tokens, tuple(chosen)), meanings,
                          tuple(sorted({say_beyond(rng) for _ in range(beyond)} - meanings.keys())))


def drawn_meaning(rng: random.Random) -> Meaning:
    """Any meaning that a question can have: categories, statuses and directions evenly.

    What is rare in streets is as often asked about as what is not.
    """
    kind = rng.choice(TYPES)
    direction = rng.choice((None, None, None, *RELATIONS, *SIDES))
    active = [category for category, statuses in STATUSES_OF_CATEGORY.items() if statuses]
    if kind == 'object':
        return Meaning(kind, Description(THING, rng.choice((None, None, *STATUSES))), direction)
    if kind == 'status':
        return Meaning(kind, Description(rng.choice((THING, THING, *active))), direction)
    if kind == 'comparison':
        return Meaning(kind, Description(rng.choice((THING, *active))), direction,
                       Description(rng.choice((THING, *active, *active))))
    category = rng.choice((THING, THING, *CATEGORIES))
    statuses = STATUSES_OF_CATEGORY.get(category, STATUSES)
    status = rng.choice(statuses) if statuses and rng.random() < 0.5 else None
    return Meaning(kind, Description(category, status), direction,
                   reach=rng.choice(REACHES) if rng.random() < 0.25 else None)


def target_of(meaning: Meaning, azimuths: np.ndarray,
              distances: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[Description, Description]]:
    """Where the first two probes should count, 0 or 1: [2, azimuths], [2, distances], and what.

    The second is what things are compared to, elsewhere the same again.
    """
    asked = meaning.direction
    direction = np.array([asked is None or lies(asked, math.cos(angle), math.sin(angle))
                          for angle in azimuths], np.float32)
    reach = (distances <= (math.inf if meaning.reach is None else meaning.reach)).astype(np.float32)
    if meaning.second is None:
        return np.stack([direction] * 2), np.stack([reach] * 2), (meaning.thing, meaning.thing)
    return (np.stack([direction, np.ones_like(direction)]), np.ones((2, len(distances)), np.float32),
            (meaning.thing, meaning.second))


def _meaning(entry: Mapping[str, Any]) -> Meaning:
    """Return the meaning from a dictionary of its fields."""
    second = entry['second']
    return Meaning(**{**entry, 'thing': Description(**entry['thing']),
                      'second': None if second is None else Description(**second)})


def _plain(objects: Sequence[AnnotatedObject]) -> Iterator[Fact]:
    """Return facts about a group of objects, ignoring all others."""
    return (fact for fact in SceneFacts(objects, anchors=False)
            if fact.kind[2] == 'any' and fact.kind[0] != 'comparison')


def _of_fact(fact: Fact, rng: random.Random, direction: str | None = None,
             reach: float | None = None) -> tuple[Meaning, str, str]:
    named, slots = descriptions(), fact.slots
    first = named[slots.get('first') or slots.get('things') or slots['thing']]
    second = named[slots['second']] if 'second' in slots else None
    meaning = Meaning(fact.kind[0], first, slots.get('relation', direction), second, reach)
    standard = direction is None and reach is None
    return meaning, fact.answer, rng.choice(TEMPLATES[fact.kind]).format(**slots) if standard else ''

"""Measure the accuracy that adaptation recovers when the counts of a sensor are damaged.

    python -m bench.damaged_sensors --links LINK [--page docs/results/damaged_sensors.md]

A robot drives through streets of the embedded world with a sensor that counts the things around it.  The
sensor is damaged: it misses people, takes trucks for buses, counts too much, is turned, or is in fog.  Three
adaptations train the worth of its counts.  Labelled: a few hundred questions with true answers.  Label-free:
no questions, only moments in which a trusted sensor sees the same place.  Offline: as many questions as
possible, an upper bound.  All answers are about other streets and use the language model.
"""
from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.common.accuracy import percent, right_answers
from bench.common.figures import BLUE, FAINT, GREEN, INK, LIGHT, SKY, new_figure, save_png
from bench.common.page import markdown_table, write_page
from bench.common.program import program_parser
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.link import LatentLink, Worth
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.calibration import fit_worth
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.evaluation import answers_of, majority_answers
from mpnp_ros.training.key_frames import question_dataset, turn_tokens
from mpnp_ros.training.trainer import Trainer, TrainerConfig
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects
from mpnp_world.dataset.objects_only import object_key_frames

LIVED, ELSEWHERE = range(41_000, 41_020), range(42_000, 42_024)
"""Scenes of the adaptation, and scenes of the test."""
CATEGORY = np.array([category for category, _ in CHANNELS])
HEADING = 15.0
QUESTIONS, TESTED, ENDLESS = 300, 200, 1000
"""Labelled questions; questions per type in the test; questions per type of offline training."""

HEADS = ('damage', 'sound', 'damaged', 'rule', 'labelled', 'label-free', 'offline', 'recovered, labelled',
         'label-free', 'labelled, s', 'label-free, s')
PAGE = """# Damaged sensors: accuracy recovered by adaptation

Output of `python -m bench.damaged_sensors --page docs/results/damaged_sensors.md`, on 2 cores without a GPU.

{table}

Right answers in percent; the most frequent answer of each text gives {majority:.1f}.
Labelled: {questions} questions with true answers.  Label-free: no questions, only moments
in which a trusted sensor looks at the same place.  Offline: unlimited questions on the same
streets.  Rule: a fixed rule on the damaged tokens.  All answers are about other streets and
use the language model.

![damaged sensors]({picture})
"""

Damage = Callable[[ModalityTokens, random.Random], ModalityTokens]


def people_missed(tokens: ModalityTokens, rng: random.Random) -> ModalityTokens:
    """Miss four of ten people."""
    lost = np.array([rng.random() < .4 for _ in range(len(tokens.values))])
    return replace(tokens, values=tokens.values * ~np.outer(lost, CATEGORY == 'pedestrian'))


def trucks_as_buses(tokens: ModalityTokens, rng: random.Random) -> ModalityTokens:
    """Count trucks as buses of the same status."""
    values, truck = tokens.values.copy(), CATEGORY == 'truck'
    values[:, CATEGORY == 'bus'] += values[:, truck]
    values[:, truck] = 0
    return replace(tokens, values=values)


def counted_too_often(tokens: ModalityTokens, rng: random.Random) -> ModalityTokens:
    """Count everything 1.5 times."""
    return replace(tokens, values=tokens.values * np.float32(1.5))


def turned(tokens: ModalityTokens, rng: random.Random) -> ModalityTokens:
    """Turn the sensor by HEADING degrees."""
    return turn_tokens(tokens, math.radians(HEADING))


def foggy(tokens: ModalityTokens, rng: random.Random) -> ModalityTokens:
    """Miss half of all things."""
    kept = np.array([rng.random() < .5 for _ in range(len(tokens.values))])
    return replace(tokens, values=tokens.values * kept[:, None])


DAMAGES: dict[str, Damage] = {
    '40 % of people missed': people_missed, 'trucks taken for buses': trucks_as_buses,
    'everything 1.5 times': counted_too_often, f'turned by {HEADING:g} degrees': turned, 'fog': foggy}


@dataclass(frozen=True)
class DamageRow:
    """Accuracies in percent of one damage, and durations of the adaptations in seconds."""

    damage: str
    sound: float
    damaged: float
    rule: float
    labelled: float
    label_free: float
    offline: float
    labelled_seconds: float
    label_free_seconds: float

    def given_back(self, accuracy: float) -> str:
        """The recovered share of the best way in percent; `-` if the best way gains less than a point."""
        most = max(self.offline, self.labelled, self.label_free) - self.damaged
        return f'{100 * (accuracy - self.damaged) / most:.0f} %' if most >= 1 else '-'


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the page; returns the exit code."""
    parser = program_parser('damaged_sensors', __doc__)
    parser.add_argument('--links', type=Path, required=True, help='folder of links to true objects')
    parser.add_argument('--page', type=Path, help='Markdown page; figures and picture are written beside it')
    given = parser.parse_args(arguments)
    measuring = Measuring(given.links)
    rows = []
    print(f'majority {measuring.majority:.1f} %')
    for name, damage in DAMAGES.items():
        rows.append(measuring.row(name, damage))
        print(rows[-1], flush=True)
    if given.page:
        write_report(given.page, rows, measuring.majority)
    return 0


class Measuring:
    """Links, questions to adapt on and test questions about other streets."""

    def __init__(self, links: Path) -> None:
        lm = load_language_model('smollm2-135m-instruct')
        self.method: Method = create_method('mpnp', lm)
        self.link: LatentLink = load_link(links, lm=lm)
        self.method.plug(self.link)
        self.book = PreparedQuestions(self.method, QuestionFiles())
        self.lived, self.test = self._asked(LIVED, 5, ENDLESS), self._asked(ELSEWHERE, 1, TESTED)
        picked = random.Random(0).sample(self.lived.examples, QUESTIONS)
        self.labelled = replace(self.lived, examples=tuple(picked))
        self.majority = percent(right_answers(
            self.test.examples, majority_answers(self.lived.examples, self.test.examples)))
        self.sound = self._accuracy(self.test)

    def row(self, name: str, damage: Damage) -> DamageRow:
        """Measure one damage."""
        lived, labelled, test = (
            replace(data, frames={key: {OBJECTS: damage(frame[OBJECTS], random.Random(key))}
                                  for key, frame in data.frames.items()})
            for data in (self.lived, self.labelled, self.test))
        rule = percent(right_answers(test.examples, [
            rule_answer(example.question, test.frames[example.frame][OBJECTS], CHANNELS)
            for example in test.examples]))
        results, seconds = {}, {}
        ways: dict[str, Callable[[], object]] = {
            'damaged': lambda: None, 'labelled': partial(self._learn, labelled, 120),
            'label_free': partial(self._compare, lived), 'offline': partial(self._learn, lived, 250)}
        worth = self.link.worth
        assert worth is not None  # links that count have one
        for way, adapt in ways.items():
            worth.load_state_dict(Worth(self.link.config.channels).state_dict())
            started = time.perf_counter()
            adapt()
            seconds[way] = time.perf_counter() - started
            results[way] = self._accuracy(test)
        worth.load_state_dict(Worth(self.link.config.channels).state_dict())
        return DamageRow(name, self.sound, rule=rule, labelled_seconds=seconds['labelled'],
                         label_free_seconds=seconds['label_free'], **results)

    def _learn(self, data: TokenDataset, steps: int) -> None:
        config = TrainerConfig(steps=steps, batch=64, part='worth', warm_up=5, modality_dropout=0.)
        Trainer(self.method, config, self.book).fit(data)

    def _compare(self, data: TokenDataset) -> None:
        """Fit the worth of the counts to those of a trusted sensor in the same frames."""
        keys = sorted(data.frames)
        seen, trusted = (TokenBatch.stack([frames[key][OBJECTS] for key in keys], self.method.lm.device)
                         for frames in (data.frames, self.lived.frames))
        with torch.no_grad():
            fit_worth(self.link.worth, self.link.counts_of(seen), self.link.counts_of(trusted))

    def _accuracy(self, data: TokenDataset) -> float:
        return percent(right_answers(data.examples, answers_of(
            self.method, data.examples, self.book, lambda example: data.frames[example.frame])))

    def _asked(self, scenes: range, turns: int, of_each_type: int) -> TokenDataset:
        frames = object_key_frames(scenes, 8, 3., progress=False)
        data = question_dataset(frames, [TrueObjects(NEARBY)], turns, scope=NEARBY).evened(of_each_type)
        encoder = self.link.config.encoder
        return replace(data, frames={key: {OBJECTS: replace(frame[OBJECTS], encoder=encoder)}
                                     for key, frame in data.frames.items()})


def write_report(page: Path, rows: Sequence[DamageRow], majority: float) -> Path:
    """Write the page, its figures as JSON and its picture; returns the path of the page."""
    table = markdown_table(HEADS, [
        (row.damage, *(f'{accuracy:.1f}' for accuracy in (
            row.sound, row.damaged, row.rule, row.labelled, row.label_free, row.offline)),
         row.given_back(row.labelled), row.given_back(row.label_free), f'{row.labelled_seconds:.0f}',
         f'{row.label_free_seconds:.1f}') for row in rows])
    text = PAGE.format(table=table, majority=majority, questions=QUESTIONS,
                       picture=page.with_suffix('.png').name)
    return write_page(page, text, [asdict(row) for row in rows], lambda path: draw(path, rows))


def draw(path: Path, rows: Sequence[DamageRow]) -> None:
    """Draw the accuracies of every damage: damaged, label-free, labelled, offline."""
    figure = new_figure(11, 4.5)
    axes = figure.subplots()
    ways = {'damaged': LIGHT, 'label_free': SKY, 'labelled': BLUE, 'offline': GREEN}
    for place, (way, colour) in enumerate(ways.items()):
        bars = axes.bar(np.arange(len(rows)) + (place - 1.5) * .2, [getattr(row, way) for row in rows], .19,
                        color=colour, label=way.replace('_', '-'))
        axes.bar_label(bars, fmt='%.0f', fontsize=8, color=INK)
    axes.axhline(rows[0].sound, color=FAINT, ls='--', lw=1, label='sound sensor')
    axes.set_xticks(range(len(rows)), [row.damage for row in rows])
    axes.set_ylabel('percent right, other streets')
    axes.set_ylim(min(row.damaged for row in rows) - 10, 105)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='upper center', ncols=5, frameon=False, fontsize=9)
    figure.tight_layout()
    save_png(figure, path)


if __name__ == '__main__':
    sys.exit(main())

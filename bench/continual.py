"""Compare adaptations in a row with joint training; write docs/results/continual.json and print a table.

    python -m bench.continual --work continual --output docs/results

In a row: a robot with the shipped links to its camera gets a LiDAR, then a radar.  Each time only the links
of the new modality are trained, from a copy of those to the camera and as by the adaptation node; the other
links are frozen and their tokens are present.  Jointly: the links of all three modalities are trained
together from the same initial links, on the same questions, for as many steps.  Not trained: the initial
links.  All answer the same questions about held-out scenes with every set of modalities.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean

import torch

from bench.common.jobs import kept
from bench.common.page import markdown_table
from bench.common.program import add_work_options, program_parser
from mpnp_ros.adaptation.job_prepare import OF_THE_MODALITY
from mpnp_ros.files import write_file
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.registry import Encoder, create_encoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.evaluation import evaluate
from mpnp_ros.training.key_frames import key_frame_dataset
from mpnp_ros.training.recipe import counting_options
from mpnp_ros.training.trainer import Trainer, TrainerConfig
from mpnp_world.dataset.generate import Recipe, generate, scene_identities

SENSORS = ('camera', 'lidar', 'radar')
ADDED = ('lidar', 'radar')
TRAIN, TEST = range(60_000, 60_032), range(61_000, 61_016)
OF_EACH_TYPE = {'train': 2400, 'test': 250}
RECIPE = Recipe(8, 3.0, sensors=SENSORS, sweeps=SENSORS, sweep_rate=2.)
"""Key frames of a scene, seconds between them, and sensors with a sweep half a second before."""
STEPS = 100
SEEDS = (0, 1, 2)
SETS = [part for count in (1, 2, 3) for part in combinations(SENSORS, count)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all seeds, write the figures and print a table."""
    parser = program_parser('continual', __doc__)
    add_work_options(parser, 'scenes and finished seeds', 'continual.json', study=False)
    options = parser.parse_args(arguments)
    bench = Continual(options.work)
    results = {str(seed): bench.run(seed) for seed in options.seeds or SEEDS}
    write_file(options.output / 'continual.json', json.dumps(results, indent=1).encode())
    print(table(results))
    return 0


class Continual:
    """The benchmark.  work: folder of scenes and finished seeds."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.lm = load_language_model()
        self.encoders = {name: create_encoder(name, counting_options()[name]) for name in SENSORS}
        self.train, self.test = self._dataset('train', TRAIN, 6), self._dataset('test', TEST, 1)
        self.book: PreparedQuestions | None = None

    def run(self, seed: int) -> dict[str, dict[str, float]]:
        """Accuracy in percent by way of training (not, in a row, jointly) and set of modalities."""
        return kept(self.work / f'seed-{seed}.json', lambda: self._train_both(seed))

    def _train_both(self, seed: int) -> dict[str, dict[str, float]]:
        start = load_link(shipped_links()['camera'].path, lm=self.lm)
        in_a_row = self._method(start, ())
        for name in ADDED:
            in_a_row.plug(self._new(in_a_row, name, start, seed))
            seen = self.train.only(in_a_row.links())
            Trainer(in_a_row, self._config(seed, STEPS), self._read(in_a_row), [name]).fit(seen)
        jointly = self._method(start, ADDED, seed)
        untrained = self._percent(jointly)
        Trainer(jointly, self._config(seed, STEPS * len(ADDED)), self._read(jointly)).fit(self.train)
        return {'not trained': untrained, 'in a row': self._percent(in_a_row),
                'jointly': self._percent(jointly)}

    def _method(self, start: Link, more: Sequence[str], seed: int = 0) -> Method:
        method = create_method('mpnp', self.lm)
        own = method.new_link(start.config.modality, start.config.encoder, start.config.token_width,
                              **_options(start))
        own.start_from(start)
        method.plug(own)
        for name in more:
            method.plug(self._new(method, name, start, seed))
        return method

    def _new(self, method: Method, name: str, start: Link, seed: int) -> Link:
        torch.manual_seed(seed)
        encoder = self.encoders[name]
        link = method.new_link(name, encoder.fingerprint, encoder.token_width, **_options(start))
        link.start_from(start)
        return link

    def _read(self, method: Method) -> PreparedQuestions:
        """All prepared questions; read once, because all links begin at the same block."""
        self.book = self.book or PreparedQuestions(method, QuestionFiles())
        return self.book

    def _percent(self, method: Method) -> dict[str, float]:
        return {'+'.join(part): 100 * evaluate(method, self.test.only(part), self._read(method)).value
                for part in SETS}

    def _dataset(self, name: str, seeds: range, turns: int) -> TokenDataset:
        root = NuScenes(generate(self.work / name, scene_identities(seeds, ('day',), ('clear',)), RECIPE,
                                 workers=2))
        encoders: list[Encoder] = list(self.encoders.values())
        dataset = key_frame_dataset(root, encoders, turns, 0, scope=NEARBY, per_kind=20)
        return dataset.evened(OF_EACH_TYPE[name], 0)

    @staticmethod
    def _config(seed: int, steps: int) -> TrainerConfig:
        return TrainerConfig(steps=steps, batch=64, part='worth', warm_up=20, modality_dropout=1., seed=seed)


def _options(link: Link) -> dict[str, object]:
    """Options of a link of the same shape."""
    return {name: value for name, value in link.config.to_dict().items() if name not in OF_THE_MODALITY}


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Means over seeds as a Markdown table."""
    def mean(way: str, part: str) -> float:
        return fmean(result[way][part] for result in results.values())

    rows = []
    for part in next(iter(results.values()))['jointly']:
        ways = [mean(way, part) for way in ('not trained', 'in a row', 'jointly')]
        rows.append((part.replace('+', ' + '), *(f'{way:.1f}' for way in ways), f'{ways[1] - ways[2]:+.1f}'))
    return markdown_table(('plugged', 'not trained', 'in a row', 'jointly', 'in a row - jointly'), rows)


if __name__ == '__main__':
    sys.exit(main())

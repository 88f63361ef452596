"""Run the study behind docs/results/accuracy.md: scenes, links of every seed, answers and the page.

    python -m bench.study --work study --output docs/results

Scenes, links and answers are made if missing and kept in the work folder, so the same command resumes a
stopped run. Two runs may work at once, with different --seeds; the page is written when all seeds of the
recipe are measured. The heads of camera and LiDAR are those of `mpnp pretrain`, by default the shipped ones.
The study writes accuracy.md, accuracy.json and accuracy.png.
"""
from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.common.program import add_recipe, add_work_options, program_parser
from bench.study.report import write_report
from bench.study.study import RECIPE, Study, StudyConfig
from mpnp_ros.cli import signals
from mpnp_ros.errors import MpnpError
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.progress import progress

if TYPE_CHECKING:
    from mpnp_ros.training.trainer import TrainingStep

FAILED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every seed, then write the report; exit code 2 after a named error, 130 after Ctrl-C."""
    parser = program_parser('study', __doc__)
    add_work_options(parser, 'scenes, links and answers', 'accuracy.md, accuracy.json and accuracy.png',
                     study=False)
    add_recipe(parser)
    parser.add_argument('--camera-head', default='camera-objects-driving-world', metavar='HEAD',
                        help='head that finds or counts objects in the images (default: %(default)s)')
    parser.add_argument('--lidar-head', default='lidar-objects-driving-world', metavar='HEAD',
                        help='head that finds or counts objects in the point clouds (default: %(default)s)')
    parser.add_argument('--quiet', action='store_true', help='no progress')
    options = parser.parse_args(arguments)
    try:
        with signals.raised():
            return run(options)
    except MpnpError as error:
        print(f'study: {error}', file=sys.stderr)
        return FAILED
    except signals.Interrupted as interruption:
        print(f'stopped; the same command resumes from {options.work}, which has a checkpoint of every 250 '
              'training steps', file=sys.stderr)
        return interruption.code


def run(options: Namespace) -> int:
    """Measure the chosen seeds; write the report once all seeds of the recipe are measured."""
    config = StudyConfig.load(options.recipe or RECIPE)
    encoders = {'camera': create_encoder('camera', {'tokens': 'objects', 'head': options.camera_head}),
                'lidar': create_encoder('lidar', {'backbone': 'polar', 'head': options.lidar_head})}
    bars = _Bars(options.quiet)
    study = Study(config, options.work, encoders, bars)
    try:
        for seed in options.seeds or config.seeds:
            study.run_seed(seed)
    finally:
        bars.close()
    if not all((options.work / f'seed-{seed}.json').is_file() for seed in config.seeds):
        print('measured; the report will be written after the last seed')
        return 0
    print(write_report([study.run_seed(seed) for seed in config.seeds], config, options.output))
    return 0


class _Bars:
    """Progress bars of trainings that follow each other."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._name = quiet, ''
        self._shown = ExitStack()

    def __call__(self, name: str, step: TrainingStep) -> None:
        if name != self._name:
            self.close()
            self._name = name
            self._show = self._shown.enter_context(progress(name, quiet=self._quiet))
        self._show(step.step, step.steps, f'loss {step.loss:.3f}')

    def close(self) -> None:
        """End the current bar."""
        self._shown.close()


if __name__ == '__main__':
    sys.exit(main())

"""Measure how well links answer: those of a study in the embedded driving world, or links that you have.

With --work it is the study: what is missing - scenes, links of every seed, answers - is made and kept in the
work folder, so that the same command goes on where it was stopped; two may run at once, each with --seeds of
its own. The heads of camera and LiDAR are those of `mpnp pretrain`, by default the shipped ones. It writes
docs/accuracy.md, .json and .png.

With --links it is the links of a store, on the key frames of a nuScenes root: a table is printed. Whatever
is not given is as `mpnp train` noted it in the store.

    mpnp evaluate --work study --output docs
    mpnp evaluate --links links --root nuscenes --qa NuScenes_val_questions.json
"""
from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.cli.recipe_options import add_recipe_arguments
from mpnp_ros.progress import progress

if TYPE_CHECKING:
    from mpnp_ros.adaptation.trainer import TrainingStep


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--work', type=Path, metavar='FOLDER', help='the study: its scenes, links, answers')
    what.add_argument('--links', type=Path, metavar='STORE', help='the links that `mpnp train` wrote')
    study = parser.add_argument_group('with --work')
    study.add_argument('--output', type=Path, default=Path('docs'), metavar='FOLDER',
                       help='where accuracy.md, accuracy.json and accuracy.png go (default: docs)')
    study.add_argument('--recipe', type=Path, metavar='YAML',
                       help='default: config/study.yaml of the package')
    study.add_argument('--seeds', type=int, nargs='+',
                       help="some of the recipe's seeds, to be measured now; the report needs all of them")
    study.add_argument('--quiet', action='store_true', help='no progress')
    links = parser.add_argument_group('with --links')
    links.add_argument('--root', type=Path, help='nuScenes: samples/ and v1.0-*/')
    add_recipe_arguments(links)


def run(arguments: Namespace) -> int:
    """Measure the study or the links; exit code 0."""
    if arguments.work is not None:
        return run_study(arguments)
    from mpnp_ros.cli.evaluate_links import evaluate_links

    return evaluate_links(arguments)


def run_study(arguments: Namespace) -> int:
    """Measure every seed, then write the report; exit code 0."""
    from mpnp_ros.adaptation.study import Study, StudyConfig
    from mpnp_ros.cli.study_page import write_page
    from mpnp_ros.locations import shared_file
    from mpnp_ros.modalities.registry import create_encoder

    config = StudyConfig.load(arguments.recipe or shared_file('config/study.yaml'))
    heads = {'camera': arguments.camera_head or 'camera-driving-world',
             'lidar': arguments.lidar_head or 'lidar-driving-world'}
    encoders = {'camera': create_encoder('camera', {'tokens': 'objects', 'head': heads['camera']}),
                'lidar': create_encoder('lidar', {'backbone': 'polar', 'head': heads['lidar']})}
    bars = _Bars(arguments.quiet)
    study = Study(config, arguments.work, encoders, bars)
    try:
        for seed in arguments.seeds or config.seeds:
            study.run_seed(seed)
    except KeyboardInterrupt:
        print(f'stopped; what is finished, and a checkpoint of every 250 training steps, are kept in '
              f'{arguments.work}: the same command resumes', file=sys.stderr)
        raise
    finally:
        bars.close()
    if not all((arguments.work / f'seed-{seed}.json').is_file() for seed in config.seeds):
        print('measured; the report is written when all seeds are')
        return 0
    print(write_page([study.run_seed(seed) for seed in config.seeds], config, arguments.output))
    return 0


class _Bars:
    """The progress of one thing after the other that is trained."""

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
        """End what is shown."""
        self._shown.close()

"""Measure how well links answer in the embedded driving world, and write docs/accuracy.md, .json and .png.

Makes what is missing - scenes, links of every seed, answers - and keeps it in the work folder, so that the
same command goes on where it was stopped; two may run at once, each with --seeds of its own. The heads of
camera and LiDAR are those of `mpnp pretrain`, by default the shipped ones.

    mpnp evaluate --work study --output docs
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpnp_ros.adaptation.trainer import TrainingStep


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--work', type=Path, required=True, metavar='FOLDER', help='scenes, links, answers')
    parser.add_argument('--output', type=Path, default=Path('docs'), metavar='FOLDER',
                        help='where accuracy.md, accuracy.json and accuracy.png go (default: docs)')
    parser.add_argument('--recipe', type=Path, metavar='YAML',
                        help='default: config/study.yaml of the package')
    parser.add_argument('--seeds', type=int, nargs='+',
                        help="some of the recipe's seeds, to be measured now; the report needs all of them")
    parser.add_argument('--camera-head', default='camera-driving-world', metavar='HEAD',
                        help='name or folder (default: the shipped one)')
    parser.add_argument('--lidar-head', default='lidar-driving-world', metavar='HEAD',
                        help='name or folder (default: the shipped one)')
    parser.add_argument('--quiet', action='store_true', help='no progress bars')


def run(arguments: Namespace) -> int:
    """Measure every seed, then write the report; exit code 0."""
    from mpnp_ros.adaptation.study import Study, StudyConfig
    from mpnp_ros.cli.study_page import write_page
    from mpnp_ros.locations import shared_file
    from mpnp_ros.modalities.registry import create_encoder

    config = StudyConfig.load(arguments.recipe or shared_file('config/study.yaml'))
    encoders = {'camera': create_encoder('camera', {'tokens': 'objects', 'head': arguments.camera_head}),
                'lidar': create_encoder('lidar', {'backbone': 'polar', 'head': arguments.lidar_head})}
    study = Study(config, arguments.work, encoders, _Bars(arguments.quiet))
    for seed in arguments.seeds or config.seeds:
        study.run_seed(seed)
    if not all((arguments.work / f'seed-{seed}.json').is_file() for seed in config.seeds):
        print('measured; the report is written when all seeds are')
        return 0
    print(write_page([study.run_seed(seed) for seed in config.seeds], config, arguments.output))
    return 0


class _Bars:
    """One progress bar for each thing that is trained."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.name, self.bar = quiet, '', None

    def __call__(self, name: str, step: TrainingStep) -> None:
        from tqdm import tqdm

        if name != self.name:
            self.name = name
            self.bar = tqdm(total=step.steps, desc=name, disable=self.quiet or None, leave=False)
        self.bar.set_postfix(loss=f'{step.loss:.3f}', refresh=False)
        self.bar.update(step.step - self.bar.n)

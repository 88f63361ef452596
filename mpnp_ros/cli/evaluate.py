"""Measure accuracy: of a running system on a bag, of links on a data set, or in the embedded driving world.

With --bag it is the running system. The bag, written by `mpnp convert`, is replayed, and its questions are
asked at the key frames that they are about; playback pauses until they are answered. Encoders and fusion are
started with your links and parameters, or those that run are asked (--running). A table shows the accuracy by
type of question, the most frequent answers, the model without its sensors, what was refused or lost and why,
and latencies. Ctrl-C ends it and shows what was measured so far.

With --work, run the study. Scenes, links of every seed and answers are made if missing and kept in the work
folder, so the same command resumes a stopped run. Two runs may work at once, with different --seeds. The
heads of camera and LiDAR are those of `mpnp pretrain`, by default the shipped ones. The study writes
docs/results/accuracy.md, .json and .png.

With --links, print a table for the links of a store on the key frames of a nuScenes root. Omitted options
are those that `mpnp train` stored with the links.

    mpnp evaluate --bag scene-0103
    mpnp evaluate --work study --output docs/results
    mpnp evaluate --links links --root nuscenes --qa NuScenes_val_questions.json
"""
from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.cli.recipe_options import add_recipe_arguments
from mpnp_ros.cli.session import add_namespace
from mpnp_ros.cli.values import count, positive
from mpnp_ros.progress import progress

if TYPE_CHECKING:
    from mpnp_ros.adaptation.trainer import TrainingStep


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--bag', type=Path, help='a bag with questions: the running system is asked')
    what.add_argument('--work', type=Path, metavar='FOLDER', help='the study: its scenes, links, answers')
    what.add_argument('--links', type=Path, metavar='STORE', help='the links that `mpnp train` wrote')
    parser.add_argument('--quiet', action='store_true', help='no progress')
    live = parser.add_argument_group('with --bag', 'and --modalities: whose encoders are started (default: '
                                     'camera lidar)')
    live.add_argument('--running', action='store_true',
                       help='ask the system that runs, started with `mpnp bringup --use-sim-time`, in its '
                       'ROS_DOMAIN_ID (default: start encoders and fusion)')
    live.add_argument('--rate', type=positive, default=1., help='speed of time (default: %(default)g)')
    live.add_argument('--per-frame', type=count, default=0, metavar='N',
                       help='questions of each key frame, spread over types and answers (default: all)')
    live.add_argument('--no-blind', dest='blind', action='store_false',
                       help='do not ask again without sensors at the end')
    live.add_argument('--params-file', type=Path, action='append', default=[], metavar='YAML',
                       help='parameters of the nodes on top of config/mpnp.yaml; repeatable')
    live.add_argument('--timeout', type=positive, default=300., metavar='S',
                       help='seconds that the nodes have to become ready (default: %(default)g)')
    live.add_argument('--json', action='store_true', help='the result as one JSON object')
    add_namespace(live)
    study = parser.add_argument_group('with --work')
    study.add_argument('--output', type=Path, default=Path('docs/results'), metavar='FOLDER',
                       help='folder for accuracy.md, accuracy.json and accuracy.png (default: docs/results)')
    study.add_argument('--recipe', type=Path, metavar='YAML',
                       help='recipe of the study (default: config/study.yaml of the package)')
    study.add_argument('--seeds', type=int, nargs='+',
                       help="some of the recipe's seeds, to be measured now; the report needs all of them")
    links = parser.add_argument_group('with --links')
    links.add_argument('--root', type=Path, help='nuScenes root: the folder of samples/ and v1.0-*/')
    add_recipe_arguments(links)


def run(arguments: Namespace) -> int:
    """Measure; exit code 0, 130 after Ctrl-C."""
    if arguments.bag is not None:
        from mpnp_ros.cli.evaluate_bag import evaluate_bag

        return evaluate_bag(arguments)
    if arguments.work is not None:
        return run_study(arguments)
    from mpnp_ros.cli.evaluate_links import evaluate_links

    return evaluate_links(arguments)


def run_study(arguments: Namespace) -> int:
    """Measure every seed, then write the report; exit code 0."""
    from mpnp_ros.adaptation.study import Study, StudyConfig
    from mpnp_ros.cli.study_page import write_page
    from mpnp_ros.files import shared_file
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
        print(f'stopped; the same command resumes from {arguments.work}, which has a checkpoint of every 250 '
              'training steps', file=sys.stderr)
        raise
    finally:
        bars.close()
    if not all((arguments.work / f'seed-{seed}.json').is_file() for seed in config.seeds):
        print('measured; the report will be written after the last seed')
        return 0
    print(write_page([study.run_seed(seed) for seed in config.seeds], config, arguments.output))
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

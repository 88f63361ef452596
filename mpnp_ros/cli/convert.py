"""Write nuScenes scenes with their sweeps, and questions with true answers, as bags that ROS can play.

One scene becomes the bag OUTPUT, several become OUTPUT/<scene>: days lie between scenes, and a replay of one
bag would wait for that long.
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpnp_ros.nuscenes.scene_recording import Questions
    from mpnp_ros.nuscenes.tables import NuScenes


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('root', type=Path, help='folder that holds samples/, sweeps/ and v1.0-*/')
    parser.add_argument('output', type=Path, help='bag folder to write, or the folder of several')
    parser.add_argument('--version', help='tables to read, e.g. v1.0-mini (default: the only one there is)')
    parser.add_argument('--scenes', nargs='+', metavar='SCENE', help='names or tokens (default: all)')
    parser.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='default: %(default)s')
    questions = parser.add_mutually_exclusive_group()
    questions.add_argument('--nuscenes-qa', type=Path, metavar='JSON',
                           help='take the questions from a published NuScenes-QA file')
    questions.add_argument('--seed', type=int, default=0, help='of the questions made from the annotations')
    questions.add_argument('--no-questions', action='store_true', help='write sensors and annotations only')
    parser.add_argument('--overwrite', action='store_true', help='replace a bag that is there')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')


def run(arguments: Namespace) -> int:
    """Write the bags and say where they are."""
    from mpnp_ros.nuscenes.bag_writer import write_bag
    from mpnp_ros.nuscenes.tables import NuScenes

    root = NuScenes(arguments.root, arguments.version)
    scenes = arguments.scenes or [record['name'] for record in root.scenes]
    questions = _questions(root, arguments)
    if len(scenes) > 1:
        arguments.output.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        output = arguments.output / scene if len(scenes) > 1 else arguments.output
        path = write_bag(root, output, [scene], questions, storage=arguments.storage,
                         overwrite=arguments.overwrite, progress=not arguments.quiet)
        print(f'{path}: play it with `mpnp replay {path}` or `ros2 bag play {path} --clock`')
    return 0


def _questions(root: NuScenes, arguments: Namespace) -> Questions | None:
    if arguments.no_questions:
        return None
    if arguments.nuscenes_qa:
        from mpnp_ros.nuscenes.official_qa import read_nuscenes_qa

        official = read_nuscenes_qa(arguments.nuscenes_qa, root)
        print(official.summary)
        return lambda frame: official.by_sample.get(frame.token, [])
    from mpnp_ros.nuscenes.questions import scene_questions

    return partial(scene_questions, seed=arguments.seed)

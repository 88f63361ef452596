"""Make data sets in the embedded driving world, look at it, or let a robot's topics come from it.

A scene is a seed, a light and a weather; the same seed in another light or weather is the same traffic. A
data set is a nuScenes root that `mpnp train`, `mpnp convert` and the nuScenes devkit read.
"""
from __future__ import annotations

import argparse
import importlib.util
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpnp_ros.cli import world_sdf
from mpnp_ros.cli.session import add_namespace
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.world.conditions import LIGHTS, WEATHERS

PACKAGES = ('moderngl', 'embreex')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the subcommands and their options."""
    actions = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    _add_generate(actions.add_parser('generate', help='write scenes as a nuScenes root; goes on where a run '
                                     'was stopped'))
    _add_show(actions.add_parser('show', help='draw one moment: six cameras, and the LiDAR from above'))
    _add_live(actions.add_parser('live', help='publish the topics of a bag, and /clock, while it happens'))
    world_sdf.add_arguments(actions.add_parser('sdf', help='write a drive as a world for Gazebo'))
    for action in actions.choices.values():
        action.add_argument('--debug', action='store_true', default=argparse.SUPPRESS,
                            help='show the traceback of an error')


def run(arguments: Namespace) -> int:
    """Do what was asked for."""
    if arguments.action != 'sdf':
        _check_packages()
    actions = {'generate': _generate, 'show': _show, 'live': _live, 'sdf': world_sdf.run}
    return actions[arguments.action](arguments)


def _check_packages() -> None:
    """What the world draws and casts rays with is not part of every installation."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f'the world needs {" and ".join(missing)}: pip install {" ".join(missing)}')


def _add_generate(parser: ArgumentParser) -> None:
    parser.add_argument('--output', type=Path, required=True, metavar='ROOT',
                        help='a new folder, or one to go on with')
    parser.add_argument('--seeds', type=seed_range, default=range(20), metavar='FIRST:END',
                        help='one seed or a range without its end (default: 0:20)')
    parser.add_argument('--light', nargs='+', choices=LIGHTS,
                        help='default: day night; with --objects-only day, as objects are the same')
    parser.add_argument('--weather', nargs='+', choices=WEATHERS, default=['clear'], help='default: clear')
    parser.add_argument('--key-frames', type=int, default=10, help='of each scene (default: %(default)s)')
    parser.add_argument('--interval', type=float, default=2., metavar='S',
                        help='between key frames (default: %(default)g; nuScenes: 0.5)')
    parser.add_argument('--size', type=image_size, default=(400, 225), metavar='WxH',
                        help='of the images (default: 400x225; nuScenes: 1600x900)')
    parser.add_argument('--sensors', nargs='+', choices=('camera', 'lidar', 'radar', 'imu', 'microphones'),
                        default=['camera', 'lidar', 'radar'], help='default: camera lidar radar')
    parser.add_argument('--objects-only', action='store_true',
                        help='no sensor files: lists of objects, for training on true objects')
    parser.add_argument('--workers', type=int, default=len(os.sched_getaffinity(0)), metavar='N',
                        help='processes (default: one for each core)')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')


def _add_show(parser: ArgumentParser) -> None:
    _add_scene(parser)
    parser.add_argument('--time', type=float, default=0., metavar='S', help='seconds into the scene')
    parser.add_argument('--size', type=image_size, default=(400, 225), metavar='WxH',
                        help='of each camera (default: 400x225)')
    parser.add_argument('--output', type=Path, required=True, metavar='PNG', help='the picture')


def _add_live(parser: ArgumentParser) -> None:
    _add_scene(parser)
    parser.add_argument('--rate', type=float, default=1., help='speed (default: %(default)g, real time)')
    parser.add_argument('--params-file', type=Path, action='append', default=[], metavar='YAML',
                        help='parameters on top of config/mpnp.yaml; repeatable, later ones win')
    add_namespace(parser)


def _add_scene(parser: ArgumentParser) -> None:
    parser.add_argument('--seed', type=int, default=0, help='of streets and traffic (default: 0)')
    parser.add_argument('--light', choices=LIGHTS, default='day', help='default: day')
    parser.add_argument('--weather', choices=WEATHERS, default='clear', help='default: clear')


def _generate(arguments: Namespace) -> int:
    from mpnp_ros.world.generate import Recipe, generate, scene_identities

    lights = arguments.light or (['day'] if arguments.objects_only else ['day', 'night'])
    identities = scene_identities(arguments.seeds, lights, arguments.weather)
    recipe = Recipe(arguments.key_frames, arguments.interval, arguments.size,
                    () if arguments.objects_only else tuple(arguments.sensors))
    root = generate(arguments.output, identities, recipe, arguments.workers, not arguments.quiet)
    print(f'{root}: {len(identities)} scenes of {recipe.key_frames} key frames; '
          + (f'see `mpnp train --root {root}` and `mpnp convert {root} BAGS`' if recipe.sensors
             else 'read them with mpnp_ros.world.object_lists.read_objects'))
    return 0


def _show(arguments: Namespace) -> int:
    from mpnp_ros.world.conditions import Conditions
    from mpnp_ros.world.picture import draw

    conditions = Conditions(arguments.light, arguments.weather)
    draw(arguments.seed, conditions, arguments.time, arguments.size).save(arguments.output)
    print(f'{arguments.output} drawn')
    return 0


def _live(arguments: Namespace) -> int:
    """Become the world node; its exit code is ours."""
    from mpnp_ros.cli.node_processes import WORLD, Placement, node_process

    parameters = {name: getattr(arguments, name) for name in ('seed', 'light', 'weather', 'rate')}
    spec = node_process(WORLD, Placement(arguments.namespace, arguments.params_file), parameters)
    os.execve(spec.command[0], spec.command, {**os.environ, **spec.environment})


def seed_range(text: str) -> range:
    """``3`` or ``0:20``, the end excluded."""
    first, colon, end = text.partition(':')
    try:
        seeds = range(int(first), int(end) if colon else int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a seed, as 3, nor a range, as 0:20') from None
    if not seeds or seeds[0] < 0:
        raise argparse.ArgumentTypeError(f'{text!r} holds no seed; seeds are 0 or above, the end is excluded')
    return seeds


def image_size(text: str) -> tuple[int, int]:
    """``400x225``: width and height."""
    try:
        width, height = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no size such as 400x225') from None
    if min(width, height) < 16:
        raise argparse.ArgumentTypeError(f'{text!r} is too small; 16x16 is the least')
    return width, height

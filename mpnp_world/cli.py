"""Generate data sets in the simulated world, draw a moment of it, or publish its topics live.

A scene has a seed, a light and a weather; scenes of one seed have the same traffic. A data set is a nuScenes
root that `mpnp train`, `mpnp convert` and the nuScenes devkit read.
"""
from __future__ import annotations

import argparse
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpnp_ros.cli.arguments import add_namespace
from mpnp_ros.errors import ConfigurationError
from mpnp_world.scene.identity import LIGHTS, WEATHERS


def add_arguments(parser: ArgumentParser) -> None:
    """Add the subcommands and their options."""
    actions = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    _add_generate(actions.add_parser('generate', help='write scenes as a nuScenes root; resumes a stopped '
                                     'run'))
    show = actions.add_parser('show', help='draw one moment: six cameras, and the LiDAR from above')
    live = actions.add_parser('live', help='publish the topics of a bag and /clock in real time')
    sdf = actions.add_parser('sdf', help='write a drive as a world for Gazebo')
    for scene in (show, live, sdf):
        scene.add_argument('--seed', type=int, default=0,
                           help='random seed of streets and traffic (default: 0)')
        scene.add_argument('--light', choices=LIGHTS, default='day', help='light (default: day)')
    for scene in (show, live):
        scene.add_argument('--weather', choices=WEATHERS, default='clear', help='weather (default: clear)')
    show.add_argument('--time', type=float, default=0., metavar='S', help='time in the scene (default: 0)')
    show.add_argument('--size', type=image_size, metavar='WxH',
                      help='size of each camera image (default: 640x360)')
    show.add_argument('--output', type=Path, required=True, metavar='PNG', help='picture file')
    live.add_argument('--rate', type=float, default=1., help='speed of time (default: %(default)g)')
    live.add_argument('--params-file', type=Path, action='append', default=[], metavar='YAML',
                      help='parameters on top of config/mpnp.yaml; repeatable, later ones win')
    add_namespace(live)
    sdf.add_argument('--seconds', type=int, default=20, help='length of the drive (default: %(default)s)')
    sdf.add_argument('--image-width', type=int, default=800, metavar='PIXELS',
                     help='image width of the cameras (default: %(default)s; nuScenes: 1600)')
    sdf.add_argument('--free', action='store_true',
                     help='omit the recorded drive; the vehicle follows /cmd_vel')
    sdf.add_argument('--output', type=Path, required=True, metavar='SDF', help='SDF file')
    for action in actions.choices.values():
        action.add_argument('--debug', action='store_true', default=argparse.SUPPRESS,
                            help='show the traceback of an error')


def run(arguments: Namespace) -> int:
    """Run the chosen action."""
    if arguments.action != 'sdf':
        from mpnp_world.checks import require_packages

        require_packages()
    actions = {'generate': _generate, 'show': _show, 'live': _live, 'sdf': _sdf}
    return actions[arguments.action](arguments)


def _add_generate(parser: ArgumentParser) -> None:
    parser.add_argument('--output', type=Path, required=True, metavar='ROOT',
                        help='new folder, or that of a stopped run')
    parser.add_argument('--seeds', type=seed_range, default=range(20), metavar='FIRST:END',
                        help='one seed, or a range that excludes END (default: 0:20)')
    parser.add_argument('--light', nargs='+', choices=LIGHTS,
                        help='lights (default: day night; with --objects-only: day)')
    parser.add_argument('--weather', nargs='+', choices=WEATHERS, default=['clear'],
                        help='weathers (default: clear)')
    parser.add_argument('--key-frames', type=int, default=10,
                        help='key frames per scene (default: %(default)s)')
    parser.add_argument('--interval', type=float, default=2., metavar='S',
                        help='seconds between key frames (default: %(default)g; nuScenes: 0.5)')
    parser.add_argument('--size', type=image_size, metavar='WxH',
                        help='image size (default: 640x360; nuScenes: 1600x900)')
    parser.add_argument('--sensors', nargs='+', choices=('camera', 'lidar', 'radar', 'imu', 'microphones'),
                        default=['camera', 'lidar', 'radar'], help='sensors (default: camera lidar radar)')
    parser.add_argument('--sweeps', nargs='*', choices=('camera', 'lidar', 'radar'), metavar='SENSOR',
                        help='also write sweeps between key frames (LiDAR 20 Hz, radar 13 Hz, camera 12 Hz); '
                        'without names those of --sensors')
    parser.add_argument('--sweep-seconds', type=float, default=.5, metavar='S',
                        help='write the sweeps of these last seconds before each key frame '
                        '(default: %(default)g)')
    parser.add_argument('--sweep-rate', type=float, default=0., metavar='HZ',
                        help='sweeps per second of each sensor, such as 2 for one half a second before each '
                        'key frame (default: those of nuScenes)')
    parser.add_argument('--lidar', choices=('hdl-32e', 'random'), default='hdl-32e',
                        help='make of the LiDAR; random: another one in each scene, with one sweep about '
                        'half a second before each key frame (default: %(default)s)')
    parser.add_argument('--objects-only', action='store_true',
                        help='write lists of true objects, and no sensor files')
    parser.add_argument('--workers', type=int, default=len(os.sched_getaffinity(0)), metavar='N',
                        help='number of processes (default: one per core)')
    parser.add_argument('--quiet', action='store_true', help='print no progress')


def _generate(arguments: Namespace) -> int:
    from mpnp_world.dataset.generate import Recipe, generate, scene_identities
    from mpnp_world.sensors.rig import RATES, SMALL_SIZE

    lights = arguments.light or (['day'] if arguments.objects_only else ['day', 'night'])
    identities = scene_identities(arguments.seeds, lights, arguments.weather)
    sweeps = [] if arguments.sweeps is None else arguments.sweeps or [
        name for name in arguments.sensors if name in RATES]
    recipe = Recipe(arguments.key_frames, arguments.interval, arguments.size or SMALL_SIZE,
                    () if arguments.objects_only else tuple(arguments.sensors), tuple(sweeps),
                    arguments.sweep_seconds, arguments.sweep_rate, arguments.lidar)
    root = generate(arguments.output, identities, recipe, arguments.workers, not arguments.quiet)
    print(f'{root}: {len(identities)} scenes of {recipe.key_frames} key frames; '
          + (f'see `mpnp train --root {root}` and `mpnp convert {root} BAGS`' if recipe.sensors
             else 'read them with mpnp_world.dataset.objects_only.read_objects'))
    return 0


def _show(arguments: Namespace) -> int:
    from mpnp_world.picture import draw
    from mpnp_world.scene.identity import Conditions
    from mpnp_world.sensors.rig import SMALL_SIZE

    conditions = Conditions(arguments.light, arguments.weather)
    draw(arguments.seed, conditions, arguments.time, arguments.size or SMALL_SIZE).save(arguments.output)
    print(f'{arguments.output} written')
    return 0


def _live(arguments: Namespace) -> int:
    """Replace this process by the world node."""
    from mpnp_ros.cli.node_processes import Placement, node_process
    from mpnp_ros.node_names import WORLD

    parameters = {name: getattr(arguments, name) for name in ('seed', 'light', 'weather', 'rate')}
    spec = node_process(WORLD, Placement(arguments.namespace, arguments.params_file), parameters)
    os.execve(spec.command[0], list(spec.command), {**os.environ, **spec.environment})


def _sdf(arguments: Namespace) -> int:
    """Write the file and print its path."""
    from mpnp_world.gazebo.export import drive_states, world_sdf

    text = world_sdf(drive_states(arguments.seed, arguments.light, arguments.seconds),
                     arguments.free, arguments.image_width)
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text, 'utf-8')
    except OSError as error:
        raise ConfigurationError(f'cannot write {arguments.output}: {error.strerror}') from None
    print(f'{arguments.output}: {len(text) >> 10} kB, run it with `ros2 launch mpnp_ros gazebo.launch.py '
          f'world:={arguments.output}`')
    return 0


def seed_range(text: str) -> range:
    """Parse ``3`` or ``0:20``, the end excluded."""
    first, colon, end = text.partition(':')
    try:
        seeds = range(int(first), int(end) if colon else int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no seed (3) and no range (0:20)') from None
    if not seeds or seeds[0] < 0:
        raise argparse.ArgumentTypeError(f'{text!r} contains no seed; seeds are >= 0, the end is excluded')
    return seeds


def image_size(text: str) -> tuple[int, int]:
    """Parse ``640x360`` as width and height."""
    try:
        width, height = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not a size such as 640x360') from None
    if min(width, height) < 16:
        raise argparse.ArgumentTypeError(f'{text!r} is too small; the minimum is 16x16')
    return width, height

"""Write a drive through the embedded world as an SDF file for Gazebo (docs/guide/gazebo.md)."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.world.conditions import LIGHTS

if TYPE_CHECKING:
    from mpnp_ros.world.state import WorldState

STEPS = 10
"""Steps of the traffic between two waypoints, which are a second apart."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--seed', type=int, default=0, help='of streets and traffic (default: 0)')
    parser.add_argument('--light', choices=LIGHTS, default='day', help='default: day')
    parser.add_argument('--seconds', type=int, default=20, help='length of the drive (default: %(default)s)')
    parser.add_argument('--image-width', type=int, default=800, metavar='PIXELS',
                        help='of the cameras (default: %(default)s; nuScenes: 1600)')
    parser.add_argument('--free', action='store_true', help='leave the vehicle to commands on /cmd_vel')
    parser.add_argument('--output', type=Path, required=True, metavar='SDF', help='the file')


def run(arguments: Namespace) -> int:
    """Write the file and say where it is."""
    from mpnp_ros.world.sdf.export import world_sdf

    text = world_sdf(drive(arguments.seed, arguments.light, arguments.seconds), arguments.free,
                     arguments.image_width)
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text, 'utf-8')
    except OSError as error:
        raise ConfigurationError(f'{arguments.output} cannot be written: {error.strerror}') from None
    print(f'{arguments.output}: {len(text) >> 10} kB, run it with `ros2 launch mpnp_ros gazebo.launch.py '
          f'world:={arguments.output}`')
    return 0


def drive(seed: int, light: str, seconds: int) -> list[WorldState]:
    """A moment for every second of a drive, its begin and its end among them."""
    from mpnp_ros.world.conditions import Conditions
    from mpnp_ros.world.drive import World

    world = World(seed, Conditions(light))
    states = [world.state()]
    for _ in range(seconds):
        for _ in range(STEPS):
            world.step(1 / STEPS)
        states.append(world.state())
    return states

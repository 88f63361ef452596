"""Export a drive through the simulated world as an SDF file for Gazebo (docs/guide/gazebo.md)."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.errors import ConfigurationError
from mpnp_world.scene.conditions import LIGHTS

if TYPE_CHECKING:
    from mpnp_world.scene.state import WorldState

STEPS = 10
"""Steps of the traffic between two waypoints, one second."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--seed', type=int, default=0,
                        help='random seed of streets and traffic (default: 0)')
    parser.add_argument('--light', choices=LIGHTS, default='day', help='light (default: day)')
    parser.add_argument('--seconds', type=int, default=20, help='length of the drive (default: %(default)s)')
    parser.add_argument('--image-width', type=int, default=800, metavar='PIXELS',
                        help='image width of the cameras (default: %(default)s; nuScenes: 1600)')
    parser.add_argument('--free', action='store_true',
                        help='omit the recorded drive; the vehicle follows /cmd_vel')
    parser.add_argument('--output', type=Path, required=True, metavar='SDF', help='SDF file')


def run(arguments: Namespace) -> int:
    """Write the file and print its path."""
    from mpnp_world.gazebo.export import world_sdf

    text = world_sdf(drive(arguments.seed, arguments.light, arguments.seconds), arguments.free,
                     arguments.image_width)
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text, 'utf-8')
    except OSError as error:
        raise ConfigurationError(f'cannot write {arguments.output}: {error.strerror}') from None
    print(f'{arguments.output}: {len(text) >> 10} kB, run it with `ros2 launch mpnp_ros gazebo.launch.py '
          f'world:={arguments.output}`')
    return 0


def drive(seed: int, light: str, seconds: int) -> list[WorldState]:
    """Return the state of every second of a drive, including its start and end."""
    from mpnp_world.scene.conditions import Conditions
    from mpnp_world.scene.drive import World

    world = World(seed, Conditions(light))
    states = [world.state()]
    for _ in range(seconds):
        for _ in range(STEPS):
            world.step(1 / STEPS)
        states.append(world.state())
    return states

"""Drive from day into night and back, and see how many answers are right with what is plugged.

The embedded world, encoders of camera and LiDAR and the fusion node run as processes; the links come with the
package and nothing is trained. At every key frame the world waits until questions about it are answered.
By day the camera is plugged alone, at night it suffers; the LiDAR is plugged, is left alone, and both see the
morning. Then a real nuScenes key frame takes the place of the world, where there is one: --root,
$NUSCENES_ROOT, or ../shared/data of a checkout. The links have never seen nuScenes.
"""
from __future__ import annotations

import importlib.util
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.cache import cache_root
from mpnp_ros.cli.demo_drive import BOTH, PHASES, SCOPE, Phase, drive_through
from mpnp_ros.cli.demo_majority import Majority, count_majority
from mpnp_ros.cli.demo_processes import QUESTIONS_A_KIND, Processes, own_domain
from mpnp_ros.cli.demo_scene import RealScene, find_scene, interview
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.locations import source_folder

if TYPE_CHECKING:
    from rich.console import Console

    from mpnp_ros.cli.demo_live import Robot

LOG_WIDTH = 132


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--seconds', type=float, default=80., metavar='S',
                        help='how long to drive (default: %(default)g)')
    parser.add_argument('--phases', nargs='+', choices=[phase.name for phase in PHASES], metavar='PHASE',
                        help=f'some of {", ".join(phase.name for phase in PHASES)} (default: all)')
    parser.add_argument('--root', type=Path, help='a nuScenes root (default: $NUSCENES_ROOT)')
    parser.add_argument('--no-nuscenes', action='store_true', help='only the drive')
    parser.add_argument('--pictures', type=Path, metavar='FOLDER',
                        help='where demo.png and demo_nuscenes.png go (default: docs/ of a checkout)')
    parser.add_argument('--params-file', type=Path, action='append', default=[], metavar='YAML',
                        help="parameters on top of the demo's, e.g. of your own links; repeatable")
    parser.add_argument('--timeout', type=float, default=300., metavar='S',
                        help='seconds that the nodes have to become ready (default: %(default)g)')


def run(arguments: Namespace) -> int:
    """Drive, ask, show; exit code 0."""
    from rich.console import Console

    from mpnp_ros.cli.bringup import stopped_by_sigterm

    console = Console()
    if not console.is_terminal:  # a log: wide enough for questions on one line
        console = Console(width=LOG_WIDTH)
    problem = drawing_problem()
    scene = None if arguments.no_nuscenes else find_scene(arguments.root)
    if problem:
        console.print(f'[yellow]No drive:[/] {problem}')
        if scene is None:
            raise ConfigurationError('there is nothing to show: the world cannot be drawn, and there is no '
                                     'nuScenes key frame; give one with --root')
    with stopped_by_sigterm():
        _Demo(console, arguments).show(bool(problem), scene)
    return 0


def drawing_problem() -> str:
    """Why the world cannot be shown here, with the remedy; empty where it can."""
    from mpnp_ros.cli.checks import OK, check_graphics
    from mpnp_ros.cli.world import PACKAGES

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f'the world needs {" and ".join(missing)}: pip install {" ".join(missing)}'
    return next((f'the cameras of the world cannot draw: {found.text}; {found.remedy}'
                 for found in check_graphics() if found.state != OK), '')


class _Demo:
    """The parts of the demo, one after the other."""

    def __init__(self, console: Console, arguments: Namespace) -> None:
        self.console, self.arguments = console, arguments
        self.started = time.monotonic()
        checkout = source_folder()
        self.pictures = arguments.pictures or (checkout / 'docs' if checkout else Path())

    def show(self, without_world: bool, scene: RealScene | None) -> None:
        """Start the robot; drive, unless the world cannot be drawn; look at the real key frame."""
        from mpnp_ros.cli.demo_live import Robot
        from mpnp_ros.cli.session import ros_session

        own_domain()
        folder = cache_root() / 'demo'
        folder.mkdir(exist_ok=True)
        processes = Processes(folder / 'nodes.log', self.arguments.params_file)
        with ExitStack() as stack:
            node = stack.enter_context(ros_session())
            stack.enter_context(processes.robot())
            robot = Robot(node, processes.check)
            if not without_world:
                self._drive(robot, processes)
                robot.forget()
            if scene is not None:
                self._look_at(scene, robot, processes)
        self.console.print(f'[bold]Time[/]      {time.monotonic() - self.started:.0f} s')

    def _drive(self, robot: Robot, processes: Processes) -> None:
        from mpnp_ros.cli.demo_picture import draw_drive
        from mpnp_ros.cli.demo_tables import measured, phases_table
        from mpnp_ros.cli.demo_view import make_view

        with processes.world():
            majority = self._wait(robot, 'camera_encoder, lidar_encoder, fusion and world')
            with make_view(self.console) as view:
                drive = drive_through(robot, self._phases(), self.arguments.seconds, majority, view)
        self.console.print(phases_table(drive, measured()))
        if drive.skipped:
            self.console.print(f'{drive.skipped} key frames were left out: their tokens came too late')
        self._say_picture(draw_drive(drive, self.pictures / 'demo.png'))

    def _look_at(self, scene: RealScene, robot: Robot, processes: Processes) -> None:
        from mpnp_ros.cli.demo_picture import draw_key_frame
        from mpnp_ros.cli.demo_tables import examples_table, types_table

        self.console.print(f'\n[bold]nuScenes[/]  {scene.title}; the links have never seen nuScenes, '
                           'and nothing is tuned')
        with processes.replay(scene.bag()):
            majority = self._wait(robot, 'replay')
            with self.console.status('asking'):
                answers = interview(robot, scene.questions(majority), majority)
        self.console.print(types_table(answers))
        self.console.print(examples_table(answers[BOTH]))
        self._say_picture(draw_key_frame(scene, answers, self.pictures / 'demo_nuscenes.png'))

    def _wait(self, robot: Robot, nodes: str) -> Majority:
        """Count what the majority says while the nodes start."""
        with self.console.status(f'starting {nodes}'):
            majority = count_majority(SCOPE, QUESTIONS_A_KIND)
            robot.wait_until_ready(self.arguments.timeout)
        return majority

    def _phases(self) -> Sequence[Phase]:
        names = self.arguments.phases
        return [phase for phase in PHASES if names is None or phase.name in names]

    def _say_picture(self, path: Path) -> None:
        self.console.print(f'[bold]Picture[/]   {path}')

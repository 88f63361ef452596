"""Drive from day into night while the robot adapts, and show the accuracy of its answers.

The simulated world, the camera encoder, the fusion node and the adaptation node run as processes. By day the
camera is the only sensor. At night its image quality drops, which the system detects. Then a LiDAR encoder is
started. It has no links yet: a copy of those of the camera is used at once, trained within a budget while
the robot answers, and replaced. At every key frame the world waits until the questions about it are answered.
With --supervision distilled the camera teaches the LiDAR by day, without labels.

--root ROOT drives through the first scene of a nuScenes root instead: its sensor files are published, objects
are detected in them, and questions with annotated answers are asked. --nuscenes does so with one key frame,
of --root or $NUSCENES_ROOT. Nothing was trained on them.
"""
from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from mpnp_ros.adaptation.policy import LABELLED
from mpnp_ros.cli.node_processes import own_domain
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.files import cache_root, source_folder
from mpnp_ros.node_names import REPLAY
from mpnp_ros.questions.balance import Majority
from mpnp_ros.questions.generator import NEARBY
from mpnp_world.demo.drive import CAMERA, PHASES, count_majority, drive_through
from mpnp_world.demo.processes import QUESTIONS_A_KIND, SEED, Processes
from mpnp_world.demo.real_drive import RealDrive, find_drive

if TYPE_CHECKING:
    from rich.console import Console

    from mpnp_world.demo.robot import LiveVehicle

LOG_WIDTH, QUESTIONS = 132, 320
STARTING = 'starting nodes; the first start converts the models, which takes about a minute'
INITIAL_LINKS = ('camera', 'objects')
"""Shipped links that new links may start from; the robot itself begins with those to its camera."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--supervision', choices=tuple(PHASES), default=LABELLED,
                        help='supervision of the new sensor (default: %(default)s)')
    parser.add_argument('--questions', type=int, default=QUESTIONS, metavar='N',
                        help='number of questions, about, besides those until links are adapted (default: '
                        '%(default)s)')
    parser.add_argument('--seed', type=int, default=SEED,
                        help='random seed of the streets (default: %(default)s)')
    parser.add_argument('--nuscenes', action='store_true', help='show one real key frame instead')
    parser.add_argument('--root', type=Path, help='drive through this nuScenes root instead, with sweeps if '
                        'it has them (default of --nuscenes: $NUSCENES_ROOT)')
    parser.add_argument('--pictures', type=Path, metavar='FOLDER',
                        help='folder for the pictures (default: docs/results of a checkout)')
    parser.add_argument('--params-file', type=Path, action='append', default=[], metavar='YAML',
                        help='parameters on top of those of the demo; repeatable')
    parser.add_argument('--timeout', type=float, default=300., metavar='S',
                        help='maximum time for the nodes to become ready (default: %(default)g)')


def run(arguments: Namespace) -> int:
    """Run the drive, or ask about real key frames; returns the exit code."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:  # a log: wide enough for questions on one line
        console = Console(width=LOG_WIDTH)
    demo = _Demo(console, arguments)
    if not arguments.nuscenes and arguments.root is None:
        demo.drive()
        return 0
    drive = find_drive(arguments.root, whole=not arguments.nuscenes)
    if drive is None:
        raise ConfigurationError('no nuScenes key frame found; set a nuScenes root with --root or '
                                 'NUSCENES_ROOT')
    demo.look_at(drive)
    return 0


class _Demo:
    """The drive, or real key frames."""

    def __init__(self, console: Console, arguments: Namespace) -> None:
        self.console, self.arguments = console, arguments
        self.started = time.monotonic()
        checkout = source_folder()
        self.pictures = arguments.pictures or (checkout / 'docs/results' if checkout else Path())
        own_domain()
        self.log = cache_root() / 'demo' / 'nodes.log'
        self.log.parent.mkdir(exist_ok=True)

    def drive(self) -> None:
        """Drive from day into night."""
        from mpnp_ros.methods.link_store import shipped_links
        from mpnp_world.checks import require_cameras
        from mpnp_world.demo.picture import draw_drive
        from mpnp_world.demo.screen import make_view
        from mpnp_world.demo.tables import adaptations_table, phases_table

        require_cameras()
        arguments, shipped = self.arguments, shipped_links()
        starts = [shipped[name].path for name in INITIAL_LINKS]
        processes = Processes(self.log, arguments.params_file, starts[:1], starts, arguments.supervision,
                              arguments.seed)
        with self._robot(processes) as robot:
            processes.plug_in([CAMERA])
            with processes.world():
                majority = self._wait(robot, [CAMERA])
                with make_view(self.console, robot.diary) as view:
                    drive = drive_through(robot, PHASES[arguments.supervision], arguments.questions, majority,
                                          view)
        self.console.print(phases_table(drive))
        self.console.print(adaptations_table(drive))
        if drive.given_up:
            self.console.print(f'[bold]Given up[/]  {escape(drive.given_up)}')
        self._end(draw_drive(drive, self.pictures / 'demo.png'))

    def look_at(self, drive: RealDrive) -> None:
        """Ask about real key frames."""
        from mpnp_world.demo.real_drive import interview
        from mpnp_world.demo.real_picture import draw_real
        from mpnp_world.demo.screen import real_line
        from mpnp_world.demo.tables import directions_line, types_table

        self.console.print(f'[bold]Real frames[/]  {escape(drive.title)}; nothing was trained on them')
        processes = Processes(self.log, self.arguments.params_file, slop=drive.slop)
        with self._robot(processes, adapts=False, source=REPLAY, modalities=drive.sensors,
                         stamps=drive.stamps) as robot:
            processes.plug_in(drive.sensors)
            with self._busy('writing the bag, starting encoders'):
                bag = drive.bag()
                robot.wait_for_encoders(drive.sensors)  # so that fusion has links to them before tokens come
            with processes.replay(bag, drive.sensors):
                majority = self._wait(robot, ())
                answers = interview(robot, drive, majority, lambda answers: self.console.print(
                    real_line(answers), highlight=False))
                looked = robot.parameters('camera_encoder', 'encoder') if CAMERA in drive.sensors else {}
        self.console.print(types_table(answers.by_sensors))
        if line := directions_line(answers.exchanges(drive.trials[0]), answers.away):
            self.console.print(line, highlight=False)
        name = 'demo_real.png' if drive.whole else 'demo_nuscenes.png'
        self._end(draw_real(answers, looked, self.pictures / name))

    @contextmanager
    def _robot(self, processes: Processes, adapts: bool = True, **choices: Any) -> Iterator[LiveVehicle]:
        """Run the nodes; choices: of the LiveVehicle."""
        from mpnp_ros.cli.session import ros_session
        from mpnp_world.demo.robot import LiveVehicle

        with ExitStack() as stack:
            node = stack.enter_context(ros_session())
            stack.enter_context(processes.robot(adapts))
            yield LiveVehicle(node, processes, **choices)

    def _wait(self, robot: LiveVehicle, modalities: Sequence[str]) -> Majority:
        """Return the majority answers, counted while the nodes start, once these are ready."""
        with self._busy(STARTING):
            majority = count_majority(NEARBY, QUESTIONS_A_KIND)
            robot.wait_until_ready(modalities, self.arguments.timeout)
        return majority

    @contextmanager
    def _busy(self, doing: str) -> Iterator[None]:
        """Show the current work: a spinner on a terminal, a line in a log."""
        if not self.console.is_terminal:
            self.console.print(doing)
        with self.console.status(doing):
            yield

    def _end(self, picture: Path) -> None:
        self.console.print(f'[bold]Picture[/]   {picture}')
        self.console.print(f'[bold]Time[/]      {time.monotonic() - self.started:.0f} s')

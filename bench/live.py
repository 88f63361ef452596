"""The running system: five sensors are plugged in and out, and a hundred conditions are watched.

    python -m bench.live [--seconds 12] [--conditions 100]

First the simulated world drives, and camera, LiDAR, radar, IMU and microphones are encoded by their nodes,
each in a process of its own.  One standing question about each subject is answered on every new frame.  In
turn the encoder of each sensor is ended and started again.  Then the fusion node alone reads LiDAR tokens
of streets at two frames a second and watches conditions on them.  The page is docs/results/live.md.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.common.figures import BLUE, GREEN, INK, LIGHT, ORANGE, new_figure, plain, save_png
from bench.common.jobs import isolate
from bench.common.page import RESULTS, markdown_table, write_page
from bench.common.program import exit_code, program_parser
from bench.common.timing import Summary, machine_text
from bench.events import true_objects
from mpnp_ros.cli.node_processes import OVERLAYS, LoggedProcesses, Placement, node_process, source_files
from mpnp_ros.cli.session import ros_session, wait_for
from mpnp_ros.methods.link_files import read_manifest
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.node_names import ADAPTATION, FUSION, WORLD, encoder_nodes
from mpnp_ros.questions.vocabulary import CATEGORIES, RELATIONS
from mpnp_ros.questions.wording import Description
from mpnp_ros.serving.answers import Status
from mpnp_ros.supervisor import Supervisor
from mpnp_ros.tokens import SECOND
from mpnp_ros.tokens import ModalityTokens as Tokens
from mpnp_world.dataset.objects_only import scene_key_frames

if TYPE_CHECKING:
    from rclpy.node import Node

SENSORS = ('camera', 'lidar', 'radar', 'imu', 'audio')
QUESTIONS = {'objects': 'Are there any cars?', 'motion': 'Are we moving?', 'sounds': 'Do you hear a siren?'}
SUBJECT = {'camera': 'objects', 'lidar': 'objects', 'radar': 'objects', 'imu': 'motion', 'audio': 'sounds'}
COLOURS = {'objects': BLUE, 'motion': GREEN, 'sounds': ORANGE}
LIDAR, OUT, IN = 'lidar', 'out', 'in'
TOLD = ('yes',)
STALE, FAULTS = 3.0, (Status.REJECTED, Status.FAILED)
"""Seconds after which a sensor without tokens is not used (the default of the fusion node), and errors."""
SEED = 31_000
"""Of streets that nothing was trained on."""
START, CHANGE = 300., 120.
"""Seconds to wait for the nodes, and for the effect of a change."""
RATE, FRAMES, WARM_UP = 2.0, 80, 6
"""Frames a second, frames, and frames before those that are measured, of the watched conditions."""
REACHES = 10, 20, 30
"""Metres within which conditions ask for things."""
PAGE = """# The running system

Output of `python -m bench.live` on {machine}; the figures are in [live.json](live.json). It is a simulated
world: none of this is accuracy on real sensors.

## Five sensors, plugged in and out while answers go on

The world node drives (six cameras of 400 x 225 pixels, a LiDAR, five radars, an IMU, four microphones),
five encoder nodes read its sensors, the fusion node answers one standing question about each subject on
every new frame, and the adaptation node makes links for sensors that have none of their own: all on the
same cores, each in a process of its own. The encoder of one sensor after the other is ended (out) and
started again (in). *Until* is the time from the end of the process to the first answer without the sensor,
or from its start to the first answer with it. The rest is of the {seconds:g} s after that.

{changes}

{total} answers in {minutes:.1f} minutes, {failed} of them with an error. Answers that rested on
tokens of one sensor more than {stale:g} s older than those of another: {late}.

![Sensors in use and answers over time](live.png)

## {conditions} conditions at {rate:g} frames a second

The fusion node alone reads LiDAR tokens of streets, each with the objects of a key frame, and watches
{conditions} conditions ("Are there any cars to the front left of me?"). It answered {answered} of {asked}
questions about {frames} frames; events told: {events}. From the tokens of a frame to its last answer,
p50 / p95: {p50:.0f} / {p95:.0f} ms. The process took {share:.0f} % of one core.
"""


@dataclass(frozen=True)
class HeardAnswer:
    """An answer as it arrived.  at: seconds of the monotonic clock.  stamps: of the used sensors, ns."""

    at: float
    id: str
    status: int
    stamps: Mapping[str, int]


@dataclass(frozen=True)
class SensorChange:
    """A sensor is plugged in or out.  at, until: s since the first answer; then to one that shows it.

    Of the time after that: the number of answers to each question and of those that say "unknown", the
    longest time without an answer, and the sensors that answers about the subject of the sensor rested on.
    """

    sensor: str
    way: str
    at: float
    until: float
    answers: Mapping[str, int]
    unknown: Mapping[str, int]
    longest: float
    used: tuple[str, ...]


class Asker:
    """Asks standing questions and keeps the answers."""

    def __init__(self, node: Node) -> None:
        from mpnp_ros.msg import Answer, Event, Question

        self.answers: list[HeardAnswer] = []
        self.events = 0
        self._question = node.create_publisher(Question, 'question', 200)
        node.create_subscription(Answer, 'answer', self._hear, 2000)
        node.create_subscription(Event, 'event', self._tell, 2000)

    def is_heard(self) -> bool:
        """Whether a fusion node listens."""
        return self._question.get_subscription_count() > 0

    def ask(self, name: str, text: str, told: Sequence[str] = ()) -> None:
        """Publish a standing question.  told: answers that are events."""
        from mpnp_ros.msg import Condition, Question

        self._question.publish(Question(id=name, text=text, standing=True,
                                        condition=Condition(answers=list(told))))

    def since(self, start: float) -> list[HeardAnswer]:
        """The answers that arrived after a time."""
        return [answer for answer in list(self.answers) if answer.at > start]

    def _hear(self, message: Any) -> None:
        from mpnp_ros.conversions.messages import to_nanoseconds

        self.answers.append(HeardAnswer(
            time.monotonic(), message.id, message.status,
            dict(zip(message.used_modalities, map(to_nanoseconds, message.modality_stamps), strict=True))))

    def _tell(self, message: Any) -> None:
        self.events += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both parts and write the page; returns the exit code."""
    parser = program_parser('live', __doc__)
    parser.add_argument('--seconds', type=float, default=12.,
                        help='time after each change, s (default: %(default)s)')
    parser.add_argument('--conditions', type=int, default=100, help='conditions (default: %(default)s)')
    parser.add_argument('--domain', type=int, default=103, help='ROS domain (default: %(default)s)')
    parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER',
                        help='folder for live.md, live.json and live.png (default: %(default)s)')
    options = parser.parse_args(arguments)
    return exit_code('live', lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measure and write the page."""
    isolate(options.domain)
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    with tempfile.TemporaryDirectory() as name, ros_session() as node:
        os.environ['MPNP_STATE'] = str(Path(name, 'state'))
        changes, heard = plug_in_and_out(node, Path(name, 'sensors.log'), options.seconds)
        watched = watch_conditions(node, Path(name, 'conditions.log'), options.conditions)
    print(write_report(options.output / 'live.md', changes, heard, watched, options.seconds))


@contextmanager
def running(processes: LoggedProcesses, asker: Asker, placement: Placement,
            parameters: Mapping[str, Mapping[str, object]]) -> Iterator[Supervisor]:
    """Run nodes, given with their parameters; the block begins when the fusion node listens."""
    with processes.run([node_process(name, placement, own) for name, own in parameters.items()]) as group:
        wait_for(partial(alive, processes, asker.is_heard), START,
                 f'the fusion node does not listen; see {processes.log}')
        yield group


def alive(processes: LoggedProcesses, met: Callable[[], object]) -> object:
    """What `met()` returns; raises NotAnsweringError, with its output, if a node has ended."""
    processes.check()
    return met()


def plug_in_and_out(node: Node, log: Path, seconds: float) -> tuple[list[SensorChange], list[HeardAnswer]]:
    """End and start the encoder of each sensor in turn while the world drives.

    seconds: to wait after each change.  Raises NotAnsweringError if a node ends or a change has no effect.
    """
    asker, processes = Asker(node), LoggedProcesses(log)
    placement = Placement(params_files=source_files(OVERLAYS[WORLD]), use_sim_time=True)
    encoders = {sensor: ExitStack() for sensor in SENSORS}

    def plug_in(sensor: str) -> None:
        encoders[sensor].enter_context(processes.run([node_process(encoder_nodes()[sensor], placement)]))

    def rests_on(sensor: str, since: float) -> bool:
        newest = [answer for answer in asker.since(since) if answer.id == SUBJECT[sensor]]
        return bool(newest) and sensor in newest[-1].stamps

    changes: list[SensorChange] = []
    nodes: dict[str, dict[str, object]] = {
        FUSION: {}, ADAPTATION: {}, WORLD: {'seed': SEED, 'questions': 0}}
    with running(processes, asker, placement, nodes), ExitStack() as plugged:
        for sensor in SENSORS:
            plugged.push(encoders[sensor])
            plug_in(sensor)
        for subject, text in QUESTIONS.items():
            asker.ask(subject, text)
        for sensor in SENSORS:
            wait_for(partial(alive, processes, partial(rests_on, sensor, 0.)), START,
                     f'no answer rests on {sensor}; see {log}')
        begun = asker.answers[0].at
        for sensor, way in product(SENSORS, (OUT, IN)):
            if way == OUT:
                encoders[sensor].close()
            else:
                plug_in(sensor)
            changed = time.monotonic()
            wanted = way == IN

            def shows(sensor: str = sensor, changed: float = changed, wanted: bool = wanted) -> bool:
                told = any(answer.id == SUBJECT[sensor] for answer in asker.since(changed))
                return told and rests_on(sensor, changed) == wanted

            wait_for(partial(alive, processes, shows), CHANGE,
                     f'{sensor} {way}: no answer shows it; see {log}')
            shown = time.monotonic()
            time.sleep(seconds)
            answers = asker.since(shown)
            times = [shown, *(answer.at for answer in answers), time.monotonic()]
            own = [answer for answer in answers
                   if answer.id == SUBJECT[sensor] and answer.status == Status.OK]
            unknown = [answer for answer in answers if answer.status == Status.UNKNOWN]
            told, not_told = ({subject: sum(answer.id == subject for answer in part) for subject in QUESTIONS}
                              for part in (answers, unknown))
            changes.append(SensorChange(
                sensor, way, changed - begun, shown - changed, told, not_told, float(np.diff(times).max()),
                tuple(sorted({name for answer in own for name in answer.stamps}))))
            print(changes[-1], flush=True)
    return changes, list(asker.answers)


@dataclass(frozen=True)
class Watched:
    """Conditions that are watched.

    asked: answers that there should be, one for each condition and frame; answered: those that came.  lags:
    seconds from the publication of a frame to the last answer about it.  share: of one core, taken by the
    fusion node.
    """

    conditions: int
    frames: int
    asked: int
    answered: int
    events: int
    lags: Sequence[float]
    share: float


def conditions() -> Iterator[str]:
    """Questions whether things are there: of each category, in each direction and within some distances."""
    for category in CATEGORIES:
        things = Description(category).plural
        yield f'Are there any {things}?'
        yield from (f'Are there any {things} to the {relation} of me?' for relation in RELATIONS)
        yield from (f'Are there any {things} within {reach} meters?' for reach in REACHES)


def watch_conditions(node: Node, log: Path, count: int) -> Watched:
    """Publish tokens of frames at a fixed rate while the fusion node watches conditions on them."""
    from mpnp_ros.msg import ModalityTokens

    from mpnp_ros.conversions.messages import to_message
    from mpnp_ros.endpoints import SENSOR_DATA, qos_profile

    asker, processes = Asker(node), LoggedProcesses(log)
    encoder = read_manifest(shipped_links()[LIDAR].path).config.encoder
    frames = [replace(true_objects(frame), modality=LIDAR, encoder=encoder)
              for frame in scene_key_frames(SEED, WARM_UP + FRAMES, 1 / RATE)]
    publisher = node.create_publisher(ModalityTokens, f'tokens/{LIDAR}', qos_profile(SENSOR_DATA, 5))
    published: dict[int, float] = {}

    def publish(tokens: Tokens) -> None:
        stamp = node.get_clock().now().nanoseconds
        published[stamp] = time.monotonic()
        publisher.publish(to_message(replace(tokens, stamp_ns=stamp)))

    def answers() -> bool:
        publish(frames[0])
        time.sleep(1 / RATE)
        return {answer.id for answer in asker.answers if LIDAR in answer.stamps} == names

    nodes = {FUSION: {'standing_size': count, 'modalities': [LIDAR]}}
    with running(processes, asker, Placement(), nodes) as group:
        asked = dict(zip(map(str, range(count)), conditions(), strict=False))
        names = set(asked)
        for name, text in asked.items():
            asker.ask(name, text, TOLD)
        wait_for(partial(alive, processes, answers), START, f'not every condition is answered; see {log}')
        published.clear()
        pid, begun = group[FUSION].pid, time.monotonic()
        before, events = processor_seconds(pid), asker.events
        for number, tokens in enumerate(frames[WARM_UP:]):
            time.sleep(max(0., begun + number / RATE - time.monotonic()))
            publish(tokens)
        time.sleep(2 / RATE)
        share = (processor_seconds(pid) - before) / (time.monotonic() - begun)
    came: dict[int, dict[str, float]] = {stamp: {} for stamp in published}
    for answer in asker.answers:
        if (stamp := answer.stamps.get(LIDAR)) in came:
            came[stamp].setdefault(answer.id, answer.at)
    lags = [max(times.values()) - published[stamp] for stamp, times in came.items() if times]
    return Watched(len(asked), len(came), len(asked) * len(came), sum(map(len, came.values())),
                   asker.events - events, lags, share)


def processor_seconds(pid: int | None) -> float:
    """Seconds of computing of a process and its threads so far."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


def write_report(page: Path, changes: Sequence[SensorChange], heard: Sequence[HeardAnswer], watched: Watched,
                 seconds: float) -> Path:
    """Write page, figures and picture; returns the path of the page."""
    rows = [[change.sensor, change.way, f'{change.until:.1f}',
             *(f'{count}, {change.unknown[subject]} unknown' if change.unknown[subject] else count
               for subject, count in change.answers.items()),
             f'{change.longest:.1f}', ', '.join(change.used) or 'none'] for change in changes]
    heads = ['sensor', '', 'until, s', *(f'answers about {subject}' for subject in QUESTIONS),
             'longest without an answer, s', 'those about its subject rested on']
    begun = heard[0].at
    late = sum(max(answer.stamps.values()) - min(answer.stamps.values()) > STALE * SECOND
               for answer in heard if answer.stamps)
    lags = Summary.of(watched.lags)
    return write_page(page, PAGE.format(
        machine=machine_text(), seconds=seconds, changes=markdown_table(heads, rows), total=len(heard),
        minutes=(heard[-1].at - begun) / 60, failed=sum(answer.status in FAULTS for answer in heard),
        stale=STALE, late=late, conditions=watched.conditions, rate=RATE, answered=watched.answered,
        asked=watched.asked, frames=watched.frames, events=watched.events, p50=lags.p50, p95=lags.p95,
        share=100 * watched.share), {
            'changes': [asdict(change) for change in changes], 'answers': len(heard), 'late': late,
            'watched': asdict(watched)}, partial(draw, changes=changes, heard=heard))


def draw(path: Path, changes: Sequence[SensorChange], heard: Sequence[HeardAnswer]) -> None:
    """Draw when each sensor's encoder ran, and the answers that rested on it."""
    figure = new_figure(11, 3.6)
    axes, begun = figure.subplots(), heard[0].at
    for row, sensor in enumerate(SENSORS):
        out, back = (change.at for change in changes if change.sensor == sensor)
        axes.barh(row, out, color=LIGHT, height=.7)
        axes.barh(row, heard[-1].at - begun - back, left=back, color=LIGHT, height=.7)
        times = [answer.at - begun for answer in heard if sensor in answer.stamps
                 and answer.id == SUBJECT[sensor] and answer.status == Status.OK]
        axes.plot(times, [row] * len(times), '|', ms=12, color=COLOURS[SUBJECT[sensor]])
    axes.set_yticks(range(len(SENSORS)), SENSORS)
    axes.invert_yaxis()
    axes.set_xlabel('seconds', color=INK, fontsize=9)
    axes.set_title('grey: the encoder runs; lines: answers that rest on the sensor (blue: about objects, '
                   'green: own motion, orange: sounds)', loc='left', fontsize=10, color=INK)
    plain(axes)
    figure.tight_layout()
    save_png(figure, path)


if __name__ == '__main__':
    sys.exit(main())

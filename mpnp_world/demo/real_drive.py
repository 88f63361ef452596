"""Real key frames of a nuScenes root for the demo: a drive, or a single one, and the answers about them."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from mpnp_ros import __version__
from mpnp_ros.bags.writer import write_bag
from mpnp_ros.cli.exchanges import Exchange
from mpnp_ros.errors import DatasetError, NotAnsweringError
from mpnp_ros.files import cache_root, cached_folder, source_folder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.balance import Chooser, Majority
from mpnp_ros.questions.generator import NEARBY, LabelledQuestion, objects_of, scene_questions
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.comparison import AWAY
from mpnp_ros.training.true_objects import TrueObjects
from mpnp_world.demo.drive import BOTH, CAMERA, LIDAR, MOST_SKIPPED, Sight

SHARED = Path('..', 'shared', 'data', 'nuscenes_keyframe')
QUESTIONS, QUESTIONS_A_FRAME, PER_KIND = 40, 12, 20
"""Questions about a single key frame, about each of a drive, and of each kind to choose them from."""
MOST_FRAMES = 40
STAMPS_APART = 0.02
"""Seconds added to the time between the images of a key frame, so that they make one set."""


@dataclass(frozen=True, eq=False)
class RealDrive:
    """Key frames of one scene of a nuScenes root, in the order of their time.

    whole: with the sweeps between them; False: one key frame alone.
    """

    root: NuScenes
    frames: tuple[KeyFrame, ...]
    whole: bool

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the sensors that every key frame has."""
        there = {CAMERA: all(frame.cameras for frame in self.frames),
                 LIDAR: all(frame.lidar for frame in self.frames)}
        return tuple(name for name in BOTH if there[name])

    @property
    def trials(self) -> tuple[tuple[str, ...], ...]:
        """Return the sensors to answer with: all, then each alone."""
        alone = [(name,) for name in self.sensors]
        return (self.sensors, *alone) if len(alone) > 1 else (self.sensors,)

    @property
    def title(self) -> str:
        """Return the scene, with the numbers of its key frames, cameras and objects."""
        first, count = self.frames[0], len(self.frames)
        return (f'{first.scene}: {count} key frame{"s" * (count > 1)}, {len(first.cameras)} cameras, '
                f'{"LiDAR" if first.lidar else "no LiDAR"}, '
                f'{sum(len(frame.objects) for frame in self.frames)} annotated boxes')

    @property
    def slop(self) -> float:
        """Return the time between the images of a key frame, and a little more, in seconds."""
        stamps = [[reading.stamp_ns for reading in frame.cameras.values()] or [0] for frame in self.frames]
        return max(max(each) - min(each) for each in stamps) / 1e9 + STAMPS_APART

    def frame(self, token: str) -> KeyFrame:
        """Return the key frame of a token."""
        return next(frame for frame in self.frames if frame.token == token)

    def stamps(self, questions: Any) -> dict[str, int]:
        """Return the stamp of the tokens of each sensor, from a LabelledQuestions message.

        A bag that is played again has later stamps.
        """
        frame = self.frame(questions.sample_token)
        stamp = questions.header.stamp
        later = stamp.sec * 10 ** 9 + stamp.nanosec - frame.stamp_ns
        found = {LIDAR: frame.lidar.stamp_ns + later} if frame.lidar else {}
        if frame.cameras:
            found[CAMERA] = min(reading.stamp_ns for reading in frame.cameras.values()) + later
        return found

    def bag(self) -> Path:
        """Return the key frames, with questions, as a cached bag."""
        identity = (f'{__version__} {self.root.root.resolve()} {self.frames[0].token} {len(self.frames)} '
                    f'{self.whole} {NEARBY} {PER_KIND}')
        folder = cache_root() / 'demo' / f'bag-{hashlib.sha256(identity.encode()).hexdigest()[:12]}'
        folder.parent.mkdir(parents=True, exist_ok=True)
        asked = partial(scene_questions, seed=0, per_kind=PER_KIND, scope=NEARBY)
        return cached_folder(folder, identity, lambda empty: write_bag(
            self.root, empty / 'bag', [self.frames[0].scene], asked, progress=False, partial=True,
            samples=None if self.whole else [self.frames[0].token])) / 'bag'


def find_drive(root: Path | None = None, whole: bool = True) -> RealDrive | None:
    """Return the first annotated scene of the given root, of $NUSCENES_ROOT or of shared data; None: no root.

    whole: False: its first key frame alone.  Raises DatasetError if the root cannot be read.
    """
    named = root or (Path(os.environ['NUSCENES_ROOT']) if os.environ.get('NUSCENES_ROOT') else None)
    checkout = source_folder()
    path = named or (checkout / SHARED if checkout and (checkout / SHARED).is_dir() else None)
    if path is None:
        return None
    tables = NuScenes(path)
    for scene in tables.scenes:
        there = (frame for frame in tables.key_frames(scene) if frame.annotated
                 and all(reading.path.is_file() for reading in frame.readings if reading.modality in BOTH))
        if frames := tuple(islice(there, MOST_FRAMES if whole else 1)):
            return RealDrive(tables, frames, whole and len(frames) > 1)
    raise DatasetError(f'{path} has no annotated key frames with files; use v1.0-mini or v1.0-trainval')


@dataclass(frozen=True, eq=False)
class RealMoment:
    """A key frame, what the robot had of it, and the answers about it by the sensors that were plugged.

    away: for each question, what would be true in a direction turned by 120 degrees; None: it names none.
    """

    frame: KeyFrame
    sight: Sight
    answers: Mapping[tuple[str, ...], Sequence[Exchange]]
    away: Sequence[str | None]


@dataclass
class RealAnswers:
    """The answers so far.  skipped: key frames without tokens."""

    drive: RealDrive
    moments: list[RealMoment] = field(default_factory=list)
    skipped: int = 0

    def exchanges(self, plugged: tuple[str, ...]) -> list[Exchange]:
        """Return the exchanges while these sensors were plugged."""
        return [exchange for moment in self.moments for exchange in moment.answers[plugged]]

    @property
    def by_sensors(self) -> dict[tuple[str, ...], list[Exchange]]:
        """Return all exchanges by the sensors that were plugged."""
        return {plugged: self.exchanges(plugged) for plugged in self.drive.trials}

    @property
    def away(self) -> list[str | None]:
        """Return for each question of a trial what would be true elsewhere."""
        return [answer for moment in self.moments for answer in moment.away]

    @property
    def fullest(self) -> RealMoment:
        """Return the moment with the most true objects within the reach of the questions."""
        return max(self.moments, key=lambda moment: len(near(moment.frame)))


def near(frame: KeyFrame) -> list[AnnotatedObject]:
    """Return the true objects that questions are about."""
    return objects_of(frame, NEARBY)


class Asked(Protocol):
    """A running system that receives the key frames, and waits at each."""

    def plug(self, plugged: Sequence[str]) -> None:
        """Plug these modalities and unplug the others."""

    def present_frame(self, sensors: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        """Return the present key frame and its questions; None if its tokens did not arrive."""

    def next_frame(self, sensors: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        """Go on to the next key frame."""

    def ask(self, question: LabelledQuestion, guess: str) -> Exchange:
        """Ask about the present key frame."""


def interview(robot: Asked, drive: RealDrive, majority: Majority,
              passed: Callable[[RealAnswers], None]) -> RealAnswers:
    """Ask about every key frame, the same questions with all sensors plugged and with each alone.

    passed: called after each key frame.  Raises NotAnsweringError if too many came without tokens.
    """
    answers, chooser, truth = RealAnswers(drive), Chooser(majority), TrueObjects(NEARBY)
    number = QUESTIONS_A_FRAME if len(drive.frames) > 1 else QUESTIONS
    get_frame = robot.present_frame
    while len(answers.moments) + answers.skipped < len(drive.frames) or not answers.moments:
        found, get_frame = get_frame(drive.sensors), robot.next_frame
        if found is None:
            answers.skipped += 1
            if answers.skipped > MOST_SKIPPED:
                raise NotAnsweringError(f'{answers.skipped} key frames came without tokens; the machine is '
                                        'too busy')
            continue
        sight, labelled = found
        frame, asked = drive.frame(sight.key_frame), chooser.choose(labelled, number)
        by_sensors = {}
        for plugged in drive.trials:
            robot.plug(plugged)
            by_sensors[plugged] = [robot.ask(question, majority.guess(question)) for question in asked]
        robot.plug(drive.sensors)
        elsewhere = truth.encode(frame.turned(AWAY))
        answers.moments.append(RealMoment(frame, sight, by_sensors, [
            rule_answer(question.text, elsewhere, CHANNELS) if question.hops else None
            for question in asked]))
        passed(answers)
    return answers

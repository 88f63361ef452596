"""The drive of the demo, without ROS: its phases, questions and results, and the majority answers."""
from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mpnp_ros import __version__
from mpnp_ros.adaptation.policy import DISTILLED, LABELLED
from mpnp_ros.cli.exchanges import Exchange, Score
from mpnp_ros.errors import NotAnsweringError
from mpnp_ros.files import cache_root, cached_folder, write_file
from mpnp_ros.questions.balance import Chooser, Majority
from mpnp_ros.questions.generator import LabelledQuestion, Scope, scene_questions

CAMERA, LIDAR = 'camera', 'lidar'
BOTH = (CAMERA, LIDAR)
QUESTIONS_A_FRAME, MOST_SKIPPED = 16, 5
MOST_IDLE_FRAMES, MOST_ADAPTATIONS = 60, 3
"""A phase ends without adapted links after so many key frames at which nothing was trained, or after so many
adaptations."""

MAJORITY_SEEDS, MAJORITY_FRAMES, MAJORITY_INTERVAL = range(60), 8, 3.0
"""Scenes on which majority answers are counted, their key frames, and seconds between these."""
MAJORITY_FILE = 'majority.json'


@dataclass(frozen=True)
class Phase:
    """A part of the drive.

    title: for display.  sensors: running encoders.  share: of the questions, relative to others; 0: until
    trained links to its new sensors are in use.  without: the title if they are not.
    """

    name: str
    title: str
    light: str
    sensors: tuple[str, ...]
    share: int = 0
    without: str = ''

    @property
    def adapts(self) -> bool:
        """Return whether it lasts until trained links are in use."""
        return not self.share


DAY = Phase('day', 'day, camera', 'day', (CAMERA,), 4)
PHASES = {
    LABELLED: (
        DAY, Phase('dusk', 'dusk, camera', 'dusk', (CAMERA,), 1),
        Phase('night', 'night, camera', 'night', (CAMERA,), 4),
        Phase('plugged', 'night, a LiDAR is plugged in', 'night', BOTH),
        Phase('adapted', 'night, adapted', 'night', BOTH, 6, 'night, not adapted'),
        Phase('morning', 'morning, both', 'day', BOTH, 5)),
    DISTILLED: (
        DAY, Phase('plugged', 'day, a LiDAR is plugged in; the camera teaches it', 'day', BOTH),
        Phase('dusk', 'dusk, both', 'dusk', BOTH, 1),
        Phase('night', 'night, adapted', 'night', BOTH, 8, 'night, not adapted'),
        Phase('morning', 'morning, both', 'day', BOTH, 5))}
"""Phases by supervision: labelled questions at night, or the camera by day."""


def sensors(names: Iterable[str]) -> str:
    """Return sensors in words."""
    return ' + '.join({CAMERA: 'camera', LIDAR: 'LiDAR'}.get(name, name) for name in names) or 'nothing'


@dataclass(frozen=True)
class Sight:
    """Published sensor data of one key frame.

    images: JPEG bytes by camera, such as cam_front.  points: [N, 3] metres, sensor's frame.  tokens: messages
    of the encoders, by modality.  key_frame: its token.
    """

    stamp_ns: int
    images: dict[str, bytes] = field(default_factory=dict)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    tokens: Mapping[str, Any] = field(default_factory=dict)
    key_frame: str = ''


@dataclass(frozen=True)
class DriveEvent:
    """An event noticed or caused by the system.  seconds: since the start of the drive.

    kind: state (of a modality, in `text` as 'lidar healthy'), decision, stage (of an adaptation), links (a
    new version in use), phase (of the drive) or given up (an adaptation that a phase waits for, and why).
    """

    seconds: float
    kind: str
    text: str


@dataclass(frozen=True)
class Costs:
    """Costs of one adaptation as published by the node.

    accuracies: 0..1 on held-out questions, before and newest.  seconds: since the decision.  memory: bytes,
    peak of the training process.
    """

    supervision: str
    seconds: float
    steps: int
    macs: float
    memory: int
    start_accuracy: float
    accuracy: float


@dataclass(frozen=True)
class DriveMoment:
    """A key frame and the questions about it.  seconds: since the start of the drive."""

    phase: Phase
    seconds: float
    exchanges: Sequence[Exchange]
    sight: Sight


@dataclass
class Drive:
    """The drive so far.

    skipped: key frames without tokens.
    """

    phases: Sequence[Phase]
    moments: list[DriveMoment] = field(default_factory=list)
    events: list[DriveEvent] = field(default_factory=list)
    adaptations: list[Costs] = field(default_factory=list)
    skipped: int = 0

    def skip(self) -> None:
        """Record a key frame without tokens.  Raises NotAnsweringError if there are too many of them."""
        self.skipped += 1
        if self.skipped > MOST_SKIPPED:
            raise NotAnsweringError(f'{self.skipped} key frames came without tokens; the machine is too busy')

    def exchanges(self, phase: Phase | None = None) -> list[Exchange]:
        """Return the exchanges of one phase, or all."""
        return [exchange for moment in self.moments if phase in (None, moment.phase)
                for exchange in moment.exchanges]

    def scores(self) -> list[tuple[Phase, Score]]:
        """Return the score of every phase; for one that adapts, only of the adaptation."""
        return [(phase, Score.of(self.exchanges(phase))) for phase in self.phases]

    def when(self, kind: str, text: str, after: float = 0.) -> float | None:
        """Return the seconds of the first event of a kind whose text contains something; None without one."""
        return next((event.seconds for event in self.events
                     if event.kind == kind and text in event.text and event.seconds >= after), None)

    @property
    def given_up(self) -> str:
        """Return why an adaptation was given up; empty: none was."""
        return next((event.text for event in self.events if event.kind == 'given up'), '')

    def latencies(self, training: bool) -> np.ndarray:
        """Return [n] seconds of questions asked while links were trained, or while none were."""
        return np.array([exchange.latency for exchange in self.exchanges() if exchange.training is training])


class Vehicle(Protocol):
    """A system in a world that waits at every key frame."""

    def enter(self, phase: Phase) -> None:
        """Set the light of a phase and start the encoders of its sensors."""

    def next_frame(self, sensors: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        """Drive to the next key frame; None if its tokens did not arrive."""

    def ask(self, question: LabelledQuestion, guess: str) -> Exchange:
        """Ask about the current key frame."""

    def news(self, start: float) -> tuple[list[DriveEvent], list[Costs]]:
        """Return events since the start of the drive, and finished adaptations.

        start: seconds of the monotonic clock, the origin of event times.
        """

    def adapted(self, modalities: Collection[str]) -> bool:
        """Return whether the links in use to all of these were trained on the way."""

    @property
    def decision(self) -> str:
        """Return why something is trained or not."""


class View(Protocol):
    """Display of the drive."""

    def entered(self, phase: Phase) -> None:
        """Show the start of a phase."""

    def answered(self, drive: Drive, phase: Phase, exchanges: Sequence[Exchange]) -> None:
        """Show another answer about the current key frame; exchanges: all about it so far."""

    def passed(self, drive: Drive, moment: DriveMoment) -> None:
        """Show a completed key frame."""


def drive_through(vehicle: Vehicle, phases: Sequence[Phase], questions: int, majority: Majority,
                  view: View) -> Drive:
    """Drive through the phases, at least one key frame each, and ask at each of them.

    questions: of all phases that do not wait for an adaptation, about.  Without adaptation, later phases have
    their title ``without``.
    """
    drive, chooser, start = Drive(phases), Chooser(majority), time.monotonic()
    total = sum(phase.share for phase in phases)
    own: list[DriveEvent] = []
    for place in range(len(phases)):
        phase = drive.phases[place]
        vehicle.enter(phase)
        view.entered(phase)
        own.append(DriveEvent(time.monotonic() - start, 'phase', phase.title))
        before = len(drive.adaptations)
        while True:
            frame = vehicle.next_frame(phase.sensors)
            if frame is None:
                drive.skip()
                continue
            sight, labelled = frame
            exchanges: list[Exchange] = []
            for question in chooser.choose(labelled, QUESTIONS_A_FRAME):
                exchanges.append(vehicle.ask(question, majority.guess(question)))
                view.answered(drive, phase, exchanges)
            events, drive.adaptations = vehicle.news(start)
            drive.moments.append(DriveMoment(phase, time.monotonic() - start, exchanges, sight))
            adapted = phase.adapts and has_adapted(drive, phase, vehicle)
            given_up = phase.adapts and not adapted and is_given_up(drive, phase, before)
            if given_up:
                own.append(DriveEvent(time.monotonic() - start, 'given up', vehicle.decision))
                drive.phases = [*drive.phases[:place + 1], *(
                    replace(later, title=later.without or later.title) for later in drive.phases[place + 1:])]
            drive.events = sorted([*own, *events], key=lambda event: event.seconds)
            view.passed(drive, drive.moments[-1])
            if adapted or given_up or (
                    not phase.adapts and len(drive.exchanges(phase)) >= questions * phase.share / total):
                break
    return drive


def has_adapted(drive: Drive, phase: Phase, vehicle: Vehicle) -> bool:
    """Return whether the newest answer uses the new sensors of a phase, and trained links to them."""
    exchanges = drive.exchanges(phase)
    new = set(phase.sensors) - set(drive.phases[0].sensors)
    return bool(exchanges) and new <= set(exchanges[-1].used) and vehicle.adapted(new)


def is_given_up(drive: Drive, phase: Phase, before: int) -> bool:
    """Return whether a phase has waited long enough; a running adaptation is waited for.

    before: number of adaptations before the phase.
    """
    answers = [moment.exchanges[-1] for moment in drive.moments if moment.phase is phase and moment.exchanges]
    idle = [answer for answer in answers if not answer.training]
    return not (answers and answers[-1].training) and (
        len(idle) >= MOST_IDLE_FRAMES or len(drive.adaptations) - before >= MOST_ADAPTATIONS)


def count_majority(scope: Scope, per_kind: int) -> Majority:
    """Return the most frequent answer to each question, in scenes that the demo does not use.

    The questions are about true objects.
    scope, per_kind: as in scene_questions.  Cached.
    """
    recipe = f'{__version__} {scope} {per_kind} {MAJORITY_SEEDS} {MAJORITY_FRAMES} {MAJORITY_INTERVAL}'
    folder = cache_root() / 'demo' / f'majority-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}'
    folder.parent.mkdir(parents=True, exist_ok=True)

    def build(empty: Path) -> None:
        from mpnp_world.dataset.objects_only import object_key_frames

        frames = object_key_frames(MAJORITY_SEEDS, MAJORITY_FRAMES, MAJORITY_INTERVAL, workers=1,
                                   progress=False)
        counted = Majority.of(question for frame in frames
                              for question in scene_questions(frame, 0, per_kind, scope))
        write_file(empty / MAJORITY_FILE, json.dumps([counted.by_text, counted.by_type]).encode())

    return Majority(*json.loads((cached_folder(folder, recipe, build) / MAJORITY_FILE).read_bytes()))

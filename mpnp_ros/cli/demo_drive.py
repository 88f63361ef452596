"""The drive of the demo: its phases, what is asked on the way and what came of it; nothing here knows ROS."""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mpnp_ros.cli.demo_majority import Majority
from mpnp_ros.cli.session import NotAnsweringError
from mpnp_ros.nuscenes.questions import LabelledQuestion, Scope

CAMERA, LIDAR = 'camera', 'lidar'
BOTH = (CAMERA, LIDAR)
SCOPE = Scope(max_distance=30.0, min_points=5, anchors=False)
"""What the shipped links were trained to answer."""
QUESTIONS_A_FRAME, MOST_SKIPPED = 16, 5


@dataclass(frozen=True)
class Phase:
    """A part of the drive.  plugged: what answers may rest on.  share: of the time, relative to others."""

    name: str
    light: str
    plugged: tuple[str, ...]
    share: float

    @property
    def title(self) -> str:
        """For people."""
        return f'{self.light}, {sensors(self.plugged)}'

    @property
    def figure(self) -> str:
        """Its row in docs/accuracy.json; there is none for the dusk."""
        return f'{"_".join(self.plugged)}_{self.light}'


PHASES = (Phase('day', 'day', (CAMERA,), 3), Phase('dusk', 'dusk', (CAMERA,), 2),
          Phase('night', 'night', (CAMERA,), 3), Phase('night-both', 'night', BOTH, 3),
          Phase('night-lidar', 'night', (LIDAR,), 3), Phase('dawn', 'dusk', BOTH, 2),
          Phase('morning', 'day', BOTH, 3))


def sensors(names: Iterable[str]) -> str:
    """What is plugged, in words."""
    return ' + '.join({CAMERA: 'camera', LIDAR: 'LiDAR'}.get(name, name) for name in names) or 'nothing'


@dataclass(frozen=True)
class Exchange:
    """A question with its true answer, the answer that came, and what the majority would have said.

    used: modalities the answer rests on.  latency: seconds from the question to the answer.
    """

    question: str
    type: str
    truth: str
    guess: str
    answer: str
    confidence: float
    used: tuple[str, ...]
    latency: float

    @property
    def is_right(self) -> bool:
        """Whether the answer is the true one."""
        return self.answer == self.truth


@dataclass(frozen=True)
class Score:
    """Sums over exchanges.  guessed: how many the majority gets right.  latency: median, seconds."""

    asked: int
    right: int
    guessed: int
    latency: float

    @classmethod
    def of(cls, exchanges: Sequence[Exchange]) -> Score:
        """Count."""
        latencies = [one.latency for one in exchanges] or [float('nan')]
        return cls(len(exchanges), sum(one.is_right for one in exchanges),
                   sum(one.guess == one.truth for one in exchanges), float(np.median(latencies)))

    @property
    def percent(self) -> float:
        """Answers that are right; NaN without questions."""
        return 100 * self.right / self.asked if self.asked else float('nan')

    @property
    def guess_percent(self) -> float:
        """What the majority reaches on the same questions."""
        return 100 * self.guessed / self.asked if self.asked else float('nan')


@dataclass(frozen=True)
class Sight:
    """What the sensors published of one key frame.

    images: JPEG bytes by camera, such as cam_front.  points: [N, 3] metres, vehicle's frame.
    """

    stamp_ns: int
    images: dict[str, bytes] = field(default_factory=dict)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))


@dataclass(frozen=True)
class Moment:
    """A key frame and what was asked about it.  seconds: since the drive began."""

    phase: Phase
    seconds: float
    exchanges: Sequence[Exchange]
    sight: Sight


@dataclass
class Drive:
    """What has happened so far.  skipped: key frames whose tokens did not come."""

    phases: Sequence[Phase]
    moments: list[Moment] = field(default_factory=list)
    skipped: int = 0

    def skip(self) -> None:
        """A key frame cannot be asked about.  Raises NotAnsweringError where there were too many of them."""
        self.skipped += 1
        if self.skipped > MOST_SKIPPED:
            raise NotAnsweringError(f'{self.skipped} key frames came without tokens; the machine is too busy')

    def exchanges(self, phase: Phase | None = None) -> list[Exchange]:
        """Of one phase, or all."""
        return [one for moment in self.moments if phase in (None, moment.phase) for one in moment.exchanges]

    def scores(self) -> Iterator[tuple[Phase, Score]]:
        """The score of every phase."""
        return ((phase, Score.of(self.exchanges(phase))) for phase in self.phases)


class Vehicle(Protocol):
    """A system in a world that waits at every key frame."""

    def enter(self, phase: Phase) -> None:
        """Make the light of a phase and plug its modalities."""

    def next_frame(self, plugged: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        """Drive to the next key frame; None where the tokens of what is plugged did not come."""

    def ask(self, question: LabelledQuestion, guess: str, plugged: Sequence[str], stamp_ns: int) -> Exchange:
        """Ask about the present key frame."""


class View(Protocol):
    """What is shown on the way."""

    def entered(self, phase: Phase) -> None:
        """A phase begins."""

    def answered(self, drive: Drive, phase: Phase, exchanges: Sequence[Exchange]) -> None:
        """Another question about the present key frame is answered; exchanges: all about it so far."""

    def passed(self, drive: Drive, moment: Moment) -> None:
        """All about a key frame is answered."""


class Chooser:
    """Chooses questions so that types come up as evenly as frames allow, and so do answers within a type.

    As the question's text alone should give little away, as many are chosen of each type that the majority
    gets wrong as right, where there are any.
    """

    def __init__(self, majority: Majority) -> None:
        self._majority = majority
        self._types: Counter[str] = Counter()
        self._expected: Counter[tuple[str, bool]] = Counter()
        self._answers: Counter[tuple[str, str]] = Counter()

    def choose(self, questions: Iterable[LabelledQuestion], count: int) -> list[LabelledQuestion]:
        """At most ``count`` of them; what was chosen before counts."""
        left, chosen = list(questions), []
        while left and len(chosen) < count:
            rarest = min(left, key=self._times)
            left.remove(rarest)
            chosen.append(rarest)
            self._types[rarest.type] += 1
            self._expected[rarest.type, self._is_expected(rarest)] += 1
            self._answers[rarest.type, rarest.answer] += 1
        return chosen

    def _times(self, question: LabelledQuestion) -> tuple[int, int, int]:
        """How often the like has been chosen."""
        kind = question.type
        return (self._types[kind], self._expected[kind, self._is_expected(question)],
                self._answers[kind, question.answer])

    def _is_expected(self, question: LabelledQuestion) -> bool:
        return self._majority.guess(question) == question.answer


def drive_through(vehicle: Vehicle, phases: Sequence[Phase], seconds: float, majority: Majority,
                  view: View) -> Drive:
    """Drive for about so many seconds, at least one key frame a phase, and ask at each of them."""
    drive, chooser, start = Drive(phases), Chooser(majority), time.monotonic()
    total = sum(phase.share for phase in phases)
    for phase in phases:
        vehicle.enter(phase)
        view.entered(phase)
        end = time.monotonic() + seconds * phase.share / total
        while time.monotonic() < end or not drive.exchanges(phase):
            frame = vehicle.next_frame(phase.plugged)
            if frame is None:
                drive.skip()
                continue
            sight, questions = frame
            exchanges: list[Exchange] = []
            for question in chooser.choose(questions, QUESTIONS_A_FRAME):
                guess = majority.guess(question)
                exchanges.append(vehicle.ask(question, guess, phase.plugged, sight.stamp_ns))
                view.answered(drive, phase, exchanges)
            drive.moments.append(Moment(phase, time.monotonic() - start, exchanges, sight))
            view.passed(drive, drive.moments[-1])
    return drive

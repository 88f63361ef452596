"""The drive of the demo over time: adaptations, milestones, and the sequence of answers."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mpnp_ros.cli.exchanges import Exchange
from mpnp_world.demo.drive import Costs, Drive, Phase, sensors

HANDING_OVER = .5
"""Links that come into use later than so many seconds before the end of an adaptation are its result."""
TOGETHER = 3.
"""Seconds within which the end of a training and the use of its links are one milestone."""
LIGHTS = {'dusk': 'dusk', 'night': 'night falls', 'day': 'morning'}


@dataclass(frozen=True)
class Adaptation:
    """An adaptation during the drive.

    begin, end: seconds of the drive; if it did not end, the end of the drive.  costs: None if it did not end.
    begun_in_use, trained_in_use: when initial links, and trained ones, came into use; None: never.
    """

    begin: float
    end: float
    costs: Costs | None
    begun_in_use: float | None = None
    trained_in_use: float | None = None


@dataclass(frozen=True)
class Milestone:
    """An event with a label in the picture.  seconds: of the drive."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Course:
    """The sequence of answers; arrays [n].

    seconds: of the drive, spread evenly between the ends of successive key frames.
    """

    exchanges: Sequence[Exchange]
    seconds: np.ndarray

    @classmethod
    def of(cls, drive: Drive) -> Course:
        """All exchanges of a drive."""
        ends = [0., *(moment.seconds for moment in drive.moments)]
        seconds = [begin + (end - begin) * (place + 1) / len(moment.exchanges)
                   for moment, (begin, end) in zip(drive.moments, pairwise(ends), strict=True)
                   for place in range(len(moment.exchanges))]
        return cls(drive.exchanges(), np.array(seconds))

    @property
    def right(self) -> np.ndarray:
        """Whether answers were right."""
        return np.array([exchange.is_right for exchange in self.exchanges], bool)

    @property
    def guessed(self) -> np.ndarray:
        """Whether the majority was right."""
        return np.array([exchange.guess == exchange.truth for exchange in self.exchanges], bool)

    @property
    def training(self) -> np.ndarray:
        """Whether links were being trained."""
        return np.array([exchange.training for exchange in self.exchanges], bool)

    @property
    def latency(self) -> np.ndarray:
        """Latency of the answers, seconds."""
        return np.array([exchange.latency for exchange in self.exchanges])

    def rests_on(self, modality: str) -> np.ndarray:
        """Whether answers used a modality."""
        return np.array([modality in exchange.used for exchange in self.exchanges], bool)

    def runs(self, flags: np.ndarray) -> list[tuple[float, float]]:
        """Begin and end, in seconds, of every interval in which flags [n] were set."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
        begins = np.concatenate([[0.], self.seconds])
        return [(begins[first], begins[last]) for first, last in edges.reshape(-1, 2)]


def moving_sums(flags: np.ndarray, window: int) -> np.ndarray:
    """Number of set flags among the last ``window`` at each flag [n], or among all up to it if fewer."""
    sums = np.concatenate([np.zeros(window, int), np.cumsum(flags)])
    return sums[window:] - sums[:-window]


def phase_spans(drive: Drive) -> list[tuple[Phase, float, float]]:
    """The phases that were driven, with their begin and end in seconds."""
    begins = [event.seconds for event in drive.events if event.kind == 'phase']
    return [(phase, begin, end) for phase, (begin, end)
            in zip(drive.phases, pairwise([*begins, _end(drive)]), strict=False)]


def plugged_in(drive: Drive) -> float | None:
    """Second at which the first additional sensor was plugged in; None: never."""
    return next((begin for phase, begin, _ in phase_spans(drive)
                 if set(phase.sensors) - set(drive.phases[0].sensors)), None)


def adaptations(drive: Drive) -> list[Adaptation]:
    """All adaptations, with the times at which their links came into use."""
    spans = list(_under_way(drive))
    given = [*drive.adaptations, *[None] * len(spans)]
    following = [begin for begin, _ in spans[1:]] + [np.inf]
    links = [event.seconds for event in drive.events
             if event.kind == 'links' and not event.text.endswith(' none')]
    found = []
    for (begin, end), costs, until in zip(spans, given, following, strict=False):
        came = [seconds for seconds in links if begin <= seconds < until]
        trained_from = end - HANDING_OVER if costs and costs.steps else np.inf
        found.append(Adaptation(begin, end, costs,
                                next((seconds for seconds in came if seconds < trained_from), None),
                                next((seconds for seconds in came if seconds >= trained_from), None)))
    return found


def milestones(drive: Drive) -> list[Milestone]:
    """The labelled events of the picture, in order."""
    found = []
    for (before, *_), (phase, begin, _) in pairwise(phase_spans(drive)):
        if phase.light != before.light and phase.light in LIGHTS:
            found.append(Milestone(begin, LIGHTS[phase.light]))
        if new := [name for name in phase.sensors if name not in before.sensors]:
            found.append(Milestone(begin, f'{sensors(new)} plugged in'))
    found += [*_of_states(drive), *_of_adaptations(drive)]
    return sorted(found, key=lambda milestone: milestone.seconds)


def _end(drive: Drive) -> float:
    return drive.moments[-1].seconds if drive.moments else 0.


def _under_way(drive: Drive) -> Iterator[tuple[float, float]]:
    """Begin and end of every adaptation, seconds."""
    begin = None
    for event in drive.events:
        if event.kind == 'stage' and event.text == 'idle':
            if begin is not None:
                yield begin, event.seconds
            begin = None
        elif event.kind == 'stage' and begin is None:
            begin = event.seconds
    if begin is not None:
        yield begin, max(begin, _end(drive))


def _of_states(drive: Drive) -> Iterator[Milestone]:
    """Changes between healthy, degraded and stale of every modality."""
    known = dict.fromkeys(drive.phases[0].sensors, 'healthy') if drive.phases else {}
    for event in drive.events:
        if event.kind != 'state':
            continue
        name, state = event.text.split()
        before = known.get(name)
        if state in ('healthy', 'degraded', 'stale') and state != before:
            known[name] = state
            yield Milestone(event.seconds, f'{sensors([name])} {state}' + ' again' * (
                state == 'healthy' and before is not None))


def _of_adaptations(drive: Drive) -> Iterator[Milestone]:
    """Begin and end of every adaptation, and the first use of its links."""
    begun = False
    for adaptation in adaptations(drive):
        was_trained = adaptation.costs is None or adaptation.costs.steps
        yield Milestone(adaptation.begin, 'training begins' if was_trained else 'initial links evaluated')
        if adaptation.begun_in_use is not None and not begun:
            begun = True
            yield Milestone(adaptation.begun_in_use, 'first links in use')
        in_use = adaptation.trained_in_use
        if in_use is not None:
            yield Milestone(in_use, 'trained links in use')
        if adaptation.costs and was_trained and (in_use is None or in_use - adaptation.end > TOGETHER):
            yield Milestone(adaptation.end, 'training ends')

"""What happened when on the drive of the demo: adaptations, milestones, and answers one after the other."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mpnp_ros.cli.exchanges import Exchange
from mpnp_world.demo.drive import Costs, Drive, Phase, sensors

HANDING_OVER = .5
"""Seconds before the end of an adaptation from which links that come in use are those it has made."""
TOGETHER = 3.
"""Seconds within which the end of a training and its links in use are one milestone."""
LIGHTS = {'dusk': 'dusk', 'night': 'night falls', 'day': 'morning'}


@dataclass(frozen=True)
class Adaptation:
    """An adaptation on the way.

    begin, end: seconds of the drive; the end of the drive where it was not over.  costs: None while it was
    not over.  begun_in_use, trained_in_use: when links to begin with, and trained ones, came in use; None:
    never.
    """

    begin: float
    end: float
    costs: Costs | None
    begun_in_use: float | None = None
    trained_in_use: float | None = None


@dataclass(frozen=True)
class Milestone:
    """Something that the picture names.  seconds: of the drive."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Course:
    """Answers one after the other; arrays [n].

    seconds: of the drive, spread evenly between one key frame's end and the next one's.
    """

    exchanges: Sequence[Exchange]
    seconds: np.ndarray

    @classmethod
    def of(cls, drive: Drive) -> Course:
        """Of all that was asked."""
        ends = [0., *(moment.seconds for moment in drive.moments)]
        seconds = [begin + (end - begin) * (place + 1) / len(moment.exchanges)
                   for moment, (begin, end) in zip(drive.moments, pairwise(ends), strict=True)
                   for place in range(len(moment.exchanges))]
        return cls(drive.exchanges(), np.array(seconds))

    @property
    def right(self) -> np.ndarray:
        """Whether answers were right."""
        return np.array([one.is_right for one in self.exchanges], bool)

    @property
    def guessed(self) -> np.ndarray:
        """Whether the majority was right."""
        return np.array([one.guess == one.truth for one in self.exchanges], bool)

    @property
    def training(self) -> np.ndarray:
        """Whether links were being trained meanwhile."""
        return np.array([one.training for one in self.exchanges], bool)

    @property
    def latency(self) -> np.ndarray:
        """Seconds."""
        return np.array([one.latency for one in self.exchanges])

    def rests_on(self, modality: str) -> np.ndarray:
        """Whether answers rested on a modality."""
        return np.array([modality in one.used for one in self.exchanges], bool)

    def runs(self, flags: np.ndarray) -> list[tuple[float, float]]:
        """From when to when flags [n] were set: seconds."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
        begins = np.concatenate([[0.], self.seconds])
        return [(begins[first], begins[last]) for first, last in edges.reshape(-1, 2)]


def moving_sums(flags: np.ndarray, window: int) -> np.ndarray:
    """At each flag [n], how many of the last ``window`` were set, or of as many as there are by then."""
    sums = np.concatenate([np.zeros(window, int), np.cumsum(flags)])
    return sums[window:] - sums[:-window]


def phase_spans(drive: Drive) -> list[tuple[Phase, float, float]]:
    """Phases as far as they were driven, with when they began and ended."""
    begins = [event.seconds for event in drive.events if event.kind == 'phase']
    return [(phase, begin, end) for phase, (begin, end)
            in zip(drive.phases, pairwise([*begins, _end(drive)]), strict=False)]


def plugged_in(drive: Drive) -> float | None:
    """When the first sensor that was not there from the beginning was plugged in."""
    return next((begin for phase, begin, _ in phase_spans(drive) if _new_sensors(drive, phase)), None)


def adaptations(drive: Drive) -> list[Adaptation]:
    """All of them, with when what they gave came in use."""
    spans = list(_under_way(drive))
    costs = [*drive.adaptations, *[None] * len(spans)]
    following = [begin for begin, _ in spans[1:]] + [np.inf]
    return [_with_links(drive, Adaptation(begin, end, one), until)
            for (begin, end), one, until in zip(spans, costs, following, strict=False)]


def milestones(drive: Drive) -> list[Milestone]:
    """What the picture names, in order."""
    found = [*_of_phases(drive), *_of_states(drive), *_of_adaptations(drive)]
    return sorted(found, key=lambda one: one.seconds)


def _end(drive: Drive) -> float:
    return drive.moments[-1].seconds if drive.moments else 0.


def _new_sensors(drive: Drive, phase: Phase) -> list[str]:
    """Sensors of a phase that the first one had not."""
    return [name for name in phase.sensors if name not in drive.phases[0].sensors]


def _under_way(drive: Drive) -> Iterator[tuple[float, float]]:
    """From when to when there was an adaptation."""
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


def _with_links(drive: Drive, one: Adaptation, until: float) -> Adaptation:
    """The adaptation with its links, those that came in use before the next one."""
    came = [event.seconds for event in drive.events if event.kind == 'links'
            and not event.text.endswith(' none') and one.begin <= event.seconds < until]
    over = one.end - HANDING_OVER if one.costs and one.costs.steps else np.inf
    return Adaptation(one.begin, one.end, one.costs,
                      next((seconds for seconds in came if seconds < over), None),
                      next((seconds for seconds in came if seconds >= over), None))


def _of_phases(drive: Drive) -> Iterator[Milestone]:
    spans = phase_spans(drive)
    for (before, *_), (phase, begin, _) in pairwise(spans):
        if phase.light != before.light and phase.light in LIGHTS:
            yield Milestone(begin, LIGHTS[phase.light])
        if new := [name for name in phase.sensors if name not in before.sensors]:
            yield Milestone(begin, f'{sensors(new)} plugged in')


def _of_states(drive: Drive) -> Iterator[Milestone]:
    """Where a modality became trusted, or no longer is."""
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
    found = adaptations(drive)
    for place, one in enumerate(found):
        if one.costs and not one.costs.steps:
            yield Milestone(one.begin, 'initial links evaluated')
        else:
            yield Milestone(one.begin, 'training begins')
        if one.begun_in_use is not None and all(earlier.begun_in_use is None for earlier in found[:place]):
            yield Milestone(one.begun_in_use, 'first links in use')
        if one.trained_in_use is not None:
            yield Milestone(one.trained_in_use, 'trained links in use')
        if one.costs and one.costs.steps and (
                one.trained_in_use is None or one.trained_in_use - one.end > TOGETHER):
            yield Milestone(one.end, 'training ends')

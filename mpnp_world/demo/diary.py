"""Events and actions of the running system, recorded from its topics when they change."""
from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import Any

from mpnp_world.demo.drive import Costs, Event

STATES = ('absent', 'probing', 'healthy', 'degraded', 'stale', 'adapting')
STAGES = ('idle', 'reading', 'training', 'evaluating')
IDLE, TRAINING = 0, 2


@dataclass(frozen=True)
class Note:
    """An observation at a time of the monotonic clock."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True)
class Sense:
    """State of a modality in the fusion node.  links: version in use, '' for none."""

    modality: str
    state: str
    links: str
    detail: str


@dataclass(frozen=True)
class Running:
    """An adaptation in progress.  done, of: progress of the stage.  remaining: seconds of the budget."""

    stage: str
    done: int
    of: int
    remaining: float
    costs: Costs


class Diary:
    """Collects messages of the topics `modalities` and `adaptation`; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: list[Note] = []
        self._newest: dict[str, str] = {}
        self._senses: dict[str, Sense] = {}
        self._decision = ''
        self._running: Running | None = None
        self._ended: list[Costs] = []

    @property
    def training(self) -> bool:
        """Return whether an adaptation is in progress."""
        return self.running is not None

    @property
    def decision(self) -> str:
        """Return the newest decision of the adaptation node."""
        with self._lock:
            return self._decision

    @property
    def running(self) -> Running | None:
        """Return the progress of the adaptation."""
        with self._lock:
            return self._running

    @property
    def senses(self) -> list[Sense]:
        """Return the modalities by name."""
        with self._lock:
            return [self._senses[name] for name in sorted(self._senses)]

    def events(self, start: float) -> list[Event]:
        """Return all events since the start, with their seconds."""
        with self._lock:
            return [Event(note.at - start, note.kind, note.text) for note in self._notes if note.at >= start]

    def adaptations(self) -> list[Costs]:
        """Return the finished adaptations."""
        with self._lock:
            return list(self._ended)

    def note_states(self, message: Any) -> None:
        """Record the states of the modalities, and their links."""
        with self._lock:
            for row in message.modalities:
                sense = Sense(row.modality, STATES[row.state], row.links_version, row.detail)
                self._senses[sense.modality] = sense
                self._note('state', sense.modality, f'{sense.modality} {sense.state}')
                self._note('links', f'{sense.modality} links', f'{sense.modality} {sense.links or "none"}')

    def note_adaptation(self, message: Any) -> None:
        """Record the work of the adaptation node; a decision is new if more than its numbers changes."""
        with self._lock:
            self._decision = message.decision
            self._note('decision', 'decision', message.decision, re.sub(r'\d+', '#', message.decision))
            self._note('stage', 'stage', STAGES[message.state])
            before, self._running = self._running, None
            if message.state != IDLE:
                self._running = _running(message, before.costs.steps if before else 0)
            elif before is not None:
                self._ended.append(before.costs)

    def _note(self, kind: str, name: str, text: str, gist: str = '') -> None:
        """Record a change; gist: what is compared, if not the text."""
        if self._newest.get(name) != (gist or text):
            self._newest[name] = gist or text
            self._notes.append(Note(time.monotonic(), kind, text))


def _running(message: Any, steps: int) -> Running:
    """Return the progress of an Adaptation message; steps: of training so far."""
    steps = max(steps, message.step) if message.state == TRAINING else steps
    return Running(STAGES[message.state], message.step, message.steps, message.remaining, Costs(
        message.supervision, message.duration, steps, message.macs, message.memory,
        message.start_accuracy, message.accuracy))

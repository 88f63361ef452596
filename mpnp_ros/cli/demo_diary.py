"""What the system notices and does by itself, as its topics tell it: noted when it changes."""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from mpnp_ros.cli.demo_drive import Costs, Event

STATES = ('absent', 'probing', 'healthy', 'degraded', 'stale', 'adapting')
STAGES = ('idle', 'reading', 'training', 'evaluating', 'offering')
IDLE = 0


@dataclass(frozen=True)
class Note:
    """Something that was seen at a time of the monotonic clock."""

    at: float
    kind: str
    text: str


class Diary:
    """Thread-safe; takes messages of the topics `modalities` and `adaptation`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: list[Note] = []
        self._newest: dict[str, str] = {}
        self._running: Costs | None = None
        self._ended: list[Costs] = []

    @property
    def training(self) -> bool:
        """Whether an adaptation is under way."""
        with self._lock:
            return self._running is not None

    @property
    def decision(self) -> str:
        """The newest one of the adaptation node, in words."""
        with self._lock:
            return self._newest.get('decision', '')

    @property
    def running(self) -> Costs | None:
        """Of the adaptation under way, so far."""
        with self._lock:
            return self._running

    def events(self, start: float) -> list[Event]:
        """All that was noted since the start, with seconds from there."""
        with self._lock:
            return [Event(note.at - start, note.kind, note.text) for note in self._notes if note.at >= start]

    def adaptations(self) -> list[Costs]:
        """Those that have ended."""
        with self._lock:
            return list(self._ended)

    def note_states(self, message: Any) -> None:
        """States of the modalities, and their links."""
        with self._lock:
            for row in message.modalities:
                self._note('state', row.modality, f'{row.modality} {STATES[row.state]}')
                self._note('links', f'{row.modality} links', f'{row.modality} {row.links_version or "none"}')

    def note_adaptation(self, message: Any) -> None:
        """What the adaptation node does and why."""
        with self._lock:
            self._note('decision', 'decision', message.decision)
            self._note('stage', 'stage', STAGES[message.state])
            if message.state != IDLE:
                self._running = Costs(
                    message.supervision, message.duration, max(message.step, self._steps), message.macs,
                    message.memory, message.start_accuracy, message.accuracy)
            elif self._running is not None:
                self._ended.append(replace(self._running))
                self._running = None

    @property
    def _steps(self) -> int:
        return self._running.steps if self._running else 0

    def _note(self, kind: str, name: str, text: str) -> None:
        if self._newest.get(name) != text:
            self._newest[name] = text
            self._notes.append(Note(time.monotonic(), kind, text))

"""Answers: exactly one for every question."""
from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mpnp_ros.methods.questions import Counted
from mpnp_ros.serving.questions import Question


class Status(IntEnum):
    """Outcome of a question, numbered as in msg/Answer."""

    OK = 0
    REJECTED = 1
    FAILED = 2
    NO_SENSOR = 3
    UNKNOWN = 4


@dataclass(frozen=True)
class UsedModality:
    """A modality used by an answer: sensor stamp in nanoseconds, and age in seconds at the computation."""

    modality: str
    stamp_ns: int
    age: float


@dataclass(frozen=True)
class Answer:
    """Answer to a question; fields as in msg/Answer.

    stamp_ns: oldest sensor stamp used, or the time of the question if none is used.
    probabilities: one per choice.  missing: modalities that have links but no usable tokens.
    concerns: statements that lower the value of the answer.  counted: by counting links.
    latency, compute: seconds.
    """

    question: Question
    status: Status
    stamp_ns: int
    error: str = ''
    text: str = ''
    confidence: float = 0.
    probabilities: tuple[float, ...] = ()
    used: tuple[UsedModality, ...] = ()
    missing: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()
    counted: tuple[Counted, ...] = ()
    links_version: str = ''
    method: str = ''
    latency: float = 0.
    compute: float = 0.


@dataclass(frozen=True)
class Progress:
    """A partial answer: text so far, stage (waiting, reading or answering) and tokens so far."""

    stage: str
    text: str = ''
    tokens: int = 0

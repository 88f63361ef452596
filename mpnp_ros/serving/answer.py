"""Answers: exactly one for every question."""
from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mpnp_ros.methods.questions import Counted
from mpnp_ros.serving.questions import Question


class Status(IntEnum):
    """How a question fared, numbered as in msg/Answer."""

    OK = 0
    REJECTED = 1
    FAILED = 2
    NO_SENSOR = 3
    UNKNOWN = 4


@dataclass(frozen=True)
class UsedModality:
    """A modality an answer rests on: sensor stamp in nanoseconds and age in seconds when it was computed."""

    modality: str
    stamp_ns: int
    age: float


@dataclass(frozen=True)
class Answer:
    """What came of a question; fields as in msg/Answer.

    stamp_ns: oldest sensor stamp the answer rests on, or when it was asked if it rests on none.
    probabilities: one per choice.  missing: modalities that have links but no usable tokens.
    concerns: what lowers the worth of what it rests on, in words.  counted: by links that count.
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
    """An answer while it is made: text so far, stage (waiting, reading or answering) and tokens so far."""

    stage: str
    text: str = ''
    tokens: int = 0

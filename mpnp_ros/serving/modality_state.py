"""State of a modality, commands of the operator, and requirements of links on tokens."""
from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """States of a modality, numbered as in msg/ModalityState."""

    ABSENT = 0
    PROBING = 1
    HEALTHY = 2
    DEGRADED = 3
    STALE = 4
    ADAPTING = 5


class Command(IntEnum):
    """Command of an operator for a modality, numbered as in srv/SetModality."""

    AUTO = 0
    PLUG = 1
    UNPLUG = 2


@dataclass(frozen=True)
class LinkFit:
    """Requirements of loaded links on tokens.

    encoder: fingerprint of the encoder they were trained with.  token_width: D.  version: of the links.
    """

    encoder: str
    token_width: int
    version: str


@dataclass(frozen=True)
class EncoderFacts:
    """Description of an encoder before its first tokens; fields as in msg/EncoderInfo.

    changed: options that shape its tokens and are not at their defaults.  topics: that it reads.
    """

    modality: str
    node: str
    encoder: str
    token_width: int
    changed: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModalityStatus:
    """One row of the board; fields as in msg/ModalityState, and counters.

    rate: Hz.  age: seconds since the sensor stamp of the newest tokens, NaN while there are none or the clock
    does not tell.
    quality: 0..1, smoothed, NaN while unknown.  accepted, rejected: token messages since the start.
    """

    modality: str
    state: State
    plugged: bool
    pinned: bool
    rate: float
    age: float
    links_version: str
    encoder: str
    detail: str
    accepted: int
    rejected: int
    quality: float = math.nan

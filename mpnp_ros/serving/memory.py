"""A bounded memory of tokens: moments that any question can be asked of later, without encoding again."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.tokens import SECOND, ModalityTokens


@dataclass(frozen=True, eq=False)
class RememberedMoment:
    """The tokens of one moment by modality.  stamp_ns: sensor stamp of the first of them, nanoseconds."""

    stamp_ns: int
    tokens: Mapping[str, ModalityTokens]


class TokenMemory:
    """Keeps the newest moments, at most one an interval, within a number of bytes.

    Each modality gives a moment the newest of its tokens that come before the next moment begins, also if
    they arrive later than those of others.  Values are kept in half precision.  If the time of a modality
    goes back by more than a second, as when a bag begins anew, what lies later is forgotten.  Thread-safe.
    """

    def __init__(self, duration: float, most_bytes: int, interval: float = 0.5) -> None:
        """Duration and interval: seconds; a duration of 0 keeps nothing, of inf everything."""
        self._duration, self._interval = duration * SECOND, interval * SECOND
        self._most_bytes, self._bytes = most_bytes, 0
        self._moments: deque[RememberedMoment] = deque()
        self._newest: dict[str, int] = {}
        self._lock = threading.Lock()

    def remember(self, tokens: ModalityTokens) -> None:
        """Keep the tokens of one frame."""
        if not self._duration:
            return
        kept, stamp = _halved(tokens), tokens.stamp_ns
        with self._lock:
            if stamp < self._newest.get(kept.modality, stamp) - SECOND:
                while self._moments and self._moments[-1].stamp_ns > stamp + SECOND:
                    self._forget(self._moments.pop())
            self._newest[kept.modality] = stamp
            place = len(self._moments)
            while place and self._moments[place - 1].stamp_ns > stamp:
                place -= 1
            moment = self._moments[place - 1] if place else None
            if moment is not None and stamp < moment.stamp_ns + self._interval:
                self._bytes -= _size(moment.tokens.get(kept.modality))
                self._moments[place - 1] = replace(moment, tokens={**moment.tokens, kept.modality: kept})
            else:
                self._moments.insert(place, RememberedMoment(stamp, {kept.modality: kept}))
            self._bytes += _size(kept)
            oldest = self._moments[-1].stamp_ns - self._duration
            while self._moments and (self._moments[0].stamp_ns < oldest or self._bytes > self._most_bytes):
                self._forget(self._moments.popleft())

    def moments(self) -> tuple[RememberedMoment, ...]:
        """Return all moments, oldest first."""
        with self._lock:
            return tuple(self._moments)

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return self._bytes

    def _forget(self, moment: RememberedMoment) -> None:
        self._bytes -= sum(map(_size, moment.tokens.values()))


def _halved(tokens: ModalityTokens) -> ModalityTokens:
    """Return tokens in half precision, without what an answer does not need."""
    most = np.finfo(np.float16).max
    return replace(tokens, values=tokens.values.clip(-most, most).astype(np.float16), concerns=(),
                   boxes=tokens.boxes[:0])


def _size(tokens: ModalityTokens | None) -> int:
    if tokens is None:
        return 0
    arrays = (tokens.values, tokens.azimuth, tokens.distance, tokens.known, tokens.looked,
              tokens.source_index)
    return sum(array.nbytes for array in arrays) + OVERHEAD


OVERHEAD = 2000
"""Bytes of the Python objects of one frame's tokens."""

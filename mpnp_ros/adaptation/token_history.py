"""The newest seconds of tokens of all modalities, found again by the time they were sensed."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection

from mpnp_ros.adaptation.dataset import Frame
from mpnp_ros.tokens import ModalityTokens

SECOND = 1_000_000_000
SECONDS, TOLERANCE = 10., .06


def span(tokens: ModalityTokens) -> tuple[int, int]:
    """Stamps in nanoseconds of the oldest and the newest source."""
    stamps = tokens.stamp_ns, *tokens.source_stamps_ns
    return min(stamps), max(stamps)


def apart(tokens: ModalityTokens, stamp_ns: int) -> int:
    """Nanoseconds between a time and the tokens' sources, 0 where it is among them."""
    first, last = span(tokens)
    return max(first - stamp_ns, stamp_ns - last, 0)


class TokenHistory:
    """Tokens of the last seconds by their stamps.  Thread-safe.

    A stamp that is older than all that is held (a replay that starts again) forgets everything.
    """

    def __init__(self, seconds: float = SECONDS, tolerance: float = TOLERANCE) -> None:
        """seconds: how long tokens are held.  tolerance: seconds that one moment's sensors may be apart."""
        self.tolerance_ns = round(tolerance * SECOND)
        self._length = round(seconds * SECOND)
        self._held: dict[str, deque[ModalityTokens]] = {}
        self._newest = 0
        self._lock = threading.Lock()

    def add(self, tokens: ModalityTokens) -> None:
        """Take the tokens that have just come."""
        with self._lock:
            if tokens.stamp_ns < self._newest - self._length:
                self._held.clear()
                self._newest = tokens.stamp_ns
            self._newest = max(self._newest, tokens.stamp_ns)
            self._held.setdefault(tokens.modality, deque()).append(tokens)
            self._forget()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that tokens are held of, sorted."""
        with self._lock:
            return tuple(sorted(self._held))

    def at(self, stamp_ns: int) -> Frame:
        """Of each modality the tokens nearest to a time, where they are within the tolerance."""
        with self._lock:
            nearest = {name: min(held, key=lambda one: (apart(one, stamp_ns), abs(one.stamp_ns - stamp_ns)))
                       for name, held in self._held.items()}
        return {name: one for name, one in nearest.items() if apart(one, stamp_ns) <= self.tolerance_ns}

    def exactly(self, modality: str, stamp_ns: int) -> ModalityTokens | None:
        """The tokens of a modality with a stamp, None where they are not held."""
        with self._lock:
            return next((one for one in self._held.get(modality, ()) if one.stamp_ns == stamp_ns), None)

    def passed(self, stamp_ns: int) -> bool:
        """Whether nothing nearer to a time is to come: each modality is exactly there, or beyond it."""
        with self._lock:
            return all(any(span(one)[1] >= stamp_ns for one in held) for held in self._held.values())

    def moments(self, modalities: Collection[str]) -> list[Frame]:
        """All moments at which there are tokens of each of some modalities, oldest first.

        One for all tokens of the modality that comes least often, with the nearest of the others.
        """
        with self._lock:
            rarest = min((list(self._held.get(name, ())) for name in modalities), key=len, default=[])
        found = [self.at(one.stamp_ns) for one in sorted(rarest, key=lambda one: one.stamp_ns)]
        return [{name: frame[name] for name in modalities} for frame in found
                if set(modalities) <= frame.keys()]

    def _forget(self) -> None:
        for name, held in list(self._held.items()):
            while held and held[0].stamp_ns < self._newest - self._length:
                held.popleft()
            if not held:
                del self._held[name]

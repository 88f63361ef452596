"""The tokens of the last seconds by sensor time."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection

from mpnp_ros.adaptation.dataset import Frame
from mpnp_ros.tokens import ModalityTokens

SECOND = 1_000_000_000
SECONDS, TOLERANCE = 10., .06


def span(tokens: ModalityTokens) -> tuple[int, int]:
    """Return the stamps in nanoseconds of the oldest and the newest source."""
    stamps = tokens.stamp_ns, *tokens.source_stamps_ns
    return min(stamps), max(stamps)


def apart(tokens: ModalityTokens, stamp_ns: int) -> int:
    """Return the nanoseconds between a time and the tokens' sources, 0 if it is among them."""
    first, last = span(tokens)
    return max(first - stamp_ns, stamp_ns - last, 0)


class TokenHistory:
    """Tokens of the last seconds by their stamps.  Thread-safe.

    A stamp older than all held ones (a replay that starts again) clears the history.
    """

    def __init__(self, seconds: float = SECONDS, tolerance: float = TOLERANCE) -> None:
        """seconds: how long tokens are held.  tolerance: largest difference of sensor times in one moment."""
        self.tolerance_ns = round(tolerance * SECOND)
        self._length = round(seconds * SECOND)
        self._held: dict[str, deque[ModalityTokens]] = {}
        self._newest = 0
        self._lock = threading.Lock()

    def add(self, tokens: ModalityTokens) -> None:
        """Add received tokens."""
        with self._lock:
            if tokens.stamp_ns < self._newest - self._length:
                self._held.clear()
                self._newest = tokens.stamp_ns
            self._newest = max(self._newest, tokens.stamp_ns)
            self._held.setdefault(tokens.modality, deque()).append(tokens)
            self._forget()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities with tokens, sorted."""
        with self._lock:
            return tuple(sorted(self._held))

    def at(self, stamp_ns: int) -> Frame:
        """Return the tokens of each modality nearest to a time, within the tolerance."""
        with self._lock:
            nearest = {name: min(held, key=lambda one: (apart(one, stamp_ns), abs(one.stamp_ns - stamp_ns)))
                       for name, held in self._held.items()}
        return {name: one for name, one in nearest.items() if apart(one, stamp_ns) <= self.tolerance_ns}

    def exactly(self, modality: str, stamp_ns: int) -> ModalityTokens | None:
        """Return the tokens of a modality with a stamp, None if they are not held."""
        with self._lock:
            return next((one for one in self._held.get(modality, ()) if one.stamp_ns == stamp_ns), None)

    def passed(self, stamp_ns: int) -> bool:
        """Return whether no nearer tokens can arrive: each modality is exactly there, or later."""
        with self._lock:
            return all(any(span(one)[1] >= stamp_ns for one in held) for held in self._held.values())

    def moments(self, modalities: Collection[str]) -> list[Frame]:
        """Return all moments with tokens of each of some modalities, oldest first.

        There is one for all tokens of the least frequent modality, with the nearest of the others.
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

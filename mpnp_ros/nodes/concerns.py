"""What lowers the worth of what a node makes, for as long as it lasts."""
from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpnp_ros.nodes.diagnostics import Diagnostics

NOMINAL = 0.75
"""Quality of input of which something had to be assumed: above the limit at which it counts as poor."""


class Concerns:
    """Concerns by key; every method may be called from any thread.

    A concern is logged when it comes and when its text changes, is a warning on ``/diagnostics`` as long as
    it lasts, and goes with the tokens of an encoder and from there into answers.
    """

    def __init__(self, diagnostics: Diagnostics) -> None:
        self._diagnostics = diagnostics
        self._lock = threading.Lock()
        self._lasting: dict[str, tuple[str, float]] = {}
        diagnostics.add_check(lambda: '; '.join(self.texts()))

    def set(self, key: str, text: str, quality: float = NOMINAL) -> None:
        """Say what is amiss, or with an empty text that nothing is; quality: 0..1, of the input."""
        with self._lock:
            known = self._lasting.get(key, ('', 1.))[0]
            if text:
                self._lasting[key] = (text, quality)
            else:
                self._lasting.pop(key, None)
        if text and text != known:
            self._diagnostics.warn(key, text)

    def text(self, key: str) -> str:
        """Return what is amiss under ``key``, empty where nothing is."""
        with self._lock:
            return self._lasting.get(key, ('', 1.))[0]

    def clear(self, prefix: str = '') -> None:
        """Forget the concerns whose key begins with ``prefix``."""
        with self._lock:
            self._lasting = {key: concern for key, concern in self._lasting.items()
                             if not key.startswith(prefix)}

    def texts(self) -> tuple[str, ...]:
        """Return what is amiss now, in words."""
        with self._lock:
            return tuple(text for text, _ in self._lasting.values())

    def quality(self) -> float:
        """Return the lowest quality of all concerns, 1 where there are none."""
        with self._lock:
            return min((quality for _, quality in self._lasting.values()), default=1.)

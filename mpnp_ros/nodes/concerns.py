"""Conditions that lower the quality of a node's output, while they last."""
from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpnp_ros.nodes.diagnostics import Diagnostics

NOMINAL = 0.75
"""Quality of input with an assumption: above the limit of poor input."""


class Concerns:
    """Concerns by key; every method may be called from any thread.

    A concern is logged when it starts and when its text changes.  It is a warning on ``/diagnostics`` while
    it lasts, and is part of the tokens of an encoder and of the answers that use them.
    """

    def __init__(self, diagnostics: Diagnostics) -> None:
        self._diagnostics = diagnostics
        self._lock = threading.Lock()
        self._lasting: dict[str, tuple[str, float]] = {}
        diagnostics.add_check(lambda: '; '.join(self.texts()))

    def set(self, key: str, text: str, quality: float = NOMINAL) -> None:
        """Set the concern of a key, or end it with an empty text; quality: 0..1, of the input."""
        with self._lock:
            known = self._lasting.get(key, ('', 1.))[0]
            if text:
                self._lasting[key] = (text, quality)
            else:
                self._lasting.pop(key, None)
        if text and text != known:
            self._diagnostics.warn(key, text)

    def text(self, key: str) -> str:
        """Return the concern of ``key``, empty if there is none."""
        with self._lock:
            return self._lasting.get(key, ('', 1.))[0]

    def clear(self, prefix: str = '') -> None:
        """End the concerns whose key begins with ``prefix``."""
        with self._lock:
            self._lasting = {key: concern for key, concern in self._lasting.items()
                             if not key.startswith(prefix)}

    def texts(self) -> tuple[str, ...]:
        """Return the current concerns."""
        with self._lock:
            return tuple(text for text, _ in self._lasting.values())

    def quality(self) -> float:
        """Return the lowest quality of all concerns, 1 without any."""
        with self._lock:
            return min((quality for _, quality in self._lasting.values()), default=1.)

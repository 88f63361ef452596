"""Cache of prepared questions in memory."""
from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from mpnp_ros.llm.prepared import PreparedQuestion


class QuestionCache:
    """The most recently used prepared questions, limited by bytes; thread-safe.

    hits, misses: number of found questions, and of prepared ones.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._entries: OrderedDict[Hashable, PreparedQuestion] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable, make: Callable[[], PreparedQuestion]) -> PreparedQuestion:
        """Return the question of `key`, or the result of `make`, which is then kept.

        `make` runs outside the lock, so other questions need not wait.
        """
        with self._lock:
            if key in self._entries:
                self.hits += 1
                self._entries.move_to_end(key)
                return self._entries[key]
            self.misses += 1
        made = make()
        with self._lock:
            self._keep(key, made)
        return made

    def clear(self) -> None:
        """Remove all questions, for instance because other blocks are linked now."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held, never more than the capacity."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def _keep(self, key: Hashable, made: PreparedQuestion) -> None:
        if key in self._entries:
            self._bytes -= self._entries.pop(key).nbytes
        if made.nbytes > self._capacity:
            return
        self._entries[key] = made
        self._bytes += made.nbytes
        while self._bytes > self._capacity:
            self._bytes -= self._entries.popitem(last=False)[1].nbytes

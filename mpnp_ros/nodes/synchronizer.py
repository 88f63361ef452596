"""Messages of several sources that belong to one moment, without ever waiting long for one that is absent.

A set holds at most one message of each source, all within ``slop`` of each other.  It is ready when every
source that is alive has contributed, or when ``timeout`` has passed since its first message.  Stamps
decide what belongs together and arrival decides what is newer, so a clock that jumps back (a bag that
starts again) or a camera whose clock is wrong neither blocks nor mispairs.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar('Item')
MAX_OPEN = 4
"""Sets that may be incomplete at the same time; it bounds the memory that waiting images take."""


@dataclass
class _Set(Generic[Item]):
    opened_ns: int
    items: dict[str, Item] = field(default_factory=dict)
    stamps_ns: list[int] = field(default_factory=list)

    def fits(self, source: str, stamp_ns: int, slop_ns: int) -> bool:
        spread = max(*self.stamps_ns, stamp_ns) - min(*self.stamps_ns, stamp_ns)
        return source not in self.items and spread <= slop_ns


class Synchronizer(Generic[Item]):
    """Groups items of ``sources``; every method may be called from any thread.

    slop_ns: largest difference of sensor times within a set.  timeout_ns: how long a set waits for the
    rest.  absent_after_ns: a source that was missing for so long is not waited for.
    ready: called with each set, source to item, in the order of ``sources``.
    superseded: called with every item that comes into no set.
    Both are called under the lock and must be quick.  Nanoseconds throughout; ``now_ns`` is any clock.
    """

    def __init__(self, sources: Iterable[str], slop_ns: int, timeout_ns: int, absent_after_ns: int, *,
                 ready: Callable[[Mapping[str, Item]], object],
                 superseded: Callable[[Item], object] = lambda item: None) -> None:
        self._sources = tuple(sources)
        self._slop, self._timeout, self._absent_after = slop_ns, timeout_ns, absent_after_ns
        self._ready, self._superseded = ready, superseded
        self._lock = threading.Lock()
        self._open: list[_Set[Item]] = []
        self._seen: dict[str, int] = {}
        self._began: int | None = None
        self._newest = 0
        self._last = (0, 0)
        self._closed = False

    def add(self, source: str, stamp_ns: int, item: Item, now_ns: int) -> None:
        """Take an item with the sensor time ``stamp_ns``; may make a set ready."""
        with self._lock:
            if self._closed:
                self._superseded(item)
                return
            if self._began is None or now_ns < self._newest - self._timeout:  # the first, or time jumped back
                self._began = now_ns
            self._newest = self._seen[source] = now_ns
            joined = self._join(source, stamp_ns, item, now_ns)
            if self._alive(now_ns) <= joined.items.keys():
                self._finish(joined, now_ns)
            elif len(self._open) > MAX_OPEN:
                self._drop(self._open[0])
            self._expire(now_ns)

    def poll(self, now_ns: int) -> None:
        """Let go of sets that have waited long enough; call it several times within a timeout."""
        with self._lock:
            self._expire(now_ns)

    def close(self) -> None:
        """Supersede all that waits and all that still comes."""
        with self._lock:
            self._closed = True
            for group in list(self._open):
                self._drop(group)

    def _join(self, source: str, stamp_ns: int, item: Item, now_ns: int) -> _Set[Item]:
        group = next((group for group in self._open if group.fits(source, stamp_ns, self._slop)), None)
        if group is None:
            group = _Set(now_ns)
            self._open.append(group)
        group.items[source] = item
        group.stamps_ns.append(stamp_ns)
        return group

    def _alive(self, now_ns: int) -> set[str]:
        """Return the sources worth waiting for: all at first, later those that were not missed for long.

        How long is counted up to the last set, so that sensors which all come rarely are waited for.
        """
        if abs(now_ns - self._began) < self._absent_after:
            return set(self._sources)
        last = self._last[0]
        return {source for source, seen in self._seen.items() if last - seen < self._absent_after}

    def _expire(self, now_ns: int) -> None:
        for group in list(self._open):
            if abs(now_ns - group.opened_ns) >= self._timeout:  # in either direction: simulated time jumps
                if self._straggles(group, now_ns):
                    self._drop(group)
                else:
                    self._finish(group, now_ns)

    def _straggles(self, group: _Set[Item], now_ns: int) -> bool:
        """Whether a set of the same moments has at least twice as many items: these came too late for it."""
        at, size = self._last
        sizes = [len(other.items) for other in self._open]
        sizes += [size] if abs(now_ns - at) < self._timeout else []
        return max(sizes) >= 2 * len(group.items)

    def _finish(self, group: _Set[Item], now_ns: int) -> None:
        position = self._open.index(group)
        for older in self._open[:position]:
            self._drop(older)
        self._open.remove(group)
        self._last = (now_ns, len(group.items))
        self._ready({source: group.items[source] for source in self._sources if source in group.items})

    def _drop(self, group: _Set[Item]) -> None:
        self._open.remove(group)
        for item in group.items.values():
            self._superseded(item)

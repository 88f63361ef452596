"""The newest messages of each sensor, of which one of half a second before shows what moves."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mpnp_ros.modalities.earlier import EARLIEST, LATEST, earlier_of
from mpnp_ros.nodes.ego_poses import UNTOLD
from mpnp_ros.poses import Transform
from mpnp_ros.tokens import SECOND

if TYPE_CHECKING:
    from mpnp_ros.nodes.encoder_node import Input


class RecentInputs:
    """Keeps the messages of about one second.  apart: least seconds between those of one sensor."""

    def __init__(self, apart: float) -> None:
        self._apart = round(apart * SECOND)
        self._kept: dict[str, tuple[Input, ...]] = {}

    def keep(self, item: Input) -> None:
        """Keep a message for those that follow; one that goes back in time starts anew."""
        kept, now = self._kept.get(item.source, ()), item.stamp_ns
        if kept and now < kept[-1].stamp_ns:
            kept = ()
        if not kept or now - kept[-1].stamp_ns >= self._apart:
            recent = tuple(each for each in kept if each.stamp_ns >= now - SECOND)
            self._kept[item.source] = (*(recent or kept[-1:]), item)  # of a slow sensor the one before

    def earlier(self, source: str, stamp_ns: int) -> Input | None:
        """Return the message of a sensor that serves as the earlier one at a time; None: none does."""
        place = earlier_of(self._ages(source, stamp_ns))
        return None if place is None else self._kept[source][place]

    def with_way(self, source: str, stamp_ns: int, way: Callable[[int, int], Transform | None], base: str,
                 what: str) -> tuple[tuple[Input, Transform] | None, str]:
        """Return the earlier message with the way of the robot since then, and why motion cannot be seen.

        way: two times -> map from the base frame at the first to that at the second, or None.  base: name of
        that frame.  what: a message of the sensor, in words.  The reason is empty while none has come that is
        old enough.
        """
        item, missing = self.earlier(source, stamp_ns), ''
        moved = way(item.stamp_ns if item else stamp_ns, stamp_ns)
        if moved is None:
            missing = f'the pose of the robot is not known; {UNTOLD.format(base=base)}'
        elif self.is_slow(source, stamp_ns):
            missing = f'no {what} is {EARLIEST:g} to {LATEST:g} s older than the newest'
        return None if item is None or moved is None else (item, moved), missing

    def is_slow(self, source: str, stamp_ns: int) -> bool:
        """Return whether there are earlier messages, but all of the wrong age."""
        ages = self._ages(source, stamp_ns)
        return earlier_of(ages) is None and any(age > LATEST for age in ages)

    def _ages(self, source: str, stamp_ns: int) -> list[float]:
        return [(stamp_ns - item.stamp_ns) / SECOND for item in self._kept.get(source, ())]

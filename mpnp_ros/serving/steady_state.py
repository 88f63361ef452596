"""A state that changes only for a reason that lasts: a sensor that flickers does not make it flicker."""
from __future__ import annotations

from mpnp_ros.serving.modality_state import State
from mpnp_ros.serving.watch_limits import WatchLimits

SECOND = 1_000_000_000
BEGINNINGS = (State.ABSENT, State.PROBING)


class SteadyState:
    """Follows what is seen of a modality.

    What is wrong must last ``degrade_after`` seconds, what is right again ``recover_after``; silence has
    lasted when it is seen.  Whatever is seen, a state stays for the shorter of both, except that the first
    thing seen of a modality is believed at once: then a state of :data:`BEGINNINGS` is left the first time.
    """

    def __init__(self, limits: WatchLimits) -> None:
        self._degrade, self._recover = (round(span * SECOND) for span in (limits.degrade_after,
                                                                          limits.recover_after))
        self.reset()

    def reset(self) -> None:
        """Forget everything: what follows is another run."""
        self.shown = self._seen = State.ABSENT
        self._since = self._changed = 0
        self._left: set[State] = set()

    def follow(self, seen: State, now: int) -> State:
        """Say what is seen now, nanoseconds; gives the state to be shown."""
        if seen is not self._seen:
            self._seen, self._since = seen, now
        if seen is not self.shown and self._due(now):
            self._left.add(self.shown)
            self.shown, self._changed = seen, now
        return self.shown

    def lasted(self, now: int) -> float:
        """Seconds since when what is seen has been the same."""
        return max(0, now - self._since) / SECOND

    def _due(self, now: int) -> bool:
        if self.shown in BEGINNINGS and self.shown not in self._left:
            return True
        stayed = now - self._changed >= min(self._degrade, self._recover)
        return stayed and now - self._since >= self._needed()

    def _needed(self) -> int:
        if self._seen is State.STALE:
            return 0
        if self._seen is State.HEALTHY or self.shown is State.STALE:
            return self._recover
        return self._degrade if self._seen is State.DEGRADED else 0

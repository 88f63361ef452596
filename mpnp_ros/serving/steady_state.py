"""A state that changes only for a lasting reason, so that a flickering sensor does not make it flicker."""
from __future__ import annotations

from mpnp_ros.serving.modality_state import State
from mpnp_ros.serving.watch_limits import WatchLimits

SECOND = 1_000_000_000
BEGINNINGS = (State.ABSENT, State.PROBING)


class SteadyState:
    """Follows the observations of a modality.

    Problems must last ``degrade_after`` seconds, recovery ``recover_after``; silence counts at once.  A state
    stays at least for the shorter of both, except that the first observation of a modality counts at once: it
    leaves a state of :data:`BEGINNINGS`.
    """

    def __init__(self, limits: WatchLimits) -> None:
        self._degrade, self._recover = (round(span * SECOND) for span in (limits.degrade_after,
                                                                          limits.recover_after))
        self.reset()

    def reset(self) -> None:
        """Reset for a new run."""
        self.shown = self._seen = State.ABSENT
        self._since = self._changed = 0
        self._left: set[State] = set()

    def follow(self, seen: State, now: int) -> State:
        """Add an observation at a time in nanoseconds; returns the state to show."""
        if seen is not self._seen:
            self._seen, self._since = seen, now
        if seen is not self.shown and self._due(now):
            self._left.add(self.shown)
            self.shown, self._changed = seen, now
        return self.shown

    def lasted(self, now: int) -> float:
        """Return the seconds since the observation last changed."""
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

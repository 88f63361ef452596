"""A clock that detects that it stands still."""
from __future__ import annotations

from collections.abc import Callable

SECOND = 1_000_000_000
PATIENCE = SECOND


class WatchedClock:
    """A clock that may stand still, jump or never start, compared with one that always runs.

    paused: whether who sets it is there, so that it may stand still for a reason; then time stands still too.
    """

    def __init__(self, clock: Callable[[], int], steady: Callable[[], int], patience: float) -> None:
        """clock, steady: return nanoseconds.  patience: seconds of a pause that are not reported."""
        self._clock, self._steady = clock, steady
        self._long = max(PATIENCE, round(patience * SECOND))
        self._seen, self._moved = clock(), steady()
        self.paused = False

    def shown(self) -> int:
        """Return the nanoseconds of the clock."""
        return self._clock()

    def now(self) -> int:
        """Return nanoseconds of the clock; by the steady one after it stopped without a reason."""
        shown, still = self._look()
        return shown if self._held(shown) else shown + max(0, still - PATIENCE)

    @property
    def stopped(self) -> bool:
        """Return whether it stands still without a known reason, so that ages are unknown."""
        shown, still = self._look()
        return still > PATIENCE and not self._held(shown)

    def note(self) -> str:
        """Return the problem of the clock, empty if there is none."""
        shown, still = self._look()
        held = self._held(shown)
        if still <= (self._long if held else PATIENCE):
            return ''
        if not shown:
            return ('use_sim_time is set, but /clock does not run; start the simulation or the bag, or set '
                    'use_sim_time: false')
        why = 'is the simulation paused?' if held else 'is the bag over or the simulation paused?'
        return f'the clock has stopped for {still / SECOND:.0f} s; {why}'

    def _look(self) -> tuple[int, int]:
        """Return the current value and for how many nanoseconds it has been constant."""
        shown, steady = self._clock(), self._steady()
        if shown != self._seen:
            self._seen, self._moved = shown, steady
        return shown, steady - self._moved

    def _held(self, shown: int) -> bool:
        return self.paused and shown != 0

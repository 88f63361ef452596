"""A clock that is known to stand still when it does."""
from __future__ import annotations

from collections.abc import Callable

SECOND = 1_000_000_000
PATIENCE = SECOND


class WatchedClock:
    """A clock that may stand still, jump or never begin, seen beside one that always runs.

    paused: whether who sets it is there, so that it may stand still for a reason; then time stands still too.
    """

    def __init__(self, clock: Callable[[], int], steady: Callable[[], int], patience: float) -> None:
        """clock, steady: give nanoseconds.  patience: seconds of a pause that are not worth a word."""
        self._clock, self._steady = clock, steady
        self._long = max(PATIENCE, round(patience * SECOND))
        self._seen, self._moved = clock(), steady()
        self.paused = False

    def shown(self) -> int:
        """Nanoseconds that the clock shows."""
        return self._clock()

    def now(self) -> int:
        """Nanoseconds of the clock; they go on with the steady one where it has stopped for no reason."""
        shown, still = self._look()
        return shown if self._held(shown) else shown + max(0, still - PATIENCE)

    @property
    def stopped(self) -> bool:
        """Whether it stands still for no reason that is known, so that it tells no ages."""
        shown, still = self._look()
        return still > PATIENCE and not self._held(shown)

    def note(self) -> str:
        """What is wrong with it, in words; empty where nothing is."""
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
        """What it shows, and for how many nanoseconds it has shown that."""
        shown, steady = self._clock(), self._steady()
        if shown != self._seen:
            self._seen, self._moved = shown, steady
        return shown, steady - self._moved

    def _held(self, shown: int) -> bool:
        return self.paused and shown != 0

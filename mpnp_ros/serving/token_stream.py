"""Arrival of one modality's tokens: rate, delay and quality."""
from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from statistics import median

from mpnp_ros.serving.watch_limits import WatchLimits
from mpnp_ros.tokens import ModalityTokens

SECOND = 1_000_000_000
SLOWEST = 4  # times stale_after, after which tokens are stale however slow their encoder is
AGREE = 'use_sim_time and that the machines agree on the time'
RATE_WINDOW = 20
PACE_WINDOW = 5


class TokenStream:
    """Measures arriving tokens.  Times are nanoseconds of the clock of their stamps."""

    def __init__(self, limits: WatchLimits) -> None:
        self._limits = limits
        self._stale_after = round(limits.stale_after * SECOND)
        self._arrivals: deque[int] = deque(maxlen=RATE_WINDOW)
        self.forget()

    def forget(self) -> None:
        """Reset for a new run."""
        self._arrivals.clear()
        self._concerns: tuple[str, ...] = ()
        self._lag, self._input_age, self._duration = 0, 0., 0.
        self._usual = self.quality = math.nan
        self._poor = False

    @property
    def count(self) -> int:
        """Return the number of remembered frames since the last silence."""
        return len(self._arrivals)

    def note(self, tokens: ModalityTokens, now: int) -> None:
        """Measure tokens that arrived now; after a silence rate and quality start anew."""
        if self._arrivals and not self.fresh(now):
            self._arrivals.clear()
            self.quality, self._poor = math.nan, False
        self._arrivals.append(now)
        self._learn_rate()
        self._lag, self._concerns = now - tokens.stamp_ns, tokens.concerns
        self._input_age, self._duration = (0. if math.isnan(told) else told
                                           for told in (tokens.input_age, tokens.encode_duration))
        self._smooth(tokens.quality)

    def fresh(self, now: int) -> bool:
        """Return whether tokens arrived within the limit, or within two frames of a slower encoder."""
        limit = max(self._stale_after, round(2 * self._duration * SECOND))
        return bool(self._arrivals) and now - self._arrivals[-1] <= min(limit, SLOWEST * self._stale_after)

    def silence(self, now: int) -> float:
        """Return the seconds since the newest tokens."""
        return max(0, now - self._arrivals[-1]) / SECOND

    def rate(self, now: int) -> float:
        """Return Hz, 0 while it is unknown or nothing arrives."""
        if len(self._arrivals) < 2 or not self.fresh(now):
            return 0.
        span = self._arrivals[-1] - self._arrivals[0]
        return (len(self._arrivals) - 1) * SECOND / span if span > 0 else 0.

    def fault(self) -> str:
        """Return the problem of the newest frames, empty if there is none."""
        if abs(self._lag) > self._stale_after:
            return self._late(self._lag / SECOND)
        pace = self._pace()
        if pace < self._limits.lowest_rate * self._usual:
            return f'tokens come at {pace:.2g} Hz instead of {self._usual:.2g} Hz'
        return f'quality is {self.quality:.2f}{self._reason()}' if self._poor else ''

    def _late(self, lag: float) -> str:
        """Return the text for stamps that many seconds behind the clock, or ahead if negative."""
        if lag > 0 and self._duration >= lag / 2:
            return (f'tokens are {lag:.1f} s old when they come: the encoder takes {self._duration:.1f} s a '
                    f'frame; give it more of the processor, or fewer or smaller inputs')
        if abs(self._input_age) >= abs(lag) / 2 and self._input_age * lag > 0:
            return (f'stamps of the sensor are {abs(self._input_age):.1f} s {_side(lag)} the clock when its '
                    f'messages reach the encoder; check the driver, {AGREE}')
        return f'stamps are {abs(lag):.1f} s {_side(lag)} the clock; check {AGREE}'

    def _reason(self) -> str:
        if not self._concerns:
            return ''
        more = len(self._concerns) - 1
        return f': {self._concerns[0]}{f" and {more} more" if more else ""}'

    def _smooth(self, quality: float) -> None:
        """Update the smoothed quality; frames without a score leave it unchanged."""
        if math.isnan(quality):
            return
        limits, before = self._limits, self.quality
        self.quality = quality if math.isnan(before) else before + limits.quality_weight * (quality - before)
        self._poor = self.quality < (limits.quality_high if self._poor else limits.quality_low)

    def _learn_rate(self) -> None:
        pace = self._pace()
        if math.isnan(pace):
            return
        share = 1 - math.exp(-(self._arrivals[-1] - self._arrivals[-2]) / SECOND / self._limits.rate_memory)
        self._usual = pace if math.isnan(self._usual) else self._usual + share * (pace - self._usual)

    def _pace(self) -> float:
        """Return Hz of the newest frames, robust to single gaps; NaN while unknown."""
        newest = list(self._arrivals)[-PACE_WINDOW - 1:]
        gap = median(later - earlier for earlier, later in pairwise(newest)) \
            if len(newest) > PACE_WINDOW else 0
        return SECOND / gap if gap > 0 else math.nan


def _side(lag: float) -> str:
    return 'behind' if lag > 0 else 'ahead of'

"""The state of a modality, and what it rests on: limits, arriving tokens, lasting observations, the clock."""
from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from statistics import median

from mpnp_ros.options import Options, option
from mpnp_ros.tokens import SECOND, ModalityTokens

ALONE, ALWAYS, NEVER = 'alone', 'always', 'never'
STILL = SECOND  # nanoseconds after which a clock that does not change counts as stopped
SLOWEST = 4  # times stale_after, after which tokens are stale however slow their encoder is
AGREE = 'use_sim_time and that the machines agree on the time'
RATE_WINDOW = 20
PACE_WINDOW = 5


@dataclass(frozen=True)
class WatchLimits(Options):
    """Limits of :class:`~mpnp_ros.serving.modality_board.ModalityBoard`.

    Raises ConfigurationError for a value out of range, and where the qualities are in the wrong order.
    """

    stale_after: float = option(
        3.0, 'time without tokens after which a modality is not used; stamps that differ by more from the '
             'clock are late', unit='s', low=0.05, high=3600)
    probe_tokens: int = option(2, 'frames of tokens after which a modality is no longer probed', low=1,
                               high=1000)
    quality_low: float = option(0.5, 'smoothed quality below which a modality is poor', low=0, high=1)
    quality_high: float = option(0.7, 'smoothed quality from which a poor modality is good again',
                                 low=0, high=1)
    quality_weight: float = option(
        0.3, 'share of the newest frame in the smoothed quality; by default a single frame does not change '
             'the state', low=0.01, high=1)
    lowest_rate: float = option(0.2, 'share of its usual rate below which a modality is slow; 0: never',
                                low=0, high=1)
    rate_memory: float = option(60.0, 'time after which a lasting rate becomes the usual one', unit='s',
                                low=1, high=86400)
    degrade_after: float = option(
        1.0, 'time for which a healthy modality is poor, slow, late or rejected before it is degraded',
        unit='s', low=0.1, high=3600)
    recover_after: float = option(
        3.0, 'time without problems after which a degraded or stale modality is healthy again', unit='s',
        low=0.1, high=3600)
    use_degraded: str = option(
        ALONE, 'whether answers use degraded modalities that are not plugged by hand; alone: only where no '
               'healthy one that counts the same can be used', choices=(ALONE, ALWAYS, NEVER))

    def check(self) -> Iterator[str]:
        """The qualities must be in order."""
        if self.quality_low > self.quality_high:
            yield f'quality_low is {self.quality_low}; it must be at most quality_high = {self.quality_high}'


class State(IntEnum):
    """States of a modality, numbered as in msg/ModalityState."""

    ABSENT = 0
    PROBING = 1
    HEALTHY = 2
    DEGRADED = 3
    STALE = 4
    ADAPTING = 5


class PlugMode(IntEnum):
    """Command of an operator for a modality, numbered as in srv/SetModality."""

    AUTO = 0
    PLUG = 1
    UNPLUG = 2


@dataclass(frozen=True)
class LinkFit:
    """Requirements of loaded links on tokens.

    encoder: fingerprint of the encoder they were trained with.  token_width: D.  version: of the links.
    channels: what tokens count; empty: they do not count.
    """

    encoder: str
    token_width: int
    version: str
    channels: tuple[str, ...] = ()

    def replaces(self, other: LinkFit) -> bool:
        """Return whether both can answer the same questions, as far as their channels tell."""
        return not (self.channels and other.channels) or self.channels == other.channels


@dataclass(frozen=True)
class EncoderFacts:
    """Description of an encoder before its first tokens; fields as in msg/EncoderInfo.

    changed: options that shape its tokens and are not at their defaults.  topics: that it reads.
    """

    modality: str
    node: str
    encoder: str
    token_width: int
    changed: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModalityStatus:
    """One row of the board; fields as in msg/ModalityState, and counters.

    rate: Hz.  age: seconds since the sensor stamp of the newest tokens, NaN while there are none or the clock
    does not tell.
    quality: 0..1, smoothed, NaN while unknown.  accepted, rejected: token messages since the start.
    """

    modality: str
    state: State
    plugged: bool
    pinned: bool
    rate: float
    age: float
    links_version: str
    encoder: str
    detail: str
    accepted: int
    rejected: int
    quality: float = math.nan


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
        """Measure tokens that arrived now.

        After a silence rate and quality start anew.  Tokens without a quality leave it unchanged.
        """
        if self._arrivals and not self.fresh(now):
            self._arrivals.clear()
            self.quality, self._poor = math.nan, False
        self._arrivals.append(now)
        pace = self._pace()
        if not math.isnan(pace):
            passed = (self._arrivals[-1] - self._arrivals[-2]) / SECOND
            share = 1 - math.exp(-passed / self._limits.rate_memory)
            self._usual = pace if math.isnan(self._usual) else self._usual + share * (pace - self._usual)
        self._lag, self._concerns = now - tokens.stamp_ns, tokens.concerns
        self._input_age, self._duration = (0. if math.isnan(told) else told
                                           for told in (tokens.input_age, tokens.encode_duration))
        if not math.isnan(tokens.quality):
            limits, before = self._limits, self.quality
            self.quality = tokens.quality if math.isnan(before) else \
                before + limits.quality_weight * (tokens.quality - before)
            self._poor = self.quality < (limits.quality_high if self._poor else limits.quality_low)

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
        if not self._poor:
            return ''
        more = f' and {len(self._concerns) - 1} more' if len(self._concerns) > 1 else ''
        reason = f': {self._concerns[0]}{more}' if self._concerns else ''
        return f'quality is {self.quality:.2f}{reason}'

    def _late(self, lag: float) -> str:
        """Return the text for stamps that many seconds behind the clock, or ahead if negative."""
        if lag > 0 and self._duration >= lag / 2:
            return (f'tokens are {lag:.1f} s old when they come: the encoder takes {self._duration:.1f} s a '
                    f'frame; give it more of the processor, or fewer or smaller inputs')
        if abs(self._input_age) >= abs(lag) / 2 and self._input_age * lag > 0:
            return (f'stamps of the sensor are {abs(self._input_age):.1f} s {_side(lag)} the clock when its '
                    f'messages reach the encoder; check the driver, {AGREE}')
        return f'stamps are {abs(lag):.1f} s {_side(lag)} the clock; check {AGREE}'

    def _pace(self) -> float:
        """Return Hz of the newest frames, robust to single gaps; NaN while unknown."""
        newest = list(self._arrivals)[-PACE_WINDOW - 1:]
        gap = median(later - earlier for earlier, later in pairwise(newest)) \
            if len(newest) > PACE_WINDOW else 0
        return SECOND / gap if gap > 0 else math.nan


def _side(lag: float) -> str:
    return 'behind' if lag > 0 else 'ahead of'


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
        if seen is State.STALE:
            needed = 0
        elif seen is State.HEALTHY or self.shown is State.STALE:
            needed = self._recover
        else:
            needed = self._degrade if seen is State.DEGRADED else 0
        begins = self.shown in BEGINNINGS and self.shown not in self._left
        stayed = now - self._changed >= min(self._degrade, self._recover)
        if seen is not self.shown and (begins or (stayed and now - self._since >= needed)):
            self._left.add(self.shown)
            self.shown, self._changed = seen, now
        return self.shown

    def lasted(self, now: int) -> float:
        """Return the seconds since the observation last changed."""
        return max(0, now - self._since) / SECOND


class WatchedClock:
    """A clock that may stand still, jump or never start, compared with one that always runs.

    paused: whether its publisher is there, so that it stands still for a reason; then time stands still too.
    """

    def __init__(self, clock: Callable[[], int], steady: Callable[[], int], patience: float) -> None:
        """clock, steady: return nanoseconds.  patience: seconds of a pause that are not reported."""
        self._clock, self._steady = clock, steady
        self._long = max(STILL, round(patience * SECOND))
        self._seen, self._moved = clock(), steady()
        self.paused = False

    def shown(self) -> int:
        """Return the nanoseconds of the clock."""
        return self._clock()

    def now(self) -> int:
        """Return nanoseconds of the clock; by the steady one after it stopped without a reason."""
        shown, still = self._look()
        return shown if self._held(shown) else shown + max(0, still - STILL)

    @property
    def stopped(self) -> bool:
        """Return whether it stands still without a known reason, so that ages are unknown."""
        shown, still = self._look()
        return still > STILL and not self._held(shown)

    def note(self) -> str:
        """Return the problem of the clock, empty if there is none."""
        shown, still = self._look()
        held = self._held(shown)
        if still <= (self._long if held else STILL):
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

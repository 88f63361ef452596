"""What is known about one modality from the tokens that come in: fresh or stale, trusted or not, and why."""
from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from mpnp_ros.errors import TokensError
from mpnp_ros.tokens import ModalityTokens

SECOND = 1_000_000_000
RATE_WINDOW = 20
MOST_TOKENS = 8192


class State(IntEnum):
    """States of a modality, numbered as in msg/ModalityState."""

    ABSENT = 0
    PROBING = 1
    HEALTHY = 2
    DEGRADED = 3
    STALE = 4
    ADAPTING = 5


class Command(IntEnum):
    """What an operator may say about a modality, numbered as in srv/SetModality."""

    AUTO = 0
    PLUG = 1
    UNPLUG = 2


@dataclass(frozen=True)
class LinkFit:
    """What loaded links ask of the tokens.

    encoder: fingerprint of the encoder they were trained with.  token_width: D.  version: of the links.
    """

    encoder: str
    token_width: int
    version: str


@dataclass(frozen=True)
class ModalityStatus:
    """One row of the board; fields as in msg/ModalityState, and counters.

    rate: Hz.  age: seconds since the sensor stamp of the newest tokens, NaN while there are none.
    quality: 0..1, NaN while unknown.  accepted, rejected: token messages since the start.
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


class ModalityWatch:
    """Watches one modality.  Not thread-safe: :class:`~mpnp_ros.serving.modality_board.ModalityBoard` locks.

    Every method takes `now`, nanoseconds of the clock the tokens are stamped with.  Whether tokens have
    stopped is judged by their arrival, so that an encoder whose clock is wrong is late, not silent.
    """

    def __init__(self, modality: str, stale_after: float) -> None:
        """stale_after: seconds without tokens after which the modality is stale."""
        self.modality = modality
        self.command = Command.AUTO
        self.fit: LinkFit | None = None
        self.publishers = 0
        self._limit = round(stale_after * SECOND)
        self._newest: ModalityTokens | None = None
        self._arrivals: deque[int] = deque(maxlen=RATE_WINDOW)
        self._complaint, self._complained_at = '', 0
        self._accepted = self._rejected = 0

    @property
    def plugged(self) -> bool:
        """By hand where an operator has spoken; otherwise as soon as there are links."""
        return self.fit is not None if self.command is Command.AUTO else self.command is Command.PLUG

    def accept(self, tokens: ModalityTokens, now: int) -> None:
        """Take tokens as the newest.  Where they do not fit, raises TokensError and keeps the old ones."""
        self.check(tokens)
        if self._arrivals and not self.fresh(now):
            self._arrivals.clear()
        self._newest, self._complaint = tokens, ''
        self._arrivals.append(now)
        self._accepted += 1

    def reject(self, reason: str, now: int) -> None:
        """Count a message that could not be used."""
        self._complaint, self._complained_at = reason, now
        self._rejected += 1

    def check(self, tokens: ModalityTokens) -> None:
        """Raises TokensError unless the tokens fit the links (any fit where there are none)."""
        name, fit = self.modality, self.fit
        if tokens.count > MOST_TOKENS:
            raise TokensError(f'{tokens.count} {name} tokens in one frame; at most {MOST_TOKENS} are taken')
        if fit is None:
            return
        if tokens.encoder != fit.encoder:
            raise TokensError(f'{name} tokens are of encoder {tokens.encoder[:80] or "(unnamed)"}, but its '
                              f'links {fit.version} were trained with {fit.encoder}; load others')
        if tokens.width != fit.token_width:
            raise TokensError(f'{name} tokens are {tokens.width} wide, but its links {fit.version} '
                              f'read {fit.token_width}; load links for this encoder')

    def connect(self, fit: LinkFit | None) -> None:
        """New links, or none: tokens that do not fit them are dropped."""
        self.fit = fit
        try:
            if self._newest is not None:
                self.check(self._newest)
        except TokensError:
            self.forget()

    def forget(self) -> None:
        """Drop the tokens, for instance because time has jumped back and they are of another run."""
        self._newest = None
        self._arrivals.clear()
        self._complaint = ''

    def fresh(self, now: int) -> bool:
        """Whether tokens have come within the limit."""
        return bool(self._arrivals) and now - self._arrivals[-1] <= self._limit

    def usable(self, now: int) -> ModalityTokens | None:
        """The newest tokens where an answer may rest on them: plugged, fresh and with links."""
        return self._newest if self.plugged and self.fit is not None and self.fresh(now) else None

    def status(self, now: int) -> ModalityStatus:
        """The row for the board."""
        state, detail = self._judge(now)
        newest = self._newest
        return ModalityStatus(
            self.modality, state, self.plugged, self.command is not Command.AUTO, self._rate(now),
            math.nan if newest is None else age(newest.stamp_ns, now),
            self.fit.version if self.fit else '', newest.encoder if newest else '', detail,
            self._accepted, self._rejected)

    def _judge(self, now: int) -> tuple[State, str]:
        if self._complaint and now - self._complained_at <= self._limit:
            return State.DEGRADED, self._complaint
        if self._newest is None:
            return (State.PROBING, 'no tokens yet') if self._known() else (State.ABSENT, 'no publisher')
        if not self.fresh(now):
            return State.STALE, f'no tokens for {age(self._arrivals[-1], now):.1f} s'
        lag = (now - self._newest.stamp_ns) / SECOND
        if abs(lag) * SECOND > self._limit:
            side = 'behind' if lag > 0 else 'ahead of'
            return State.DEGRADED, (f'stamps are {abs(lag):.1f} s {side} the clock; '
                                    f'check use_sim_time and that the machines agree on the time')
        if len(self._arrivals) < 2:
            return State.PROBING, 'first tokens have come'
        return State.HEALTHY, ''

    def _known(self) -> bool:
        return bool(self.publishers or self._accepted or self._rejected)

    def _rate(self, now: int) -> float:
        if len(self._arrivals) < 2 or not self.fresh(now):
            return 0.
        span = self._arrivals[-1] - self._arrivals[0]
        return (len(self._arrivals) - 1) * SECOND / span if span > 0 else 0.


def age(stamp_ns: int, now: int) -> float:
    """Seconds from a stamp until now, 0 for a stamp of the future."""
    return max(0, now - stamp_ns) / SECOND

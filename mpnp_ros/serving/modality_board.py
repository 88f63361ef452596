"""The modalities that can be used now."""
from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from mpnp_ros.errors import ConfigurationError, TokensError
from mpnp_ros.serving.modality_state import (
    ALWAYS,
    NEVER,
    SECOND,
    Command,
    EncoderFacts,
    LinkFit,
    ModalityStatus,
    WatchLimits,
)
from mpnp_ros.serving.modality_watch import ModalityWatch, age
from mpnp_ros.serving.watched_clock import WatchedClock
from mpnp_ros.tokens import ModalityTokens


class ModalityBoard:
    """Newest tokens, state and plug of every modality.  Thread-safe; no method waits.

    clock: returns nanoseconds; it may stand still and jump.  When it jumps back by more than `stale_after` (a
    replay that starts again), all tokens are dropped.  When it stands still without being held
    (:meth:`hold`), tokens age by the steady clock.
    """

    def __init__(self, clock: Callable[[], int], modalities: Iterable[str],
                 limits: WatchLimits | None = None,
                 steady: Callable[[], int] = time.monotonic_ns) -> None:
        """modalities: their names.  limits: default limits if None."""
        self._limits = limits or WatchLimits()
        self._stale_after = round(self._limits.stale_after * SECOND)
        self._watches = {name: ModalityWatch(name, self._limits) for name in modalities}
        self._clock = WatchedClock(clock, steady, self._limits.stale_after)
        self._latest = self._clock.now()
        self._lock = threading.Lock()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names, in the order given."""
        return tuple(self._watches)

    def now(self) -> int:
        """Return nanoseconds of the board's clock."""
        return self._clock.shown()

    def time(self) -> int:
        """Return nanoseconds of the board's clock, which continue while it stands still without a reason."""
        with self._lock:
            return self._clock.now()

    def age(self, stamp_ns: int) -> float:
        """Return seconds since a stamp; NaN while the clock has stopped."""
        with self._lock:
            return math.nan if self._clock.stopped else age(stamp_ns, self._clock.shown())

    def hold(self, paused: bool) -> None:
        """Set whether a clock that stands still is held by its publisher, as by a paused simulation.

        Tokens then stay usable as long as their encoder is there, because nothing in the world changes.
        """
        with self._lock:
            self._clock.paused = paused

    def clock_note(self) -> str:
        """Return the problem of the clock, empty if there is none."""
        with self._lock:
            return self._clock.note()

    def offer(self, tokens: ModalityTokens) -> bool:
        """Accept tokens, or count them as rejected with the reason; returns whether they were accepted.

        Raises ConfigurationError for a modality that is not on the board.
        """
        with self._lock:
            watch, now = self._watch(tokens.modality), self._now()
            try:
                watch.accept(tokens, now)
            except TokensError as error:
                watch.reject(str(error), now)
                return False
            return True

    def reject(self, modality: str, reason: str) -> None:
        """Count an unreadable message of a modality."""
        with self._lock:
            self._watch(modality).reject(reason, self._now())

    def announce(self, modality: str, publishers: int) -> None:
        """Set the number of publishers of a modality's tokens."""
        with self._lock:
            self._watch(modality).publishers = publishers

    def introduce(self, facts: EncoderFacts) -> None:
        """Record the description of an encoder.

        Raises ConfigurationError for a modality that is not on the board.
        """
        with self._lock:
            self._watch(facts.modality).encoders[facts.node] = facts

    def retain_encoders(self, nodes: Iterable[str]) -> None:
        """Forget the encoders of all but these nodes."""
        kept = set(nodes)
        with self._lock:
            for watch in self._watches.values():
                watch.encoders = {node: one for node, one in watch.encoders.items() if node in kept}

    def fits(self) -> dict[str, tuple[bool, str]]:
        """Return for each encoder, by node name, whether links fit it, and that in words."""
        with self._lock:
            return {node: said for watch in self._watches.values() for node, said in watch.judge().items()}

    def absences(self) -> dict[str, str]:
        """Return for each modality with links or an encoder why no answer uses it, and the remedy."""
        used = self.usable()
        with self._lock:
            now = self._now()
            watches = [watch for name, watch in self._watches.items()
                       if name not in used and (watch.fit is not None or watch.encoders)]
            poor = f'degraded, and use_degraded is {self._limits.use_degraded}'
            return {watch.modality: watch.absence(now) or f'{poor}: {watch.status(now).detail}'
                    for watch in watches}

    def concerns(self, modalities: Iterable[str]) -> tuple[str, ...]:
        """Return the concerns of answers that use the modalities now."""
        with self._lock:
            now = self._now()
            own = tuple(text for name in sorted(modalities) for text in self._watch(name).concerns(now))
            note = self._clock.note()
            return (*own, note) if note and not any(note in text for text in own) else own

    def command(self, modality: str, command: Command) -> ModalityStatus:
        """Plug or unplug by hand, or hand back to automatic.

        Raises ConfigurationError for an unknown modality or command.
        """
        if command not in set(Command):
            raise ConfigurationError(f'command {command} is unknown; '
                                     f'use {", ".join(f"{entry.value} ({entry.name})" for entry in Command)}')
        with self._lock:
            watch = self._watch(modality)
            watch.command = Command(command)
            return watch.status(self._now())

    def connect(self, fits: Mapping[str, LinkFit]) -> None:
        """Set the loaded links; held tokens that do not fit them are dropped."""
        with self._lock:
            for name, watch in self._watches.items():
                watch.connect(fits.get(name))

    def adapting(self, modalities: Iterable[str]) -> None:
        """Set the modalities in training; this does not change which can be used.

        Raises ConfigurationError for a modality that is not on the board.
        """
        with self._lock:
            trained = [self._watch(name) for name in modalities]
            for watch in self._watches.values():
                watch.adapting = watch in trained

    def usable(self) -> dict[str, ModalityTokens]:
        """Return the newest tokens of each modality that is plugged, fresh and has links.

        Degraded ones are included if the limits allow (``use_degraded``), and always if plugged by hand.
        """
        with self._lock:
            now = self._now()
            found = {name: tokens for name, watch in self._watches.items()
                     if (tokens := watch.usable(now)) is not None}
            sound = {name for name in found if not self._watches[name].degraded(now)}
            if self._limits.use_degraded == ALWAYS or not (sound or self._limits.use_degraded == NEVER):
                return found
            return {name: tokens for name, tokens in found.items()
                    if name in sound or self._watches[name].command is Command.PLUG}

    def states(self) -> list[ModalityStatus]:
        """Return one row per modality, in the order given."""
        with self._lock:
            now = self._now()
            return [watch.status(now) for watch in self._watches.values()]

    def state(self, modality: str) -> ModalityStatus:
        """Return the row of one modality.  Raises ConfigurationError for an unknown one."""
        with self._lock:
            return self._watch(modality).status(self._now())

    def _watch(self, modality: str) -> ModalityWatch:
        try:
            return self._watches[modality]
        except KeyError:
            raise ConfigurationError(f'modality {modality[:80]!r} is not one of {", ".join(self._watches)}; '
                                     f'add it to the parameter modalities') from None

    def _now(self) -> int:
        now, note = self._clock.now(), self._clock.note()
        for watch in self._watches.values():
            watch.clock_note, watch.held = note, not self._clock.stopped
        if now < self._latest - self._stale_after:
            for watch in self._watches.values():
                watch.forget()
            self._latest = now
        self._latest = max(self._latest, now)
        return now

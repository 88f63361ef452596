"""Which modalities can be used now."""
from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from mpnp_ros.errors import ConfigurationError, TokensError
from mpnp_ros.serving.modality_state import Command, EncoderFacts, LinkFit, ModalityStatus
from mpnp_ros.serving.modality_watch import ModalityWatch, age
from mpnp_ros.serving.steady_state import SECOND
from mpnp_ros.serving.watch_limits import ALWAYS, NEVER, WatchLimits
from mpnp_ros.serving.watched_clock import WatchedClock
from mpnp_ros.tokens import ModalityTokens


class ModalityBoard:
    """Newest tokens, state and plug of every modality.  Thread-safe; nothing here waits.

    clock: gives nanoseconds; it may stand still and it may jump.  When it jumps back by more than
    `stale_after` (a replay that starts again), all tokens are forgotten: they belong to another run.  When it
    stands still and nothing says that it is held (:meth:`hold`), tokens grow old by the
    steady clock.
    """

    def __init__(self, clock: Callable[[], int], modalities: Iterable[str],
                 limits: WatchLimits | None = None,
                 steady: Callable[[], int] = time.monotonic_ns) -> None:
        """modalities: the names that may come.  limits: the default ones where there are none."""
        self._limits = limits or WatchLimits()
        self._stale_after = round(self._limits.stale_after * SECOND)
        self._watches = {name: ModalityWatch(name, self._limits) for name in modalities}
        self._clock = WatchedClock(clock, steady, self._limits.stale_after)
        self._latest = self._clock.now()
        self._lock = threading.Lock()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names, in the order given."""
        return tuple(self._watches)

    def now(self) -> int:
        """Nanoseconds of the board's clock."""
        return self._clock.shown()

    def time(self) -> int:
        """Nanoseconds of the board's clock, which go on while it stands still for no reason."""
        with self._lock:
            return self._clock.now()

    def age(self, stamp_ns: int) -> float:
        """Seconds since a stamp; NaN while the clock has stopped and cannot tell."""
        with self._lock:
            return math.nan if self._clock.stopped else age(stamp_ns, self._clock.shown())

    def hold(self, paused: bool) -> None:
        """Say whether the clock, while it stands still, is held by who sets it: a simulation in a pause.

        Tokens then stay usable as long as their encoder is there, because nothing in the world changes.
        """
        with self._lock:
            self._clock.paused = paused

    def clock_note(self) -> str:
        """What is wrong with the clock, in words; empty where nothing is."""
        with self._lock:
            return self._clock.note()

    def offer(self, tokens: ModalityTokens) -> bool:
        """Take tokens, or count them as rejected and keep the reason; gives whether they were taken.

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
        """Count a message of a modality that could not even be read."""
        with self._lock:
            self._watch(modality).reject(reason, self._now())

    def announce(self, modality: str, publishers: int) -> None:
        """Say how many publishers of a modality's tokens there are."""
        with self._lock:
            self._watch(modality).publishers = publishers

    def introduce(self, facts: EncoderFacts) -> None:
        """Take what an encoder says of itself.

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
        """Of each encoder, by the name of its node: whether links fit it, and that in words."""
        with self._lock:
            return {node: said for watch in self._watches.values() for node, said in watch.judge().items()}

    def absences(self) -> dict[str, str]:
        """Of each modality that has links or an encoder: why no answer rests on it, and what to do."""
        used = self.usable()
        with self._lock:
            now = self._now()
            watches = [watch for name, watch in self._watches.items()
                       if name not in used and (watch.fit is not None or watch.encoders)]
            poor = f'degraded, and use_degraded is {self._limits.use_degraded}'
            return {watch.modality: watch.absence(now) or f'{poor}: {watch.status(now).detail}'
                    for watch in watches}

    def concerns(self, modalities: Iterable[str]) -> tuple[str, ...]:
        """What lowers the worth of an answer that rests on some modalities now."""
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
        """Say which links are loaded now; tokens held that do not fit them are dropped."""
        with self._lock:
            for name, watch in self._watches.items():
                watch.connect(fits.get(name))

    def adapting(self, modalities: Iterable[str]) -> None:
        """Say of which modalities links are being trained now; what can be used does not change by it.

        Raises ConfigurationError for a modality that is not on the board.
        """
        with self._lock:
            trained = [self._watch(name) for name in modalities]
            for watch in self._watches.values():
                watch.adapting = watch in trained

    def usable(self) -> dict[str, ModalityTokens]:
        """Newest tokens of each modality that is plugged, fresh and has links.

        Degraded ones are among them where the limits say so (``use_degraded``), and always those that are
        plugged by hand.
        """
        with self._lock:
            now = self._now()
            found = {name: watch.usable(now) for name, watch in self._watches.items()}
            found = {name: tokens for name, tokens in found.items() if tokens is not None}
            sound = {name for name in found if not self._watches[name].degraded(now)}
            if self._limits.use_degraded == ALWAYS or not (sound or self._limits.use_degraded == NEVER):
                return found
            return {name: tokens for name, tokens in found.items()
                    if name in sound or self._watches[name].command is Command.PLUG}

    def states(self) -> list[ModalityStatus]:
        """One row per modality, in the order given."""
        with self._lock:
            now = self._now()
            return [watch.status(now) for watch in self._watches.values()]

    def state(self, modality: str) -> ModalityStatus:
        """The row of one modality.  Raises ConfigurationError for an unknown one."""
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

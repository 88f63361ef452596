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
    EncoderFacts,
    LinkFit,
    ModalityStatus,
    PlugMode,
    State,
    SteadyState,
    TokenStream,
    WatchedClock,
    WatchLimits,
)
from mpnp_ros.tokens import SECOND, ModalityTokens

MOST_TOKENS = 8192
OTHERWISE = ('set the options of the encoder as they were when its links were trained, or train links for it '
             'with `mpnp train` and name them in the parameter links')


class ModalityWatch:
    """Watches one modality.  Not thread-safe: :class:`~mpnp_ros.serving.modality_board.ModalityBoard` locks.

    clock_note: the problem of the clock, in words.  held: whether the clock stands still for a reason; tokens
    then stay usable while their encoder is there.  encoders: by the name of their node.
    Every method takes `now`, nanoseconds of the clock the tokens are stamped with.  Whether tokens have
    stopped is judged by their arrival, so an encoder whose clock is wrong is late, not silent.
    An observation becomes the modality's state once it has lasted (:class:`SteadyState`).  Whether tokens can
    be used depends on the moment alone, so no answer waits for a state.
    """

    def __init__(self, modality: str, limits: WatchLimits) -> None:
        self.modality = modality
        self.command = PlugMode.AUTO
        self.fit: LinkFit | None = None
        self.publishers = 0
        self.adapting = False
        self.clock_note, self.held = '', False
        self.encoders: dict[str, EncoderFacts] = {}
        self._limits = limits
        self._patience = round(limits.stale_after * SECOND)
        self._newest: ModalityTokens | None = None
        self._stream = TokenStream(limits)
        self._steady = SteadyState(limits)
        self._complaint, self._complained_at = '', 0
        self._accepted = self._rejected = 0
        self._encoder = ''

    @property
    def plugged(self) -> bool:
        """Return whether it is plugged: by hand if the operator has said so, otherwise if it has links."""
        return self.fit is not None if self.command is PlugMode.AUTO else self.command is PlugMode.PLUG

    def accept(self, tokens: ModalityTokens, now: int) -> None:
        """Store tokens as the newest.  If they do not fit, raises TokensError and keeps the old ones."""
        self._encoder = tokens.encoder
        self.check(tokens)
        self._look(now)  # a silence that has not been observed yet ends here
        self._stream.note(tokens, now)
        self._newest, self._complaint = tokens, ''
        self._accepted += 1
        self._look(now)

    def reject(self, reason: str, now: int) -> None:
        """Count an unusable message."""
        self._complaint, self._complained_at = reason, now
        self._rejected += 1
        self._look(now)

    def check(self, tokens: ModalityTokens) -> None:
        """Raise TokensError unless the tokens fit the links (any fit without links)."""
        name, fit = self.modality, self.fit
        if tokens.count > MOST_TOKENS:
            raise TokensError(f'{tokens.count} {name} tokens in one frame; at most {MOST_TOKENS} are taken')
        if fit is None:
            return
        if tokens.encoder != fit.encoder:
            facts = next((facts for facts in self.encoders.values() if facts.encoder == tokens.encoder), None)
            raise TokensError(self._misfit(facts, fit) if facts else
                              f'{name} tokens are of encoder {tokens.encoder[:80] or "(unnamed)"}, but its '
                              f'links {fit.version} were trained with {fit.encoder}; {OTHERWISE}')
        if tokens.width != fit.token_width:
            raise TokensError(f'{name} tokens are {tokens.width} wide, but its links {fit.version} '
                              f'read {fit.token_width}; load links for this encoder')

    def judge(self) -> dict[str, tuple[bool, str]]:
        """Return for each encoder, by node name, whether the links fit it, and that in words."""
        fit, name = self.fit, self.modality
        return {node: (True, f'{name}: links {fit.version} fit encoder {facts.encoder} of {node}')
                if fit is not None and self._fits(facts, fit) else
                (False, f'{name}: {self._misfit(facts, fit)}')
                for node, facts in sorted(self.encoders.items())}

    def absence(self, now: int) -> str:
        """Return why no answer uses it now and the remedy; empty if one can."""
        if self.fit is None:
            return self._mismatch() or 'no links are loaded; load some, or train them with `mpnp train`'
        if self.command is PlugMode.UNPLUG:
            return 'unplugged by hand; plug it with set_modality'
        if self.usable(now) is not None:
            return ''
        if reason := self._mismatch():
            return reason
        known = next(iter(self.encoders.values()), None)
        node = known.node if known else f'{self.modality}_encoder'
        if self._newest is None and not (self.publishers or known):
            return 'no publisher; start its encoder'
        if self._complaint:
            return self._complaint
        if self._newest is None:
            does = f'reads {", ".join(known.topics)}' if known and known.topics else 'publishes no tokens'
            return f'no tokens yet ({node} {does}; see its diagnostics)'
        gone = f'see the diagnostics of {node}' if self.publishers else 'its encoder has gone; start it again'
        silence = f'no tokens for {self._stream.silence(now):.1f} s'
        return '; '.join(filter(None, (silence, self.clock_note or gone)))

    def connect(self, fit: LinkFit | None) -> None:
        """Set new links, or none: tokens that do not fit them are dropped."""
        self.fit = fit
        try:
            if self._newest is not None:
                self.check(self._newest)
        except TokensError:
            self.forget()

    def forget(self) -> None:
        """Drop the tokens, for instance because time has jumped back."""
        self._newest = None
        self._complaint = ''
        self._stream.forget()
        self._steady.reset()

    def usable(self, now: int) -> ModalityTokens | None:
        """Return the newest tokens if an answer may use them: plugged, fresh and with links."""
        return self._newest if self.plugged and self.fit is not None and self._fresh(now) else None

    def concerns(self, now: int) -> tuple[str, ...]:
        """Return the concerns of an answer that uses it now."""
        _, seen, reason = self._look(now)
        own = self._newest.concerns if self._newest is not None else ()
        told = reason if seen is State.DEGRADED and not (own and reason.startswith('quality is ')) else ''
        name = f'{self.modality}: '  # which is that of the one sensor too where its topic tells no other
        return tuple(name + text.removeprefix(name) for text in (*own, told) if text)

    def degraded(self, now: int) -> bool:
        """Return whether it is degraded; before the first state, the current observation counts."""
        shown, seen, _ = self._look(now)
        return State.DEGRADED is (shown if shown in (State.HEALTHY, State.DEGRADED) else seen)

    def status(self, now: int) -> ModalityStatus:
        """Return the row for the board."""
        state, seen, detail = self._look(now)
        newest = self._newest
        if seen is State.HEALTHY and state is not State.HEALTHY:
            detail = (f'good again for {self._steady.lasted(now):.1f} s; trusted after '
                      f'{self._limits.recover_after:g} s')
        if self.clock_note and self.clock_note not in detail and newest is not None:
            detail = '; '.join(filter(None, [detail, self.clock_note]))
        if self.adapting and self.command is not PlugMode.UNPLUG and self._fresh(now):
            state = State.ADAPTING
            detail = '; '.join(filter(None, ['its links are being trained', detail]))
        return ModalityStatus(
            self.modality, state, self.plugged, self.command is not PlugMode.AUTO, self._stream.rate(now),
            math.nan if newest is None or self._untold else age(newest.stamp_ns, now),
            self.fit.version if self.fit else '', self._encoder, detail,
            self._accepted, self._rejected, self._stream.quality)

    def _look(self, now: int) -> tuple[State, State, str]:
        """Return the shown state, the current observation, and its reason."""
        seen, reason = self._see(now)
        return self._steady.follow(seen, now), seen, reason

    def _see(self, now: int) -> tuple[State, str]:
        if self._complaint and now - self._complained_at <= self._patience:
            return State.DEGRADED, self._complaint
        if self._newest is None:
            state = State.PROBING if self._known() else State.ABSENT
            return state, self._mismatch() or ('no tokens yet' if self._known() else 'no publisher')
        if not self._fresh(now):
            gone = '; its encoder has gone' if self._stream.fresh(now) else ''
            return State.STALE, f'no tokens for {self._stream.silence(now):.1f} s{gone}'
        if self._untold:
            return State.DEGRADED, self.clock_note
        if fault := self._stream.fault():
            return State.DEGRADED, fault
        if self._stream.count < self._limits.probe_tokens:
            return State.PROBING, 'first tokens have come'
        return State.HEALTHY, ''

    def _known(self) -> bool:
        return bool(self.publishers or self._accepted or self._rejected or self.encoders)

    @property
    def _untold(self) -> bool:
        """Return whether the clock has stopped without a known reason, so that ages are unknown."""
        return bool(self.clock_note) and not self.held

    def _fresh(self, now: int) -> bool:
        """Return whether the newest tokens are current; in held time, while their encoder is there."""
        here = self.publishers or not (self.held and self.clock_note)
        return bool(here) and self._stream.fresh(now)

    def _mismatch(self) -> str:
        """Return why no present encoder fits the links; empty if one does, or none is there."""
        found = self.encoders.values()
        if not found or (self.fit is not None and any(self._fits(facts, self.fit) for facts in found)):
            return ''
        return self._misfit(next(iter(found)), self.fit)

    @staticmethod
    def _fits(facts: EncoderFacts, fit: LinkFit) -> bool:
        return facts.encoder == fit.encoder and facts.token_width == fit.token_width

    @staticmethod
    def _misfit(facts: EncoderFacts, fit: LinkFit | None) -> str:
        """Return the remedy for an encoder without fitting links."""
        encoder = f'encoder {facts.encoder[:80] or "(unnamed)"} of {facts.node}'
        if fit is None:
            return (f'no links are loaded for {encoder}; load links that were trained with it, or train some '
                    f'with `mpnp train`')
        if not facts.changed:
            return (f'links {fit.version} were trained with {fit.encoder} and do not fit {encoder}; '
                    f'{OTHERWISE}')
        those = 'that setting' if len(facts.changed) == 1 else 'those settings'
        return (f'links {fit.version} do not fit {encoder}, which has {", ".join(facts.changed)} set; remove '
                f'{those}, or train links for it with `mpnp train` and name them in the parameter links')


def age(stamp_ns: int, now: int) -> float:
    """Return seconds from a stamp until now, 0 for a future stamp."""
    return max(0, now - stamp_ns) / SECOND


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
                watch.encoders = {node: facts for node, facts in watch.encoders.items() if node in kept}

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

    def command(self, modality: str, command: PlugMode) -> ModalityStatus:
        """Plug or unplug by hand, or hand back to automatic.

        Raises ConfigurationError for an unknown modality or command.
        """
        if command not in set(PlugMode):
            known = ', '.join(f'{mode.value} ({mode.name})' for mode in PlugMode)
            raise ConfigurationError(f'command {command} is unknown; use {known}')
        with self._lock:
            watch = self._watch(modality)
            watch.command = PlugMode(command)
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

        Degraded ones are included if the limits allow (``use_degraded``), and always if plugged by hand.  A
        healthy one takes the place of a degraded one only if it can answer the same questions.
        """
        with self._lock:
            now = self._now()
            found = {name: tokens for name, watch in self._watches.items()
                     if (tokens := watch.usable(now)) is not None}
            sound = {name for name in found if not self._watches[name].degraded(now)}
            use = self._limits.use_degraded
            return {name: tokens for name, tokens in found.items()
                    if name in sound or use == ALWAYS or self._watches[name].command is PlugMode.PLUG
                    or use != NEVER and not any(self._replaces(other, name) for other in sound)}

    def _replaces(self, healthy: str, degraded: str) -> bool:
        own, other = self._watches[healthy].fit, self._watches[degraded].fit
        return own is None or other is None or own.replaces(other)

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

"""Decides what to do when modalities appear, disappear and change: plug links, train them, or wait.

It is pure: the :class:`Situation` contains all inputs, so it can be called at any rate and with any clock.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import takewhile
from typing import TypeVar

from mpnp_ros.errors import ConfigurationError

HEALTHY, DEGRADED, ADAPTING = 'healthy', 'degraded', 'adapting'
LABELLED, DISTILLED = 'labelled', 'distilled'
MAX_RETRY_FACTOR = 2 ** 6
"""Maximum factor on the retry delay, which doubles with each repeated failure."""


@dataclass(frozen=True)
class ModalityCondition:
    """The present condition of a modality.

    state: as published by the fusion node, in lower case.  since: start of the state, seconds.  encoder:
    fingerprint of its newest tokens; '' before the first.  quality: 0..1; NaN: unknown.  unplugged: by hand.
    links_version, links_encoder: of the links in use, and the encoder that they were made for; '' for none.
    links_trained: whether they were trained on such tokens, not only evaluated or copied.  links_accuracy:
    0..1, as measured when they were made.  fresh_accuracy: on `fresh_questions` labelled questions since
    then; NaN: not measured.  copy_source: folder of links that count what its tokens count, so that a copy of
    them can be used untrained; '' for none.
    """

    modality: str
    state: str
    encoder: str = ''
    quality: float = math.nan
    since: float = -math.inf
    unplugged: bool = False
    links_version: str = ''
    links_encoder: str = ''
    links_trained: bool = True
    links_accuracy: float = math.nan
    fresh_accuracy: float = math.nan
    fresh_questions: int = 0
    copy_source: str = ''

    @property
    def linked(self) -> bool:
        """Return whether links in use read its tokens, or will when they arrive."""
        return bool(self.links_version) and self.encoder in ('', self.links_encoder)


@dataclass(frozen=True)
class StoredVersion:
    """A version of links on disk.

    encoder, language_model: fingerprints.  accuracy: 0..1 as measured; NaN: never.  current: whether it was
    last put into use.  withdrawn: whether it was rolled back by hand, so that it is not offered again.
    """

    modality: str
    version: str
    encoder: str
    language_model: str
    linked_blocks: int
    accuracy: float = math.nan
    current: bool = False
    withdrawn: bool = False


@dataclass(frozen=True)
class AvailableData:
    """Training data of a modality in the replay buffer.

    labelled: number of questions with true answers and tokens of the modality.  paired: other modality ->
    number of moments with tokens of both.
    """

    labelled: int = 0
    paired: Mapping[str, int] = field(default_factory=dict)


class Outcome(Enum):
    """Outcome of an adaptation."""

    RUNNING = 'running'
    DONE = 'done'
    FAILED = 'failed'  # or was cancelled, or gave links that are no better
    WITHDRAWN = 'withdrawn'  # by hand


@dataclass(frozen=True)
class Plug:
    """Install a stored version."""

    modality: str
    version: str
    reason: str


@dataclass(frozen=True)
class Copy:
    """Use a copy of other links, which count the same things, for tokens of an encoder.

    source: folder of those links.
    """

    modality: str
    encoder: str
    source: str
    reason: str


@dataclass(frozen=True)
class Train:
    """Train links of a modality: by labels, or by the answers of a teacher.

    encoder: of the tokens.  questions: their number.  only_try: only evaluate initial links.
    """

    modality: str
    supervision: str
    reason: str
    teacher: str = ''
    encoder: str = ''
    questions: int = 0
    only_try: bool = False


@dataclass(frozen=True)
class Wait:
    """Wait: a modality lacks something that cannot be provided now."""

    modality: str
    reason: str


Action = Plug | Copy | Train | Wait
Started = TypeVar('Started', Plug, Copy, Train)


@dataclass(frozen=True)
class PastAction:
    """A past action; at: its start, seconds; ended: its end, None while it runs."""

    action: Plug | Copy | Train
    at: float
    outcome: Outcome = Outcome.RUNNING
    ended: float | None = None

    @property
    def failed(self) -> bool:
        """Return whether it must not be repeated at once."""
        return self.outcome in (Outcome.FAILED, Outcome.WITHDRAWN)

    @property
    def over(self) -> float:
        """Return its end; its start while it runs."""
        return self.at if self.ended is None else self.ended


@dataclass(frozen=True)
class PolicyLimits:
    """Limits of the policy.  Raises ConfigurationError for values out of range.

    automatic: False: only links that were in use are plugged again.  copy_links: whether copies of links are
    used until there is enough data to train on.  min_labelled_questions, min_paired_moments: minimum data of
    a training; inf: no such training.  min_trial_questions: labelled questions after which initial links are
    evaluated, so that links are in use before there is enough data to train on; 0: never.  min_quality: of
    tokens to learn from.  min_interval: seconds between two trainings of a modality, between two times that
    its stored links are plugged, and from such a time to a training.  min_healthy_duration: seconds that a
    modality must have been healthy before it is trained.  retry_delay: seconds after a failure, doubled for
    each further one.  retrain_accuracy_drop: on at least `min_fresh_questions` new labelled questions.
    linked_blocks: of links from the store; 0: any.
    """

    automatic: bool = True
    copy_links: bool = True
    min_labelled_questions: float = 200
    min_paired_moments: float = 200
    min_trial_questions: int = 0
    min_quality: float = .5
    min_interval: float = 60.
    min_healthy_duration: float = 3.
    retry_delay: float = 60.
    retrain_accuracy_drop: float = .1
    min_fresh_questions: int = 50
    linked_blocks: int = 0

    def __post_init__(self) -> None:
        for name in ('min_labelled_questions', 'min_paired_moments', 'min_fresh_questions'):
            if getattr(self, name) < 1:
                raise ConfigurationError(f'{name} is {getattr(self, name)}; it must be at least 1')
        for name in ('min_trial_questions', 'min_quality', 'min_interval', 'min_healthy_duration',
                     'retry_delay', 'retrain_accuracy_drop', 'linked_blocks'):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f'{name} is {getattr(self, name)}; it must be 0 or positive')


@dataclass(frozen=True)
class Situation:
    """All inputs of a decision.

    now: seconds of the clock of all times here.  language_model: fingerprint.  available: by modality.
    history: oldest first.  fusion_since: start of the fusion node; links plugged before are lost.
    """

    now: float
    language_model: str
    conditions: Sequence[ModalityCondition]
    stored: Sequence[StoredVersion] = ()
    available: Mapping[str, AvailableData] = field(default_factory=dict)
    history: Sequence[PastAction] = ()
    fusion_since: float = -math.inf


@dataclass(frozen=True)
class Decision:
    """The decided actions.

    active: modalities for answers, sorted.  actions: at most one for each modality that lacks something; at
    most one is a training, and none if links are to be plugged or copied.  reason: one sentence.
    """

    active: tuple[str, ...]
    actions: tuple[Action, ...]
    reason: str


def decide(situation: Situation, limits: PolicyLimits | None = None) -> Decision:
    """Decide: plug first; otherwise train the healthiest modality with the most training data."""
    policy, active = _Policy(situation, limits or PolicyLimits()), active_modalities(situation.conditions)
    wanted = [action for condition in situation.conditions if (action := policy.action(condition))]
    actions = tuple(policy.in_order(wanted))
    if actions:
        reason = actions[0].reason
    elif active:
        reason = f'answers rest on {" and ".join(active)}; nothing is missing'
    else:
        reason = 'no usable modality and no action available'
    return Decision(active, actions, reason)


def active_modalities(conditions: Sequence[ModalityCondition]) -> tuple[str, ...]:
    """Return the modalities for answers: all healthy ones, otherwise the best degraded one alone."""
    usable = [condition for condition in conditions if condition.linked and not condition.unplugged]
    healthy = sorted(condition.modality for condition in usable if condition.state in (HEALTHY, ADAPTING))
    degraded = [condition for condition in usable if condition.state == DEGRADED]
    if healthy or not degraded:
        return tuple(healthy)
    best = max(degraded, key=lambda condition: (_known(condition.quality, 0.), condition.modality))
    return (best.modality,)


class _Policy:
    """The needs of each modality of a situation, and the possible actions."""

    def __init__(self, situation: Situation, limits: PolicyLimits) -> None:
        self.situation, self.limits, self.now = situation, limits, situation.now
        self.conditions = {condition.modality: condition for condition in situation.conditions}

    def action(self, condition: ModalityCondition) -> Action | None:
        """Return the best action for one modality; None if nothing is missing or known yet."""
        name, limits = condition.modality, self.limits
        if condition.unplugged or any(past.outcome is Outcome.RUNNING for past, _ in self._past(name, Train)):
            return None
        fitting = [] if condition.linked else self._fitting(condition)
        if not condition.links_version:  # links that were in use are lost by a restart of the fusion node
            lost = next((version for version in fitting if version.current), None)
            if lost is not None:
                return self._plug(condition, lost)
        need = self._need(condition)
        if not need:
            return None
        if not limits.automatic:
            return Wait(name, f'{need}, but automatic adaptation is disabled')
        # stored versions: the last in use comes first, then the most accurate, then the newest
        fitting = [version for version in fitting if limits.linked_blocks in (0, version.linked_blocks)]
        if fitting:
            return self._plug(condition, max(fitting, key=lambda version: (
                version.current, _known(version.accuracy, -1.), version.version)))
        copied = any(copy.encoder == condition.encoder for _, copy in self._past(name, Copy))
        if limits.copy_links and condition.copy_source and not condition.linked and not copied:
            return Copy(name, condition.encoder, condition.copy_source,
                        f'{need}; a copy of links that count the same is used until it is trained')
        return self._train(condition, need)

    def in_order(self, wanted: Sequence[Action]) -> Iterator[Action]:
        """Yield the actions in order: plugging first, then one training, then the waiting ones."""
        def rank(training: Train) -> tuple[float, int]:
            """The healthiest modality first, then that with the most training data."""
            quality = _known(self.conditions[training.modality].quality, 1.)
            return -round(quality, 1), -training.questions

        plugs = [action for action in wanted if isinstance(action, Plug | Copy)]
        trainings = sorted((action for action in wanted if isinstance(action, Train)), key=rank)
        yield from plugs
        busy = next((past.action.modality for past in self.situation.history
                     if isinstance(past.action, Train) and past.outcome is Outcome.RUNNING), '')
        if trainings and not plugs and not busy:
            busy = trainings[0].modality
            yield trainings.pop(0)
        first = f'{busy} is trained' if busy else 'links are plugged'
        yield from (Wait(action.modality, f'{action.modality} is to be trained when {first}')
                    for action in trainings)
        yield from (action for action in wanted if isinstance(action, Wait))

    def _need(self, condition: ModalityCondition) -> str:
        """Return why a modality needs other links; '' if it does not or cannot be trained now."""
        name, version, limits = condition.modality, condition.links_version, self.limits
        # the fusion node refuses tokens of another encoder, so that a healthy modality is degraded
        refused = condition.state == DEGRADED and bool(version) and not condition.linked
        if not (condition.state == HEALTHY or refused):
            return ''
        if not condition.encoder or _known(condition.quality, 1.) < limits.min_quality:
            return ''
        if not version:
            return f'{name} is healthy and has no links'
        if not condition.linked:
            return f'the links {version} of {name} do not read the tokens of its encoder {condition.encoder}'
        if not condition.links_trained:
            return f'the links {version} of {name} were not trained on its tokens yet'
        fall = condition.links_accuracy - condition.fresh_accuracy
        if condition.fresh_questions >= limits.min_fresh_questions and fall >= limits.retrain_accuracy_drop:
            return (f'the links {version} of {name} answer {condition.fresh_accuracy:.0%} of fresh questions '
                    f'rightly, {condition.links_accuracy:.0%} when they were made')
        return ''

    def _fitting(self, condition: ModalityCondition) -> list[StoredVersion]:
        """Return the stored versions for this language model and, if known, the encoder."""
        return [version for version in self.situation.stored
                if version.modality == condition.modality and not version.withdrawn
                and version.language_model == self.situation.language_model
                and condition.encoder in ('', version.encoder)
                and self._failed_until(Plug(version.modality, version.version, '')) <= self.now]

    def _plug(self, condition: ModalityCondition, stored: StoredVersion) -> Action:
        """Return the plugging of a version, or the waiting for it."""
        name, version, interval = condition.modality, stored.version, self.limits.min_interval
        before = self.now - self._plugged(name)
        if before < interval:
            return Wait(name, f'links of {name} were plugged {before:.0f} s ago; the next time is in '
                              f'{interval - before:.0f} s')
        return Plug(name, version, f'the links {version} of {name} fit and are not in use')

    def _train(self, condition: ModalityCondition, need: str) -> Action:
        """Return the training of a modality, or the waiting for it."""
        name, encoder, limits = condition.modality, condition.encoder, self.limits
        ready, cause = max(self._not_before(condition))
        if ready > self.now:
            return Wait(name, f'{need}; {cause}, so training waits for {ready - self.now:.0f} s')
        available = self.situation.available.get(name, AvailableData())
        labelled = available.labelled
        tried = any(training.only_try and training.encoder == encoder
                    for _, training in self._past(name, Train))
        if not condition.linked and not tried and (
                0 < limits.min_trial_questions <= labelled < limits.min_labelled_questions < math.inf):
            return Train(name, LABELLED, f'{need}; evaluating initial links on {labelled} labelled '
                         'questions', '', encoder, labelled, only_try=True)
        if labelled >= limits.min_labelled_questions:
            return Train(name, LABELLED, f'{need}; training on {labelled} labelled questions', '', encoder,
                         labelled)
        # the modality with links in use that shares the most moments can teach
        paired, teacher = max(((available.paired.get(other, 0), other)
                               for other, condition in self.conditions.items()
                               if other != name and condition.linked and not condition.unplugged),
                              default=(0, ''))
        if teacher and paired >= limits.min_paired_moments:
            return Train(name, DISTILLED, f'{need}; training on answers of {teacher} to {paired} questions',
                         teacher, encoder, paired)
        shortages = []
        if not math.isinf(limits.min_labelled_questions) or math.isinf(limits.min_paired_moments):
            shortages.append(f'labelled questions with {name} tokens so far: {labelled} of '
                             f'{limits.min_labelled_questions}')
        if not math.isinf(limits.min_paired_moments):
            shortages.append(f'questions for {teacher} to teach it: {paired} of {limits.min_paired_moments}'
                             if teacher else 'no trusted modality has links')
        return Wait(name, f'{need}; {"; ".join(shortages)}')

    def _not_before(self, condition: ModalityCondition) -> Iterator[tuple[float, str]]:
        """Yield times before which there is no training, with their causes."""
        name, limits = condition.modality, self.limits
        yield condition.since + limits.min_healthy_duration, f'{name} has only just become {condition.state}'
        trained = max((past.over for past, training in self._past(name, Train) if not training.only_try),
                      default=-math.inf)
        yield trained + limits.min_interval, f'{name} was trained recently'
        yield self._plugged(name) + limits.min_interval, f'links of {name} were plugged recently'
        yield self._failed_until(Train(name, '', '')), f'training {name} failed before'

    def _failed_until(self, action: Plug | Train) -> float:
        """Return when a failed action may be repeated; -inf if the last one did not fail."""
        if isinstance(action, Train):
            same = [past for past, training in self._past(action.modality, Train)
                    if not training.only_try]
        else:
            same = [past for past, plug in self._past(action.modality, Plug)
                    if plug.version == action.version]
        failures = sum(1 for _ in takewhile(lambda past: past.failed, reversed(same)))
        if not failures:
            return -math.inf
        if isinstance(action, Plug) and same[-1].outcome is Outcome.WITHDRAWN:
            return math.inf
        return same[-1].over + self.limits.retry_delay * min(2 ** (failures - 1), MAX_RETRY_FACTOR)

    def _plugged(self, modality: str) -> float:
        """Return when links of a modality were last plugged into the running fusion node; -inf for never."""
        return max((past.at for past, _ in self._past(modality, Plug)
                    if not past.failed and past.at >= self.situation.fusion_since), default=-math.inf)

    def _past(self, modality: str, kind: type[Started]) -> list[tuple[PastAction, Started]]:
        """Return the past actions of a kind for a modality, each with its action."""
        return [(past, past.action) for past in self.situation.history
                if isinstance(past.action, kind) and past.action.modality == modality]


def _known(value: float, default: float) -> float:
    return default if math.isnan(value) else value

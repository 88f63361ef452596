"""What to do when modalities appear, disappear and change: plug links, train them, or wait, with the reason.

Pure: the :class:`Situation` contains all inputs, so it can be called at any rate and with any clock.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import takewhile

from mpnp_ros.errors import ConfigurationError

HEALTHY, DEGRADED, ADAPTING = 'healthy', 'degraded', 'adapting'
LABELLED, DISTILLED = 'labelled', 'distilled'
LONGEST_RETRY = 2 ** 6
"""Maximum factor on the retry time, which doubles with each repeated failure."""


@dataclass(frozen=True)
class ModalityCondition:
    """One modality now.

    state: as on the board, in lower case; since: when it began, seconds.  encoder: fingerprint of its newest
    tokens, '' before the first.  quality: 0..1, NaN: unknown.  unplugged: by hand.  links_version,
    links_encoder: of the links in use and what they read; '' for none.  links_trained: whether they were
    trained on such tokens, not only tried or copied.  links_accuracy: 0..1 as measured when they were made;
    fresh_accuracy: on `fresh_questions` labelled questions since; NaN: not measured.  alike: folder of links
    that count what its tokens count, so that a copy of them can be used untrained; '' for none.
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
    alike: str = ''

    @property
    def linked(self) -> bool:
        """Return whether links in use read its tokens, or will when they arrive."""
        return bool(self.links_version) and self.encoder in ('', self.links_encoder)


@dataclass(frozen=True)
class StoredVersion:
    """A version of links on disk.

    encoder, language_model: fingerprints.  accuracy: 0..1 as measured, NaN: never.  current: last put into
    use.
    withdrawn: rolled back by hand, not to be offered again.
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

    labelled: questions with true answers and tokens of the modality.  paired: other modality -> questions at
    moments when it was healthy and both had tokens.
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
    """Put a copy of other links into use, which count the same things, for tokens of an encoder.

    source: folder of those links.
    """

    modality: str
    encoder: str
    source: str
    reason: str


@dataclass(frozen=True)
class Train:
    """Train links of a modality: by labels, or by the answers of a teacher.

    encoder: of the tokens.  lessons: number of questions.  only_try: evaluate initial links only.
    """

    modality: str
    supervision: str
    reason: str
    teacher: str = ''
    encoder: str = ''
    lessons: int = 0
    only_try: bool = False


@dataclass(frozen=True)
class Wait:
    """A modality lacks something that cannot be provided now."""

    modality: str
    reason: str


Action = Plug | Copy | Train | Wait


@dataclass(frozen=True)
class PastAction:
    """A past action; at: its start in seconds; ended: its end, None while it runs."""

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
        """Return its end, as far as it has ended."""
        return self.at if self.ended is None else self.ended


@dataclass(frozen=True)
class PolicyLimits:
    """What the policy may do.  Raises ConfigurationError for values out of range.

    automatic: false: only links that were in use are plugged again.  copy_links: whether links of which a
    copy can be used untrained are, until there is enough to train on.  least_labelled, least_paired: fewer
    questions are not trained on; inf: never by such.  least_tried: with so many labelled questions what links
    could begin with is tried, so that something is in use before there is enough to train on; 0: never.
    least_quality: of tokens to learn from.  between: seconds between two times that links of a modality are
    plugged, or trained.  settle: seconds a modality must have been healthy before it is trained.  retry:
    seconds after a failure, doubled for each further one.  drop: fall of accuracy on at least `least_fresh`
    fresh questions that is worth training again.  linked_blocks: of links that are taken from the store,
    0: any.
    """

    automatic: bool = True
    copy_links: bool = True
    least_labelled: float = 200
    least_paired: float = 200
    least_tried: int = 0
    least_quality: float = .5
    between: float = 60.
    settle: float = 3.
    retry: float = 60.
    drop: float = .1
    least_fresh: int = 50
    linked_blocks: int = 0

    def __post_init__(self) -> None:
        for name in ('least_labelled', 'least_paired', 'least_fresh'):
            if getattr(self, name) < 1:
                raise ConfigurationError(f'{name} is {getattr(self, name)}; it must be at least 1')
        for name in ('least_tried', 'least_quality', 'between', 'settle', 'retry', 'drop', 'linked_blocks'):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f'{name} is {getattr(self, name)}; it must be 0 or positive')


@dataclass(frozen=True)
class Situation:
    """All inputs of a decision.

    now: seconds of any clock, the one of all times here.  language_model: fingerprint.  lessons: by
    modality.  history: oldest first.  fusion_since: start of the fusion node; links plugged before are lost.
    """

    now: float
    language_model: str
    conditions: Sequence[ModalityCondition]
    stored: Sequence[StoredVersion] = ()
    lessons: Mapping[str, AvailableData] = field(default_factory=dict)
    history: Sequence[PastAction] = ()
    fusion_since: float = -math.inf


@dataclass(frozen=True)
class Decision:
    """The decided actions.

    active: modalities that answers should use, sorted.  actions: at most one for each modality that lacks
    something; at most one is a training, and none if links are to be plugged or copied.  reason: one
    sentence.
    """

    active: tuple[str, ...]
    actions: tuple[Action, ...]
    reason: str


def decide(situation: Situation, limits: PolicyLimits | None = None) -> Decision:
    """Decide: plug first; otherwise train the healthiest modality with the most training data."""
    policy, active = _Policy(situation, limits or PolicyLimits()), active_modalities(situation.conditions)
    wanted = [action for condition in situation.conditions if (action := policy.action(condition))]
    actions = tuple(policy.in_order(wanted))
    return Decision(active, actions, actions[0].reason if actions else _contentment(active))


def active_modalities(conditions: Sequence[ModalityCondition]) -> tuple[str, ...]:
    """Return the modalities for answers: all healthy ones, otherwise the best degraded one alone."""
    usable = [one for one in conditions if one.linked and not one.unplugged]
    sound = sorted(one.modality for one in usable if one.state in (HEALTHY, ADAPTING))
    degraded = [one for one in usable if one.state == DEGRADED]
    if sound or not degraded:
        return tuple(sound)
    return (max(degraded, key=lambda one: (_known(one.quality, 0.), one.modality)).modality,)


class _Policy:
    """The needs of each modality of a situation, and the possible actions."""

    def __init__(self, situation: Situation, limits: PolicyLimits) -> None:
        self.situation, self.limits, self.now = situation, limits, situation.now
        self.conditions = {one.modality: one for one in situation.conditions}

    def action(self, condition: ModalityCondition) -> Action | None:
        """Return the best action for one modality; None if nothing is missing or known yet."""
        if condition.unplugged or self._is_trained_now(condition.modality):
            return None
        lost = None if condition.linked else self._lost(condition)
        if lost is not None:
            return self._plug(condition, [lost])
        need = self._need(condition)
        if not need:
            return None
        if not self.limits.automatic:
            return Wait(condition.modality, f'{need}, but automatic adaptation is disabled')
        stored = [] if condition.linked else self._fitting(condition)
        if stored:
            return self._plug(condition, stored)
        return self._copy(condition, need) or self._train(condition, need)

    def in_order(self, wanted: Sequence[Action]) -> Iterator[Action]:
        """Return the actions in order: plugging first; then one training, then the waiting ones."""
        plugs = [action for action in wanted if isinstance(action, Plug | Copy)]
        trainings = sorted((action for action in wanted if isinstance(action, Train)), key=self._rank)
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
        refused = condition.state == DEGRADED and bool(version) and not condition.linked
        sound = condition.state == HEALTHY or refused
        if not sound or not condition.encoder or _known(condition.quality, 1.) < limits.least_quality:
            return ''
        if not version:
            return f'{name} is healthy and has no links'
        if not condition.linked:
            return f'the links {version} of {name} do not read the tokens of its encoder {condition.encoder}'
        if not condition.links_trained:
            return f'the links {version} of {name} were not trained on its tokens yet'
        fall = condition.links_accuracy - condition.fresh_accuracy
        if condition.fresh_questions >= limits.least_fresh and fall >= limits.drop:
            return (f'the links {version} of {name} answer {condition.fresh_accuracy:.0%} of fresh questions '
                    f'rightly, {condition.links_accuracy:.0%} when they were made')
        return ''

    def _lost(self, condition: ModalityCondition) -> StoredVersion | None:
        """Return the links that were in use and that a restarted fusion node lacks."""
        if condition.links_version:
            return None
        return next((one for one in self._plausible(condition) if one.current), None)

    def _fitting(self, condition: ModalityCondition) -> list[StoredVersion]:
        """Return stored versions to plug, the best first: last in use, then by accuracy and age."""
        blocks = self.limits.linked_blocks
        found = [one for one in self._plausible(condition) if not blocks or one.linked_blocks == blocks]
        return sorted(found, key=lambda one: (one.current, _known(one.accuracy, -1.), one.version),
                      reverse=True)

    def _plausible(self, condition: ModalityCondition) -> Iterator[StoredVersion]:
        """Return versions for this language model and, if known, the encoder."""
        for one in self.situation.stored:
            if (one.modality == condition.modality and not one.withdrawn
                    and one.language_model == self.situation.language_model
                    and condition.encoder in ('', one.encoder)
                    and self._failed_until(Plug(one.modality, one.version, '')) <= self.now):
                yield one

    def _plug(self, condition: ModalityCondition, stored: Sequence[StoredVersion]) -> Action:
        name, chosen = condition.modality, stored[0]
        before = self.now - self._plugged(name)
        if before < self.limits.between:
            return Wait(name, f'links of {name} were plugged {before:.0f} s ago; the next time is in '
                              f'{self.limits.between - before:.0f} s')
        return Plug(name, chosen.version, f'the links {chosen.version} of {name} fit and are not in use')

    def _copy(self, condition: ModalityCondition, need: str) -> Copy | None:
        """A copy of links that count the same things, once for an encoder."""
        name, encoder = condition.modality, condition.encoder
        copied = any(past.action.encoder == encoder for past in self._past(name, Copy))
        if condition.linked or copied or not condition.alike or not self.limits.copy_links:
            return None
        return Copy(name, encoder, condition.alike, f'{need}; a copy of links that count the same is used '
                                                    'until it is trained')

    def _train(self, condition: ModalityCondition, need: str) -> Action:
        name = condition.modality
        ready, cause = max(self._not_before(condition))
        if ready > self.now:
            return Wait(name, f'{need}; {cause}, so training waits for {ready - self.now:.0f} s')
        lessons, encoder = self.situation.lessons.get(name, AvailableData()), condition.encoder
        if trial := self._trial(condition, need, lessons.labelled):
            return trial
        if lessons.labelled >= self.limits.least_labelled:
            return Train(name, LABELLED, f'{need}; training on {lessons.labelled} labelled questions', '',
                         encoder, lessons.labelled)
        teachers = self._teachers(name, lessons)
        if teachers and teachers[0][0] >= self.limits.least_paired:
            paired, teacher = teachers[0]
            return Train(name, DISTILLED, f'{need}; training on answers of {teacher} to {paired} questions',
                         teacher, encoder, paired)
        return Wait(name, f'{need}; {self._too_little(name, lessons, teachers)}')

    def _trial(self, condition: ModalityCondition, need: str, labelled: int) -> Train | None:
        """Evaluate initial links once for an encoder, while there is too little to train on."""
        name, limits = condition.modality, self.limits
        tried = any(past.action.only_try and past.action.encoder == condition.encoder
                    for past in self._past(name, Train))
        by_labels = 0 < limits.least_tried <= labelled < limits.least_labelled < math.inf
        if condition.linked or tried or not by_labels:
            return None
        return Train(name, LABELLED, f'{need}; evaluating initial links on {labelled} labelled '
                     'questions', '', condition.encoder, labelled, only_try=True)

    def _too_little(self, name: str, lessons: AvailableData, teachers: Sequence[tuple[int, str]]) -> str:
        labelled = f'labelled questions with {name} tokens so far: {lessons.labelled} of ' \
                   f'{self.limits.least_labelled}'
        if math.isinf(self.limits.least_paired):
            return labelled
        taught = 'no trusted modality has links'
        if teachers:
            taught = (f'questions for {teachers[0][1]} to teach it: {teachers[0][0]} of '
                      f'{self.limits.least_paired}')
        return taught if math.isinf(self.limits.least_labelled) else f'{labelled}; {taught}'

    def _teachers(self, name: str, lessons: AvailableData) -> list[tuple[int, str]]:
        """Return (questions, teacher) for each modality with links in use, most questions first."""
        found = [(lessons.paired.get(other, 0), other) for other, one in self.conditions.items()
                 if other != name and one.linked and not one.unplugged]
        return sorted(found, reverse=True)

    def _not_before(self, condition: ModalityCondition) -> Iterator[tuple[float, str]]:
        """Return the earliest time of a training, and what it waits for."""
        name, limits = condition.modality, self.limits
        yield condition.since + limits.settle, f'{name} has only just become {condition.state}'
        trained = max((past.over for past in self._past(name, Train) if not past.action.only_try),
                      default=-math.inf)
        yield trained + limits.between, f'{name} was trained recently'
        yield self._plugged(name) + limits.between, f'links of {name} were plugged recently'
        yield self._failed_until(Train(name, '', '')), f'training {name} failed before'

    def _failed_until(self, action: Plug | Train) -> float:
        """Return when a failed action may be repeated; -inf if the last one did not fail."""
        same = [past for past in self._past(action.modality, type(action))
                if (not past.action.only_try if isinstance(action, Train) else
                    past.action.version == action.version)]
        failures = sum(1 for _ in takewhile(lambda past: past.failed, reversed(same)))
        if not failures:
            return -math.inf
        if isinstance(action, Plug) and same[-1].outcome is Outcome.WITHDRAWN:
            return math.inf
        return same[-1].over + self.limits.retry * min(2 ** (failures - 1), LONGEST_RETRY)

    def _plugged(self, modality: str) -> float:
        """Return when links of a modality were last plugged into the running fusion node; -inf for never."""
        return max((past.at for past in self._past(modality, Plug)
                    if not past.failed and past.at >= self.situation.fusion_since), default=-math.inf)

    def _past(self, modality: str, kind: type) -> list[PastAction]:
        return [past for past in self.situation.history
                if isinstance(past.action, kind) and past.action.modality == modality]

    def _is_trained_now(self, modality: str) -> bool:
        return any(past.outcome is Outcome.RUNNING for past in self._past(modality, Train))

    def _rank(self, training: Train) -> tuple[float, int]:
        """Return a sort key, smallest for the healthiest, then for the most training data."""
        quality = _known(self.conditions[training.modality].quality, 1.)
        return -round(quality, 1), -training.lessons


def _known(value: float, default: float) -> float:
    return default if math.isnan(value) else value


def _contentment(active: tuple[str, ...]) -> str:
    if not active:
        return 'no usable modality and no action available'
    return f'answers rest on {" and ".join(active)}; nothing is missing'

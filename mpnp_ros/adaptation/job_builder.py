"""From a decision or request to a job."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpnp_ros.adaptation.job import JobSpec, NewLink
from mpnp_ros.adaptation.known import LinkCatalogue, ObservedState
from mpnp_ros.adaptation.options import AdapterConfig
from mpnp_ros.adaptation.policy import DISTILLED, HEALTHY, LABELLED, AvailableData, Decision, Plug, Train
from mpnp_ros.adaptation.replay_buffer import ReplayBuffer
from mpnp_ros.errors import ConfigurationError, TrainingError
from mpnp_ros.files import cache_root
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.methods.registry import DEFAULT_METHOD
from mpnp_ros.training.budget import Budget


@dataclass(frozen=True)
class ModelChoice:
    """Language model and method of the fusion node; names as in its parameters."""

    llm: str
    method: str = DEFAULT_METHOD
    device: str = 'auto'
    dtype: str = 'auto'


@dataclass(frozen=True)
class Request:
    """A requested adaptation.

    modalities: empty: those that the policy finds missing, otherwise all healthy ones.  supervision:
    LABELLED, DISTILLED, or empty for the one with enough data.  linked_blocks: 0: as configured.
    """

    modalities: tuple[str, ...] = ()
    supervision: str = ''
    linked_blocks: int = 0
    budget: Budget = Budget()


class JobOrders:
    """Makes job specs from the current state of the modalities.

    starts: folders of links that new links may start from, besides those in use and in the store.
    All methods raise TrainingError with the reason if training is not possible.
    """

    def __init__(self, config: AdapterConfig, model: ModelChoice, buffer: ReplayBuffer, store: LinkStore,
                 starts: Sequence[str], observed: ObservedState) -> None:
        self.config, self.model, self.buffer, self.store = config, model, buffer, store
        self.starts, self.observed = starts, observed

    def decided(self, action: Train) -> JobSpec:
        """Return the job of a decision of the policy."""
        teachers = (action.teacher,) if action.teacher else ()
        return replace(self._spec((action.modality,), action.supervision, teachers), only_try=action.only_try)

    def requested(self, request: Request, decision: Decision) -> JobSpec:
        """Return the job of a request; decision: the newest one."""
        modalities = tuple(dict.fromkeys(request.modalities)) or self._wanting(decision)
        spec = self._spec(modalities, *self._supervision(modalities, request.supervision))
        return replace(spec, budget=request.budget.or_else(spec.budget),
                       linked_blocks=request.linked_blocks or spec.linked_blocks)

    def lessons(self, modality: str) -> AvailableData:
        """Return the buffer's training data of a modality for its present encoder; moments are pairs."""
        condition = self.observed.conditions.get(modality)
        encoder = condition.encoder if condition else ''
        return AvailableData(self.buffer.labelled(modality, encoder),
                             self.buffer.moments_with(modality, encoder))

    def alike(self, modality: str, catalogue: LinkCatalogue) -> str:
        """The folder of links that count what a modality's tokens count; empty where there are none.

        Links in use come first: what is copied from them counts together with them.
        """
        if modality not in self.observed.counting:
            return ''
        new = self._new(modality)
        used = {link.path for link in self.observed.in_use.values()}
        for path in sorted(new.starts, key=lambda path: path not in used):
            manifest = catalogue.manifest(path)
            if (manifest is not None and manifest.kind == catalogue.kind
                    and getattr(manifest.config, 'pooling', '') == 'counting'
                    and manifest.config.token_width == new.token_width):
                return path
        return ''

    def _wanting(self, decision: Decision) -> tuple[str, ...]:
        """Return the modalities that the policy finds missing, otherwise all healthy ones."""
        missing = [action.modality for action in decision.actions if not isinstance(action, Plug)]
        healthy = [name for name, one in self.observed.conditions.items()
                   if one.state == HEALTHY and one.encoder]
        found = tuple(missing) or tuple(healthy)
        if not found:
            raise TrainingError('no healthy modality; start a sensor, or name the modalities')
        return found

    def _supervision(self, modalities: Sequence[str], wanted: str) -> tuple[str, tuple[str, ...]]:
        """Return the supervision and the teachers."""
        if wanted not in ('', LABELLED, DISTILLED):
            raise ConfigurationError(f'supervision is {wanted!r}; use {LABELLED}, {DISTILLED} or nothing')
        lessons = [self.lessons(name) for name in modalities]
        labelled, least = min(one.labelled for one in lessons), self.config.min_labelled_questions
        if wanted != DISTILLED and (wanted or labelled >= least):
            return LABELLED, ()
        common = {other: min(one.paired.get(other, 0) for one in lessons)
                  for other in self.observed.in_use if other not in modalities}
        teacher = max(common, key=common.get, default='')
        if not teacher or common[teacher] < self.config.min_paired_moments:
            raise TrainingError(
                f'too little to train {" and ".join(modalities)} on: {labelled} of {least} labelled '
                f'questions, {common.get(teacher, 0)} of {self.config.min_paired_moments} moments with a '
                'modality that could teach')
        return DISTILLED, (teacher,)

    def _spec(self, modalities: Sequence[str], supervision: str, teachers: tuple[str, ...]) -> JobSpec:
        """Return the spec with the configured limits."""
        config, model, in_use = self.config, self.model, self.observed.in_use.values()
        beside = [link.path for link in in_use if link.path and link.modality not in modalities
                  and self._helps(link.modality, teachers)]
        return JobSpec(
            tuple(self._new(name) for name in modalities), str(self.buffer.folder), str(self.store.folder),
            str(cache_root() / 'questions'), tuple(beside), supervision, teachers, config.confidence,
            config.budget, config.training, config.scratch_learning_rate, config.headings_per_frame,
            config.max_questions, config.max_held_out_questions, config.max_distinct_questions,
            self._offers_starts(modalities), language_model=model.llm, linked_blocks=config.linked_blocks,
            each=config.questions_per_moment, method=model.method, device=model.device, dtype=model.dtype,
            threads=config.threads, niceness=config.niceness)

    def _offers_starts(self, modalities: Sequence[str]) -> bool:
        """Return whether the start is worth using during training: not if it is in use already."""
        return self.config.offer_starts and not all(map(self._is_read, modalities))

    def _is_read(self, modality: str) -> bool:
        """Return whether links in use read its tokens."""
        link, condition = self.observed.in_use.get(modality), self.observed.conditions.get(modality)
        return link is not None and condition is not None and link.encoder == condition.encoder

    def _helps(self, modality: str, teachers: Sequence[str]) -> bool:
        """Return whether new links are trained beside those of a modality: it teaches, or is healthy."""
        condition = self.observed.conditions.get(modality)
        return modality in teachers or (condition is not None and condition.state == HEALTHY)

    def _new(self, modality: str) -> NewLink:
        """Return a link to train with its possible starts, the most similar first."""
        condition, width = self.observed.conditions.get(modality), self.observed.widths.get(modality)
        if condition is None or not condition.encoder or width is None:
            raise TrainingError(f'no {modality} tokens received; start its encoder')
        own = self.observed.in_use.get(modality)
        if own and own.path and own.encoder == condition.encoder:
            return NewLink(modality, condition.encoder, width, (own.path,))
        others = [link.path for name, link in self.observed.in_use.items() if name != modality and link.path]
        stored = [str(link.path) for link in reversed(self.store.list(modality))][:1]
        starts = tuple(dict.fromkeys([*stored, *others, *self.starts]))
        return NewLink(modality, condition.encoder, width, starts)

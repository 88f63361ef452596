"""Builds the spec of a training job from a decision of the policy or from a request."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpnp_ros.adaptation.job import JobSpec, NewLink
from mpnp_ros.adaptation.known import LinkCatalogue, LinkInUse, ObservedState, learns_objects
from mpnp_ros.adaptation.options import AdapterConfig
from mpnp_ros.adaptation.policy import DISTILLED, HEALTHY, LABELLED, AvailableData, Decision, Plug, Train
from mpnp_ros.adaptation.replay_buffer import ReplayBuffer
from mpnp_ros.errors import ConfigurationError, TrainingError
from mpnp_ros.files import cache_root
from mpnp_ros.methods.link_store import LinkStore, name_of
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

    modalities: empty: those whose links the policy finds missing, otherwise all healthy ones.  supervision:
    LABELLED, DISTILLED, or empty for the one with enough data.  linked_blocks: 0: as configured.
    """

    modalities: tuple[str, ...] = ()
    supervision: str = ''
    linked_blocks: int = 0
    budget: Budget = Budget()


class JobBuilder:
    """Builds job specs from the current state of the modalities.

    initial_links: folders of links from which new links may start, besides those in use and in the store.
    All methods raise TrainingError with the reason if training is not possible.
    """

    def __init__(self, config: AdapterConfig, model: ModelChoice, buffer: ReplayBuffer, store: LinkStore,
                 initial_links: Sequence[str], observed: ObservedState) -> None:
        self.config, self.model, self.buffer, self.store = config, model, buffer, store
        self.initial_links, self.observed = initial_links, observed

    def for_action(self, action: Train) -> JobSpec:
        """Return the job of a decision of the policy."""
        teachers = (action.teacher,) if action.teacher else ()
        return replace(self._spec((action.modality,), action.supervision, teachers), only_try=action.only_try)

    def for_request(self, request: Request, decision: Decision) -> JobSpec:
        """Return the job of a request; decision: the newest one."""
        modalities = tuple(dict.fromkeys(request.modalities))
        if not modalities:
            missing = [action.modality for action in decision.actions if not isinstance(action, Plug)]
            healthy = [name for name, condition in self.observed.conditions.items()
                       if condition.state == HEALTHY and condition.encoder]
            modalities = tuple(missing or healthy)
        if not modalities:
            raise TrainingError('no healthy modality; start a sensor, or name the modalities')
        spec = self._spec(modalities, *self._supervision(modalities, request.supervision))
        return replace(spec, budget=request.budget.or_else(spec.budget),
                       linked_blocks=request.linked_blocks or spec.linked_blocks)

    def available_data(self, modality: str) -> AvailableData:
        """Return the training data of a modality in the buffer, for its present encoder.

        Modalities that count other things, such as sounds, cannot teach it, nor learn from such questions.
        """
        if not learns_objects(modality):
            return AvailableData(0, {})
        condition = self.observed.conditions.get(modality)
        encoder = condition.encoder if condition else ''
        paired = {other: moments for other, moments in self.buffer.moments_with(modality, encoder).items()
                  if not self.observed.counts_otherwise(modality, other)}
        return AvailableData(self.buffer.labelled(modality, encoder), paired)

    def copy_source(self, modality: str, catalogue: LinkCatalogue) -> str:
        """Return the folder of links that count what the tokens of a modality count; empty if none do.

        Links in use come first, because a copy of them counts together with them.
        """
        if modality not in self.observed.counting:
            return ''
        new = self._new_link(modality)
        used = {link.path for link in self.observed.in_use.values()}
        for path in sorted(new.starts, key=lambda path: path not in used):
            manifest = catalogue.manifest(path)
            if (manifest is not None and manifest.kind == catalogue.kind
                    and getattr(manifest.config, 'pooling', '') == 'counting'
                    and manifest.config.token_width == new.token_width):
                return path
        return ''

    def _supervision(self, modalities: Sequence[str], wanted: str) -> tuple[str, tuple[str, ...]]:
        """Return the supervision and the teachers."""
        if wanted not in ('', LABELLED, DISTILLED):
            raise ConfigurationError(f'supervision is {wanted!r}; use {LABELLED}, {DISTILLED} or nothing')
        available = [self.available_data(name) for name in modalities]
        labelled, least = min(data.labelled for data in available), self.config.min_labelled_questions
        if wanted != DISTILLED and (wanted or labelled >= least):
            return LABELLED, ()
        common = {other: min(data.paired.get(other, 0) for data in available)
                  for other in self.observed.in_use if other not in modalities}
        teacher = max(common, key=lambda other: common[other], default='')
        if not teacher or common[teacher] < self.config.min_paired_moments:
            raise TrainingError(
                f'too little to train {" and ".join(modalities)} on: {labelled} of {least} labelled '
                f'questions, {common.get(teacher, 0)} of {self.config.min_paired_moments} moments with a '
                'modality that could teach')
        return DISTILLED, (teacher,)

    def _spec(self, modalities: Sequence[str], supervision: str, teachers: tuple[str, ...]) -> JobSpec:
        """Return the spec with the configured limits."""
        config, model, in_use = self.config, self.model, self.observed.in_use
        conditions = self.observed.conditions
        # new links are trained beside those of teachers and of healthy modalities
        others = [link for name, link in in_use.items() if name not in modalities and (
            name in teachers or (name in conditions and conditions[name].state == HEALTHY))]
        widths = self.observed.widths
        copied = tuple(NewLink(link.modality, link.encoder, widths.get(link.modality, 0), (source,))
                       for link in others if not link.path and (source := self._copied_from(link)))
        # initial links are not worth offering if links in use read all tokens already
        in_use_already = all(name in in_use and name in conditions
                             and in_use[name].encoder == conditions[name].encoder for name in modalities)
        return JobSpec(
            new=tuple(self._new_link(name) for name in modalities), buffer=str(self.buffer.folder),
            store=str(self.store.folder), questions=str(cache_root() / 'questions'),
            beside=tuple(link.path for link in others if link.path), copied=copied,
            supervision=supervision, teachers=teachers, confidence=config.confidence, budget=config.budget,
            training=config.training, anew_learning_rate=config.scratch_learning_rate,
            turns=config.headings_per_frame, most_questions=config.max_questions,
            most_held_out=config.max_held_out_questions, most_texts=config.max_distinct_questions,
            offer_starts=config.offer_starts and not in_use_already, language_model=model.llm,
            linked_blocks=config.linked_blocks, each=config.questions_per_moment, method=model.method,
            device=model.device, dtype=model.dtype, threads=config.threads, niceness=config.niceness)

    def _copied_from(self, link: LinkInUse) -> str:
        """Return the folder of the link that a copy without a folder was made of; empty: not known."""
        return next((path for path in self.initial_links if name_of(path) == link.version), '')

    def _new_link(self, modality: str) -> NewLink:
        """Return a link to train with its possible initial links, the most similar first."""
        condition, width = self.observed.conditions.get(modality), self.observed.widths.get(modality)
        if condition is None or not condition.encoder or width is None:
            raise TrainingError(f'no {modality} tokens received; start its encoder')
        own = self.observed.in_use.get(modality)
        if own and own.path and own.encoder == condition.encoder:
            return NewLink(modality, condition.encoder, width, (own.path,))
        others = [link.path for name, link in self.observed.in_use.items() if name != modality and link.path]
        stored = [str(link.path) for link in reversed(self.store.list(modality))][:1]
        starts = tuple(dict.fromkeys([*stored, *others, *self.initial_links]))
        return NewLink(modality, condition.encoder, width, starts)

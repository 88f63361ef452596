"""The adaptation node without ROS: detects missing links, decides, trains and hands links over.

No method waits.  Training runs in a separate process (`job_process.py`), one at a time; an unfinished job
resumes when this process starts again.
"""
from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from mpnp_ros.adaptation.job import CANCELLED, FAILED, TRAINED, JobProgress, JobResult, JobSpec
from mpnp_ros.adaptation.job_builder import JobBuilder, ModelChoice, Request
from mpnp_ros.adaptation.job_process import JobProcess
from mpnp_ros.adaptation.known import LinkCatalogue, LinkInUse, ObservedState
from mpnp_ros.adaptation.options import AdapterConfig
from mpnp_ros.adaptation.policy import (
    Copy,
    Decision,
    ModalityCondition,
    Outcome,
    PastAction,
    Plug,
    Situation,
    Train,
    decide,
)
from mpnp_ros.adaptation.replay_buffer import ReplayBuffer
from mpnp_ros.errors import ConfigurationError, LinksError, TrainingError
from mpnp_ros.methods.link_files import COPIED, AdaptationRecord, Provenance, copied_link
from mpnp_ros.methods.link_store import LinkStore, StoredLink, name_of
from mpnp_ros.methods.registry import find_method
from mpnp_ros.tokens import ModalityTokens

LOG = logging.getLogger(__name__)
MAX_HISTORY = 200
"""Maximum number of remembered actions."""


class Plugging(Protocol):
    """Installs stored links; the future raises the refusal of the fusion node."""

    def __call__(self, link: StoredLink) -> Future[None]:
        """Request the installation; does not wait."""


@dataclass(eq=False)
class RunningJob:
    """The current training: its process, its actions, and the future of the request."""

    process: JobProcess
    spec: JobSpec
    actions: tuple[Train, ...]
    started: float
    progress: JobProgress = JobProgress('reading')
    done: Future[JobResult] = field(default_factory=Future)


class AdaptationManager:
    """Adaptation of one robot.  Its methods belong to one thread; progress of a job comes from another.

    folder: of the replay buffer, the link store and the jobs.  starts: folders of links from which new links
    may start, besides those in use and in the store.  changed: called from any thread when :attr:`progress`
    or :attr:`decision` may have changed.  clock: seconds.  :meth:`tick` and :meth:`adapt` exclude each other.
    at_rest: whether the last :meth:`tick` found nothing to do or to wait for, so that the next one finds the
    same unless what is known changes.
    """

    def __init__(self, config: AdapterConfig, folder: Path, model: ModelChoice, plug: Plugging, *,
                 store: LinkStore | None = None, starts: Sequence[Path] = (),
                 changed: Callable[[], None] = lambda: None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self.model, self._plug_link, self._changed = config, model, plug, changed
        self._clock, self._initial_links = clock, tuple(map(str, starts))
        self.store = store or LinkStore(folder / 'links')
        self.buffer = ReplayBuffer(folder / 'replay', config.replay)
        self.decision = Decision((), (), 'nothing is known yet')
        self.at_rest = False
        self._catalogue = LinkCatalogue(self.store, find_method(model.method).link.kind)
        self._observed = ObservedState()
        self._builder = JobBuilder(config, model, self.buffer, self.store, self._initial_links,
                                   self._observed)
        self._history: list[PastAction] = []
        self._fusion_since = -math.inf
        self._running: RunningJob | None = None
        self._failure = ''
        self._lock = threading.RLock()
        self._jobs = folder / 'jobs'
        self._jobs.mkdir(parents=True, exist_ok=True)
        self._resume()

    @property
    def progress(self) -> JobProgress | None:
        """Return the progress of the current training; None if there is none."""
        running = self._running
        return running.progress if running else None

    @property
    def training(self) -> JobSpec | None:
        """Return the spec of the current training; None if there is none."""
        running = self._running
        return running.spec if running else None

    @property
    def reason(self) -> str:
        """Return the reason of the current training; otherwise the last failure and the newest decision."""
        running = self._running
        if running is not None:
            return running.actions[0].reason
        return '; '.join(filter(None, [self._failure, self.decision.reason]))

    @property
    def seconds(self) -> float:
        """Return the seconds since the current training was decided; 0 if there is none."""
        running = self._running
        return self._clock() - running.started if running else 0.

    @property
    def concerns(self) -> tuple[str, ...]:
        """Return the degraded modalities; moments recorded meanwhile are kept apart."""
        return self._observed.concerns

    def seen(self, tokens: ModalityTokens) -> None:
        """Record tokens of a modality."""
        self._observed.take_tokens(tokens)

    def conditions(self, conditions: Iterable[ModalityCondition]) -> None:
        """Record the states published by the fusion node, and since when they hold."""
        self._observed.take_conditions(conditions, self._clock())

    def in_use(self, links: Iterable[LinkInUse]) -> None:
        """Record the links that the fusion node uses now.

        After a rollback by hand, the version plugged last is not offered again.
        """
        for link in self._observed.take_links(links):
            stored = self.store.find(link.path) if link.path else None
            if stored is None or stored.version not in self.store.usage(link.modality).withdrawn:
                continue
            with self._lock:
                done = [place for place, past in enumerate(self._history)
                        if past.action.modality == link.modality and past.outcome is Outcome.DONE]
                if done:
                    self._history[done[-1]] = replace(self._history[done[-1]], outcome=Outcome.WITHDRAWN)

    def fusion_came_back(self) -> None:
        """Handle a restart of the fusion node, which may have lost plugged links."""
        self._fusion_since = self._clock()

    def tick(self) -> None:
        """Conclude an ended training, decide, and start the decided action."""
        with self._lock:
            self._conclude()
            busy = self._running is not None or any(past.outcome is Outcome.RUNNING for past in self._history)
            self.decision = decide(self._situation(), self.config.policy)
            self.at_rest = not busy and not self.decision.actions
            for action in self.decision.actions:
                if isinstance(action, Plug):
                    self._remember(PastAction(action, self._clock()))
                    self._use(action, self.store.path(action.modality, action.version))
                elif isinstance(action, Copy):
                    self._copy(action)
                elif isinstance(action, Train) and self._running is None:
                    try:
                        self._begin(self._builder.for_action(action), [action])
                    except (ConfigurationError, TrainingError) as error:
                        LOG.warning('cannot train %s: %s', action.modality, error)
                        now = self._clock()
                        self._remember(PastAction(action, now, Outcome.FAILED, now))
        self._changed()

    def adapt(self, request: Request) -> Future[JobResult]:
        """Train on request.  The future never raises; it resolves when the links are in use too.

        Raises ConfigurationError or TrainingError with the reason if the training cannot start.
        """
        with self._lock:
            if self._running is not None:
                raise TrainingError(f'{" and ".join(self._running.spec.modalities)} is being trained; '
                                    'cancel that, or wait for its end')
            spec = self._builder.for_request(request, self.decision)
            self.at_rest = False
            return self._begin(spec, _trainings(spec, 'requested'))

    def cancel(self) -> None:
        """End the current training within a step."""
        if self._running is not None:
            self._running.process.cancel()

    def close(self) -> None:
        """End the training process; the job resumes at the next start."""
        running, self._running = self._running, None
        if running is not None:
            running.process.close()
            _resolve(running.done, JobResult(CANCELLED, 'the node ended; training resumes at its next start'))

    def _situation(self) -> Situation:
        """Return the inputs of a decision."""
        conditions = [
            condition if condition.linked or not condition.encoder else
            replace(condition, copy_source=self._builder.copy_source(condition.modality, self._catalogue))
            for condition in self._observed.linked_conditions(self._catalogue)]
        in_use = [link.path for link in self._observed.in_use.values() if link.path]
        stored = [link.path for link in reversed(self.store.list())]
        language_model = self._catalogue.language_model(
            self.model.llm, [*in_use, *self._initial_links, *stored])
        available = {condition.modality: self._builder.available_data(condition.modality)
                     for condition in conditions}
        return Situation(self._clock(), language_model, conditions, tuple(self._catalogue.stored()),
                         available, tuple(self._history), self._fusion_since)

    def _copy(self, action: Copy) -> None:
        """Copy links for a modality whose tokens count the same, and offer them to the fusion node.

        This takes a few tenths of a second.
        """
        self._remember(PastAction(action, self._clock()))
        source = name_of(action.source)
        try:
            link = copied_link(action.source, action.modality, action.encoder)
            stored = self.store.save(link, Provenance(
                text=f'copied on a robot from {source}, not trained',
                adaptation=AdaptationRecord(COPIED, started_from=source)))
        except (LinksError, OSError) as error:
            LOG.warning('no copy of %s for %s: %s', action.source, action.modality, error)
            self._ended([action], Outcome.FAILED)
            return
        self._use(action, stored.path)

    def _use(self, action: Plug | Copy, path: Path) -> None:
        """Offer the links of an action to the fusion node, whose answer is the outcome of the action."""
        self._hand_over(path).add_done_callback(
            lambda done: self._ended([action], Outcome.FAILED if done.exception() else Outcome.DONE))

    def _hand_over(self, path: str | Path) -> Future[None]:
        """Offer a version to the fusion node; a refusal is logged."""
        def finish(done: Future[None]) -> None:
            if error := done.exception():
                LOG.warning('%s', error)
            # recorded before the fusion node publishes it, so that it is not offered again
            elif link and (manifest := self._catalogue.manifest(link.path)):
                self._observed.plugged(LinkInUse(link.modality, link.version, str(link.path),
                                                 manifest.config.encoder))

        link = self.store.find(path)
        if link is None:
            future: Future[None] = Future()
            future.set_exception(LinksError(f'{path} is no longer in the link store'))
        else:
            future = self._plug_link(link)
        future.add_done_callback(finish)
        return future

    def _begin(self, spec: JobSpec, actions: Sequence[Train]) -> Future[JobResult]:
        """Start a job."""
        folder = self._jobs / f'{time.time_ns()}-{"-".join(spec.modalities)}'
        spec.save(folder)
        return self._run(folder, spec, actions)

    def _resume(self) -> None:
        """Resume the newest unfinished job; drop older ones."""
        folders = sorted(path for path in self._jobs.iterdir() if path.is_dir())
        for old in folders[:-1]:
            shutil.rmtree(old, ignore_errors=True)
        for folder in folders[-1:]:
            try:
                spec = JobSpec.load(folder)
            except (TrainingError, ConfigurationError) as error:
                LOG.warning('job given up: %s', error)
                shutil.rmtree(folder, ignore_errors=True)
                return
            LOG.info('resuming training of %s links', ' and '.join(spec.modalities))
            self._run(folder, spec, _trainings(spec, 'interrupted by the end of the node'))

    def _run(self, folder: Path, spec: JobSpec, actions: Sequence[Train]) -> Future[JobResult]:
        """Start the process of a job."""
        now = self._clock()
        for action in actions:
            self._remember(PastAction(action, now))
        self._running = RunningJob(JobProcess(folder, self._progressed), spec, tuple(actions), now)
        return self._running.done

    def _progressed(self, progress: JobProgress) -> None:
        """Called on the job's thread."""
        with self._lock:
            if self._running is not None:
                self._running.progress = progress
        for path in progress.offers.values():
            self._hand_over(path)
        self._changed()

    def _conclude(self) -> None:
        """Hand over the links of an ended job; it is finished when the fusion node has answered."""
        running = self._running
        if running is None or not running.process.future.done():
            return
        self._running, trained = None, running.process.future.result()
        names = ' and '.join(running.spec.modalities)
        LOG.info('training %s: %s, %s', names, trained.status, trained.message)
        handed = [self._hand_over(path) for path in trained.links.values()]

        def finish(_: object = None) -> None:
            if not all(future.done() for future in handed):
                return
            result = trained
            if refused := [str(future.exception()) for future in handed if future.exception()]:
                result = replace(trained, status=FAILED,
                                 message=f'the fusion node refused them:  {"; ".join(refused)}')
            good = result.status == TRAINED
            self._failure = '' if good else f'training {names} ended: {result.status}, {result.message}'
            self._ended(running.actions, Outcome.DONE if good else Outcome.FAILED)
            shutil.rmtree(running.process.folder, ignore_errors=True)
            for name in running.spec.modalities:
                self.store.prune(self.config.kept_versions, name)
            _resolve(running.done, result)

        for future in handed:
            future.add_done_callback(finish)
        if not handed:
            finish()

    def _ended(self, actions: Iterable[Plug | Copy | Train], outcome: Outcome) -> None:
        """Record the outcome of actions."""
        with self._lock:
            ended = {id(action) for action in actions}
            self._history = [replace(past, outcome=outcome, ended=self._clock())
                             if id(past.action) in ended else past for past in self._history]
        self._changed()

    def _remember(self, past: PastAction) -> None:
        self._history = [*self._history, past][-MAX_HISTORY:]


def _trainings(spec: JobSpec, reason: str) -> list[Train]:
    return [Train(name, spec.supervision, reason) for name in spec.modalities]


def _resolve(future: Future[JobResult], result: JobResult) -> None:
    if not future.done():
        future.set_result(result)

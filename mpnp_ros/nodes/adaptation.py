"""The adaptation node: watches the modalities and trains missing links.

The node passes tokens, questions and answers to the supervision, states and links to the adapter, and
requests to the fusion node.  Training runs in a separate process; the replay buffer is written on a separate
thread.  No callback waits.
"""
from __future__ import annotations

import gc
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from mpnp_ros.action import Adapt
from mpnp_ros.adaptation.adapter import AdaptationManager
from mpnp_ros.adaptation.job import CANCELLED, FAILED, TRAINED, JobResult
from mpnp_ros.adaptation.job_builder import ModelChoice, Request
from mpnp_ros.adaptation.job_process import END_TIMEOUT, measure_speed
from mpnp_ros.adaptation.known import LinkInUse
from mpnp_ros.adaptation.moments import LABELLED, BufferedQuestion
from mpnp_ros.adaptation.options import AdapterConfig
from mpnp_ros.adaptation.policy import ModalityCondition
from mpnp_ros.adaptation.supervision import Supervision
from mpnp_ros.conversions.messages import from_message, to_nanoseconds
from mpnp_ros.device import DTYPES
from mpnp_ros.endpoints import LATCHED, SENSOR_DATA, qos_profile
from mpnp_ros.errors import LinksError, MpnpError
from mpnp_ros.files import state_root
from mpnp_ros.llm.weights import DEFAULT_MODEL
from mpnp_ros.methods.link_store import LinkStore, StoredLink, shipped_links
from mpnp_ros.methods.registry import DEFAULT_METHOD, find_method
from mpnp_ros.msg import (
    Adaptation,
    Answer,
    Feedback,
    LabelledQuestions,
    LinkInfo,
    ModalityStates,
    ModalityTokens,
)
from mpnp_ros.node_names import encoder_nodes
from mpnp_ros.nodes.diagnostics import OK
from mpnp_ros.nodes.parameters import method_problem, topic_problem
from mpnp_ros.nodes.runtime import PlainNode, run_node
from mpnp_ros.nodes.services import RetryingClient, then, wait_for_cancel
from mpnp_ros.options import Options, option
from mpnp_ros.questions.subjects import all_answers
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.serving.modality_state import State
from mpnp_ros.srv import ListLinks, LoadLinks
from mpnp_ros.training.budget import Budget

FEEDBACK_PERIOD, TICK, REPEAT_PERIOD = .2, .5, 10.
"""Seconds between feedback, decisions, and repeated publications and queries of the links in use."""
SHIPPED, AUTO = 'shipped', 'auto'
STAGES = {'reading': Adaptation.READING, 'training': Adaptation.TRAINING, 'evaluating': Adaptation.EVALUATING}
QUEUE = 500
"""Maximum number of pending writes to the replay buffer."""
SAME = 'As of the fusion node.'


class AdaptAction:
    """Serves the action ``adapt`` with an adapter: train within a budget, with feedback.

    No thread waits for a training: feedback is published periodically, and the goal is concluded when the job
    ends.
    """

    def __init__(self, node: Node, adapter: AdaptationManager, group: CallbackGroup) -> None:
        """group: callback group of everything that uses the adapter."""
        self._adapter = adapter
        self._handle: ServerGoalHandle | None = None
        self._server = ActionServer(
            node, Adapt, 'adapt', execute_callback=lambda handle: Adapt.Result(),
            handle_accepted_callback=self._accept, cancel_callback=self._cancel, callback_group=group)
        self._timer = node.create_timer(FEEDBACK_PERIOD, self._feed_back, callback_group=group,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()  # until there is a goal

    def _accept(self, handle: ServerGoalHandle) -> None:
        goal = handle.request
        budget = Budget(goal.budget_duration, goal.budget_macs, float(goal.budget_memory),
                        goal.target_accuracy)
        try:
            done = self._adapter.adapt(
                Request(tuple(goal.modalities), goal.supervision, goal.linked_blocks, budget))
        except MpnpError as error:
            handle.execute(partial(self._conclude, JobResult(FAILED, str(error))))
            return
        self._handle = handle
        self._timer.reset()
        done.add_done_callback(lambda future: handle.execute(partial(self._conclude, future.result())))

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if handle is not self._handle:
            return CancelResponse.REJECT
        self._adapter.cancel()
        return CancelResponse.ACCEPT

    def _feed_back(self) -> None:
        handle, progress = self._handle, self._adapter.progress
        if handle is not None and handle.is_active and progress is not None:
            handle.publish_feedback(Adapt.Feedback(
                stage=progress.stage, step=progress.step, steps=progress.steps, loss=progress.loss,
                accuracy=progress.accuracy, remaining=progress.remaining))

    def _conclude(self, result: JobResult, handle: ServerGoalHandle) -> Adapt.Result:
        if handle is self._handle:
            self._handle = None
            self._timer.cancel()
        if result.status == CANCELLED:
            wait_for_cancel(handle)
        if result.status == TRAINED:
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        links = [LinkInfo(modality=name, version=Path(path).name, path=path)
                 for name, path in result.links.items()]
        return Adapt.Result(
            success=result.status == TRAINED, message=result.message, links=links, accuracy=result.accuracy,
            start_accuracy=result.start_accuracy, blind_accuracy=result.blind_accuracy,
            duration=result.seconds, macs=result.macs, peak_memory=result.peak_bytes)


@dataclass(frozen=True)
class AdaptationOptions(Options):
    """Parameters of the adaptation node."""

    modalities: tuple[str, ...] = option(
        tuple(encoder_nodes()), f'modalities to adapt. {SAME}', installed=True)
    llm: str = option(DEFAULT_MODEL, f'language model. {SAME}')
    method: str = option(DEFAULT_METHOD, f'method that connects modalities to it. {SAME}')
    device: str = option('auto', 'where links are trained: auto, cpu, cuda or cuda:<index>')
    dtype: str = option('auto', 'number format of the model in training', choices=DTYPES)
    state: str = option(AUTO, f'folder of the replay buffer and of jobs; {AUTO}: the state folder')
    link_store: str = option(
        AUTO, f'folder of links that are trained; {AUTO}: in the state folder. {SAME}')
    initial_links: tuple[str, ...] = option(
        (SHIPPED,), 'folders of links that new ones may start from, besides those in use; '
                    f'{SHIPPED}: those of the package; an empty name: none')
    labelled_topic: str = option('labelled_questions', 'topic of questions with true answers')
    adapter: AdapterConfig = option(AdapterConfig(), 'when and how links are trained', flat=True)

    def check(self) -> Iterator[str]:
        """The method must exist, and names of inputs must be topics."""
        topics = [('labelled_topic', self.labelled_topic),
                  *(('modalities', f'tokens/{name}') for name in self.modalities)]
        yield from filter(None, (method_problem(self.method), *(topic_problem(*topic) for topic in topics)))


PARAMETERS = AdaptationOptions


class AdaptationNode(PlainNode):
    """Watches the modalities and trains missing links; interface in docs/reference/interfaces.md."""

    patience = END_TIMEOUT + 2.

    def __init__(self) -> None:
        super().__init__('adaptation', AdaptationOptions)
        values = self.values
        folder = state_root(self.get_namespace()) if values.state == AUTO else Path(values.state).expanduser()
        starts = [link.path for link in shipped_links().values()] if SHIPPED in values.initial_links else []
        starts += [Path(name).expanduser() for name in values.initial_links if name not in ('', SHIPPED)]
        self._group = MutuallyExclusiveCallbackGroup()
        self._load = RetryingClient(self, LoadLinks, 'load_links', self._group)
        self._list = RetryingClient(self, ListLinks, 'list_links', self._group)
        self._shown = self.create_publisher(Adaptation, 'adaptation', qos_profile(LATCHED))
        self._writer, self._room = ThreadPoolExecutor(1, 'replay'), threading.BoundedSemaphore(QUEUE)
        self._linked = self._asking = False
        self._versions: dict[str, str] | None = None
        self._asked_at = self._told_at = self._decided_at = -math.inf
        self._told = self._seen = ''
        self._stirred = True  # whether what a decision rests on may have changed since the last one
        self._measuring: subprocess.Popen[bytes] | None = None
        self._adapter = AdaptationManager(
            values.adapter, folder,
            ModelChoice(values.llm, values.method, values.device, values.dtype), self._plug,
            store=None if values.link_store == AUTO else LinkStore(values.link_store),
            starts=starts, changed=self._show)
        self._supervision = Supervision(self._adapter.buffer, unwritten=partial(
            self.diagnostics.warn, 'moments not kept'))
        self._adapt = AdaptAction(self, self._adapter, self._group)
        self.diagnostics.add_source(self._facts)

    def begin(self) -> None:
        """Subscribe, and start to decide."""
        subscribe = partial(self.create_subscription, callback_group=self._group)
        for modality in self.values.modalities:
            subscribe(ModalityTokens, f'tokens/{modality}', self._on_tokens, qos_profile(SENSOR_DATA, 5))
        subscribe(ModalityStates, 'modalities', self._on_states, qos_profile(LATCHED))
        subscribe(LabelledQuestions, self.values.labelled_topic, self._on_labelled, 10)
        subscribe(Answer, 'answer', self._on_answer, 100)
        subscribe(Feedback, 'feedback', self._on_feedback, 100)
        values = self.values
        if find_method(values.method).cost is not None:
            self._measuring = measure_speed(values.llm, values.device, values.dtype,
                                            values.adapter.threads)
        self.diagnostics.state(OK, 'watching')
        self.every(TICK, self._tick)

    def destroy_node(self) -> None:
        """Stop the training process first; its job resumes at the next start."""
        self.stop_ticking()  # or a tick would write to what is closed here
        measuring = getattr(self, '_measuring', None)
        if measuring is not None:
            measuring.terminate()
        if hasattr(self, '_adapter'):
            self._adapter.close()
            self._writer.shutdown(cancel_futures=True)
        super().destroy_node()

    def _on_tokens(self, message: ModalityTokens) -> None:
        try:
            tokens = from_message(message)
        except MpnpError as error:
            self.diagnostics.warn('tokens rejected', str(error))
            return
        self._adapter.seen(tokens)
        self._write('tokens', partial(self._supervision.take_tokens, tokens))

    def _on_labelled(self, message: LabelledQuestions) -> None:
        stamp, questions = to_nanoseconds(message.header.stamp), []
        for row in message.questions:  # without choices: those of NuScenes-QA or of all subjects, if they fit
            choices = tuple(row.question.choices) or next(
                (known for known in (ANSWERS, all_answers()) if row.answer in known), ())
            questions.append(BufferedQuestion(row.question.text, row.answer, choices, row.type, row.hops,
                                              LABELLED))
        self._write('labelled questions', partial(self._supervision.take_questions, stamp, questions,
                                                  self._adapter.concerns))

    def _on_answer(self, message: Answer) -> None:
        if message.status == Answer.OK and message.modality_stamps:
            stamps = dict(zip(message.used_modalities, map(to_nanoseconds, message.modality_stamps),
                              strict=True))
            self._write('answers', partial(
                self._supervision.take_answer, message.id, message.question, tuple(message.choices),
                to_nanoseconds(message.header.stamp), stamps))

    def _on_feedback(self, message: Feedback) -> None:
        self._write('feedback', partial(
            self._supervision.take_feedback, message.answer, message.id, message.question,
            to_nanoseconds(message.header.stamp)))

    def _write(self, what: str, work: Callable[[], object]) -> None:
        """Run ``work`` on the writing thread; count what is refused or does not fit the queue."""
        def finished(done: Future[object]) -> None:
            self._stirred = True
            self._room.release()
            if not done.cancelled() and (error := done.exception()) is not None:
                self.diagnostics.warn(f'{what} refused', str(error))

        if self._room.acquire(blocking=False):
            self._writer.submit(work).add_done_callback(finished)
        else:
            self.diagnostics.warn(f'{what} dropped', f'{what} dropped: {QUEUE} items wait for the replay '
                                                     'buffer; send fewer, or use a faster disk')

    def _on_states(self, message: ModalityStates) -> None:
        conditions = [
            ModalityCondition(row.modality, State(row.state).name.lower(), row.encoder, row.quality,
                              unplugged=row.pinned and not row.plugged, links_version=row.links_version)
            for row in message.modalities]
        self._adapter.conditions(conditions)
        if (seen := repr(conditions)) != self._seen:  # not ==: a quality can be NaN
            self._seen, self._stirred = seen, True
        linked = any(row.links_version for row in message.modalities)
        if self._linked and not linked:
            self._adapter.fusion_came_back()
        self._linked = linked
        versions, now = {row.modality: row.links_version for row in message.modalities}, time.monotonic()
        if not self._asking and (versions != self._versions or now - self._asked_at >= REPEAT_PERIOD):
            self._asking, self._versions, self._asked_at = True, versions, now
            self._list.call(ListLinks.Request()).add_done_callback(self._on_links)

    def _on_links(self, done: Future[ListLinks.Response]) -> None:
        self._asking, self._stirred = False, True
        if done.exception() is not None:
            self._versions = None
        else:
            self._adapter.in_use(LinkInUse(link.modality, link.version, link.path, link.encoder)
                                 for link in done.result().links if link.active)

    def _plug(self, link: StoredLink | None) -> Future[None]:
        """Ask the fusion node to use a version; LinksError with the reason if it refuses."""
        def check(done: Future[LoadLinks.Response]) -> None:
            if not done.result().success:
                raise LinksError(done.result().message)

        if link is None:
            gone: Future[None] = Future()
            gone.set_exception(LinksError('the links to install have been removed'))
            return gone
        return then(self._load.call(LoadLinks.Request(path=str(link.path), sha256=link.sha256)), check)

    def _tick(self) -> None:
        """Settle moments and decide; without news only every ten seconds."""
        if self._measuring is not None and self._measuring.poll() is not None:
            self._measuring = None
        now, waiting = time.monotonic(), self._supervision.counts.waiting
        if self._adapter.at_rest and not self._stirred and not waiting \
                and now - self._decided_at < REPEAT_PERIOD:
            return
        self._stirred, self._decided_at = False, now
        if waiting:
            self._write('moments', self._supervision.settle)
        self._adapter.tick()

    def _show(self) -> None:
        """Publish the current work and its reason."""
        adapter, now = getattr(self, '_adapter', None), time.monotonic()
        if adapter is None:
            return
        message = adaptation_to_message(adapter)
        if (told := repr(message)) == self._told and now - self._told_at < REPEAT_PERIOD:
            return
        self._told, self._told_at = told, now
        message.header.stamp = self.get_clock().now().to_msg()
        self._shown.publish(message)

    def _facts(self) -> dict[str, object]:
        counts, dropped = self._adapter.buffer.counts, self._supervision.counts.dropped
        return {'decision': self._adapter.reason, 'replay frames': counts.frames,
                'replay MB': counts.bytes / 1e6, 'replay questions evicted': counts.evicted,
                **{f'replay questions {name}': count for name, count in counts.questions.items()},
                **{f'questions dropped, {reason}': count for reason, count in dropped.items()}}


def adaptation_to_message(adapter: AdaptationManager) -> Adaptation:
    """Return the state of the adaptation as a message without a stamp."""
    counts, spec = adapter.buffer.counts, adapter.training
    message = Adaptation(
        state=Adaptation.IDLE, decision=adapter.reason, accuracy=math.nan, start_accuracy=math.nan,
        labelled_questions=counts.questions[LABELLED], frames=counts.frames)
    progress = adapter.progress
    if spec is not None and progress is not None:
        message.state = STAGES[progress.stage]
        message.step, message.steps, message.loss = progress.step, progress.steps, progress.loss
        message.accuracy, message.start_accuracy = progress.accuracy, progress.start_accuracy
        message.duration, message.remaining = adapter.seconds, progress.remaining
        message.macs, message.memory = progress.macs, progress.memory
        message.modalities, message.supervision = list(spec.modalities), spec.supervision
    return message


def main() -> int:
    """Run the node; returns the exit code."""
    try:
        return run_node(AdaptationNode)
    finally:
        gc.freeze()  # or Python looks through all objects of torch before it ends, for seconds


if __name__ == '__main__':
    sys.exit(main())

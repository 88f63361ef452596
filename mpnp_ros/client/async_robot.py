"""A robot's questions, modalities and links, for asyncio.

This is the only implementation: :class:`~mpnp_ros.client.robot.Robot` runs it on an event loop of its own.
ROS callbacks run on the executor's thread and only pass what they receive to the event loop.
"""
from __future__ import annotations

import asyncio
import atexit
import logging
import math
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mpnp_ros.client.node_reports import ERROR, HEARD_WITHIN, NodeReports
from mpnp_ros.client.session import (
    QUEUE,
    action_client_class,
    awaitable,
    cancel_accepted,
    destroy,
    into,
    ros_session,
    within,
)
from mpnp_ros.endpoints import LATCHED, qos_profile
from mpnp_ros.errors import (
    CancelledError,
    ConfigurationError,
    NotAnsweringError,
    NotRunningError,
    RequestError,
)
from mpnp_ros.node_names import FUSION

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpnp_ros.action import Adapt, AskPast
    from mpnp_ros.msg import Adaptation, Answer, Event, LinkInfo, ModalityState, Question

LOG = logging.getLogger('mpnp_ros.client')
POLL, MEETING = .02, .2
"""Seconds between two checks for a node, and for a found node to discover this process."""
NOTICE_AFTER = 3.
"""Seconds of waiting for a node after which the user is notified of the reason."""
RESPONSE, REPLY = 5., 30.
"""Seconds after which a request is sent again, and within which a running node must reply."""
AGAIN, REPORT = .5, 5.
"""Seconds until a rejected question is asked again, and within which a node reports its state."""
LEASE, RENEWAL = 10., 3.
"""Seconds that a standing question outlives its asker, and between two renewals."""
LOOK = .2
"""Seconds between two checks that a node that works on a goal is still running."""
SILENT_FUSION, GONE_FUSION, GONE_ADAPTATION = 10., 1., 30.
"""Seconds without a report after which the fusion node is gone, and after which a gone node is given up."""
DEPARTURE = 1.
"""Seconds within which the last message must be acknowledged."""


@dataclass(frozen=True)
class Update:
    """An answer while it is made.

    text: so far; it may be taken back.  stage: waiting, reading, answering or answered.  tokens: so far.
    answer: the whole Answer, in the last update only.
    """

    text: str
    stage: str
    tokens: int
    answer: Answer | None = None


class AsyncRobot:
    """The same as :class:`~mpnp_ros.client.robot.Robot`, with methods to be awaited.

    ``async with AsyncRobot() as robot: answer = await robot.ask('Is it dark?')``.  A task that is cancelled
    cancels what the robot is doing for it.  All methods belong to one event loop.
    """

    def __init__(self, namespace: str = '', *, node: Node | None = None, timeout: float = 60.,
                 notify: Callable[[str], None] | None = None) -> None:
        """See :class:`~mpnp_ros.client.robot.Robot`."""
        if node is not None and namespace:
            raise ConfigurationError('give a namespace or a node: the namespace is that of the node')
        self._stack = ExitStack()
        self._own = node is None
        self.node: Node = self._stack.enter_context(ros_session(namespace)) if node is None else node
        from rclpy.callback_groups import ReentrantCallbackGroup

        self.timeout = timeout
        self.notify = notify or LOG.info
        self._group = ReentrantCallbackGroup()  # for a caller that waits in a callback of the same node
        self.reports = NodeReports(self.node, self._group)
        self._entities: dict[str, Any] = {}
        self._destroy: list[Callable[[], Any]] = [self.reports.close]
        self._met: set[int] = set()
        self._newest: dict[str, Any] = {}
        self._listeners: set[Callable[[Answer | Event], None]] = set()
        atexit.register(self.close)  # threads of rclpy do not survive the end of the interpreter

    async def __aenter__(self) -> AsyncRobot:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the robot; a node that was given stays."""
        atexit.unregister(self.close)
        entities, self._destroy = self._destroy, []
        executor = self.node.executor
        if not self._own:
            if executor is None:
                for end in entities:
                    end()
            else:  # rclpy reports an exception for what is destroyed while an executor waits for it
                executor.create_task(lambda: [end() for end in entities])
        self._stack.close()

    async def ask(self, question: str, choices: Sequence[str] = (), *, max_new_tokens: int = 0,
                  max_age: float = 0., require: Sequence[str] = (), refuse_below: float = 0.,
                  timeout: float | None = None) -> Answer:
        """See :meth:`Robot.ask`."""
        stream = self.ask_stream(question, choices, max_new_tokens=max_new_tokens, max_age=max_age,
                                 require=require, refuse_below=refuse_below, timeout=timeout)
        async with aclosing(stream):
            answers = [update.answer async for update in stream]
        return answers[-1]

    async def ask_stream(self, question: str, choices: Sequence[str] = (), *, max_new_tokens: int = 0,
                         max_age: float = 0., require: Sequence[str] = (), refuse_below: float = 0.,
                         timeout: float | None = None) -> AsyncGenerator[Update, None]:
        """See :meth:`Robot.ask_stream`."""
        from mpnp_ros.action import Ask
        from mpnp_ros.msg import Answer, Question

        timeout = self.timeout if timeout is None else timeout
        goal = Ask.Goal(question=Question(text=question, choices=list(choices), max_age=max_age,
                                          require=list(require), refuse_below=refuse_below),
                        max_new_tokens=max_new_tokens)
        end, tokens, told = time.monotonic() + timeout, 0, False
        late = f'no answer within {timeout:g} s; give it a longer time-out'
        while True:
            was_active = self.reports.is_active(FUSION)
            async with aclosing(self._pursue(Ask, 'ask_stream', goal, end, late)) as course:
                async for message in course:
                    if isinstance(message, Ask.Feedback):
                        tokens = message.tokens
                        yield Update(message.text, message.stage, tokens)
            answer = message.answer
            rejected = answer.status == Answer.REJECTED and not was_active
            if rejected and time.monotonic() < end and await self._is_starting():
                if not told:
                    report = self.reports[FUSION]
                    state = report.state if report else 'unknown'
                    self.notify(f'the fusion node is starting: {state}; waiting')
                told = True
                await asyncio.sleep(AGAIN)
                continue
            if answer.status in (Answer.REJECTED, Answer.FAILED):
                raise RequestError(answer.error, answer)
            yield Update(answer.text, 'answered', tokens, answer)
            return

    async def watch(self, question: str = '', choices: Sequence[str] = (), *, period: float = 0.,
                    on_change: bool = False, max_age: float = 0., require: Sequence[str] = (),
                    refuse_below: float = 0., timeout: float | None = None) -> AsyncGenerator[Answer, None]:
        """See :meth:`Robot.watch`."""
        from mpnp_ros.msg import Answer, Question

        if timeout is None:
            timeout = self.timeout if question and not on_change else math.inf
        asked = Question(text=question, choices=list(choices), period=period, on_change=on_change,
                         max_age=max_age, require=list(require), refuse_below=refuse_below)
        async with aclosing(self._stand(asked, timeout)) as heard:
            async for message in heard:
                if isinstance(message, Answer):
                    yield message

    async def events(self, question: str, answers: Sequence[str] = ('yes',), choices: Sequence[str] = (), *,
                     begin: float = 0., end: float = 0., hold: float = 0.,
                     timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """See :meth:`Robot.events`."""
        from mpnp_ros.msg import Condition, Event, Question

        asked = Question(text=question, choices=list(choices), on_change=True, condition=Condition(
            answers=list(answers), begin=begin, end=end, hold=hold))
        timeout = self.timeout if timeout is None else timeout
        async with aclosing(self._stand(asked, timeout, once=True)) as heard:
            async for message in heard:
                if isinstance(message, Event):
                    yield message

    async def _stand(self, question: Question, timeout: float,
                     once: bool = False) -> AsyncGenerator[Answer | Event, None]:
        """Ask a standing question, and yield its answers and events; it is withdrawn at the end.

        Without a text no question is asked, and the answers and events of all are yielded.  timeout: seconds
        without a message, or, with `once`, until the first one.
        """
        from rclpy.duration import Duration

        from mpnp_ros.msg import Answer, Event
        from mpnp_ros.msg import Question as QuestionMessage

        asks = bool(question.text)
        question.id = f'mpnp-{uuid.uuid4().hex[:8]}' if asks else ''
        question.standing, question.lease = True, LEASE
        messages: asyncio.Queue[Answer | Event] = asyncio.Queue()
        put = into(messages)

        def listen(message: Answer | Event) -> None:
            if not asks or message.id == question.id:
                put(message)

        for kind, topic in ((Answer, 'answer'), (Event, 'event')):
            self._create(topic, partial(self.node.create_subscription, kind, topic, self._hear, QUEUE,
                                        callback_group=self._group))
        self._listeners.add(listen)
        renewing: asyncio.Task[None] | None = None
        publisher: Any = None

        async def renew() -> None:
            while True:  # its lease ends soon after this process, however that ends
                publisher.publish(question)
                await asyncio.sleep(RENEWAL)

        try:
            if asks:
                publisher = self._create('question', lambda: self.node.create_publisher(
                    QuestionMessage, 'question', 10))
                await self._meet(publisher, publisher.get_subscription_count, timeout)
                renewing = asyncio.create_task(renew())
            while True:
                try:
                    message = await within(messages.get(), None if math.isinf(timeout) else timeout)
                except asyncio.TimeoutError:
                    raise NotAnsweringError(f'no answer within {timeout:g} s: no sensor may be sending; '
                                            '`mpnp status` shows them') from None
                if asks and isinstance(message, Answer) and message.status == Answer.REJECTED:
                    raise RequestError(message.error, message)
                timeout = math.inf if once else timeout
                yield message
        finally:
            self._listeners.discard(listen)
            if renewing is not None:
                renewing.cancel()
                publisher.publish(QuestionMessage(id=question.id, standing=True))  # without text: withdrawn
                await asyncio.to_thread(publisher.wait_for_all_acked, Duration(seconds=DEPARTURE))

    async def ask_past(self, text: str, choices: Sequence[str] = (), *, window: float = 0.,
                       progress: Callable[[AskPast.Feedback], object] | None = None,
                       timeout: float | None = None) -> AskPast.Result:
        """See :meth:`Robot.ask_past`."""
        from mpnp_ros.action import AskPast

        timeout = self.timeout if timeout is None else timeout
        goal = AskPast.Goal(text=text, choices=list(choices), window=window)
        late = f'no answer within {timeout:g} s; give it a longer time-out or a shorter window'
        async with aclosing(
            self._pursue(AskPast, 'ask_past', goal, time.monotonic() + timeout, late)
        ) as course:
            async for message in course:
                if progress is not None and isinstance(message, AskPast.Feedback):
                    progress(message)
        return _succeeded(message)

    async def modalities(self, timeout: float | None = None) -> dict[str, ModalityState]:
        """See :meth:`Robot.modalities`."""
        from mpnp_ros.msg import ModalityStates

        self._follow(ModalityStates, 'modalities', lambda message: {
            state.modality: state for state in message.modalities})
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while 'modalities' not in self._newest or not self.node.count_publishers('modalities'):
            if time.monotonic() > end:
                raise NotRunningError(await asyncio.to_thread(self.reports.why_absent))
            await asyncio.sleep(POLL)
        return self._newest['modalities']

    async def adaptation(self, timeout: float = .5) -> Adaptation | None:
        """See :meth:`Robot.adaptation`."""
        from mpnp_ros.msg import Adaptation

        self._follow(Adaptation, 'adaptation')
        end = time.monotonic() + timeout
        while 'adaptation' not in self._newest and time.monotonic() < end:
            await asyncio.sleep(POLL)
        return self._newest.get('adaptation')

    async def plug(self, modality: str, timeout: float | None = None) -> ModalityState:
        """See :meth:`Robot.plug`."""
        from mpnp_ros.srv import SetModality

        return await self._set(modality, SetModality.Request.PLUG, timeout)

    async def unplug(self, modality: str, timeout: float | None = None) -> ModalityState:
        """See :meth:`Robot.unplug`."""
        from mpnp_ros.srv import SetModality

        return await self._set(modality, SetModality.Request.UNPLUG, timeout)

    async def release(self, modality: str, timeout: float | None = None) -> ModalityState:
        """See :meth:`Robot.release`."""
        from mpnp_ros.srv import SetModality

        return await self._set(modality, SetModality.Request.AUTO, timeout)

    async def links(self, timeout: float | None = None) -> list[LinkInfo]:
        """See :meth:`Robot.links`."""
        from mpnp_ros.srv import ListLinks

        return list((await self._call(ListLinks, 'list_links', ListLinks.Request(), timeout)).links)

    async def load_links(self, path: str, sha256: str = '', timeout: float | None = None) -> LinkInfo:
        """See :meth:`Robot.load_links`."""
        from mpnp_ros.srv import LoadLinks

        request = LoadLinks.Request(path=path, sha256=sha256)
        return _succeeded(await self._call(LoadLinks, 'load_links', request, timeout, REPLY)).link

    async def rollback(self, modality: str, timeout: float | None = None) -> LinkInfo:
        """See :meth:`Robot.rollback`."""
        from mpnp_ros.srv import RollbackLinks

        request = RollbackLinks.Request(modality=modality)
        return _succeeded(await self._call(RollbackLinks, 'rollback_links', request, timeout, REPLY)).link

    async def adapt(self, modalities: Sequence[str] = (), *, supervision: str = '', linked_blocks: int = 0,
                    budget_duration: float = 0., budget_macs: float = 0., budget_memory: int = 0,
                    target_accuracy: float = 0., progress: Callable[[Adapt.Feedback], object] | None = None,
                    cancelled: Callable[[], bool] | None = None,
                    timeout: float | None = None) -> Adapt.Result:
        """See :meth:`Robot.adapt`."""
        from mpnp_ros.action import Adapt

        timeout = self.timeout if timeout is None else timeout
        goal = Adapt.Goal(modalities=list(modalities), supervision=supervision, linked_blocks=linked_blocks,
                          budget_duration=budget_duration, budget_macs=budget_macs,
                          budget_memory=budget_memory, target_accuracy=target_accuracy)
        late = f'the adaptation node does not reply within {timeout:g} s; see its log'
        end = time.monotonic() + timeout
        async with aclosing(self._pursue(Adapt, 'adapt', goal, end, late, cancelled)) as course:
            async for message in course:
                if progress is not None and isinstance(message, Adapt.Feedback):
                    progress(message)
        if not message.success:
            raise RequestError(message.message or 'the adaptation node gives no reason; see its log', message)
        return message

    async def _set(self, modality: str, command: int, timeout: float | None) -> ModalityState:
        from mpnp_ros.srv import SetModality

        request = SetModality.Request(modality=modality, command=command)
        return _succeeded(await self._call(SetModality, 'set_modality', request, timeout)).state

    async def _call(self, kind: type, name: str, request: Any, timeout: float | None,
                    again: float = RESPONSE) -> Any:
        """Call a service of the fusion node.

        again: seconds after which the request is sent again, as a server drops its response to a client that
        it has not discovered yet.
        """
        client = self._create(name, lambda: self.node.create_client(kind, name, callback_group=self._group))
        await self._meet(client, client.service_is_ready, self.timeout if timeout is None else timeout)
        end = time.monotonic() + REPLY
        while (left := end - time.monotonic()) > 0:
            sending = client.call_async(request)
            with suppress(asyncio.TimeoutError):
                return await within(awaitable(sending), min(again, left))
            client.remove_pending_request(sending)
        raise NotAnsweringError(f'the fusion node does not reply on {self.node.resolve_service_name(name)} '
                                f'within {REPLY:g} s; see its log and try again')

    async def _pursue(self, kind: Any, name: str, goal: Any, end: float, late: str,
                      cancelled: Callable[[], bool] | None = None) -> AsyncGenerator[Any, None]:
        """Yield the feedback of a goal and at last its result; leaving before cancels the goal.

        end: time on the monotonic clock until which a question must be answered, or an adaptation accepted.
        late: text of the error after that.  cancelled: once it is true, the goal is cancelled and its result
        is awaited.
        """
        client = self._create(name, lambda: action_client_class()(self.node, kind, name,
                                                                  callback_group=self._group))
        await self._meet(client, client.server_is_ready, end - time.monotonic(), cancelled)
        of_fusion = name in ('ask_stream', 'ask_past')
        messages: asyncio.Queue[Any] = asyncio.Queue()
        put = into(messages)
        handle = None
        while handle is None:
            left = end - time.monotonic()
            if left <= 0:
                raise NotAnsweringError(late)
            sending = client.send_goal_async(goal, feedback_callback=lambda message: put(message.feedback))
            try:  # a question may be repeated: a server drops responses to clients it has not discovered yet
                handle = await within(awaitable(sending), min(left, RESPONSE) if of_fusion else left)
            except (asyncio.TimeoutError, asyncio.CancelledError) as error:
                sending.add_done_callback(cancel_accepted)
                if isinstance(error, asyncio.CancelledError):
                    raise
        if not handle.accepted:
            raise NotAnsweringError(f'the node that serves {name} did not accept the goal; `mpnp status` '
                                    'says what it is doing')
        handle.get_result_async().add_done_callback(lambda done: put(done.result().result))
        watch = self._watch_fusion(client, end, late) if of_fusion else \
            _watch_adaptation(client, handle, cancelled)
        result = None
        try:
            while not isinstance(result, kind.Result):
                watch()
                with suppress(asyncio.TimeoutError):
                    result = await within(messages.get(), LOOK)
                    yield result
        finally:
            if not isinstance(result, kind.Result):
                handle.cancel_goal_async()

    def _watch_fusion(self, client: Any, end: float, late: str) -> Callable[[], None]:
        """Give a function that raises NotAnsweringError once the node has gone or the time is up."""
        seen = time.monotonic()

        def check() -> None:
            nonlocal seen
            now = time.monotonic()
            if client.server_is_ready() and self.reports.silence(FUSION) < SILENT_FUSION:
                seen = now
            elif now - seen > GONE_FUSION:
                raise NotAnsweringError('the fusion node has gone before it answered; see its log and ask '
                                        'again')
            if now > end:
                raise NotAnsweringError(late)

        return check

    async def _meet(self, entity: Any, is_there: Callable[[], object], timeout: float,
                    cancelled: Callable[[], bool] | None = None) -> None:
        """Wait for the node at the other end; notify the user if that takes long.

        Raises NotRunningError after ``timeout`` seconds.
        """
        if not self._own and self.node.executor is None:
            raise ConfigurationError(f'the node {self.node.get_name()} is in no executor: add it to one that '
                                     'spins on another thread, or let Robot make its own node')
        begun, end, told = time.monotonic(), time.monotonic() + timeout, False
        while not is_there():
            self._met.discard(id(entity))
            now = time.monotonic()
            if cancelled is not None and cancelled():
                raise CancelledError('given up before the node was found')
            if now > end:
                raise NotRunningError(await self._why_absent(entity))
            if not told and now - begun > NOTICE_AFTER and end - now > 1:
                self.notify(f'{await self._why_absent(entity)}; waiting for {end - now:.0f} s')
                told = True
            await asyncio.sleep(POLL)
        if id(entity) not in self._met:
            await asyncio.sleep(MEETING)
            self._met.add(id(entity))

    async def _why_absent(self, entity: Any) -> str:
        if entity is self._entities.get('adapt'):
            return (f'no node serves {self.node.resolve_service_name("adapt")}; start the adaptation node '
                    'with `mpnp bringup`, and give its namespace and ROS_DOMAIN_ID here too')
        return await asyncio.to_thread(self.reports.why_absent)

    async def _is_starting(self) -> bool:
        """Whether the fusion node, which has just rejected a question, is starting or active by now.

        A node that starts is unconfigured or inactive for a moment between its transitions.
        """
        end, patient = time.monotonic() + REPORT, time.monotonic() + HEARD_WITHIN
        while (now := time.monotonic()) < end:
            report = self.reports[FUSION]
            if self.reports.is_starting(FUSION) or self.reports.is_active(FUSION):
                return True
            if report is not None and (report.level == ERROR or now > patient):
                return False
            await asyncio.sleep(POLL)
        return False

    def _follow(self, kind: type, topic: str,
                convert: Callable[[Any], Any] = lambda message: message) -> None:
        """Keep the newest message of a latched topic, converted."""
        self._create(topic, lambda: self.node.create_subscription(
            kind, topic, lambda message: self._newest.update({topic: convert(message)}),
            qos_profile(LATCHED), callback_group=self._group))

    def _hear(self, message: Answer | Event) -> None:
        for listener in list(self._listeners):
            listener(message)

    def _create(self, name: str, create: Callable[[], Any]) -> Any:
        """Return what was created on the node under this name; it is kept until the end."""
        if name not in self._entities:
            entity = self._entities[name] = create()
            self._destroy.append(lambda: destroy(self.node, entity))
        return self._entities[name]


def _watch_adaptation(client: Any, handle: Any, cancelled: Callable[[], bool] | None) -> Callable[[], None]:
    """Give a function that cancels a goal once that is wanted.

    It raises NotAnsweringError once the node has gone or does not stop.
    """
    is_cancelled, end = False, math.inf

    def check() -> None:
        nonlocal is_cancelled, end
        now = time.monotonic()
        if not is_cancelled and cancelled is not None and cancelled():
            handle.cancel_goal_async()
            is_cancelled, end = True, now + GONE_ADAPTATION
        if not is_cancelled:
            end = math.inf if client.server_is_ready() else min(end, now + GONE_ADAPTATION)
        if now > end:
            raise NotAnsweringError('the adaptation node did not stop; see its log' if is_cancelled else
                                    'the adaptation node has gone; it resumes by itself once it is back, '
                                    'see `mpnp status`')

    return check


def _succeeded(response: Any) -> Any:
    if not response.success:
        raise RequestError(response.message, response)
    return response

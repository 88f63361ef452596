"""Services and an action that respond later, and clients of services that may be killed and restarted.

No thread waits for an answer: the thread that completes a request sends the response.
"""
from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import QoSProfile

from mpnp_ros.errors import LinksError
from mpnp_ros.serving.answers import CANCELLED

if TYPE_CHECKING:
    from rclpy.service import Service

CANCEL_TIMEOUT = 1.
"""Seconds within which rclpy records the cancellation of a goal."""
CHECK_PERIOD, RETRY_PERIOD, SERVICE_TIMEOUT = .2, 10., 60.
"""Seconds between checks, before a request is repeated, and before it is given up."""


def create_deferred_service(node: Node, kind: type, name: str, callback: Callable[[Any], Future[Any]],
                            group: CallbackGroup, depth: int = 10) -> Service:
    """Create a service on `node` that responds later, without holding a thread of the executor.

    rclpy's executor calls ``service.send_response(result of the callback, header)``.  Here the callback
    returns a Future of the response, and the response is sent when the Future is done.  (An awaiting
    coroutine would work too, but rclpy polls it without pause.)

    callback: takes the request and gives a Future of the response; neither may raise.
    depth: requests that may wait to be taken.
    """
    service: Any = node.create_service(kind, name, lambda request, response: callback(request),
                                  qos_profile=QoSProfile(depth=depth), callback_group=group)
    send = service.send_response

    def send_when_done(future: Future[Any], header: object) -> None:
        def send_result(done: Future[Any]) -> None:
            with contextlib.suppress(InvalidHandle):  # the node has been destroyed meanwhile
                send(done.result(), header)

        future.add_done_callback(send_result)

    service.send_response = send_when_done
    return service


def then(future: Future[Any], convert: Callable[[Future[Any]], Any]) -> Future[Any]:
    """Return a Future of ``convert`` applied to the result of ``future``, or of the exception."""
    converted: Future[Any] = Future()

    def resolve(done: Future[Any]) -> None:
        try:
            converted.set_result(convert(done))
        except Exception as error:
            converted.set_exception(error)

    future.add_done_callback(resolve)
    return converted


class Pursuit(Protocol):
    """What a goal has begun: its future is done once, and a cancel gives it the reason."""

    reason: str

    @property
    def future(self) -> Future[Any]:
        """Result; it resolves on any thread."""

    def cancel(self) -> bool:
        """Cancel it; returns whether that was in time."""


class GoalServer:
    """Serves an action without holding a thread of the executor.

    The thread that works on a goal publishes the feedback, and the goal is concluded when the future is done.
    The callback group is exclusive, so that a goal is known before it can be cancelled.
    """

    def __init__(self, node: Node, kind: Any, name: str,
                 begin: Callable[[Any, Callable[[Any], None]], Pursuit],
                 conclude: Callable[[Future[Any]], tuple[bool, Any]]) -> None:
        """begin(goal, publish_feedback): begins the work; it never waits and never raises.

        conclude: takes the future that is done, and returns whether the goal succeeded and its Result.
        """
        self._begin, self._result = begin, conclude
        self._goals: dict[bytes, Pursuit] = {}
        self._server = ActionServer(
            node, kind, name, execute_callback=lambda handle: kind.Result(),
            handle_accepted_callback=self._accept, cancel_callback=self._cancel,
            callback_group=MutuallyExclusiveCallbackGroup())

    def _accept(self, handle: ServerGoalHandle) -> None:
        pursuit = self._goals[bytes(handle.goal_id.uuid)] = self._begin(
            handle.request, handle.publish_feedback
        )
        pursuit.future.add_done_callback(lambda done: handle.execute(partial(self._conclude, done)))

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        pursuit = self._goals.get(bytes(handle.goal_id.uuid))
        return CancelResponse.ACCEPT if pursuit is not None and pursuit.cancel() else CancelResponse.REJECT

    def _conclude(self, done: Future[Any], handle: ServerGoalHandle) -> Any:
        pursuit = self._goals.pop(bytes(handle.goal_id.uuid))
        succeeded, result = self._result(done)
        if pursuit.reason == CANCELLED:
            wait_for_cancel(handle)
        if handle.is_cancel_requested:
            handle.canceled()
        elif succeeded:
            handle.succeed()
        else:
            handle.abort()
        return result


def wait_for_cancel(handle: ServerGoalHandle) -> None:
    """Wait until a goal is cancelled: its work can end before rclpy has recorded the cancellation."""
    end = time.monotonic() + CANCEL_TIMEOUT
    while not handle.is_cancel_requested and time.monotonic() < end:
        time.sleep(.001)


@dataclass(eq=False)
class _Call:
    """A request, its answer, when it was made, and when it was last sent."""

    request: Any
    since: float
    answer: Future[Any] = field(default_factory=Future)
    sent: float = -math.inf
    pending: Any = None


class RetryingClient:
    """A client of an idempotent service that repeats requests, as the server may be killed and restarted."""

    def __init__(self, node: Node, kind: type, name: str, group: CallbackGroup) -> None:
        self._name = node.resolve_service_name(name)
        self._client = node.create_client(kind, name, callback_group=group)
        self._calls: list[_Call] = []
        self._lock = threading.RLock()
        self._timer = node.create_timer(CHECK_PERIOD, self._look, callback_group=group,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()  # until there is a request: each call of a timer costs milliseconds

    def call(self, request: Any) -> Future[Any]:
        """Send a request; the future gives the response, or LinksError after SERVICE_TIMEOUT seconds."""
        call = _Call(request, time.monotonic())
        with self._lock:
            self._calls.append(call)
            self._timer.reset()
        self._look()
        return call.answer

    def _look(self) -> None:
        """Send new requests, repeat unanswered ones, and give up those that are too old."""
        now, given_up = time.monotonic(), []
        with self._lock:
            for call in list(self._calls):
                if now - call.since > SERVICE_TIMEOUT:
                    self._calls.remove(call)
                    given_up.append(call)
                elif now - call.sent > RETRY_PERIOD and self._client.service_is_ready():
                    self._send(call, now)
            if not self._calls:
                self._timer.cancel()
        for call in given_up:
            call.answer.set_exception(LinksError(
                f'no answer from service {self._name} within {SERVICE_TIMEOUT:g} s; is the fusion node '
                'running?'))

    def _send(self, call: _Call, now: float) -> None:
        if call.pending is not None:
            self._client.remove_pending_request(call.pending)
        call.sent, call.pending = now, self._client.call_async(call.request)

        def answered(done: Any) -> None:
            with self._lock:
                if call not in self._calls:
                    return
                self._calls.remove(call)
            call.answer.set_result(done.result())

        call.pending.add_done_callback(answered)

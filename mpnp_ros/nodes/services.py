"""Services that respond later, and clients of services that may be killed and restarted."""
from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import QoSProfile

from mpnp_ros.errors import LinksError

if TYPE_CHECKING:
    from rclpy.service import Service

PERIOD, AGAIN, PATIENCE = .2, 10., 60.
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
    service = node.create_service(kind, name, lambda request, response: callback(request),
                                  qos_profile=QoSProfile(depth=depth), callback_group=group)
    send = service.send_response

    def send_when_done(future: Future[Any], header: object) -> None:
        future.add_done_callback(lambda done: _send(done.result(), header))

    def _send(response: object, header: object) -> None:
        with contextlib.suppress(InvalidHandle):  # the node has been destroyed meanwhile
            send(response, header)

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


@dataclass(eq=False)
class _Call:
    """A request, its answer, when it was made, and when it was last sent."""

    request: Any
    since: float
    answer: Future[Any] = field(default_factory=Future)
    sent: float = -math.inf
    pending: Any = None


class PatientClient:
    """A client of an idempotent service that repeats requests, as the server may be killed and restarted."""

    def __init__(self, node: Node, kind: type, name: str, group: CallbackGroup) -> None:
        self._name = node.resolve_service_name(name)
        self._client = node.create_client(kind, name, callback_group=group)
        self._calls: list[_Call] = []
        self._lock = threading.RLock()
        self._timer = node.create_timer(PERIOD, self._look, callback_group=group,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()  # until there is something to look for: each time costs milliseconds

    def call(self, request: Any) -> Future[Any]:
        """Send a request; the future gives the response, or LinksError after a minute without one."""
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
                if now - call.since > PATIENCE:
                    self._calls.remove(call)
                    given_up.append(call)
                elif now - call.sent > AGAIN and self._client.service_is_ready():
                    self._send(call, now)
            if not self._calls:
                self._timer.cancel()
        for call in given_up:
            call.answer.set_exception(LinksError(
                f'no answer from service {self._name} within {PATIENCE:g} s; is the fusion node running?'))

    def _send(self, call: _Call, now: float) -> None:
        if call.pending is not None:
            self._client.remove_pending_request(call.pending)
        call.sent, call.pending = now, self._client.call_async(call.request)
        call.pending.add_done_callback(partial(self._answered, call))

    def _answered(self, call: _Call, done: Any) -> None:
        with self._lock:
            if call not in self._calls:
                return
            self._calls.remove(call)
        call.answer.set_result(done.result())

"""A service client that repeats requests, for a server that may be killed and restarted."""
from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from mpnp_ros.errors import LinksError

PERIOD, AGAIN, PATIENCE = .2, 10., 60.
"""Seconds between checks, before a request is repeated, and before it is given up."""


@dataclass(eq=False)
class _Call:
    """A request, its answer, when it was made, and when it was last sent."""

    request: Any
    since: float
    answer: Future[Any] = field(default_factory=Future)
    sent: float = -math.inf
    pending: Any = None


class PatientClient:
    """A client of an idempotent service."""

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

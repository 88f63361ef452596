"""A service that responds later, without holding a thread of the executor.

rclpy's executor calls ``service.send_response(result of the callback, header)``.  Here the callback returns a
Future of the response, and the response is sent when the Future is done.  (An awaiting coroutine would work
too, but rclpy polls it without pause.)
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from rclpy.exceptions import InvalidHandle
from rclpy.qos import QoSProfile

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node
    from rclpy.service import Service


def create_deferred_service(node: Node, kind: type, name: str, callback: Callable[[Any], Future[Any]],
                            group: CallbackGroup, depth: int = 10) -> Service:
    """Create a service on `node`.

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

"""What comes on the thread of an rclpy executor, handed over to an asyncio event loop."""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rclpy.node import Node

T = TypeVar('T')
QUEUE = 100
"""Messages that may wait to be taken."""


def awaitable(future: Any) -> asyncio.Future[Any]:
    """Return a future of this loop for one of rclpy."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[Any] = loop.create_future()

    def resolve(error: Exception | None) -> None:
        if waiting.done():
            return
        if error is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(future.result())

    def done(_: Any) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(resolve, future.exception())

    future.add_done_callback(done)
    return waiting


async def within(waiting: Awaitable[T], timeout: float | None) -> T:
    """Return the result; raises asyncio.TimeoutError after ``timeout`` seconds.

    ``asyncio.wait_for`` ignores a cancellation that comes together with the result before Python 3.12.
    """
    task = asyncio.ensure_future(waiting)
    try:
        await asyncio.wait({task}, timeout=timeout)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()


def into(messages: asyncio.Queue[Any]) -> Callable[[Any], None]:
    """Give a function for other threads that puts a message into a queue of this loop.

    A queue that nobody empties loses its oldest messages.
    """
    loop = asyncio.get_running_loop()

    def put(message: Any) -> None:
        if messages.qsize() >= QUEUE:
            messages.get_nowait()
        messages.put_nowait(message)

    def call(message: Any) -> None:
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(put, message)

    return call


def cancel_accepted(sending: Any) -> None:
    """Cancel a goal that is accepted when nobody waits for it any more."""
    if not sending.cancelled() and sending.exception() is None and sending.result().accepted:
        sending.result().cancel_goal_async()


def destroy(node: Node, entity: Any) -> None:
    """Destroy a subscription, publisher or client of a node, whichever it is."""
    if any(one(entity) for one in (node.destroy_subscription, node.destroy_publisher,
                                   node.destroy_client)):
        return
    entity.destroy()  # an action client

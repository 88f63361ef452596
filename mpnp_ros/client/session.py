"""A node of this process, and bridges from its thread to an asyncio event loop."""
from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.node_names import checked_namespace
from mpnp_ros.transport import additions

if TYPE_CHECKING:
    from rclpy.node import Node

_numbers = count()

T = TypeVar('T')
QUEUE = 100
"""Messages that may wait to be taken."""


@contextmanager
def ros_session(namespace: str = '', remaps: Sequence[str] = ()) -> Iterator[Node]:
    """Yield a node in ``namespace`` whose callbacks run on a thread of their own; remaps: ``from:=to``.

    It has an rclpy context of its own, and no signal handlers: Ctrl-C stays a KeyboardInterrupt of the main
    thread.  Everything that is created on the node is destroyed with it, after that thread has ended: rclpy
    reports an exception for an entity that is destroyed while its executor waits on it.
    Raises ConfigurationError where ROS 2 is not installed or ROS does not allow the namespace.
    """
    namespace = checked_namespace(namespace)
    os.environ.update(additions(os.environ))
    rclpy = import_rclpy()
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    rules = [part for rule in remaps for part in ('-r', rule)]
    context = Context()
    rclpy.init(args=['--ros-args', *rules] if rules else [], context=context,
               signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(f'_mpnp_{os.getpid()}_{next(_numbers)}', context=context,
                                 namespace=namespace, start_parameter_services=False, enable_rosout=False)
        executor, ended = SingleThreadedExecutor(context=context), threading.Event()
        executor.add_node(node)

        def spin() -> None:
            while not ended.is_set():
                executor.spin_once()

        spinning = threading.Thread(target=spin, name='mpnp_ros session', daemon=True)
        spinning.start()
        try:
            yield node
        finally:
            ended.set()
            executor.create_task(lambda: None)  # for spin_once to return
            spinning.join(5.)
            executor.shutdown()
            node.destroy_node()
            for action in list(node.waitables):  # without their end the node stays in the graph
                action.destroy()
    finally:
        rclpy.try_shutdown(context=context)


def import_rclpy() -> Any:
    """Return rclpy; raises ConfigurationError, with the remedy, where it cannot be imported."""
    try:
        import rclpy
    except ImportError as error:
        raise ConfigurationError(
            f'rclpy cannot be imported ({error}); source a ROS 2 distribution, such as '
            '/opt/ros/jazzy/setup.bash, or run `make install`') from None
    return rclpy


@cache
def action_client_class() -> type[Any]:
    """Return rclpy's ActionClient, safe where goals are sent on another thread than that of the executor.

    rclpy notes a request after it has sent it, and ignores a response that is taken in between.
    """
    import_rclpy()
    client: Any = import_module('rclpy.action').ActionClient

    class SafeActionClient(client):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._sending = threading.Lock()
            super().__init__(*args, **kwargs)

        def send_goal_async(self, *args: Any, **kwargs: Any) -> Any:
            with self._sending:
                return super().send_goal_async(*args, **kwargs)

        def _get_result_async(self, goal_handle: Any) -> Any:
            with self._sending:
                return super()._get_result_async(goal_handle)

        def _cancel_goal_async(self, goal_handle: Any) -> Any:
            with self._sending:
                return super()._cancel_goal_async(goal_handle)

        async def execute(self, taken_data: Any) -> None:
            with self._sending:
                pass  # what was sent has been noted
            await super().execute(taken_data)

    return SafeActionClient


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
        if not task.cancel() and not task.cancelled():
            task.exception()  # of a request that was given up: looked at, so that asyncio does not log it


def into(messages: asyncio.Queue[Any]) -> Callable[[Any], None]:
    """Return a function for other threads that puts a message into a queue of this loop.

    A full queue loses its oldest messages.
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
    """Cancel a goal that is accepted after its sender has given up."""
    if not sending.cancelled() and sending.exception() is None and sending.result().accepted:
        sending.result().cancel_goal_async()


def destroy(node: Node, entity: Any) -> None:
    """Destroy a subscription, publisher or client of a node, whichever it is."""
    if not (node.destroy_subscription(entity) or node.destroy_publisher(entity)
            or node.destroy_client(entity)):
        entity.destroy()  # an action client

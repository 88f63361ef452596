"""A robot's questions, modalities and links, from Python."""
from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from mpnp_ros.client.async_robot import AsyncRobot, Update
from mpnp_ros.errors import CancelledError

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpnp_ros.action import Adapt, AskPast
    from mpnp_ros.client.node_reports import NodeReports
    from mpnp_ros.msg import Adaptation, Answer, Event, LinkInfo, ModalityState

T = TypeVar('T')
CLOSED = 'the robot has been closed'
LEAVING = 5.
"""Seconds within which cancelled requests must end."""


class Robot:
    """A running robot: its fusion node answers, its adaptation node trains.

    Use it as a context manager, or call :meth:`close`.  Methods may be called from several threads.  Ctrl-C
    in a method, and leaving the loop over a stream, cancel the request on the robot.

    Results are the ROS messages of this package, such as ``mpnp_ros.msg.Answer``: their fields are documented
    in docs/reference/interfaces.md, and they can be published and recorded as they are.

    Every method raises

    - :class:`~mpnp_ros.errors.NotRunningError` where the node it needs is not found in time; the message says
      whether that node is starting, has failed or was never started, and the remedy,
    - :class:`~mpnp_ros.errors.NotAnsweringError` where the node is there and does not reply in time,
    - :class:`~mpnp_ros.errors.RequestError` where the node refuses or fails, with its reply in ``response``,
    - :class:`~mpnp_ros.errors.CancelledError` where the robot is closed meanwhile.
    """

    def __init__(self, namespace: str = '', *, node: Node | None = None, timeout: float = 60.,
                 notify: Callable[[str], None] | None = None) -> None:
        """Connect; no node of the robot needs to be there yet.

        namespace: of the robot's nodes, e.g. ``/robot1``.  Without a ``node`` the robot has a node, an rclpy
        context and a thread of its own.
        node: yours, in the namespace of the robot.  An executor must spin it on another thread than the one
        that calls methods; in a callback, that is a MultiThreadedExecutor.
        timeout: seconds, where a method is not given its own: to find the node it needs, and for a question
        until it is answered.
        notify: called with a sentence where a node is waited for; default: the log ``mpnp_ros.client``.
        Raises ConfigurationError where rclpy cannot be imported or ROS does not allow the namespace.
        """
        self._robot = AsyncRobot(namespace, node=node, timeout=timeout, notify=notify)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name='mpnp_ros client', daemon=True)
        self._thread.start()
        self._closed = False
        self._streams: list[AsyncGenerator[Any, None]] = []
        atexit.register(self.close)

    def __enter__(self) -> Robot:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel running requests and leave; a node that was given stays."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with suppress(futures.TimeoutError):
            asyncio.run_coroutine_threadsafe(_end(self._streams), self._loop).result(LEAVING)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LEAVING)
        self._robot.close()
        self._loop.close()

    @property
    def node(self) -> Node:
        """The node that talks to the robot."""
        return self._robot.node

    @property
    def reports(self) -> NodeReports:
        """Reports of the robot's nodes on ``/diagnostics``."""
        return self._robot.reports

    def ask(self, question: str, choices: Sequence[str] = (), *, max_new_tokens: int = 0,
            max_age: float = 0., require: Sequence[str] = (), refuse_below: float = 0.,
            timeout: float | None = None) -> Answer:
        """Ask about what the sensors perceive now.

        choices: a closed list of answers; default: as the fusion node is set.  max_new_tokens: of a generated
        answer; 0: as the node is set.  A fusion node that is starting is waited for.
        max_age: seconds; modalities whose newest data is older are left out.  require: modalities that the
        answer must rest on.  refuse_below: the least confidence, 0..1.  Without what they ask for the
        question is refused.
        The answer's ``status`` is OK, NO_SENSOR (no sensor can be used; text is empty, or what the question
        alone suggests where the node is so set), UNKNOWN (what the sensors tell does not answer it) or
        REFUSED (a requirement of the question is not met); see its ``error``.
        Raises RequestError, with the Answer as response, where the question is rejected or has failed.
        """
        return self._wait(lambda: self._robot.ask(
            question, choices, max_new_tokens=max_new_tokens, max_age=max_age, require=require,
            refuse_below=refuse_below, timeout=timeout))

    def ask_stream(self, question: str, choices: Sequence[str] = (), *, max_new_tokens: int = 0,
                   max_age: float = 0., require: Sequence[str] = (), refuse_below: float = 0.,
                   timeout: float | None = None) -> Iterator[Update]:
        """Ask as :meth:`ask` does and yield the answer while it is made; the last update has the Answer."""
        return self._iterate(self._robot.ask_stream(
            question, choices, max_new_tokens=max_new_tokens, max_age=max_age, require=require,
            refuse_below=refuse_below, timeout=timeout))

    def watch(self, question: str = '', choices: Sequence[str] = (), *, period: float = 0.,
              on_change: bool = False, max_age: float = 0., require: Sequence[str] = (),
              refuse_below: float = 0., timeout: float | None = None) -> Iterator[Answer]:
        """Yield the answers to a standing question, which is asked again on every new frame.

        period: seconds between two answers, at least.  on_change: leave out answers that say the same as the
        one before.  max_age, require, refuse_below: as for :meth:`ask`; a refused answer is yielded too.
        timeout: seconds without an answer; with on_change there is none by default.  The
        question is withdrawn when the iterator is closed, at the latest 10 s after this process has ended.
        Without a question: all answers that are published, and no time-out by default.  Of answers that wait
        to be taken, the 100 newest are kept.
        """
        return self._iterate(self._robot.watch(
            question, choices, period=period, on_change=on_change, max_age=max_age, require=require,
            refuse_below=refuse_below, timeout=timeout))

    def events(self, question: str, answers: Sequence[str] = ('yes',), choices: Sequence[str] = (), *,
               begin: float = 0., end: float = 0., hold: float = 0.,
               timeout: float | None = None) -> Iterator[Event]:
        """Yield when the answer to a question becomes one of `answers`, and when it ceases to be.

        ``for event in robot.events('Is there a pedestrian ahead?'): ...``; a sentence such as "tell me when a
        pedestrian is ahead" is understood too.  begin, end: 0..1, probability of `answers` together from
        which an event begins, and below which it ends; 0: as in msg/Condition.  hold: seconds by sensor
        stamps that either must last.  timeout: seconds until the first answer, whatever it says.  The
        question is withdrawn as that of :meth:`watch`.
        """
        return self._iterate(self._robot.events(question, answers, choices, begin=begin, end=end, hold=hold,
                                                timeout=timeout))

    def ask_past(self, text: str, choices: Sequence[str] = (), *, window: float = 0.,
                 progress: Callable[[AskPast.Feedback], object] | None = None,
                 timeout: float | None = None) -> AskPast.Result:
        """Ask about what the fusion node remembers, e.g. ``When was the last bus?``.

        A question about the present is asked of every remembered moment.  choices: answers of a question
        other than whether something is there.  window: seconds that are looked at; 0: as the text says, else
        all.  progress: gets every AskPast.Feedback.  Raises RequestError, with the result as response, where
        the question is not understood or nothing is remembered.
        """
        return self._wait(lambda: self._robot.ask_past(text, choices, window=window, progress=progress,
                                                       timeout=timeout))

    def modalities(self, timeout: float | None = None) -> dict[str, ModalityState]:
        """Return the newest state of every modality, by its name."""
        return self._wait(lambda: self._robot.modalities(timeout))

    def adaptation(self, timeout: float = .5) -> Adaptation | None:
        """Return what the adaptation node is doing and why; None where none says so within ``timeout``."""
        return self._wait(lambda: self._robot.adaptation(timeout))

    def plug(self, modality: str, timeout: float | None = None) -> ModalityState:
        """Let answers rest on a modality while it is healthy, until it is unplugged or released."""
        return self._wait(lambda: self._robot.plug(modality, timeout))

    def unplug(self, modality: str, timeout: float | None = None) -> ModalityState:
        """Let no answer rest on a modality until it is plugged or released."""
        return self._wait(lambda: self._robot.unplug(modality, timeout))

    def release(self, modality: str, timeout: float | None = None) -> ModalityState:
        """Hand a modality back to the fusion node, which plugs and unplugs it by itself."""
        return self._wait(lambda: self._robot.release(modality, timeout))

    def links(self, timeout: float | None = None) -> list[LinkInfo]:
        """Return the links that are loaded, and the versions kept for :meth:`rollback`."""
        return self._wait(lambda: self._robot.links(timeout))

    def load_links(self, path: str, sha256: str = '', timeout: float | None = None) -> LinkInfo:
        """Use the links in a folder of the robot's machine, and return them; sha256: of their manifest."""
        return self._wait(lambda: self._robot.load_links(path, sha256, timeout))

    def rollback(self, modality: str, timeout: float | None = None) -> LinkInfo:
        """Use the version of a modality's links before the present one again, and return it."""
        return self._wait(lambda: self._robot.rollback(modality, timeout))

    def adapt(self, modalities: Sequence[str] = (), *, supervision: str = '', linked_blocks: int = 0,
              budget_duration: float = 0., budget_macs: float = 0., budget_memory: int = 0,
              target_accuracy: float = 0., progress: Callable[[Adapt.Feedback], object] | None = None,
              cancelled: Callable[[], bool] | None = None, timeout: float | None = None) -> Adapt.Result:
        """Let the adaptation node train links, and wait until it has ended.

        modalities: default: those that the policy finds missing.  The budget, in seconds,
        multiply-accumulates and bytes, and the other options are as in action/Adapt; 0 or empty: as the node
        is set.
        progress: gets every Adapt.Feedback.  cancelled: asked now and then; once it is true, the training is
        stopped, and its end is waited for.  timeout: for the node to be found and to accept.
        Raises RequestError, with the Adapt.Result as response, where no links were made.
        """
        return self._wait(lambda: self._robot.adapt(
            modalities, supervision=supervision, linked_blocks=linked_blocks, budget_duration=budget_duration,
            budget_macs=budget_macs, budget_memory=budget_memory, target_accuracy=target_accuracy,
            progress=progress, cancelled=cancelled, timeout=timeout))

    def _wait(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine on the loop and return its result; cancel it if this thread is interrupted."""
        if self._closed:
            raise CancelledError(CLOSED)
        ended = threading.Event()

        async def run() -> T:
            try:
                return await work()
            finally:
                ended.set()

        running = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            return running.result()
        except futures.CancelledError:
            raise CancelledError(CLOSED) from None
        except BaseException:
            if not running.done():
                running.cancel()
                ended.wait(LEAVING)
            raise

    def _iterate(self, stream: AsyncGenerator[T, None]) -> Iterator[T]:
        self._streams.append(stream)
        try:
            while True:
                try:
                    yield self._wait(lambda: anext(stream))
                except StopAsyncIteration:
                    return
        finally:
            with suppress(CancelledError):
                self._wait(stream.aclose)
                self._streams.remove(stream)


async def _end(streams: Iterable[AsyncGenerator[Any, None]]) -> None:
    """Cancel all other tasks of the loop, wait for their ends, and close what is open."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for stream in list(streams):
        await stream.aclose()

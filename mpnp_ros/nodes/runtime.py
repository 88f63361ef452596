"""How every node of this package starts, changes state and ends.

The executor spins on its own thread and the main thread only waits: Python runs signal handlers on the
main thread between two bytecodes, so SIGINT and SIGTERM are seen at once and the node leaves in order,
with its publishers still alive.
"""
from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from mpnp_ros.errors import ConfigurationError, MpnpError
from mpnp_ros.nodes.diagnostics import ERROR, OK, Diagnostics
from mpnp_ros.nodes.parameters import Change, Parameter, declare_parameters

AUTOSTART = Parameter('autostart', True, 'Configure and activate at start, without a lifecycle manager.')
THREADS = Parameter('threads', 0, 'Threads of the network on a CPU; 0: half of the cores.',
                    minimum=0, maximum=256, change=Change.CONFIGURE)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ManagedNode(LifecycleNode):
    """A lifecycle node whose transitions say why they failed, and that undoes what a failed one began.

    A subclass overrides :meth:`load`, :meth:`start`, :meth:`stop` and :meth:`release`; ``stop`` and
    ``release`` must be safe to call when only a part was started or loaded.  Its table of parameters
    holds :data:`AUTOSTART`.

    values: the parameters.  diagnostics: counters and warnings.
    """

    def __init__(self, name: str, table: Sequence[Parameter], **options: object) -> None:
        self._reached = 'unconfigured'
        super().__init__(name, **options)
        try:
            self.values = declare_parameters(self, table, self.changed, self._too_late)
        except MpnpError:
            self.destroy_node()
            raise
        self.diagnostics = Diagnostics(self, name)
        self.diagnostics.state(OK, 'unconfigured')
        self.failure: Exception | None = None
        self._refuse_impossible_transitions()

    def changed(self, name: str, value: object) -> None:
        """Called when a parameter is changed."""

    def load(self) -> None:
        """Load what is heavy: weights, caches."""

    def start(self) -> None:
        """Create subscriptions, services and threads."""

    def stop(self) -> None:
        """Undo :meth:`start`."""

    def release(self) -> None:
        """Undo :meth:`load`: give the memory back."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unconfigured to inactive: :meth:`load`."""
        return self._transition('configure', self.load, self.release, 'inactive')

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive to active: :meth:`start`."""
        super().on_activate(state)
        return self._transition('activate', self.start, self.stop, 'active')

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Active to inactive: :meth:`stop`."""
        super().on_deactivate(state)
        return self._transition('deactivate', self.stop, None, 'inactive')

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive to unconfigured: :meth:`release`."""
        return self._transition('clean up', self.release, None, 'unconfigured')

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Any state to finalized."""
        self._transition('stop', self.stop, None, 'finalized')
        return self._transition('shut down', self.release, None, 'finalized')

    def _too_late(self, change: Change) -> str:
        """Say why a parameter of that kind cannot take a new value in the state the node is in."""
        if change is Change.CONFIGURE and self._reached != 'unconfigured':
            return 'is read when the node is configured; deactivate it, clean it up and set it then'
        if change is Change.ACTIVATE and self._reached not in ('unconfigured', 'inactive'):
            return 'is read when the node is activated; deactivate it and set it then'
        return ''

    def _transition(self, verb: str, action: Callable[[], None], undo: Callable[[], None] | None,
                    reached: str) -> TransitionCallbackReturn:
        before, self._reached = self._reached, verb
        try:
            action()
        except Exception as error:  # rclpy would swallow it without a word
            self.failure = error
            self.get_logger().error(f'cannot {verb}: {error}')
            if not isinstance(error, MpnpError):
                self.get_logger().error(traceback.format_exc())
            self.diagnostics.state(ERROR, f'cannot {verb}: {error}')
            if undo:
                undo()
            self._reached = before
            return FAILURE
        self.failure, self._reached = None, reached
        self.diagnostics.state(OK, reached)
        return SUCCESS

    def _refuse_impossible_transitions(self) -> None:
        """Answer `activate` of an active node with success: false; rclpy would let it end the executor."""
        change_state = self._service_change_state.callback

        def guarded(request: object, response: object) -> object:
            try:
                return change_state(request, response)
            except Exception as error:
                self.get_logger().warning(f'transition refused: {error}')
                response.success = False
                return response

        self._service_change_state.callback = guarded


class PlainNode(Node):
    """A node without a life cycle.

    values: the parameters.  diagnostics: counters and warnings.
    finish: ends the process; with an error, as a failure.
    """

    def __init__(self, name: str, table: Sequence[Parameter], **options: object) -> None:
        super().__init__(name, **options)
        try:
            self.values = declare_parameters(self, table, self.changed)
        except MpnpError:
            self.destroy_node()
            raise
        self.diagnostics = Diagnostics(self, name)
        self.finish: Callable[[Exception | None], None] = lambda error=None: None

    def begin(self) -> None:
        """Called once the executor runs."""

    def changed(self, name: str, value: object) -> None:
        """Called when a parameter is changed."""


def run_node(factory: Callable[[], ManagedNode | PlainNode], args: Sequence[str] | None = None) -> int:
    """Run the node that ``factory`` makes until a signal, its own end or a failure; return the exit code.

    A lifecycle node with the parameter ``autostart`` is configured and activated.  Exit code 0: ended
    in order.  1: it could not start, or a callback failed.  2: a parameter is wrong, so that
    starting it again is of no use.  The log says why.
    """
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    ended = threading.Event()
    try:
        with _signals_set(ended):
            return _run(factory, ended)
    finally:
        rclpy.try_shutdown()


def set_threads(count: int) -> None:
    """Let PyTorch use ``count`` threads; 0: half of the cores that this process may use.

    Several processes that each take all cores slow each other down by more than they gain: of six images
    and a sweep on two busy cores, 430 ms of processor time with two threads and 85 ms with one.
    """
    import torch
    torch.set_num_threads(count or max(1, len(os.sched_getaffinity(0)) // 2))


def _run(factory: Callable[[], ManagedNode | PlainNode], ended: threading.Event) -> int:
    try:
        node = factory()
    except MpnpError as error:
        get_logger('mpnp_ros').fatal(str(error))
        return _exit_code(error)
    _pass_on_log(node)
    executor = MultiThreadedExecutor(num_threads=4)
    executor.add_node(node)
    failures: list[Exception] = []

    def finish(error: Exception | None = None) -> None:
        failures.extend([error] if error else [])
        ended.set()

    spinning = threading.Thread(target=_spin, args=(executor, finish, ended), name='executor')
    spinning.start()
    try:
        failure = _begin(node, finish)
        if failure is None:
            ended.wait()
        _shut_down(node)
        return _exit_code(failure or next(iter(failures), None))
    finally:
        ended.set()
        executor.shutdown()
        spinning.join()
        node.destroy_node()


class _RosLog(logging.Handler):
    """What code without ROS has to say, in the node's log."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._log = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        else:
            self._log.info(text)


def _pass_on_log(node: Node) -> None:
    log = logging.getLogger('mpnp_ros')
    log.setLevel(logging.INFO)
    log.addHandler(_RosLog(node))


def _spin(executor: MultiThreadedExecutor, finish: Callable[[Exception | None], None],
          ended: threading.Event) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        finish(None)
    except Exception as error:
        if ended.is_set() and isinstance(error, InvalidHandle):
            return  # shutdown() does not wait for this thread before it destroys what the thread waits on
        get_logger('mpnp_ros').fatal(f'a callback failed: {error}\n{traceback.format_exc()}')
        finish(error)


def _begin(node: ManagedNode | PlainNode, finish: Callable[[Exception | None], None]) -> Exception | None:
    """Let the node begin, a lifecycle node by configure and activate; return why that failed."""
    if isinstance(node, PlainNode):
        node.finish = finish
        node.begin()
        return None
    return _autostart(node) if node.values.autostart else None


def _autostart(node: ManagedNode) -> Exception | None:
    try:
        node.trigger_configure()
        if node.failure is None:
            node.trigger_activate()
    except Exception as error:  # a lifecycle manager was quicker
        get_logger('mpnp_ros').fatal(f'cannot start by itself: {error}; set autostart: false')
        return error
    return node.failure


def _exit_code(error: Exception | None) -> int:
    if error is None:
        return 0
    return 2 if isinstance(error, ConfigurationError) else 1


def _shut_down(node: ManagedNode | PlainNode) -> None:
    if isinstance(node, ManagedNode):
        with contextlib.suppress(Exception):  # it may be finalized already, or between two states
            node.trigger_shutdown()


@contextlib.contextmanager
def _signals_set(ended: threading.Event) -> Iterator[None]:
    """Make the first SIGINT or SIGTERM set ``ended``, and the second end the process at once."""
    def handle(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        ended.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


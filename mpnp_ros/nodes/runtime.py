"""Start, state changes and end of every node of this package.

The main thread only waits for the end, which a signal, the node or a failure requests.  The node is created,
configured and activated on a second thread, and its callbacks run on others.  So a signal is handled while
weights are loaded, and the node shuts down in order, with its publishers still alive.  A node that does not
end within a few seconds is terminated.
"""
from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, ShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from mpnp_ros.errors import ConfigurationError, MpnpError, StorageError
from mpnp_ros.nodes import signals
from mpnp_ros.nodes.diagnostics import ERROR, OK, Diagnostics
from mpnp_ros.nodes.parameters import declare_parameters, described, explain
from mpnp_ros.nodes.worker import Ticker
from mpnp_ros.options import Change, Options, option

RCLError = rclpy_implementation.RCLError
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
DOING = {'configure': 'configuring', 'activate': 'activating', 'deactivate': 'deactivating',
         'cleanup': 'cleaning up', 'shutdown': 'shutting down'}
LOADING, LEAVING = 1., 2.
"""Seconds after the end was requested: how long loading may continue, and when the process is terminated."""
M_ARENA_MAX, ARENAS = -8, 2
"""Arenas of malloc: with one per thread, each would keep the memory of a frame."""
PROMPT = .002
"""Seconds that a callback may take before the executor waits for others."""
AGAIN = 100
"""Consecutive retries of the executor after an entity was destroyed while it waited."""
LOG = logging.getLogger('mpnp_ros')


@dataclass(frozen=True)
class ManagedOptions(Options):
    """Parameters that every lifecycle node has."""

    autostart: bool = option(True, 'configure and activate at start, without a lifecycle manager')


class _Ticking(Node):
    """Periodic work, and the end of it, of both kinds of nodes."""

    def every(self, period: float, work: Callable[[], float | None]) -> None:
        """Call ``work`` every ``period`` seconds of the steady clock, on a separate thread; see Ticker."""
        self.__dict__.setdefault('_tickers', []).append(Ticker(work.__name__, period, work))

    def stop_ticking(self) -> None:
        """Stop the periodic work, and wait for a running call."""
        for ticker in self.__dict__.pop('_tickers', ()):
            ticker.close()

    def describe_parameter(self, name: str) -> ParameterDescriptor:
        """Return the descriptor that ``ros2 param describe`` shows; options read at start are read-only."""
        descriptor = super().describe_parameter(name)
        values = self.__dict__.get('values')
        return described(descriptor, type(values.now)) if values else descriptor

    def destroy_node(self) -> None:
        """Stop the periodic work first."""
        self.stop_ticking()
        if hasattr(self, 'diagnostics'):
            self.diagnostics.close()
        super().destroy_node()  # type: ignore[no-untyped-call]  # rclpy does not annotate it


class ManagedNode(_Ticking, LifecycleNode):
    """A lifecycle node whose transitions name the reason of a failure and undo partial work.

    A subclass overrides :meth:`load`, :meth:`start`, :meth:`stop` and :meth:`release`; ``stop`` and
    ``release`` must be safe to call after a partial start or load.
    values: the parameters.  diagnostics: counters and warnings.  ending: set when the process ends; then no
    transition starts.  patience: seconds that the node may take to end.
    """

    patience = LEAVING

    def __init__(self, name: str, parameters: type[ManagedOptions], **options: Any) -> None:
        self._reached = 'unconfigured'
        self._changing = threading.Lock()
        self.ending = False
        self.failure: Exception | None = None
        super().__init__(name, **options)
        try:
            self.values = declare_parameters(self, parameters, self.changed, self._too_late)
        except MpnpError:
            self.destroy_node()
            raise
        self.diagnostics = Diagnostics(self, name)
        if not self.values.autostart:  # else it is starting
            self.diagnostics.state(OK, 'unconfigured')
        self._serve_transitions()

    def changed(self, name: str, value: object) -> None:
        """Called after a parameter has changed."""

    def load(self) -> None:
        """Load weights and caches."""

    def start(self) -> None:
        """Create subscriptions, services and threads."""

    def stop(self) -> None:
        """Undo :meth:`start`."""

    def release(self) -> None:
        """Undo :meth:`load`: release the memory."""

    def trigger_configure(self) -> TransitionCallbackReturn:
        """Unconfigured to inactive: :meth:`load`."""
        return self._trigger('configure', super().trigger_configure)

    def trigger_activate(self) -> TransitionCallbackReturn:
        """Inactive to active: :meth:`start`."""
        return self._trigger('activate', super().trigger_activate)

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """Active to inactive: :meth:`stop`."""
        return self._trigger('deactivate', super().trigger_deactivate)

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        """Inactive to unconfigured: :meth:`release`."""
        return self._trigger('cleanup', super().trigger_cleanup)

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """Any state to finalized."""
        return self._trigger('shutdown', super().trigger_shutdown)

    def close(self, patience: float) -> bool:
        """Stop and release finally; False if a transition is still running after ``patience`` seconds."""
        self.ending = True
        if not self._changing.acquire(timeout=max(0., patience)):
            return False
        try:
            if self._reached not in ('unconfigured', 'finalized'):
                super().trigger_shutdown()  # type: ignore[no-untyped-call]  # rclpy does not annotate it
        finally:
            self._changing.release()
        return True

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Called by :meth:`trigger_configure` and by the service."""
        return self._transition('configure', self.load, self.release, 'inactive')

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Called by :meth:`trigger_activate` and by the service."""
        super().on_activate(state)
        return self._transition('activate', self.start, self.stop, 'active')

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Called by :meth:`trigger_deactivate` and by the service."""
        super().on_deactivate(state)
        return self._transition('deactivate', self.stop, None, 'inactive')

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Called by :meth:`trigger_cleanup` and by the service."""
        done = self._transition('cleanup', self.release, None, 'unconfigured')
        # release references that callback groups keep to all entities they ever had
        for group in [value for value in vars(self).values() if isinstance(value, CallbackGroup)]:
            group.entities.difference_update([entity for entity in list(group.entities) if entity() is None])
        with contextlib.suppress(AttributeError, OSError):  # where the C library is another than glibc
            ctypes.CDLL(None).malloc_trim(0)
        return done

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Called by :meth:`trigger_shutdown` and by the service."""
        self._transition('shutdown', self.stop, None, 'finalized')
        return self._transition('shutdown', self.release, None, 'finalized')

    def _too_late(self, change: Change) -> str:
        """Return why a parameter of that kind cannot change in the current state."""
        state = DOING.get(self._reached, self._reached)
        if change is Change.CONFIGURE and state != 'unconfigured':
            return f'is read when the node is configured, and the node is {state}; ' \
                   'deactivate it, clean it up and set it then'
        if change is Change.ACTIVATE and state not in ('unconfigured', 'inactive'):
            return f'is read when the node is activated, and the node is {state}; ' \
                   'deactivate it and set it then'
        return ''

    def _transition(self, verb: str, action: Callable[[], None], undo: Callable[[], None] | None,
                    reached: str) -> TransitionCallbackReturn:
        before, self._reached = self._reached, verb
        self.diagnostics.state(OK, DOING[verb])
        try:
            with _told(lambda text: self.diagnostics.state(OK, f'{DOING[verb]}: {text}')):
                action()
        except Exception as error:  # rclpy would swallow it silently
            self._failed(verb, error)
            if undo:
                try:
                    undo()
                except Exception as another:
                    self._failed(f'undo {verb}', another)
            self.failure, self._reached = error, before
            return FAILURE
        self.failure, self._reached = None, reached
        self.diagnostics.state(OK, reached)
        return SUCCESS

    def _failed(self, verb: str, error: Exception) -> None:
        if self.ending:
            return  # a failure is expected: the end has taken away what it needed
        self.get_logger().error(f'cannot {verb}: {error}')
        if not isinstance(error, MpnpError):
            self.get_logger().error(traceback.format_exc())
        self.diagnostics.state(ERROR, f'cannot {verb}: {error}')

    def _trigger(self, transition: str,
                 trigger: Callable[[], TransitionCallbackReturn]) -> TransitionCallbackReturn:
        """Run a transition; ConfigurationError if it is not possible now."""
        with self._claimed(transition):
            return trigger()

    @contextlib.contextmanager
    def _claimed(self, transition: str) -> Iterator[None]:
        """Hold the state lock; ConfigurationError if `transition` is not possible now."""
        if not self._changing.acquire(blocking=False):
            raise ConfigurationError(self._refusal(transition, DOING.get(self._reached, self._reached), ()))
        try:
            possible = {label for _, label, *_ in self._state_machine.available_transitions}
            if self.ending or transition not in possible:
                state = 'ending' if self.ending else self._state_machine.current_state[1]
                raise ConfigurationError(self._refusal(transition, state, () if self.ending else possible))
            yield
        finally:
            self._changing.release()

    @staticmethod
    def _refusal(transition: str, state: str, possible: Iterable[str]) -> str:
        return f'transition refused: {transition!r} is not possible in state {state!r}; possible: ' \
               f'{", ".join(sorted(possible)) or "none, until that has ended"}'

    def _serve_transitions(self) -> None:
        """Serve lifecycle transitions in a separate group, so that other services respond meanwhile."""
        service = self._service_change_state
        change_state = service.callback

        def guarded(request: Any, response: Any) -> Any:
            wanted = request.transition.label or next(
                (label for number, label, *_ in self._state_machine.transition_graph
                 if number == request.transition.id), str(request.transition.id))
            try:
                with self._claimed(wanted):
                    return change_state(request, response)
            except Exception as error:  # rclpy would let it end the executor
                self.get_logger().warning(str(error))
                response.success = False
                return response

        service.callback = guarded
        service.callback_group = MutuallyExclusiveCallbackGroup()
        service.callback_group.add_entity(service)


class PlainNode(_Ticking):
    """A node without a life cycle.

    values: the parameters.  diagnostics: counters and warnings.
    finish: ends the process; with an error, as a failure.  patience: seconds that the node may take to end.
    """

    patience = LEAVING

    def __init__(self, name: str, parameters: type[Options], **options: Any) -> None:
        super().__init__(name, **options)
        try:
            self.values = declare_parameters(self, parameters, self.changed)
        except MpnpError:
            self.destroy_node()
            raise
        self.diagnostics = Diagnostics(self, name)
        self.finish: Callable[..., None] = lambda error=None: None

    def begin(self) -> None:
        """Called when the executor runs."""

    def changed(self, name: str, value: object) -> None:
        """Called after a parameter has changed."""


def run_node(factory: Callable[[], ManagedNode | PlainNode], args: Sequence[str] | None = None) -> int:
    """Run the node that ``factory`` makes until a signal, its own end or a failure; return the exit code.

    A lifecycle node with the parameter ``autostart`` is configured and activated.  Exit code 0: ended in
    order, also by a signal.  1: it could not start, or a callback failed.  2: a parameter or a parameter file
    is wrong, or a disk is full, so that a restart does not help.  The log has the reason.  If work is still
    running that cannot be stopped, such as loading a model, the process ends here.
    """
    end = signals.End()
    with contextlib.suppress(AttributeError, OSError):  # where the C library is another than glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
    with signals.ending(end):
        try:
            rclpy.init(args=None if args is None else list(args),
                       signal_handler_options=SignalHandlerOptions.NO)
        except (RCLError, rclpy_implementation.UnknownROSArgsError) as error:
            get_logger('mpnp_ros').fatal(explain(error))
            return 2
        running = _Running(factory, end)
        running.start()
        end.wait()
        cut_off = threading.Timer(running.patience, running.cut_off)
        cut_off.daemon = True
        cut_off.start()
        code, whole = running.close()
        rclpy.try_shutdown()
        if not whole:
            signals.leave(code)
        cut_off.cancel()
    gc.freeze()  # or Python looks through all objects of torch before it ends: half a second
    return code


def set_threads(count: int) -> None:
    """Let PyTorch use ``count`` threads; 0: half of the available cores.

    Several processes that each use all cores slow each other down: for six images and a sweep on two busy
    cores, 430 ms of processor time with two threads and 85 ms with one.
    """
    import torch
    torch.set_num_threads(count or max(1, len(os.sched_getaffinity(0)) // 2))


class _PromptPool(ThreadPoolExecutor):
    """Threads that run callbacks; a short one is over when :meth:`submit` returns.

    The executor builds a wait set, for a millisecond, after each callback that it passes on, and again when
    that has ended.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a callback, and wait a moment for its end."""
        done = super().submit(fn, *args, **kwargs)
        wait((done,), PROMPT)
        return done


class _Executor(MultiThreadedExecutor):
    """An executor that tolerates entities destroyed while it waits for them, and ends in order."""

    def __init__(self, num_threads: int, *, context: Context | None = None) -> None:
        super().__init__(num_threads, context=context)
        self._executor = _PromptPool(num_threads)

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> Any:
        """As in rclpy; entities destroyed between two of its steps are omitted from the next round."""
        for _ in range(AGAIN):
            if self._is_shutdown or not self.context.ok():
                break
            with contextlib.suppress(InvalidHandle, RCLError):
                return super().wait_for_ready_callbacks(*args, **kwargs)
            time.sleep(.01)
        return super().wait_for_ready_callbacks(*args, **kwargs)

    def _take_timer(self, tmr: Any) -> Any:
        try:
            return super()._take_timer(tmr)  # type: ignore[no-untyped-call]  # rclpy does not annotate it
        except RCLError:  # cancelled since it became due
            return None

    def _take_subscription(self, sub: Any) -> Any:
        return self._taken(super()._take_subscription, sub, 'a message', 'topic')

    def _take_service(self, srv: Any) -> Any:
        return self._taken(super()._take_service, srv, 'a request', 'srv_name')

    def _take_client(self, client: Any) -> Any:
        return self._taken(super()._take_client, client, 'a response', 'srv_name')

    def _take_waitable(self, waitable: Any) -> Any:
        return self._taken(super()._take_waitable, waitable, 'an event', 'event_type')

    @staticmethod
    def _taken(take: Callable[[Any], Any], entity: Any, what: str, name: str) -> Any:
        """Take the work of an entity; an exception here would leave rclpy's callback group locked."""
        try:
            return take(entity)
        except InvalidHandle:
            return None
        except Exception as error:
            get_logger('mpnp_ros').warning(f'{what} of {getattr(entity, name, "")} cannot be read and is '
                                           f'dropped: {error}', throttle_duration_sec=5.)
            return None

    def end(self, spinning: threading.Thread, patience: float) -> bool:
        """Start no more callbacks; False if one still runs after ``patience`` seconds.

        rclpy's shutdown() does not wait for callbacks, and destroys what they use.
        """
        until = time.monotonic() + patience
        self._is_shutdown = True
        self.wake()
        spinning.join(patience)
        self._executor.shutdown(wait=False)
        threads = [spinning, *self._executor._threads]
        for thread in threads:
            thread.join(max(0., until - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            return False
        self.shutdown()
        return True


class _Running:
    """A running node: one thread creates and starts it, others run its callbacks."""

    def __init__(self, factory: Callable[[], ManagedNode | PlainNode], end: signals.End) -> None:
        self._factory, self._end = factory, end
        self._node: ManagedNode | PlainNode | None = None
        self._executor: _Executor | None = None
        self._spinning = threading.Thread(target=self._spin, name='executor', daemon=True)
        self._begun, self._for_ever = threading.Event(), threading.Event()
        self._failure: Exception | None = None

    def start(self) -> None:
        """Create and start the node; returns at once."""
        threading.Thread(target=self._begin, name='beginning', daemon=True).start()

    def finish(self, error: Exception | None = None) -> None:
        """Request the end; the first error determines the exit code."""
        if not self._end.asked:
            self._failure = error
        self._end.ask()

    @property
    def patience(self) -> float:
        """Seconds that the node may take to end."""
        return LEAVING if self._node is None else self._node.patience

    def close(self) -> tuple[int, bool]:
        """End the node; returns the exit code, and False if something is still running."""
        if isinstance(self._node, ManagedNode):
            self._node.ending = True
        whole = self._begun.wait(LOADING)
        node, executor = self._node, self._executor
        if not whole or node is None or executor is None:  # the thread that starts it goes on
            return _exit_code(self._failure), whole
        if isinstance(node, ManagedNode):
            whole &= node.close(LOADING)
        whole &= executor.end(self._spinning, LOADING if whole else .2)
        if whole:
            with contextlib.suppress(InvalidHandle):
                node.destroy_node()
        return _exit_code(self._failure), whole

    def cut_off(self) -> None:
        """Terminate the process: the node has not ended by itself."""
        get_logger('mpnp_ros').warning(f'still running {self.patience:g} s after the end was requested; '
                                       'terminating')
        signals.leave(_exit_code(self._failure))

    def _begin(self) -> None:
        """Start the node, and stay until the end: child processes are tied to the thread that starts them."""
        try:
            self._make_and_begin()
        finally:
            gc.enable()
            self._begun.set()
        self._for_ever.wait()

    def _make_and_begin(self) -> None:
        try:
            node = self._factory()
        except Exception as error:
            self._complain('cannot start', error)
            self.finish(_named(error))
            return
        log = _RosLog(node)
        LOG.setLevel(logging.INFO)
        LOG.addHandler(log)
        self._executor = _Executor(num_threads=4)
        self._executor.add_node(node)
        self._node = node
        self._spinning.start()
        if self._end.asked:
            return
        try:
            failure = self._let_begin(node)
        except Exception as error:
            self._complain('cannot begin', error)
            failure = error
        if failure is not None:
            self.finish(failure)

    def _let_begin(self, node: ManagedNode | PlainNode) -> Exception | None:
        """Start the node, a lifecycle node by configure and activate; return why that failed."""
        if isinstance(node, PlainNode):
            node.finish = self.finish
            node.begin()
            return None
        if not node.values.autostart:
            return None
        for trigger in (node.trigger_configure, node.trigger_activate):
            try:
                if not self._end.asked:
                    trigger()
            except ConfigurationError as error:
                get_logger('mpnp_ros').fatal(f'cannot start by itself: {error}; set autostart: false where a '
                                             'lifecycle manager does it')
                return error
            if node.failure is not None:
                return node.failure
        return None

    def _spin(self) -> None:
        assert self._executor is not None  # it is there before this thread starts
        try:
            self._executor.spin()
        except (ExternalShutdownException, ShutdownException):
            self.finish()
        except Exception as error:
            if self._end.asked:
                return
            get_logger('mpnp_ros').fatal(f'a callback failed: {error}\n{traceback.format_exc()}')
            self.finish(error)

    def _complain(self, what: str, error: Exception) -> None:
        if not self._end.asked:
            known = isinstance(_named(error), MpnpError)
            get_logger('mpnp_ros').fatal(_in_one_line(error) if known else
                                         f'{what}: {error}\n{traceback.format_exc()}')


class _RosLog(logging.Handler):
    """Forwards log records of code without ROS to the log of the node."""

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


class _Teller(logging.Handler):
    """Forwards log records of this thread to a function."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._tell, self._thread = tell, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record."""
        if threading.get_ident() == self._thread:
            self._tell(record.getMessage())


@contextlib.contextmanager
def _told(tell: Callable[[str], None]) -> Iterator[None]:
    """Call ``tell`` with the log records of the package on this thread."""
    teller = _Teller(tell)
    LOG.addHandler(teller)
    try:
        yield
    finally:
        LOG.removeHandler(teller)


def _named(error: Exception) -> Exception:
    """Return errors of rclpy about parameters or arguments as ConfigurationError."""
    wrong = (rclpy.exceptions.NameValidationException, rclpy.exceptions.ParameterException)
    return ConfigurationError(_in_one_line(error)) if isinstance(error, wrong) else error


def _in_one_line(error: Exception) -> str:
    return ' '.join(str(error).split())


def _exit_code(error: Exception | None) -> int:
    if error is None:
        return 0
    return 2 if isinstance(error, ConfigurationError | StorageError) else 1

"""Starts real nodes in real processes and talks to them; the fixture ``ros`` of conftest.py hands it out."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rclpy
from fork_server import ForkedProcess, ForkServer
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, ShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from mpnp_ros.transport import transport_environment

RCLError = rclpy_implementation.RCLError
PATIENCE = 60.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def isolated_environment(domain: int) -> dict[str, str]:
    """Variables that keep the nodes of a test process among themselves, in a domain of their own."""
    return {'ROS_DOMAIN_ID': str(domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_PYTHON_CHECK_FIELDS': '1', 'PYTHONUNBUFFERED': '1', 'OMP_NUM_THREADS': '1',
            **transport_environment()}


def wait_until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Return the first true value of ``condition``; fail naming ``what`` after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f'{what}: not within {timeout:g} s')
        time.sleep(0.02)
    return value


class Collected:
    """Messages of one topic in order of arrival."""

    def __init__(self, topic: str) -> None:
        self.topic, self.messages = topic, []

    def wait(self, count: int = 1, timeout: float = PATIENCE,
             where: Callable[[Any], bool] = lambda message: True) -> list[Any]:
        """Wait for ``count`` messages that satisfy ``where`` and return them."""
        def enough() -> list[Any] | None:
            matching = [message for message in list(self.messages) if where(message)]
            return matching if len(matching) >= count else None

        return wait_until(enough, f'{count} messages on {self.topic} ({len(self.messages)} came)', timeout)

    def counters(self, topic: str) -> dict[str, int]:
        """Return the counters of an input on /diagnostics, as its node publishes them from now on."""
        def tells(message: Any) -> bool:
            return any(pair.key == f'{topic} received' for pair in message.status[0].values)

        known = sum(map(tells, list(self.messages)))
        values = {pair.key: pair.value for pair in self.wait(known + 2, where=tells)[-1].status[0].values}
        return {name: int(values[f'{topic} {name}'])
                for name in ('received', 'encoded', 'superseded', 'rejected', 'waiting')}


class NodeProcess:
    """One node in its own process, its output kept."""

    def __init__(self, process: subprocess.Popen[str] | ForkedProcess) -> None:
        self._process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything written so far."""
        return ''.join(self.lines)

    @property
    def running(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    def wait_for_output(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until ``text`` is in the output."""
        try:
            wait_until(lambda: text in self.output, f'output {text!r}', timeout)
        except AssertionError as error:
            raise AssertionError(f'{error}; the output is:\n{self.output}') from None

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end of the process and return its exit code."""
        code = self._process.wait(timeout)
        self._reader.join(5)
        return code

    def stop(self, number: int = signal.SIGINT, timeout: float = PATIENCE) -> int:
        """Send a signal, wait, and return the exit code; kill the process where it does not end."""
        if self.running:
            self._process.send_signal(number)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.wait()
            raise AssertionError(f'runs on {timeout:g} s after signal {number}:\n{self.output}') from None

    def interrupt(self) -> None:
        """Ask for the end, and do not wait for it."""
        if self.running:
            self._process.send_signal(signal.SIGINT)

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append(line)


class RosHarness:
    """A node of the test's own, and the processes it has started."""

    def __init__(self, domain: int) -> None:
        self.environment = isolated_environment(domain)
        os.environ.update(self.environment)
        os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node('test', context=self._context, namespace='/test')
        self._executor = MultiThreadedExecutor(2, context=self._context)
        self._executor.add_node(self.node)
        self._group = ReentrantCallbackGroup()
        self._failures: list[Exception] = []
        self._spinning = threading.Thread(target=self._spin, daemon=True)
        self._spinning.start()
        self._processes: list[NodeProcess] = []
        self._forks: ForkServer | None = None
        self._entities: list[Callable[[], Any]] = []

    def start(self, module: str, *, name: str = '', namespace: str = '',
              parameters: Mapping[str, Any] | None = None, remap: Mapping[str, str] | None = None,
              environment: Mapping[str, str] | None = None, params_file: Path | None = None) -> NodeProcess:
        """Start ``python -m module`` with ROS arguments, e.g. ``start('mpnp_ros.nodes.encoder radar')``."""
        module, *words = module.split()
        rules = {'__node': name, '__ns': namespace, **(remap or {})}
        arguments = [part for old, new in rules.items() if new for part in ('-r', f'{old}:={new}')]
        arguments += [part for key, value in (parameters or {}).items()
                      for part in ('-p', f'{key}:={_as_yaml(value)}')]
        arguments += ['--params-file', str(params_file)] if params_file else []
        given = {**os.environ, **self.environment, **(environment or {})}
        if not self._forks:
            self._forks = ForkServer(given)
        if not self._forks.can_start(given):
            return self.run([sys.executable, '-m', module, *words, '--ros-args', *arguments], given)
        return self._keep(self._forks.start(module, [*words, '--ros-args', *arguments], given))

    def run(self, command: list[str], environment: Mapping[str, str]) -> NodeProcess:
        """Start a command with this environment and no other."""
        return self._keep(subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE,
                                           stderr=subprocess.STDOUT, text=True, errors='replace'))

    def collect(self, topic: str, kind: type, qos: QoSProfile | int = SENSOR) -> Collected:
        """Subscribe to ``topic`` and keep what comes."""
        collected = Collected(topic)
        subscription = self.node.create_subscription(kind, topic, collected.messages.append, qos,
                                                     callback_group=self._group)
        self._entities.append(lambda: self.node.destroy_subscription(subscription))
        return collected

    def publish_until(self, publish: Callable[[], Any], collected: Collected,
                      timeout: float = PATIENCE) -> None:
        """Call ``publish`` until something new comes on ``collected``.

        Discovery is not symmetric: a publisher may know a best-effort subscription that does not know
        it yet, and what is published then is lost.
        """
        end, before = time.monotonic() + timeout, len(collected.messages)
        while len(collected.messages) == before:
            publish()
            with contextlib.suppress(AssertionError):
                collected.wait(before + 1, 0.5)
            if time.monotonic() > end:
                raise AssertionError(f'nothing comes on {collected.topic} within {timeout:g} s')

    def publisher(self, topic: str, kind: type, qos: QoSProfile | int = 10) -> Any:
        """Create a publisher on ``topic``."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self._entities.append(lambda: self.node.destroy_publisher(publisher))
        return publisher

    def wait_for_subscriber(self, publisher: Any, count: int = 1) -> None:
        """Wait until ``count`` subscriptions have matched ``publisher``."""
        wait_until(lambda: publisher.get_subscription_count() >= count,
                   f'{count} subscribers of {publisher.topic_name}')

    def call(self, kind: type, service: str, request: Any, timeout: float = PATIENCE) -> Any:
        """Call a service and return its response."""
        future = self._client(kind, service, timeout).call_async(request)
        wait_until(future.done, f'response of {service}', timeout)
        return future.result()

    def change_state(self, node: str, transition: str) -> bool:
        """Ask a lifecycle node for a transition, e.g. ``change_state('/fusion', 'activate')``."""
        request = ChangeState.Request()
        request.transition.label = transition
        return self.call(ChangeState, f'{node}/change_state', request).success

    def state(self, node: str) -> str:
        """Return the label of a lifecycle node's state."""
        end = time.monotonic() + PATIENCE
        while True:
            try:  # the first response is lost where the node is slow
                return self.call(GetState, f'{node}/get_state', GetState.Request(), .5).current_state.label
            except AssertionError:
                if time.monotonic() > end:
                    raise AssertionError(f'{node} does not tell its state') from None

    def wait_for_state(self, node: str, label: str) -> None:
        """Wait until a lifecycle node is in the state ``label``."""
        wait_until(lambda: self.state(node) == label, f'{node} {label}')

    def mark(self) -> tuple[int, int]:
        """Return what :meth:`clean` takes to leave alone what is there now."""
        return len(self._processes), len(self._entities)

    def clean(self, mark: tuple[int, int] = (0, 0)) -> None:
        """Stop every process and remove every publisher, subscription and client made since ``mark``.

        The newest go first.  Raises AssertionError where a callback has raised meanwhile.
        """
        processes, self._processes = self._processes[mark[0]:], self._processes[:mark[0]]
        entities, self._entities = self._entities[mark[1]:], self._entities[:mark[1]]
        failures, self._failures = self._failures, []
        with contextlib.ExitStack() as left:  # where one fails, the others end all the same
            for process in processes:
                left.callback(process.stop)
            for process in processes:
                left.callback(process.interrupt)
            for remove in entities:
                left.callback(remove)
        if failures:
            raise AssertionError('a callback of the test failed') from failures[0]

    def close(self) -> None:
        """Leave the domain."""
        self.clean()
        if self._forks:
            self._forks.close()
        self._executor.shutdown()
        self._spinning.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _keep(self, process: subprocess.Popen[str] | ForkedProcess) -> NodeProcess:
        kept = NodeProcess(process)
        self._processes.append(kept)
        return kept

    def _client(self, kind: type, service: str, timeout: float) -> Any:
        for client in self.node.clients:
            if client.srv_name == service and client.srv_type is kind:
                return client
        client = self.node.create_client(kind, service, callback_group=self._group)
        self._entities.append(lambda: self.node.destroy_client(client))
        wait_until(client.service_is_ready, f'service {service}', timeout)
        time.sleep(0.3)  # for the node to discover the client, or it drops its first response
        return client

    def _spin(self) -> None:
        """Go on to the end: what one test's callback raises is that test's failure, and no other's."""
        while True:
            try:
                return self._executor.spin()
            except (ExternalShutdownException, ShutdownException):
                return None
            except (InvalidHandle, RCLError):  # destroyed while it was waited for
                time.sleep(.01)
            except Exception as error:
                self._failures.append(error)


def _as_yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return '[' + ', '.join(map(_as_yaml, value)) + ']'
    return f"'{value}'" if isinstance(value, str) else repr(value)

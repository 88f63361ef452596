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
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from mpnp_ros.transport import transport_environment

PATIENCE = 30.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def isolated_environment() -> dict[str, str]:
    """Variables that keep a test run's nodes among themselves, one domain for each test process."""
    return {'ROS_DOMAIN_ID': str(20 + os.getpid() % 80), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
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


class NodeProcess:
    """One node in its own process, its output kept."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True, errors='replace')
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

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append(line)


class RosHarness:
    """A node of the test's own, and the processes it has started."""

    def __init__(self) -> None:
        self.environment = isolated_environment()
        os.environ.update(self.environment)
        os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
        self._context = Context()
        rclpy.init(context=self._context, domain_id=int(self.environment['ROS_DOMAIN_ID']))
        self.node = rclpy.create_node('test', context=self._context, namespace='/test')
        self._executor = MultiThreadedExecutor(2, context=self._context)
        self._executor.add_node(self.node)
        self._group = ReentrantCallbackGroup()
        self._spinning = threading.Thread(target=self._spin, daemon=True)
        self._spinning.start()
        self._processes: list[NodeProcess] = []
        self._entities: list[Callable[[], Any]] = []

    def start(self, module: str, *, name: str = '', namespace: str = '',
              parameters: Mapping[str, Any] | None = None, remap: Mapping[str, str] | None = None,
              environment: Mapping[str, str] | None = None, params_file: Path | None = None) -> NodeProcess:
        """Start ``python -m module`` with ROS arguments, e.g. ``start('mpnp_ros.nodes.fusion')``."""
        rules = {'__node': name, '__ns': namespace, **(remap or {})}
        arguments = [part for old, new in rules.items() if new for part in ('-r', f'{old}:={new}')]
        arguments += [part for key, value in (parameters or {}).items()
                      for part in ('-p', f'{key}:={_as_yaml(value)}')]
        arguments += ['--params-file', str(params_file)] if params_file else []
        process = NodeProcess([sys.executable, '-m', module, '--ros-args', *arguments],
                              {**os.environ, **self.environment, **(environment or {})})
        self._processes.append(process)
        return process

    def collect(self, topic: str, kind: type, qos: QoSProfile | int = SENSOR) -> Collected:
        """Subscribe to ``topic`` and keep what comes."""
        collected = Collected(topic)
        subscription = self.node.create_subscription(kind, topic, collected.messages.append, qos,
                                                     callback_group=self._group)
        self._entities.append(lambda: self.node.destroy_subscription(subscription))
        return collected

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
        client = self.node.create_client(kind, service, callback_group=self._group)
        try:
            wait_until(client.service_is_ready, f'service {service}', timeout)
            future = client.call_async(request)
            wait_until(future.done, f'response of {service}', timeout)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change_state(self, node: str, transition: str) -> bool:
        """Ask a lifecycle node for a transition, e.g. ``change_state('/fusion', 'activate')``."""
        request = ChangeState.Request()
        request.transition.label = transition
        return self.call(ChangeState, f'{node}/change_state', request).success

    def state(self, node: str) -> str:
        """Return the label of a lifecycle node's state."""
        return self.call(GetState, f'{node}/get_state', GetState.Request()).current_state.label

    def wait_for_state(self, node: str, label: str) -> None:
        """Wait until a lifecycle node is in the state ``label``."""
        wait_until(lambda: self.state(node) == label, f'{node} {label}')

    def clean(self) -> None:
        """Stop every process and remove every publisher and subscription: called after each test."""
        processes, self._processes = self._processes, []
        entities, self._entities = self._entities, []
        for remove in entities:
            remove()
        for process in processes:
            if process.running:
                os.kill(process.pid, signal.SIGINT)
        for process in processes:
            process.stop(signal.SIGINT, 10)

    def close(self) -> None:
        """Leave the domain."""
        self.clean()
        self._executor.shutdown()
        self._spinning.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()


def _as_yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return '[' + ', '.join(map(_as_yaml, value)) + ']'
    return f"'{value}'" if isinstance(value, str) else repr(value)

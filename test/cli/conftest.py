"""What a fusion node says of itself, for commands that report it."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ros_harness import RosHarness


@pytest.fixture
def pretend_robot(monkeypatch) -> Callable[..., None]:
    """Lets commands talk to a robot that has these methods, by name, and no node."""
    class Pretender:
        def __init__(self, namespace: str, **options: object) -> None:
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            pass

    def pretend(**methods: Callable[..., object]) -> None:
        monkeypatch.setattr('mpnp_ros.client.robot.Robot', type('Robot', (Pretender,), methods))

    return pretend


@pytest.fixture
def report(ros: RosHarness) -> Iterator[Callable[..., Callable[[], None]]]:
    """Give a function: text -> what a fusion node says of itself, until it is called or the test ends."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    from mpnp_ros.nodes.worker import Ticker

    with contextlib.ExitStack() as left:
        def begin(text: str, level: int = 0, namespace: str = '/test', state: str = '') -> Callable[[], None]:
            node = rclpy.create_node('fusion', context=ros.node.context, namespace=namespace)
            left.callback(node.destroy_node)
            publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
            message = DiagnosticArray(status=[DiagnosticStatus(
                name=f'{namespace[1:]}/fusion: fusion', message=text, level=bytes([level]),
                values=[KeyValue(key='state', value=state or text)])])
            ticker = Ticker('report', .2, lambda: publisher.publish(message))
            left.callback(ticker.close)
            return ticker.close

        yield begin

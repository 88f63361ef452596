"""Calls that survive the node that should answer them."""
from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

import rclpy
from mpnp_ros.srv import ListLinks
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor

from mpnp_ros.errors import LinksError
from mpnp_ros.nodes import services
from mpnp_ros.nodes.services import RetryingClient, create_deferred_service

if TYPE_CHECKING:
    from rclpy.node import Node

pytestmark = pytest.mark.ros


@pytest.fixture
def node(ros, monkeypatch) -> Iterator[Node]:
    """Its clients ask again at once, and give up after seconds."""
    monkeypatch.setattr(services, 'RETRY_PERIOD', .3)
    monkeypatch.setattr(services, 'SERVICE_TIMEOUT', 2.)
    node = rclpy.create_node('patient', context=ros.node.context)
    yield node
    node.destroy_node()


def spin_until(node: Node, future: Future) -> None:
    """Let a node work until a future is done."""
    executor, end = SingleThreadedExecutor(context=node.context), time.monotonic() + 30
    executor.add_node(node)
    while not future.done() and time.monotonic() < end:
        executor.spin_once(.1)
    executor.shutdown()


def test_what_is_not_answered_is_asked_again(node, monkeypatch):
    monkeypatch.setattr(services, 'SERVICE_TIMEOUT', 30.)
    answered: Future[ListLinks.Response] = Future()
    answered.set_result(ListLinks.Response())
    answers, group = chain([Future()], repeat(answered)), ReentrantCallbackGroup()
    create_deferred_service(node, ListLinks, 'list_links', lambda request: next(answers), group)
    asked = RetryingClient(node, ListLinks, 'list_links', group).call(ListLinks.Request())
    spin_until(node, asked)
    assert asked.result(0) == ListLinks.Response()


def test_nobody_there_is_said_in_the_end(node):
    client = RetryingClient(node, ListLinks, 'list_links', ReentrantCallbackGroup())
    asked = client.call(ListLinks.Request())
    spin_until(node, asked)
    with pytest.raises(LinksError, match='no answer from service /list_links within'):
        asked.result(0)

"""`mpnp_ros.nodes.diagnostics`: what is logged of the warnings of a node."""
from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.nodes import diagnostics as module
from mpnp_ros.nodes.diagnostics import Concerns, Diagnostics

pytestmark = pytest.mark.ros


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.

    def monotonic(self) -> float:
        """Return the set time."""
        return self.now


@pytest.fixture
def logged(ros, monkeypatch):
    """Warnings of a node, a clock, and what the node has logged."""
    clock, lines = Clock(), []
    monkeypatch.setattr(module, 'time', clock)
    monkeypatch.setattr(module, 'PERIOD', 3600.)
    warnings = Diagnostics(ros.node, 'warnings')
    monkeypatch.setattr(warnings, '_log', lambda key, text: lines.append(text))
    yield warnings, clock, lines
    warnings.close()


def test_a_warning_that_repeats_is_logged_once_in_five_seconds(logged):
    warnings, clock, lines = logged
    for _ in range(12):
        warnings.warn('topic', 'no messages')
        warnings.publish()
        clock.now += 1.
    assert lines == ['no messages'] * 3
    assert warnings.counters() == {'topic': 12}


def test_a_text_that_changes_soon_is_logged_later_and_the_newest_counts(logged):
    warnings, clock, lines = logged
    for text in ('no publisher', 'two publishers', 'another type'):
        warnings.warn('topic', text)
        clock.now += 1.
    warnings.publish()
    assert lines == ['no publisher']
    clock.now += 2.
    warnings.publish()
    warnings.publish()
    assert lines == ['no publisher', 'another type']


def test_a_text_that_comes_back_is_not_logged_twice(logged):
    warnings, clock, lines = logged
    for text in ('no publisher', 'two publishers', 'no publisher'):
        warnings.warn('topic', text)
    clock.now += 10.
    warnings.publish()
    assert lines == ['no publisher']


def test_a_text_that_has_ended_meanwhile_is_not_logged(logged):
    warnings, clock, lines = logged
    concerns = Concerns(warnings)
    for key, end in (('topic', lambda: concerns.set('topic', '')), ('other topic', concerns.clear)):
        lines.clear()
        concerns.set(key, 'no publisher')
        concerns.set(key, 'two publishers')
        end()
        clock.now += 10.
        warnings.publish()
        assert lines == ['no publisher']

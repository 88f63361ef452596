"""What bringup adds to the logs of the nodes."""
from __future__ import annotations

import pytest

from mpnp_ros.cli.system import SILENCE, Complaints

SILENT = 'nothing comes on /camera/image_raw'


class Heard:
    """Complaints with a clock of the test's own, and what they write."""

    def __init__(self) -> None:
        self.now, self.lines = 0., []
        self.complaints = Complaints(lambda name, text: self.lines.append(f'{name} {text}'), lambda: self.now)

    def report(self, level: int, text: str) -> list[str]:
        """Report after a while; return what is new."""
        before, self.now = len(self.lines), self.now + SILENCE
        self.complaints.report('camera_encoder', level, text)
        return self.lines[before:]


@pytest.fixture
def heard() -> Heard:
    """Nothing yet."""
    return Heard()


def test_what_is_silent_is_said_once_and_when_it_is_in_order_again(heard):
    assert heard.report(0, 'active') == []
    assert heard.report(1, SILENT) == [f'camera_encoder {SILENT}']
    assert heard.report(1, SILENT) == []
    assert heard.report(0, 'active') == ['camera_encoder recovered: active']
    assert heard.report(0, 'active') == []


def test_numbers_may_change(heard):
    assert heard.report(1, 'front is silent (2.5 s)')
    assert not heard.report(1, 'front is silent (11 s)')
    assert heard.report(1, 'rear is silent (11 s)')


def test_what_the_log_says_is_not_said_again(heard):
    heard.complaints.log('camera_encoder', '[WARN] [1.5] [camera_encoder]: front is dark (mean 3 of 255)')
    assert not heard.report(1, 'front is dark (mean 4 of 255)')
    assert heard.report(1, f'front is dark (mean 4 of 255); {SILENT}') == [f'camera_encoder {SILENT}']


def test_lines_about_one_node_are_seconds_apart_and_the_last_one_counts(heard):
    assert heard.report(1, SILENT)
    heard.complaints.report('camera_encoder', 1, 'something else')
    assert len(heard.lines) == 1
    assert heard.report(1, 'something else') == ['camera_encoder something else']


def test_a_node_that_is_started_again_is_a_new_one(heard):
    assert heard.report(1, SILENT)
    heard.complaints.forget('camera_encoder')
    assert heard.report(1, SILENT)

"""`mpnp watch`: events are printed until one stops it."""
from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from builtin_interfaces.msg import Time
from mpnp_ros.msg import Answer, Event
from std_msgs.msg import Header

from mpnp_ros.cli import watch
from mpnp_ros.cli.main import main
from mpnp_ros.errors import RequestError

STAMP = Time(sec=12, nanosec=500_000_000)


def event(kind: int, **fields: object) -> Event:
    return Event(
        header=Header(stamp=STAMP),
        id='e',
        question='Is there a bus?',
        kind=kind,
        since=Time(sec=12),
        answer='yes',
        probability=0.75,
        used_modalities=['camera'],
        **fields,
    )


@pytest.fixture
def heard(pretend_robot):
    """The events that a robot tells, and the options it is asked with."""
    said = SimpleNamespace(events=[], asked={})

    def events(self, question, answers, choices, **options):
        said.asked = {'question': question, 'answers': answers, **options}
        for each in said.events:
            if isinstance(each, Exception):
                raise each
            yield each

    pretend_robot(events=events)
    return said


def test_events_are_printed_in_a_line_each(heard, capsys):
    heard.events = [event(Event.BEGINS), event(Event.LOST, reason='no sensor can be used')]
    assert main(['watch', 'tell me when a bus is ahead', '--hold', '2']) == 0
    assert capsys.readouterr().out.splitlines() == [
        '12.50  begins  Is there a bus? (yes, 0.75, camera)',
        '12.50  lost    Is there a bus?: no sensor can be used']
    assert heard.asked['hold'] == 2. and heard.asked['answers'] == ['yes']


def test_as_json(heard, capsys):
    heard.events = [event(Event.ENDS)]
    assert main(['watch', 'is it', '--answers', 'a', 'b', '--json']) == 0
    assert (
        json.loads(capsys.readouterr().out)
        == watch.as_dict(event(Event.ENDS))
        == {
            'id': 'e',
            'question': 'Is there a bus?',
            'kind': 'ends',
            'stamp': 12.5,
            'since': 12.0,
            'answer': 'yes',
            'probability': 0.75,
            'used_modalities': ['camera'],
            'reason': '',
        }
    )


def test_a_question_that_is_rejected_ends_with_1(heard, capsys):
    heard.events = [RequestError('too long', Answer())]
    assert main(['watch', 'is it']) == 1
    assert 'mpnp watch: too long' in capsys.readouterr().err

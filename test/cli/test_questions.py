"""`mpnp questions`: what stands is listed and withdrawn."""
from __future__ import annotations

import json
import math

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.msg import Question
from mpnp_ros.srv import ListQuestions

from mpnp_ros.cli.main import main

pytestmark = pytest.mark.ros


@pytest.fixture
def standing(ros):
    """Serve `list_questions` and heed withdrawals as the fusion node does; gives the questions by id."""
    from rclpy.callback_groups import ReentrantCallbackGroup

    questions = {name: Question(id=name, text=f'{name}?', standing=True, period=.5) for name in 'abc'}

    def respond(request, response):
        response.questions = list(questions.values())
        response.answered = [3] * len(questions)
        response.remaining = [math.nan] * len(questions)
        return response

    def heed(question):
        if question.standing and not question.text:
            questions.pop(question.id)

    group = ReentrantCallbackGroup()
    service = ros.node.create_service(ListQuestions, 'list_questions', respond, callback_group=group)
    subscription = ros.node.create_subscription(Question, 'question', heed, 10, callback_group=group)
    yield questions
    ros.node.destroy_service(service)
    ros.node.destroy_subscription(subscription)


def test_they_are_listed(standing, capsys):
    assert main(['questions', '--namespace', '/test']) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ['id', 'answered', 'lease', 'question'], *([name, '3', '-', f'{name}?'] for name in 'abc')]
    assert main(['questions', '--namespace', '/test', '--json']) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        'id': 'a', 'question': 'a?', 'choices': [], 'period': .5, 'answered': 3, 'remaining': None}


def test_they_are_withdrawn_by_id_or_all(standing, capsys):
    assert main(['questions', '--namespace', '/test', '--withdraw', 'b']) == 0
    assert list(standing) == ['a', 'c']
    assert main(['questions', '--namespace', '/test', '--withdraw', 'x', 'a']) == 2
    assert 'no standing question has the id x; there are a, c' in capsys.readouterr().err
    assert list(standing) == ['a', 'c']
    assert main(['questions', '--namespace', '/test', '--withdraw-all']) == 0
    assert not standing and 'no question stands' in capsys.readouterr().out

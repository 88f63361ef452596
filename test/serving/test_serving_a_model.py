"""The server on the real method with a tiny language model: what it says is what the method says."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.serving.answer_server import AnswerServer
from mpnp_ros.serving.answers import Answer, Status
from mpnp_ros.serving.link_versions import LinkVersion
from mpnp_ros.serving.modality_board import ModalityBoard
from mpnp_ros.serving.modality_state import PlugMode
from mpnp_ros.serving.questions import Question
from mpnp_ros.tokens import ModalityTokens

CLOSED = Question('is the car moving?', ('yes', 'no', 'car'))
FREE = Question('is the car moving?')
WIDTH = 8


@pytest.fixture(params=['mpnp', 'mpnp_published'])
def method(request, tiny_lm) -> Method:
    return create_method(request.param, tiny_lm())


@pytest.fixture
def server(method, clock) -> Iterator[AnswerServer]:
    board = ModalityBoard(clock, ('camera', 'lidar'), steady=clock)
    server = AnswerServer(method, board, max_new_tokens=5, without_sensors=lambda: True)
    yield server
    server.close()


def frame(modality: str, value: float, stamp_ns: int) -> ModalityTokens:
    values = np.tile(np.arange(WIDTH, dtype=np.float32), (3, 1)) * value
    return ModalityTokens(modality, modality, values, np.zeros(3, np.float32), stamp_ns=stamp_ns)


def plug(server: AnswerServer, method: Method, modality: str) -> None:
    server.install(LinkVersion(method.new_link(modality, modality, WIDTH, last=2))).result(10)


def ask(server: AnswerServer, question: Question) -> Answer:
    answer = server.ask(question).result(30)
    assert answer.status is (Status.OK if answer.used else Status.NO_SENSOR), answer.error
    return answer


def test_answers_equal_the_methods_own(server, method, clock):
    plug(server, method, 'camera')
    plug(server, method, 'lidar')
    tokens = {name: frame(name, 1., clock.now) for name in ('camera', 'lidar')}
    for entry in tokens.values():
        assert server.offer(entry)
    answer = ask(server, CLOSED)
    reply = method.answer(method.prepare(CLOSED.text, CLOSED.choices), tokens)
    assert (answer.text, answer.probabilities) == (reply.text, pytest.approx(reply.probabilities))
    assert [entry.modality for entry in answer.used] == list(reply.used) == ['camera', 'lidar']
    answer = ask(server, FREE)
    fragments = list(method.stream(method.prepare(FREE.text), tokens, 5))
    assert answer.text == ''.join(fragment.text for fragment in fragments).strip()
    mean = np.exp(np.mean(np.log([fragment.probability for fragment in fragments])))
    assert answer.confidence == pytest.approx(mean)


def test_unplugged_by_hand_or_stale_is_the_same_as_never_there(server, method, clock):
    plug(server, method, 'camera')
    without = ask(server, CLOSED).probabilities
    server.offer(frame('camera', 5., clock.now))
    assert ask(server, CLOSED).probabilities != without
    server.board.command('camera', PlugMode.UNPLUG)
    assert ask(server, CLOSED).probabilities == without
    server.board.command('camera', PlugMode.AUTO)
    clock.advance(4)
    assert ask(server, CLOSED).probabilities == without


def test_rollback_gives_the_very_same_answers(server, method, clock):
    plug(server, method, 'camera')
    server.offer(frame('camera', 5., clock.now))
    before = ask(server, CLOSED).probabilities
    plug(server, method, 'camera')
    assert ask(server, CLOSED).probabilities != before
    server.rollback('camera').result(10)
    assert ask(server, CLOSED).probabilities == before


def test_a_standing_question_reads_its_text_once(server, method, clock):
    plug(server, method, 'camera')
    for value in range(5):
        server.offer(frame('camera', value, clock.now))
        ask(server, CLOSED)
    assert (method.cache.misses, method.cache.hits) == (1, 4)


def test_a_question_too_long_for_the_model_is_rejected_in_words(server):
    answer = server.ask(Question('is the car moving? ' * 100)).result(30)
    assert answer.status is Status.REJECTED
    assert 'tokens' in answer.error

"""`mpnp review --teacher` against a small HTTP server in place of a vision model."""
from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from types import SimpleNamespace

import pytest
from PIL import Image

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.bags.labels import PERSON, TEACHER, read_labels
from mpnp_ros.cli import teacher as module
from mpnp_ros.cli.main import main
from mpnp_ros.cli.recording import Recording
from mpnp_ros.cli.teacher import Teacher, chosen
from mpnp_ros.errors import ConfigurationError, NotAnsweringError
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.tokens import SECOND

CHOICES = ['yes', 'no', '1', '2']


@pytest.fixture
def endpoint() -> Iterator[SimpleNamespace]:
    """A server with `replies`, each a text, an HTTP state, or seconds to wait; `requests` are kept."""
    state = SimpleNamespace(replies=[], requests=[], models=['llava'], url='')

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, {'data': [{'id': name} for name in state.models]})

        def do_POST(self) -> None:
            state.requests.append(json.loads(self.rfile.read(int(self.headers['Content-Length']))))
            said = state.replies.pop(0) if state.replies else 'yes'
            if isinstance(said, float):
                time.sleep(said)
            if isinstance(said, int):
                self.reply(said, {'error': 'model not found'})
            else:
                self.reply(200, said if isinstance(said, dict) else {
                    'choices': [{'message': {'content': str(said)}}]})

        def reply(self, code: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header('Content-Length', str(len(data)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(data)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    state.url = f'http://127.0.0.1:{server.server_port}/v1'
    thread = threading.Thread(target=server.serve_forever, args=(.02,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def drive(write_recording, toy_tokens):
    """Four answers about two seconds, with images of 1200 x 60 pixels."""
    file = BytesIO()
    Image.new('RGB', (1200, 60), (200, 30, 30)).save(file, 'JPEG')
    tokens = [replace(toy_tokens('camera', 0, second), stamp_ns=second * SECOND) for second in (1, 2)]
    return write_recording(tokens, [
        {'stamp_ns': second * SECOND, 'question': f'Is it {number}?', 'text': 'yes', 'choices': CHOICES,
         'confidence': .2 * second + .1 * number, 'probabilities': [.5, .2, .2, .1]}
        for second in (1, 2) for number in (1, 2)], file.getvalue())


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Pauses are short."""
    monkeypatch.setattr(module, 'PAUSE', .001)


def test_it_sees_the_images_and_its_labels_are_kept_apart(drive, endpoint, capsys):
    with Recording(drive) as recording:
        recording.labels.add([recording.answers[0].label('no', PERSON)])
    endpoint.replies = ['No.', 'unknown', 'well, yes or no']
    assert main(['review', str(drive), '--teacher', endpoint.url, '--quiet']) == 0
    said = capsys.readouterr().out
    assert 'llava: 1 answered, 1 cannot be told, 1 replies named no single answer' in said
    assert '1 by a person, 1 by a vision model' in said
    assert {(label.question, label.stamp_ns // SECOND): (label.answer, label.by)
            for label in read_labels(drive / 'labels.jsonl')} == {
        ('Is it 1?', 1): ('no', PERSON), ('Is it 2?', 1): ('no', TEACHER), ('Is it 1?', 2): ('', TEACHER)}
    request = endpoint.requests[0]
    name, image, question = request['messages'][1]['content']
    assert request['model'] == 'llava' and name['text'] == 'front:'
    assert question['text'] == 'Is it 2?\nAllowed answers: yes, no, 1, 2'
    head, _, data = image['image_url']['url'].partition(',')
    sent = Image.open(BytesIO(base64.b64decode(data)))
    assert head == 'data:image/jpeg;base64'
    assert sent.size[0] <= module.WIDTH and sent.getpixel((9, 9))[0] > 150

    assert main(['review', str(drive), '--teacher', endpoint.url, '--model', 'other', '--quiet']) == 0
    assert 'other: 1 answered' in capsys.readouterr().out and len(endpoint.requests) == 4
    assert main(['review', str(drive), '--teacher', endpoint.url, '--quiet']) == 0
    assert 'nothing is left to ask' in capsys.readouterr().out


def test_what_may_help_is_tried_again(endpoint, impatient):
    endpoint.replies = [503, 429, {'strange': 1}]
    teacher = Teacher(endpoint.url + '/chat/completions')
    with pytest.raises(NotAnsweringError, match='not that of a chat endpoint'):
        teacher.answer('Is it?', CHOICES, [])
    assert len(endpoint.requests) == 3


def test_labels_before_a_failure_are_kept(drive, endpoint, impatient, capsys):
    endpoint.replies = ['yes', 500, 500, 500, 500]
    assert main(['review', str(drive), '--teacher', endpoint.url, '--quiet']) == 2
    error = capsys.readouterr().err
    assert 'does not answer after 4 attempts: 500' in error and 'model not found' in error
    assert len(read_labels(drive / 'labels.jsonl')) == 1


def test_what_does_not_help_is_told_at_once(endpoint, impatient):
    endpoint.replies = [404]
    with pytest.raises(ConfigurationError, match=r'refuses: 404 .*model not found.*; check --teacher'):
        Teacher(endpoint.url, 'absent').answer('Is it?', CHOICES, [])
    endpoint.models = ['one', 'two']
    with pytest.raises(ConfigurationError, match=r'lists 2 models \(one, two\); choose one with --model'):
        Teacher(endpoint.url)
    with pytest.raises(ConfigurationError, match='give the URL of an API'):
        Teacher('localhost:11434')
    assert len(endpoint.requests) == 1


def test_silence_is_told(endpoint, impatient):
    endpoint.replies = [.5] * 4
    with pytest.raises(NotAnsweringError, match='no reply within 0.05 s'):
        Teacher(endpoint.url, 'slow', timeout=.05).answer('Is it?', CHOICES, [])
    with pytest.raises(NotAnsweringError, match=r'refused; start it'):
        Teacher('http://127.0.0.1:9/v1')


@pytest.mark.parametrize(('reply', 'answer'), [
    ('yes', 'yes'), (' **Not standing**.', 'not standing'), ('standing', 'standing'), ('Answer: 10', '10'),
    ('construction vehicle', 'construction vehicle'), ('Unknown', ''), ('3 or 4', None), ('', None),
    ('There is no way to tell whether a car is there', None), ('maybe', None), ('I have no idea', None),
    ('There is no way to know', None), ('No image provided', None), ('The answer is "yes".', 'yes')])
def test_the_choice_that_a_reply_names(reply, answer):
    assert chosen(reply, ANSWERS) == answer


def test_images_that_cannot_be_read_are_not_asked_about(write_recording, toy_tokens, endpoint, capsys):
    folder = write_recording([replace(toy_tokens('camera', 0, 1), stamp_ns=SECOND)], [
        {'stamp_ns': SECOND, 'question': 'Is it?', 'text': 'yes', 'choices': CHOICES, 'confidence': .5,
         'probabilities': [.5, .2, .2, .1]}])
    assert main(['review', str(folder), '--teacher', endpoint.url, '--quiet']) == 0
    assert '1 moments had no readable image' in capsys.readouterr().out and not endpoint.requests


def test_ctrl_c_ends_it_after_the_question(drive, endpoint, monkeypatch, capsys):
    @contextmanager
    def pressed():
        yield lambda: len(endpoint.requests) >= 2

    monkeypatch.setattr('mpnp_ros.cli.review.interruptible', pressed)
    assert main(['review', str(drive), '--teacher', endpoint.url, '--quiet']) == 0
    assert '2 answered' in capsys.readouterr().out

"""The page of `mpnp review --web`, through the test client of Flask."""
from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
pytest.importorskip('flask', reason='Flask is not installed')

from mpnp_ros.bags.labels import PERSON, TEACHER, read_labels
from mpnp_ros.cli import review_web
from mpnp_ros.cli.main import main
from mpnp_ros.cli.recording import Recording
from mpnp_ros.tokens import SECOND

CHOICES = ['yes', 'no', '1', '2', '<b>']
QUESTION = 'Are there any <i>cars</i>?'


@pytest.fixture
def drive(write_recording, toy_tokens):
    tokens = [replace(toy_tokens('camera', 0, second), stamp_ns=second * SECOND) for second in (1, 2)]
    return write_recording(tokens, [
        {'stamp_ns': second * SECOND, 'question': QUESTION, 'text': 'yes', 'confidence': .3 * second,
         'choices': CHOICES, 'probabilities': [.3 * second, .1, .05, .02, .01]} for second in (1, 2)])


@pytest.fixture
def browser(drive):
    with Recording(drive) as recording:
        yield review_web.create_app(recording).test_client()


def token_in(page: str) -> str:
    return re.search(r'name="token" value="([^"]+)"', page)[1]


def test_answers_are_judged_one_after_the_other(browser, drive):
    first = browser.get('/', follow_redirects=True)
    assert first.request.path == '/answers/0' and '0 of 2 reviewed, number 1' in first.text
    assert '&lt;i&gt;cars&lt;/i&gt;' in first.text and '<i>cars' not in first.text
    assert 'rests on camera' in first.text and '&lt;b&gt;' in first.text
    assert re.findall(r'value="(\w+)"[^>]*class="robot"', first.text) == ['yes']
    assert browser.get('/images/1000000000_front.jpg').data == b'\xff\xd8\xff image'
    token = token_in(first.text)
    second = browser.post('/answers/0', data={'answer': 'no', 'token': token}, follow_redirects=True)
    assert second.request.path == '/answers/1' and '1 of 2 reviewed, number 2' in second.text
    last = browser.post('/answers/1', data={'answer': review_web.SKIP, 'token': token}, follow_redirects=True)
    assert 'All answers are reviewed' in last.text
    assert [(label.stamp_ns, label.answer, label.by) for label in read_labels(drive / 'labels.jsonl')] == [
        (SECOND, 'no', PERSON), (2 * SECOND, '', PERSON)]
    assert 'person said: no' in browser.get('/answers/0').text


def test_only_the_page_itself_can_judge_and_only_with_a_choice(browser, drive):
    token = token_in(browser.get('/answers/0').text)
    for path, form, code in (('/answers/0', {'answer': 'no'}, 403),
                             ('/answers/0', {'answer': 'no', 'token': 'x'}, 403),
                             ('/answers/0', {'answer': 'maybe', 'token': token}, 400),
                             ('/answers/0', {'token': token}, 400),
                             ('/answers/9', {'answer': 'no', 'token': token}, 404)):
        assert browser.post(path, data=form).status_code == code
    assert browser.get('/answers/9').status_code == 404
    (drive / 'secret.txt').write_text('x')
    for name in ('../secret.txt', '%2e%2e%2fsecret.txt', '..%2fsecret.txt'):
        assert browser.get(f'/images/{name}').status_code in (308, 404)
        assert browser.get(f'/images/{name}').text != 'x'
    assert not (drive / 'labels.jsonl').exists()


def test_a_page_under_another_name_is_refused(drive):
    with Recording(drive) as recording:
        own, named, open_to_all = (review_web.create_app(recording, host=host).test_client()
                                   for host in ('127.0.0.1', 'robot.local', '0.0.0.0'))
        for browser, base, code in ((own, 'http://evil.example:8470', 403), (own, 'http://[::1]:8470', 200),
                                    (own, 'http://localhost', 200), (named, 'http://robot.local:80', 200),
                                    (named, 'http://evil.example', 403), (open_to_all, 'http://any', 200)):
            assert browser.get('/answers/0', base_url=base).status_code == code, base


def test_a_judgement_that_cannot_be_stored_is_asked_again(drive):
    with Recording(drive) as recording:
        browser = review_web.create_app(recording).test_client()
        token = token_in(browser.get('/answers/0').text)
        recording.labels.path = drive / 'absent' / 'labels.jsonl'
        reply = browser.post('/answers/0', data={'answer': '', 'token': token})
        assert reply.status_code == 507 and 'cannot be written' in reply.text
        assert '0 of 2 reviewed' in browser.get('/', follow_redirects=True).text


def test_what_a_teacher_said_is_shown_and_still_asked(drive):
    with Recording(drive) as recording:
        recording.labels.add([recording.answers[0].label('no', TEACHER)])
        browser = review_web.create_app(recording, limit=1).test_client()
        assert '0 of 1 reviewed' in browser.get('/', follow_redirects=True).text


def test_the_page_is_served_on_this_machine_until_ctrl_c(drive):
    command = [sys.executable, '-m', 'mpnp_ros.cli.main', 'review', str(drive), '--web', '--port', '0']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r'http://127\.0\.0\.1:\d+/', process.stdout.readline())[0]
        with urllib.request.urlopen(address) as page:
            assert b'0 of 2 reviewed' in page.read()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0 and '0 of 2 answers are labelled' in rest


def test_a_port_in_use_and_a_missing_flask_are_named(drive, monkeypatch, capsys):
    import socket

    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(['review', str(drive), '--web', '--port', port]) == 2
        assert f'no page can be served on 127.0.0.1:{port}' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, 'flask', None)
    assert main(['review', str(drive), '--web']) == 2
    assert 'Flask is not installed' in capsys.readouterr().err

"""What `mpnp ask` prints."""
from __future__ import annotations

import json
import math
import re
from argparse import Namespace
from itertools import chain, repeat
from threading import Event, Thread
from types import SimpleNamespace

import pytest
from mpnp_ros.msg import Counted, Grounding

from mpnp_ros.cli import ask
from mpnp_ros.cli.ask import StreamPrinter, as_dict, describe, describe_counted, show
from mpnp_ros.cli.main import main
from mpnp_ros.cli.session import wait_for
from mpnp_ros.client import AsyncRobot, async_robot, node_reports
from mpnp_ros.client.node_reports import NodeReports
from mpnp_ros.errors import NotAnsweringError

PATIENCE = 30.


def answer(**changes: object) -> SimpleNamespace:
    """An answer that rests on a camera, as the message has it."""
    stamp = SimpleNamespace(sec=12, nanosec=500_000_000)
    fields = {
        'id': 'q1', 'question': 'moving?', 'status': 0, 'error': '', 'text': 'yes', 'confidence': .75,
        'choices': ['yes', 'no'], 'probabilities': [.75, .25], 'used_modalities': ['camera'],
        'modality_stamps': [stamp], 'modality_ages': [.125], 'missing_modalities': ['lidar'],
        'concerns': [], 'counted': [], 'header': SimpleNamespace(stamp=stamp), 'links_version': 'v3',
        'method': 'mpnp', 'latency': .5,
        'compute_duration': .25, 'modality_influences': [], 'modality_supports': [],
        'sensor_influence': 0., 'text_alone': '', 'text_alone_confidence': 0., 'grounding': []}
    return SimpleNamespace(**{**fields, **changes})


def test_description():
    assert describe(answer()) == \
        'confidence 0.75, rests on camera (0.12 s old); missing lidar, took 0.50 s'
    assert 'rests on camera (age unknown);' in describe(answer(modality_ages=[math.nan]))
    blind = answer(used_modalities=[], modality_ages=[], missing_modalities=[])
    assert 'rests on no sensor,' in describe(blind)


def test_what_lowers_the_worth_of_an_answer_stands_below_it():
    assert describe(answer(concerns=['front: no calibration', 'front: not mounted'])).splitlines()[1:] == \
        ['  but front: no calibration', '  but front: not mounted']


def test_what_was_counted_is_said_in_one_line():
    left = Counted(modality='camera', direction='front left', reach=10., sort='parked car', expected=2.25,
                   none=.1, covered=.9)
    assert describe_counted(left) == \
        '2.2 of parked car to the front left within 10 m by camera (none: 10%; seen: 90%)'
    around = Counted(reach=math.inf, sort='pedestrian', expected=.5, none=.6, covered=1.)
    assert describe_counted(around) == \
        '0.5 of pedestrian all around by all sensors together (none: 60%; seen: 100%)'


def test_influence_and_grounding_are_said_in_words(capsys):
    seen = answer(modality_influences=[.125], modality_supports=[.5], sensor_influence=.5, text_alone='no',
                  text_alone_confidence=.25, grounding=[
                      Grounding(modality='camera', source='front', azimuth=math.pi / 2, distance=12.,
                                sort='car', expected=.875, weight=.75, box=[1., 2., 3., 4.]),
                      Grounding(modality='camera', source='front', azimuth=math.nan, distance=math.nan,
                                sort='car', weight=.125)])
    said = ('influence of the sensors 0.50, of camera 0.12 (by itself 0.50); the text alone says no (0.25)')
    assert describe(seen).splitlines()[1] == f'  {said}'
    seen.sensor_influence = .01
    assert describe(seen).splitlines()[1].startswith('  guessed, influence of the sensors 0.01')
    show(seen, as_json=False, verbose=True)
    assert capsys.readouterr().out.splitlines()[-1] == (
        '  rests on camera front (88%): 0.9 car at +90 deg, 12 m (75%); 0.0 car in no direction (12%)')
    told = as_dict(seen)
    assert told['influence']['modalities'] == {'camera': .125} and told['grounding'][1]['azimuth'] is None
    assert as_dict(answer())['influence'] is None


def test_json_has_seconds_and_no_nan(capsys):
    show(answer(confidence=math.nan), as_json=True)
    data = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert data['confidence'] is None
    assert data['probabilities'] == {'yes': .75, 'no': .25}
    assert data['used_modalities'] == {'camera': {'stamp': 12.5, 'age': .125}}
    assert data == as_dict(answer(confidence=math.nan))


def test_a_stream_shows_each_part_once(capsys):
    printer = StreamPrinter()
    for text in ('a ca', 'a car', 'a car'):
        printer.update(text)
    show(answer(text='a car ahead'), as_json=False, printer=printer)
    assert capsys.readouterr().out.startswith('a car ahead\n  confidence')


def test_a_text_that_is_taken_back_starts_a_new_line(capsys):
    printer = StreamPrinter()
    printer.update('a bus')
    printer.update('a car')
    assert capsys.readouterr().out == 'a bus\na car'


def test_what_the_question_alone_suggests_is_called_so(capsys):
    show(answer(status=3, error='no sensor can be used', text='no', confidence=0.), as_json=False)
    captured = capsys.readouterr()
    assert captured.err == 'mpnp ask: no sensor can be used\n'
    assert captured.out == '  the question alone suggests: no\n'


@pytest.mark.parametrize('options, words', [
    (['--timeout', '0'], '0 is not a number above 0'), (['--timeout', 'nan'], 'nan is not a number above 0'),
    (['--timeout', '-1'], '-1 is not'), (['--period', '-1'], '-1 is not a number >= 0'),
    (['--max-new-tokens', '-1'], '-1 is not a whole number'),
    (['--max-new-tokens', '5000000000'], 'from 0 to'),
    (['--timeout', 'soon'], 'soon is not a number'),
    (['--refuse-below', '1.5'], '1.5 is not a number from 0 to 1'), (['--max-age', '-1'], '-1 is not'),
])
def test_wrong_values_are_one_line_and_exit_code_2(options, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['ask', 'moving?', *options])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('name', ['robot-1', 'bad ns!', '1st', 'a//b', 'ä'])
def test_a_namespace_that_ros_does_not_allow_is_one_line(name, capsys):
    assert main(['ask', 'moving?', '--namespace', name]) == 2
    assert capsys.readouterr().err.startswith(f'mpnp ask: namespace {name}: letters, digits and _ only')


class FusionDouble:
    """Answers goals of `ask_stream` on an executor of its own; an answer may be a function.

    Answers are given in turn, the last one again and again: a goal whose response was lost is sent again.
    ended: set when no answer is wanted any more.
    """

    def __init__(self, ros, answers):
        import rclpy
        from mpnp_ros.action import Ask
        from rclpy.action import ActionServer
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self._answers, self._result, self.ended = chain(answers, repeat(answers[-1])), Ask.Result, Event()
        self._context = Context()
        rclpy.init(context=self._context, domain_id=int(ros.environment['ROS_DOMAIN_ID']))
        self._node = rclpy.create_node('fusion_double', context=self._context, namespace='/test')
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._server = ActionServer(self._node, Ask, 'ask_stream', self._answer)
        self._spinning = Thread(target=self._spin)

    def __enter__(self):
        self._spinning.start()

    def __exit__(self, *error):
        import rclpy

        self.ended.set()
        self._spinning.join()
        self._executor.shutdown()
        self._server.destroy()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _spin(self):
        while not self.ended.is_set():
            self._executor.spin_once(.05)

    def _answer(self, handle):
        answer = next(self._answers)
        answer = answer() if callable(answer) else answer
        handle.succeed()
        return self._result(answer=answer)


@pytest.mark.ros
@pytest.mark.parametrize('status, code', [(0, 0), (1, 1), (2, 1), (3, 3), (5, 5)])
def test_exit_codes(ros, capsys, monkeypatch, status, code):
    from mpnp_ros.msg import Answer

    monkeypatch.setattr(async_robot, 'REPORT', .1)
    with FusionDouble(ros, [Answer(status=status, error='because' if status else '', text='yes')]):
        assert main(['ask', 'moving?', '--namespace', '/test', '--timeout', '30', '--json']) == code
    assert json.loads(capsys.readouterr().out)['status'] == status


@pytest.fixture
def rejecting(ros, monkeypatch):
    """A fusion node that rejects the question until that has been heard, then answers yes."""
    from mpnp_ros.msg import Answer

    heard, is_starting = [], AsyncRobot._is_starting

    async def note(robot):
        heard.append(robot)
        return await is_starting(robot)

    monkeypatch.setattr(async_robot, 'REPORT', PATIENCE)
    monkeypatch.setattr(AsyncRobot, '_is_starting', note)
    with FusionDouble(ros, [lambda: Answer(text='yes') if heard else
                            Answer(status=1, error='fusion is not configured')]):
        yield


@pytest.mark.ros
def test_while_the_fusion_node_is_starting_the_question_is_asked_again(rejecting, report, capsys):
    report('configuring: loading the language model')
    assert main(['ask', 'moving?', '--namespace', '/test', '--timeout', '30']) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith('yes')
    assert 'the fusion node is starting: configuring: loading the language model; waiting' in captured.err


@pytest.mark.ros
def test_a_warning_of_the_fusion_node_does_not_hide_that_it_is_starting(rejecting, report, capsys):
    """The rejection of the question itself is one."""
    report('fusion is not configured', level=1, state='configuring')
    assert main(['ask', 'moving?', '--namespace', '/test', '--timeout', '30']) == 0
    assert 'the fusion node is starting: configuring; waiting' in capsys.readouterr().err


@pytest.mark.ros
def test_a_long_wait_for_the_fusion_node_is_said(ros, capsys, monkeypatch):
    monkeypatch.setattr(async_robot, 'NOTICE_AFTER', .1)
    monkeypatch.setattr(node_reports, 'HEARD_WITHIN', .1)
    assert main(['ask', 'moving?', '--timeout', '3', '--namespace', '/nowhere']) == 2
    waiting, ended = capsys.readouterr().err.splitlines()
    assert waiting.startswith('mpnp ask: no node of mpnp_ros runs in namespace /nowhere')
    assert re.search('; waiting for [1-3] s$', waiting)
    assert 'waiting' not in ended


@pytest.mark.ros
def test_where_nothing_runs_it_is_said(ros, capsys, monkeypatch):
    monkeypatch.setattr(node_reports, 'HEARD_WITHIN', .1)
    assert main(['ask', 'moving?', '--timeout', '.1', '--namespace', '/nowhere']) == 2
    assert 'no node of mpnp_ros runs in namespace /nowhere' in capsys.readouterr().err


@pytest.mark.ros
def test_a_fusion_node_that_has_failed_is_said(report, capsys, monkeypatch):
    monkeypatch.setattr(node_reports, 'HEARD_WITHIN', PATIENCE)
    report('cannot configure: no such model', level=2, namespace='/broken')
    assert main(['ask', 'moving?', '--timeout', '.1', '--namespace', '/broken']) == 2
    assert 'the fusion node has failed: cannot configure: no such model' in capsys.readouterr().err


@pytest.mark.ros
def test_a_fusion_node_that_dies_while_it_answers_is_noticed(ros, report, monkeypatch):
    from mpnp_ros.msg import Answer

    heard = []
    monkeypatch.setattr(async_robot, 'SILENT_FUSION', 1.)
    monkeypatch.setattr(async_robot, 'NodeReports',
                        lambda *where: heard.append(NodeReports(*where)) or heard[-1])
    stop = report('active')

    def die() -> Answer:
        wait_for(lambda: heard[0]['fusion'], PATIENCE, 'the asker has not heard that it lives')
        stop()
        double.ended.wait(PATIENCE)
        return Answer()

    double = FusionDouble(ros, [die])
    with double, pytest.raises(NotAnsweringError, match='has gone before it answered'):
        ask.run(Namespace(namespace='/test', question='moving?', choices=[], standing=False, period=0.,
                          max_new_tokens=0, timeout=30., json=True, max_age=0., require=[],
                          refuse_below=0., pictures=None))


def test_an_error_goes_to_stderr(capsys):
    show(answer(status=1, error='the queue is full; ask later'), as_json=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ('', 'mpnp ask: the queue is full; ask later\n')

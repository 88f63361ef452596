"""What `mpnp status` prints."""
from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from mpnp_ros.cli import status
from mpnp_ros.cli.main import main
from mpnp_ros.cli.status import DOING, STATES, as_dict, show, usable
from mpnp_ros.client import node_reports
from mpnp_ros.client.node_reports import OK, WARN, NodeReport


def states(**changes: object) -> dict[str, SimpleNamespace]:
    """A report on one modality, as the message has it."""
    fields = {'modality': 'camera', 'state': 2, 'plugged': True, 'pinned': False, 'rate': 10., 'age': .05,
              'quality': math.nan, 'links_version': 'v3', 'encoder': 'camera-1', 'detail': ''}
    return {'camera': SimpleNamespace(**{**fields, **changes})}


def adaptation(**changes: object) -> SimpleNamespace:
    """What the adaptation node says while it trains, as the message has it."""
    fields = {'state': 2, 'decision': 'lidar is healthy and has no links', 'modalities': ['lidar'],
              'supervision': 'distilled', 'step': 30, 'steps': 300, 'loss': .5, 'accuracy': math.nan,
              'start_accuracy': .25, 'duration': 12., 'remaining': 78., 'macs': 1e12, 'memory': 600_000_000,
              'labelled_questions': 40, 'frames': 8}
    return SimpleNamespace(**{**fields, **changes})


def test_plain_data():
    assert as_dict(states()) == {'camera': {
        'state': 'healthy', 'plugged': True, 'pinned': False, 'rate': 10., 'age': .05, 'quality': None,
        'links_version': 'v3', 'encoder': 'camera-1', 'detail': ''}}


def test_table(capsys):
    show(states(pinned=True, plugged=False), as_json=False)
    text = capsys.readouterr().out
    for part in ('camera', 'healthy', 'no, by hand', '10.00 Hz', '0.05 s'):
        assert part in text


def test_what_answers_rest_on_and_why_not_stands_below_in_whole_lines(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    show(states(), as_json=False)
    assert 'answers rest on: camera' in capsys.readouterr().out
    reason = 'no image topic found; set image_topic of camera_encoder'
    report = NodeReport('camera_encoder', WARN, reason, 0.)
    show(states(state=4, detail='no tokens for 3.0 s'), False, None, [report])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ['no sensor can be used', 'camera: no tokens for 3.0 s',
                          f'camera_encoder: warning: {reason}']


@pytest.mark.parametrize('changes', [
    {'state': 0}, {'state': 4}, {'plugged': False}, {'links_version': ''}, {'age': math.nan}])
def test_what_cannot_be_used_is_not_said_to_be_usable(changes):
    assert usable(states()) == ['camera'] and usable(states(**changes)) == []


def test_what_the_adaptation_node_is_doing(capsys):
    show(states(), False, adaptation())
    text = ' '.join(capsys.readouterr().out.split())
    for part in ('training, lidar is healthy', 'lidar, distilled, step 30 of 300', '25.0 % -> -',
                 '78 s left'):
        assert part in text
    show(states(), False, adaptation(state=0, decision=''))
    assert 'adaptation: idle (40 questions on 8 frames kept)' in capsys.readouterr().out


def test_json_has_the_adaptation_beside_the_modalities(capsys):
    show(states(), True, adaptation())
    data = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (data['camera']['state'], data['adaptation']['state']) == ('healthy', 'training')
    assert (data['adaptation']['accuracy'], data['adaptation']['steps']) == (None, 300)


def test_the_states_are_those_of_the_messages():
    messages = pytest.importorskip('mpnp_ros.msg', reason='the messages are not built')
    for message, names in ((messages.ModalityState, STATES), (messages.Adaptation, DOING)):
        assert [getattr(message, name.upper()) for name in names] == list(range(len(names)))


def test_what_a_node_is_doing_while_it_starts(capsys):
    reports = [NodeReport('fusion', OK, 'configuring', 0., 'configuring'),
               NodeReport('lidar_encoder', OK, 'active', 0., 'active')]
    show(states(), False, None, reports)
    assert capsys.readouterr().out.splitlines()[-1] == 'fusion: configuring'


@pytest.mark.ros
def test_while_the_fusion_node_is_starting_it_is_waited_for(ros, report, capsys, monkeypatch):
    from mpnp_ros.msg import ModalityState, ModalityStates
    from rclpy.qos import DurabilityPolicy, QoSProfile

    monkeypatch.setattr(node_reports, 'HEARD_WITHIN', 30.)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros.publisher('modalities', ModalityStates, latched).publish(
        ModalityStates(modalities=[ModalityState(modality='radar')]))
    report('no links', level=1, state='configuring: loading')
    assert main(['status', '--namespace', '/test', '--timeout', '1']) == 2
    assert 'the fusion node is starting: configuring: loading; try again' in capsys.readouterr().err


@pytest.mark.ros
def test_latched_reports_of_both_nodes_are_shown(ros, capsys, monkeypatch):
    from mpnp_ros.msg import Adaptation, ModalityState, ModalityStates
    from rclpy.qos import DurabilityPolicy, QoSProfile

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros.publisher('modalities', ModalityStates, latched).publish(
        ModalityStates(modalities=[ModalityState(modality='radar')]))
    monkeypatch.setattr(node_reports, 'HEARD_WITHIN', .1)
    monkeypatch.setattr(status, 'ADAPTATION_TIMEOUT', 30.)
    ros.publisher('adaptation', Adaptation, latched).publish(Adaptation(decision='all is well'))
    assert main(['status', '--json', '--namespace', '/test', '--timeout', '30']) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data['radar']['state'], data['adaptation']['decision']) == ('absent', 'all is well')

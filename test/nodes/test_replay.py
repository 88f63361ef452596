"""The replay node as a process: what the bag holds arrives, in order, with its clock."""
from __future__ import annotations

import time

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from mpnp_ros.bags.messages import message_types

pytestmark = pytest.mark.ros
MODULE = 'mpnp_ros.nodes.replay'
BEGIN = 1_600_000_000 * 10 ** 9
STEP = 50_000_000
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
FOREVER = QosTime(2147483647, 4294967295)


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """One second of texts, an image, a latched transform, and a type that is not installed."""
    types = message_types()
    types.register(get_types_from_msg('uint8 level', 'absent_msgs/msg/Fuel'))
    latched = Qos(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, FOREVER,
                  FOREVER, QosLiveliness.AUTOMATIC, FOREVER, False)
    folder = tmp_path_factory.mktemp('replay') / 'bag'
    texts = types.types['std_msgs/msg/String']
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        def add(topic, kind, message, stamp, **options):
            writer.write(connections.setdefault(topic, writer.add_connection(
                topic, kind, typestore=types, **options) if topic not in connections else None), stamp,
                types.serialize_cdr(message, kind))

        connections = {}
        add('/tf_static', 'tf2_msgs/msg/TFMessage', types.types['tf2_msgs/msg/TFMessage']([]), BEGIN,
            offered_qos_profiles=[latched])
        for number in range(20):
            add('/text', 'std_msgs/msg/String', texts(str(number)), BEGIN + number * STEP)
        add('/fuel', 'absent_msgs/msg/Fuel', types.types['absent_msgs/msg/Fuel'](3), BEGIN + STEP)
    return folder


def set_parameter(ros, name, kind, **value):
    change = Parameter(name=name, value=ParameterValue(type=kind, **value))
    request = SetParameters.Request(parameters=[change])
    return ros.call(SetParameters, '/replay/set_parameters', request).results[0]


def test_a_bag_is_played_in_order_with_its_clock_and_ends(ros, bag):
    texts = ros.collect('/text', String, 50)
    transforms = ros.collect('/tf_static', TFMessage, LATCHED)
    clock = ros.collect('/clock', Clock)
    process = ros.start(MODULE, parameters={'bag': str(bag), 'wait_for': ['/text']})
    assert process.wait() == 0
    received = [int(message.data) for message in texts.messages]
    assert received == list(range(20))[-len(received):] and len(received) >= 15
    assert len(transforms.messages) == 1
    ticks = [message.clock.sec * 10 ** 9 + message.clock.nanosec for message in clock.messages]
    assert ticks == sorted(ticks)
    assert ticks[0] >= BEGIN and BEGIN + 19 * STEP - 10 ** 8 <= ticks[-1] <= BEGIN + 20 * STEP + 10 ** 9
    assert '/fuel skipped: absent_msgs/msg/Fuel is not installed; install absent_msgs' in process.output
    assert 'the bag is over; /clock has stopped' in process.output


def test_it_pauses_resumes_changes_rate_and_loops(ros, bag):
    texts = ros.collect('/text', String, 50)
    clock = ros.collect('/clock', Clock)
    process = ros.start(MODULE, parameters={'bag': str(bag), 'paused': True, 'loop': True, 'rate': 0.5,
                                            'topics': ['/text']})
    ticks = clock.wait(4)
    assert texts.messages == []
    assert ticks[0] == ticks[-1]
    before = len(clock.messages)
    time.sleep(2)
    assert len(clock.messages) - before <= 10, 'unchanged time is not published at the full rate'
    late = ros.collect('/clock', Clock)
    assert late.wait(1)[0] == ticks[0], 'but who comes later hears it'
    assert not set_parameter(ros, 'rate', ParameterType.PARAMETER_DOUBLE, double_value=0.0).successful
    assert set_parameter(ros, 'rate', ParameterType.PARAMETER_DOUBLE, double_value=10.0).successful
    assert set_parameter(ros, 'paused', ParameterType.PARAMETER_BOOL, bool_value=False).successful
    texts.wait(50)
    assert set_parameter(ros, 'paused', ParameterType.PARAMETER_BOOL, bool_value=True).successful
    counts = [len(texts.messages)]
    while len(counts) < 20 and counts[-1] not in counts[:-1]:  # what is under way may still arrive
        time.sleep(0.5)
        counts.append(len(texts.messages))
    time.sleep(0.5)
    assert len(texts.messages) == counts[-1]
    assert process.stop() == 0


def test_it_holds_after_the_messages_of_a_moment(ros, tmp_path):
    moment = BEGIN + 10 * STEP
    bag = write(tmp_path / 'bag', [
        ('/text', BEGIN, 'before'), ('/asked', moment, 'first'), ('/text', moment, 'with it'),
        ('/text', moment + STEP, 'after'), ('/asked', moment + 10 * STEP, 'second'),
        ('/text', moment + 11 * STEP, 'end')])
    texts, asked = ros.collect('/text', String, 50), ros.collect('/asked', String, 50)
    process = ros.start(MODULE, parameters={'bag': str(bag), 'hold': '/asked',
                                            'wait_for': ['/text', '/asked']})
    held = ['before', 'with it']
    for number, more in enumerate((['after'], ['end']), 1):
        asked.wait(number)
        time.sleep(1)
        assert [message.data for message in texts.messages] == held
        assert set_parameter(ros, 'paused', ParameterType.PARAMETER_BOOL, bool_value=False).successful
        held += more
    assert process.wait() == 0
    assert [message.data for message in texts.messages] == held


def write(path, messages):
    """A bag of texts: topic, log time and text of each."""
    types = message_types()
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections = {}
        for topic, stamp, text in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, 'std_msgs/msg/String', typestore=types)
            data = types.serialize_cdr(types.types['std_msgs/msg/String'](text), 'std_msgs/msg/String')
            writer.write(connections[topic], stamp, data)
    return path


def test_static_transforms_are_there_before_the_first_message(ros, tmp_path):
    """Though the bag holds them later, and says nothing of QoS; who comes later gets them too."""
    bag = write(tmp_path / 'bag', [('/text', BEGIN, 'one'), ('/robot_description', BEGIN + STEP, 'two'),
                                   ('/text', BEGIN + 60 * STEP, 'three')])
    texts = ros.collect('/text', String, 10)
    description = ros.collect('/robot_description', String, LATCHED)
    process = ros.start(MODULE, parameters={'bag': str(bag), 'wait_for': ['/text']})
    texts.wait(1)
    assert [message.data for message in description.messages] == ['two']
    late = ros.collect('/robot_description', String, LATCHED)
    assert late.wait(1)[0].data == 'two'
    assert process.wait() == 0


@pytest.mark.parametrize('parameters, words', [
    ({}, 'bag is empty; give the path'),
    ({'bag': '/nowhere/at/all'}, '/nowhere/at/all'),
])
def test_a_bag_that_cannot_be_played_ends_it_with_the_reason(ros, parameters, words):
    process = ros.start(MODULE, parameters=parameters)
    assert process.wait() != 0
    assert words in process.output and 'Traceback' not in process.output


def test_topics_that_cannot_be_published_are_left_out(ros, tmp_path):
    """A name that ROS does not allow, a second clock, what is excluded; the rest is played over a hole."""
    bag = write(tmp_path / 'bag', [
        ('/text', 0, 'early'), ('/CAM FRONT', BEGIN, 'x'), ('/noise', BEGIN, 'x'), ('/text', BEGIN, 'late')])
    types = message_types()
    texts = ros.collect('/text', String, 10)
    clock = ros.collect('/clock', Clock)
    process = ros.start(MODULE, parameters={'bag': str(bag), 'wait_for': ['/text'], 'exclude': ['/noise']})
    assert process.wait() == 0, process.output
    assert [message.data for message in texts.messages] == ['early', 'late']
    assert '/CAM FRONT skipped: ROS does not allow this name' in process.output
    assert 'no messages for 18519 days after 0.000 s; the gap is skipped' in process.output
    assert clock.messages[-1].clock.sec == BEGIN // 10 ** 9
    with Writer(tmp_path / 'clock', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/clock', 'rosgraph_msgs/msg/Clock', typestore=types)
        stamp = types.types['builtin_interfaces/msg/Time'](7, 0)
        message = types.types['rosgraph_msgs/msg/Clock'](stamp)
        writer.write(connection, BEGIN, types.serialize_cdr(message, 'rosgraph_msgs/msg/Clock'))
    process = ros.start(MODULE, parameters={'bag': str(tmp_path / 'clock')})
    assert process.wait() == 1
    assert 'no topic to play: /clock: this node publishes log time there' in process.output


def test_without_the_listeners_that_are_required_it_ends_with_an_error(ros, bag):
    ros.collect('/text', String, LATCHED)  # wants what is latched, which it is not
    given = {'bag': str(bag), 'wait_for': ['/text', 'question'], 'wait_timeout': 5.0}
    process = ros.start(MODULE, parameters={**given, 'require_listeners': True})
    assert process.wait() == 1
    assert '/text has only subscribers whose QoS does not fit; /question has no subscriber' in process.output
    assert 'is not played' in process.output and 'Traceback' not in process.output
    process = ros.start(MODULE, parameters=given)
    assert process.wait() == 0
    assert '/question has no subscriber after 5 s; starting anyway' in process.output

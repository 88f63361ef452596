"""`mpnp record`: what a robot publishes ends up in a bag, however the recording ends."""
from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from geometry_msgs.msg import TransformStamped
from mpnp_ros.msg import Answer, EncoderInfo, ModalityStates, ModalityTokens
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from tf2_msgs.msg import TFMessage

from mpnp_ros.bags.recorder import BagRecorder
from mpnp_ros.bags.storage import Bag
from mpnp_ros.cli import record
from mpnp_ros.cli.main import main
from mpnp_ros.conversions.images import from_encoded, from_rgb
from mpnp_ros.conversions.messages import to_message
from mpnp_ros.endpoints import LATCHED, qos_profile
from mpnp_ros.errors import BagError, RequestError
from mpnp_ros.tokens import SECOND
from mpnp_ros.tokens import ModalityTokens as Tokens

JPEG = b'\xff\xd8\xff\xe0 unchanged'
PERIOD = .05
"""Seconds between two images of each camera."""


def publish_all(ros) -> Callable[[], None]:
    """What a robot publishes, once; latched topics too."""
    latched = qos_profile(LATCHED)
    for topic, message in (
            ('modalities', ModalityStates()),
            ('encoders', EncoderInfo(modality='camera', topics=['/test/front/compressed', '/test/rear'])),
            ('/tf_static', TFMessage(transforms=[TransformStamped(child_frame_id='front')]))):
        ros.publisher(topic, type(message), latched).publish(message)
    tokens = ros.publisher('tokens/camera', ModalityTokens)
    answers = ros.publisher('answer', Answer)
    front = ros.publisher('front/compressed', CompressedImage)
    rear = ros.publisher('rear', Image)
    other = ros.publisher('unread/compressed', CompressedImage)
    count = 0

    def publish() -> None:
        nonlocal count
        count += 1
        stamp = round(count * PERIOD * SECOND)
        tokens.publish(to_message(Tokens('camera', 'e', np.zeros((1, 4), np.float32),
                                         np.zeros(1, np.float32), stamp_ns=stamp)))
        answers.publish(Answer(id=str(count), text='yes'))
        front.publish(from_encoded(JPEG, 'front', stamp))
        rear.publish(from_rgb(np.full((4, 6, 3), 200, np.uint8), 'rear', stamp))
        other.publish(from_encoded(JPEG, 'other', stamp))

    return publish


@pytest.fixture
def robot(ros, monkeypatch) -> Iterator[threading.Event]:
    """A robot without a fusion node that publishes until the event is set or the test ends."""
    monkeypatch.setattr(record, 'LOOK', .2)
    publish, ended = publish_all(ros), threading.Event()

    def work() -> None:
        while not ended.wait(PERIOD):
            publish()

    thread = threading.Thread(target=work)
    thread.start()
    yield ended
    ended.set()
    thread.join()


def messages_of(folder: Path) -> dict[str, list[bytes]]:
    bag = Bag(folder, lambda text: None)
    found: dict[str, list[bytes]] = {}
    for message in bag.messages(bag.topics):
        found.setdefault(message.topic, []).append(message.data)
    bag.close()
    return found


@pytest.mark.ros
def test_a_drive_is_recorded(robot, tmp_path, capsys):
    folder = tmp_path / 'drive'
    assert main(['record', '--output', str(folder), '--duration', '2.5', '--image-rate', '4',
                 '--ask-rate', '0', '--namespace', '/test']) == 0
    found = messages_of(folder)
    assert found.keys() == {'/tf_static', '/test/encoders', '/test/tokens/camera', '/test/answer',
                            '/test/front/compressed', '/test/rear/compressed'}
    tokens = [deserialize_message(data, ModalityTokens) for data in found['/test/tokens/camera']]
    assert {message.encoder for message in tokens} == {'e'}
    front, rear = ([deserialize_message(data, CompressedImage) for data in found[f'/test/{name}/compressed']]
                   for name in ('front', 'rear'))
    assert bytes(front[0].data) == JPEG and bytes(rear[0].data).startswith(b'\xff\xd8\xff')
    assert rear[0].header.frame_id == 'rear'
    stamps = [record.stamp_of(data) for data in found['/test/front/compressed']]
    assert all(later - earlier >= record.EARLY * SECOND / 4 for earlier, later in zip(stamps, stamps[1:],
                                                                                    strict=False))
    said = capsys.readouterr().out
    assert f'tokens: {len(tokens)} of camera; {len(found["/test/answer"])} answers' in said
    assert f'mpnp review {folder}' in said
    assert main(['record', '--output', str(folder), '--namespace', '/test', '--ask-rate', '0']) == 2
    assert 'exists already' in capsys.readouterr().err


@pytest.mark.ros
def test_it_ends_at_its_size(robot, tmp_path, capsys):
    assert main(['record', '--output', str(tmp_path / 'drive'), '--max-size', '0.002', '--ask-rate', '0',
                 '--namespace', '/test', '--quiet']) == 0
    assert 'it ended at --max-size, 0.0 MB' in capsys.readouterr().out
    assert messages_of(tmp_path / 'drive')


@pytest.mark.ros
def test_what_a_robot_told_before_it_died_is_kept(robot, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(record, 'GONE', 1.5)
    monkeypatch.setattr(record, 'FLUSH', .1)

    def die() -> None:
        while not any(file.stat().st_size > 3000 for file in (tmp_path / 'drive').glob('*.mcap')):
            time.sleep(.05)
        robot.set()

    threading.Thread(target=die, daemon=True).start()
    assert main(['record', '--output', str(tmp_path / 'drive'), '--ask-rate', '0', '--namespace', '/test',
                 '--quiet']) == 2
    assert 'no tokens have come for 1.5 s' in capsys.readouterr().err
    assert messages_of(tmp_path / 'drive')['/test/tokens/camera']


@pytest.mark.ros
def test_ctrl_c_finishes_the_bag(robot, ros, tmp_path):
    folder = tmp_path / 'drive'
    process = ros.run([sys.executable, '-m', 'mpnp_ros.cli.main', 'record', '--output', str(folder),
                       '--ask-rate', '0', '--namespace', '/test'], {**os.environ, **ros.environment})
    end = time.monotonic() + 60
    while not any(folder.glob('*.mcap')) and time.monotonic() < end:
        time.sleep(.05)
    time.sleep(1.)
    assert process.stop(signal.SIGINT) == 0, process.output
    assert (folder / 'metadata.yaml').is_file() and 'answers' in process.output


def test_without_a_robot_nothing_is_made(tmp_path, capsys, pretend_robot):
    from mpnp_ros.errors import NotRunningError

    def modalities(self):
        raise NotRunningError('no fusion node')

    pretend_robot(modalities=modalities)
    assert main(['record', '--output', str(tmp_path / 'drive'), '--ask-rate', '0']) == 2
    assert 'no fusion node' in capsys.readouterr().err and not (tmp_path / 'drive').exists()


def test_questions_are_asked_in_turn_and_failures_counted():
    class Robot:
        def __init__(self) -> None:
            self.asked: Counter[str] = Counter()

        def ask(self, text, choices, timeout):
            self.asked[text] += 1
            if text == 'b?':
                raise RequestError('too long')

    robot, failures = Robot(), []
    with record.asking(robot, record.questions_to_ask(['a?', 'b?'], 0), 100., failures):
        while sum(robot.asked.values()) < 6:
            time.sleep(.01)
    assert robot.asked['a?'] >= 3 and failures[0] == 'too long'


def test_generated_questions_are_of_all_types_and_have_choices():
    questions = record.questions_to_ask([], 3)
    first = [next(questions) for _ in range(20)]
    assert len({text for text, _ in first}) == 20 and all('yes' in choices for _, choices in first)
    assert {text.split()[0] for text, _ in first} >= {'How', 'Are', 'What'}


class PretendedNode:
    """A node whose graph is given; it keeps the callbacks of its subscriptions."""

    def __init__(self, graph: dict[str, str]) -> None:
        self.graph, self.callbacks = graph, {}

    def resolve_topic_name(self, name):
        return f'/{name.strip("/")}'

    def get_topic_names_and_types(self):
        return [(name, [kind]) for name, kind in self.graph.items()]

    def count_publishers(self, name):
        return name in self.graph

    def create_subscription(self, kind, name, callback, qos, raw=False):
        self.callbacks[name] = callback
        return name

    def destroy_subscription(self, subscription):
        del self.callbacks[subscription]


def test_the_image_files_of_a_camera_are_taken_once(tmp_path):
    graph = {'/a': record.IMAGE, '/a/compressed': record.COMPRESSED, '/a/compressedDepth': record.COMPRESSED,
             '/b': record.IMAGE, '/r1/odom': 'nav_msgs/msg/Odometry', '/tokens': record.TOKENS,
             '/r2/answer': 'mpnp_ros/msg/Answer', '/text': 'std_msgs/msg/String',
             '/c/image_raw/compressed': record.COMPRESSED, '/c/camera_info': record.CALIBRATION,
             '/d/camera_info': record.CALIBRATION}
    for images, wanted in (([], {'/a/compressed', '/b', '/c/image_raw/compressed', '/c/camera_info'}),
                           (['b'], {'/b'})):
        node = PretendedNode(graph)
        topics = record.RecordedTopics(node, '', None, images, 1.)
        topics.look()
        topics.look()
        assert node.callbacks.keys() == wanted | {'/r1/odom'}
        topics.close()
        assert not node.callbacks


def test_a_full_disk_is_told_and_simulated_time_is_waited_for(tmp_path):
    class FullDisk:
        def write(self, *message):
            raise BagError('the disk is full')

    node = PretendedNode({'/clock': 'rosgraph_msgs/msg/Clock', '/tokens/camera': record.TOKENS})
    topics = record.RecordedTopics(node, '', FullDisk(), [], 1.)
    topics.look()
    assert node.callbacks.keys() == {'/clock'}
    from rosgraph_msgs.msg import Clock

    node.callbacks['/clock'](Clock())
    topics.look()
    node.callbacks['/tokens/camera'](b'')
    with pytest.raises(BagError, match='the disk is full'):
        topics.look()


def test_an_image_that_cannot_be_read_is_left_out(tmp_path, capsys):
    recorder = BagRecorder(tmp_path / 'bag', 10_000)
    node = PretendedNode({'/depth': record.IMAGE})
    topics = record.RecordedTopics(node, '', recorder, [], 100.)
    topics.look()
    for stamp in (0, SECOND):
        image = from_rgb(np.zeros((2, 2, 3), np.uint8), 'depth', stamp)
        image.encoding = '32FC1'
        node.callbacks['/depth'](bytes(serialize_message(image)))
    recorder.close()
    assert not recorder.counts
    assert capsys.readouterr().err.count('images on /depth are left out') == 1

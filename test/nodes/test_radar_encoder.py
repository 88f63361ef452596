"""The radar encoder as a process: clouds of several radars in, tokens out."""
from __future__ import annotations

import array
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from mpnp_ros.msg import ModalityTokens
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from mpnp_ros.conversions.messages import from_message, from_nanoseconds, to_nanoseconds
from mpnp_ros.modalities.radar.frames import FIELDS

pytestmark = pytest.mark.ros
MODULE = 'mpnp_ros.nodes.encoder radar'
SECOND = 10 ** 9
STAMP = 1_700_000_000 * SECOND
RADARS = ('radar_front', 'radar_back')


def cloud(radar, stamp_ns, count=20, fields=FIELDS):
    """Returns of a radar, ten metres ahead of it."""
    records = np.zeros((count, len(fields)), '<f4')
    records[:, 0], records[:, 1] = 10, np.linspace(-2, 2, count)
    message = PointCloud2(height=1, width=count, point_step=4 * len(fields), row_step=records.nbytes,
                          data=array.array('B', records.tobytes()))
    message.header.stamp, message.header.frame_id = from_nanoseconds(stamp_ns), f'{radar}_mount'
    message.fields = [PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
                      for place, name in enumerate(fields)]
    return message


def mount(radar, turned):
    """How a radar is mounted: looking ahead, or back."""
    transform = TransformStamped(child_frame_id=f'{radar}_mount')
    transform.header.frame_id = 'base_link'
    transform.transform.rotation.w, transform.transform.rotation.z = (0., 1.) if turned else (1., 0.)
    return TFMessage(transforms=[transform])


def stamp_of(message):
    return to_nanoseconds(message.header.stamp)


@pytest.fixture(scope='module')
def pair(module_ros):
    """Two radars, back to back, and their encoder: publishers, tokens, diagnostics, process."""
    latched = QoSProfile(depth=2, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    mounts = module_ros.publisher('/tf_static', TFMessage, latched)
    for radar in RADARS:
        mounts.publish(mount(radar, radar == 'radar_back'))
    publishers = {radar: module_ros.publisher(f'/pair/{radar}', PointCloud2) for radar in RADARS}
    tokens = module_ros.collect('/pair/tokens/radar', ModalityTokens)
    diagnostics = module_ros.collect('/diagnostics', DiagnosticArray, 10)
    process = module_ros.start(MODULE, namespace='/pair', parameters={'radars': list(RADARS)})
    for publisher in publishers.values():
        module_ros.wait_for_subscriber(publisher)
    stamp = 0
    while not any(len(message.sources) == len(RADARS) for message in tokens.messages):
        stamp += SECOND
        clouds = {radar: cloud(radar, stamp) for radar in RADARS}
        module_ros.publish_until(lambda clouds=clouds: [publishers[radar].publish(message)
                                                        for radar, message in clouds.items()], tokens)
    return publishers, tokens, diagnostics, process


def test_scans_of_one_moment_become_tokens_with_the_oldest_stamp(pair):
    publishers, tokens, _, _ = pair
    publishers['radar_back'].publish(cloud('radar_back', STAMP + 7))
    publishers['radar_front'].publish(cloud('radar_front', STAMP + 50_000_000))
    message = tokens.wait(where=lambda message: stamp_of(message) == STAMP + 7)[0]
    read = from_message(message)
    assert (read.modality, read.sources, read.frame_id) == ('radar', RADARS, 'base_link')
    assert read.source_stamps_ns == (STAMP + 50_000_000, STAMP + 7)
    assert read.values.shape == (72, 24) and np.isfinite(read.azimuth).all()
    assert set(read.source_index[np.abs(read.azimuth) < 1]) == {0}
    assert set(read.source_index[np.abs(read.azimuth) > 2]) == {1}


def test_a_radar_without_speeds_over_ground_is_read_too(pair):
    publishers, tokens, _, _ = pair
    stamp = STAMP + SECOND // 2
    publishers['radar_back'].publish(cloud('radar_back', stamp + 7))
    publishers['radar_front'].publish(cloud('radar_front', stamp, fields=('x', 'y', 'z', 'doppler', 'snr')))
    message = tokens.wait(where=lambda message: stamp_of(message) == stamp)[0]
    assert tuple(message.sources) == RADARS


def test_a_radar_that_sees_nothing_is_there_and_a_silent_one_is_left_out(pair):
    publishers, tokens, _, _ = pair
    for number, (radars, count) in enumerate(((RADARS, 0), (RADARS[1:], 20)), start=1):
        stamp = STAMP + 100 * number * SECOND
        for radar in radars:
            publishers[radar].publish(cloud(radar, stamp, count))
        message = tokens.wait(where=lambda message, stamp=stamp: stamp_of(message) == stamp)[0]
        assert tuple(message.sources) == tuple(radars)
        assert (message.quality == 0) is (count == 0)
        assert [concern for concern in message.concerns if 'few returns (0)' in concern] == [
            f'{radar} has few returns (0)' for radar in radars if not count]


def test_scans_that_cannot_be_used_are_counted_and_the_others_of_the_set_are_used(pair):
    publishers, tokens, diagnostics, process = pair
    before = diagnostics.counters('/pair/radar_front')['rejected']
    changes = ({'data': array.array('B')}, {'fields': cloud('', 0).fields[:-1]}, {'width': 10 ** 6})
    for number, change in enumerate(changes):
        stamp = STAMP + (1000 + number) * SECOND
        broken = cloud('radar_front', stamp)
        for field, value in change.items():
            setattr(broken, field, value)
        publishers['radar_front'].publish(broken)
        publishers['radar_back'].publish(cloud('radar_back', stamp))
        message = tokens.wait(where=lambda message, stamp=stamp: stamp_of(message) == stamp)[0]
        assert message.sources == ['radar_back']
    end = diagnostics.counters('/pair/radar_front')
    assert end['rejected'] == before + len(changes) and end['waiting'] == 0
    assert end['received'] == end['encoded'] + end['superseded'] + end['rejected']
    assert process.running


def test_a_radar_without_a_mounting_is_refused_with_the_remedy(pair):
    publishers, _, _, process = pair
    said = "frame 'nowhere_mount' is not connected to 'base_link' (known: base_link, radar_back_mount"
    for number in range(60):  # as often as it takes: of the same topic little is logged within five seconds
        publishers['radar_back'].publish(cloud('nowhere', STAMP + (3000 + number) * SECOND))
        time.sleep(.5)
        if said in process.output:
            break
    assert said in process.output


def test_the_only_radar_is_taken_as_the_base_frame_where_its_mount_is_unknown(ros):
    publisher = ros.publisher('/alone/radar', PointCloud2)
    tokens = ros.collect('/alone/tokens/radar', ModalityTokens)
    ros.start(MODULE, namespace='/alone', parameters={'radars': ['radar'], 'base_frame': 'elsewhere'})
    ros.publish_until(lambda: publisher.publish(cloud('nowhere', STAMP)), tokens)
    message = tokens.messages[0]
    assert message.quality <= 0.75
    assert any("'nowhere_mount' is not connected to 'elsewhere'" in concern and
               concern.endswith('taking them as the same') for concern in message.concerns)


def test_of_what_moves_its_concerns_are_told_and_a_radar_without_a_mount_may_be_high(ros):
    publisher = ros.publisher('/lost/radar', PointCloud2)
    tokens = ros.collect('/lost/tokens/radar', ModalityTokens)
    ros.start(MODULE, namespace='/lost', parameters={'radars': ['radar'], 'encoder.tokens': 'moving'})
    fields = 'x', 'y', 'z', 'doppler'

    def told(stamp, doppler):
        message = cloud('nowhere', stamp, len(doppler), fields)
        records = np.frombuffer(message.data, '<f4').reshape(-1, len(fields)).copy()
        records[:, 1], records[:, 2], records[:, 3] = np.linspace(-15, 15, len(doppler)), -1.9, doppler
        message.data = array.array('B', records.tobytes())
        ros.publish_until(lambda: publisher.publish(message), tokens)
        return tokens.wait(where=lambda message: stamp_of(message) == stamp)[0]

    lost = told(STAMP, np.random.default_rng(0).uniform(-30, 30, 60))
    assert any(concern.startswith('radar: own motion cannot be told') for concern in lost.concerns)
    found = told(STAMP + SECOND, np.where(np.arange(60) < 20, 4., 0.))
    assert sum(from_message(found).values.ravel()) > .5
    assert not any('own motion' in concern for concern in found.concerns)

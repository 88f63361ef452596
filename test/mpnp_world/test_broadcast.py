"""The messages of the world: its sound."""
from __future__ import annotations

import numpy as np

from mpnp_world.broadcast import SOUND, SOUND_INFO_TOPIC, SOUND_TOPIC, SOUND_TYPES, Broadcast
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.scene.world import Tour
from mpnp_world.sensors.microphones import SAMPLE_RATE, listen
from mpnp_world.sensors.rig import MICROPHONES

START = SceneIdentity(3, Conditions()).start


def broadcast(*sensors):
    return Broadcast(START, sensors, (64, 36), lambda frame: [])


def read(live, message, type_name):
    return live._types.deserialize_cdr(message.data, type_name)


def test_the_sound_between_two_states_is_published_with_the_time_of_its_end():
    live, tour = broadcast('microphones'), Tour(3, Conditions(), 20.)
    before, after = tour.step(.1)
    message = live.sound(before, after)
    made = read(live, message, SOUND)
    assert message.topic == SOUND_TOPIC and live.topics[SOUND_TOPIC] == SOUND
    assert made.header.stamp.sec * 10 ** 9 + made.header.stamp.nanosec == live.stamp_ns(after.time)
    samples = np.frombuffer(made.audio.data.tobytes(), '<i2').reshape(-1, len(MICROPHONES)).T
    np.testing.assert_allclose(samples / 32767, listen(before, after), atol=2e-5)
    told = read(live, live.sound_info(), 'audio_common_msgs/msg/AudioInfo')
    assert (told.channels, told.sample_rate, told.sample_format, told.coding_format) == (
        len(MICROPHONES), SAMPLE_RATE, 'S16LE', 'WAVE')


def test_the_microphones_have_frames_and_without_them_nothing_is_said_of_them():
    live = broadcast('microphones')
    frames = {item.child_frame_id: item.transform.translation for item in read(
        live, live.mounting(), 'tf2_msgs/msg/TFMessage').transforms}
    assert {name: (place.x, place.y, place.z) for name, place in frames.items()} == {
        name.lower(): place for name, place in MICROPHONES.items()}
    assert not {SOUND_TOPIC, SOUND_INFO_TOPIC} & broadcast('lidar').topics.keys()


def test_the_definitions_are_those_of_the_messages():
    from pathlib import Path
    folder = Path(__file__).parents[2] / 'requirements'
    for name, definition in SOUND_TYPES.items():
        package, _, short = name.split('/')
        lines = (folder / package / 'msg' / f'{short}.msg').read_text().splitlines()
        assert [line for line in lines if line and not line.startswith('#')] == definition.splitlines()

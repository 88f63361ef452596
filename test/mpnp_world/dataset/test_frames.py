"""Key frames of a scene: when they are, and what belongs to the time between them."""
from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('embreex', reason='embreex is not installed: the world has no rays')

from mpnp_world.dataset.frames import Sensors, WorldFrame, scene_frames
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.sensors.imu import RATE
from mpnp_world.sensors.microphones import SAMPLE_RATE
from mpnp_world.sensors.rig import MICROPHONES

INTERVAL = .5


def drive(names: tuple[str, ...], conditions: Conditions | None = None) -> list[WorldFrame]:
    """Three key frames without cameras."""
    return list(scene_frames(11, conditions or Conditions(), 3, INTERVAL, names, Sensors(names, (64, 36))))


@pytest.fixture(scope='module')
def frames() -> list[WorldFrame]:
    """With everything but cameras."""
    return drive(('lidar', 'radar', 'imu', 'microphones'))


def test_key_frames_are_evenly_spaced(frames):
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.state.time for frame in frames] == pytest.approx([.5, 1., 1.5])


def test_inertial_readings_and_sound_have_no_gap(frames):
    times = [reading.time for frame in frames for reading in frame.inertial]
    np.testing.assert_allclose(times, np.arange(1, 3 * INTERVAL * RATE + 1) / RATE)
    assert {frame.sound.shape for frame in frames} == {(len(MICROPHONES), INTERVAL * SAMPLE_RATE)}


def test_what_is_wanted_changes_nothing_else(frames):
    """Boxes count the points of LiDAR and radars though nobody asks for them."""
    for first, other in zip(drive(()), frames, strict=True):
        assert first.annotations == other.annotations
        assert first.inertial == () and first.sound is None and first.images == {}
        np.testing.assert_array_equal(first.sweep.points, other.sweep.points)


def test_fog_takes_points_from_objects_and_nothing_from_radars(frames):
    foggy = drive((), Conditions('day', 'fog'))
    far = [[sum(item.num_lidar_pts for item in frame.annotations
                if np.hypot(item.object.x - frame.state.ego.x, item.object.y - frame.state.ego.y) > 30)
            for frame in scene] for scene in (frames, foggy)]
    assert sum(far[1]) < .5 * sum(far[0])
    for first, other in zip(frames, foggy, strict=True):
        for channel, radar in first.radars.items():
            np.testing.assert_array_equal(radar.points, other.radars[channel].points)


def test_objects_are_in_the_ego_frame(frames):
    for frame in frames:
        read = frame.key_frame(SceneIdentity(11, Conditions()))
        for item, annotation in zip(read.objects, frame.annotations, strict=True):
            x, y, _ = read.ego_pose.apply(np.array(item.centre))
            assert (x, y) == pytest.approx((annotation.object.x, annotation.object.y))

"""Key frames of a scene: when they are, and what belongs to the time between them."""
from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('embreex', reason='embreex is not installed: the world has no rays')

from mpnp_world.dataset.frames import Sensors, SweepPlan, WorldFrame, WorldSweeps, scene_frames
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


def test_sweeps_come_at_the_rates_of_their_sensors():
    moments = SweepPlan(('camera', 'lidar', 'radar'), .5).moments(.5)
    times = {name: [moment for moment, names in moments.items() if name in names]
             for name in ('camera', 'lidar', 'radar')}
    assert times['lidar'] == pytest.approx(np.arange(1, 10) / 20)
    assert times['camera'] == pytest.approx(np.arange(1, 6) / 12, abs=1e-6)
    assert times['radar'] == pytest.approx(.5 - np.arange(6, 0, -1) / 13, abs=1e-6)
    assert list(moments) == sorted(moments)
    late = SweepPlan(('lidar',), .1).moments(2.)
    assert [moment for moment, names in late.items() if names] == pytest.approx([1.9, 1.95])
    assert not any(SweepPlan(('lidar',), 0.).moments(2.).values())


def test_sweeps_come_before_their_key_frame_and_change_nothing_else(frames):
    """Key frames are those of the same drive without sweeps, and of one with sweeps of other sensors."""
    sensors = Sensors((), (64, 36))
    lidar, radar = (list(scene_frames(11, Conditions(), 2, INTERVAL, ('lidar', 'radar'), sensors,
                                      SweepPlan((name,), .2))) for name in ('lidar', 'radar'))
    assert [type(item) for item in lidar] == ([WorldSweeps] * 4 + [WorldFrame]) * 2
    assert [item.index for item in lidar] == [0] * 5 + [1] * 5
    assert [item.state.time for item in lidar] == pytest.approx(
        [.3, .35, .4, .45, .5, .8, .85, .9, .95, 1.])
    assert all(item.sweep and not item.radars for item in lidar if isinstance(item, WorldSweeps))
    assert [len(item.radars) for item in radar if isinstance(item, WorldSweeps)] == [5, 5, 5, 5]
    assert len({item.sweep.points.tobytes() for item in lidar}) == len(lidar)
    for first, other, alone in zip(*([item for item in scene if isinstance(item, WorldFrame)]
                                     for scene in (lidar, radar)), frames, strict=False):
        np.testing.assert_array_equal(first.sweep.points, other.sweep.points)
        assert first.annotations == other.annotations
        assert len(first.sweep.points) == pytest.approx(len(alone.sweep.points), abs=5)
        assert first.state.ego.x == pytest.approx(alone.state.ego.x, abs=1e-6)

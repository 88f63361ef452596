from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.camera.registration import CameraInput, CameraRegion
from mpnp_ros.modalities.lidar.registration import LidarInput
from mpnp_ros.modalities.radar.registration import RadarInput
from mpnp_ros.modalities.vision import VisionTransformer, VitShape
from mpnp_ros.modalities.vision_weights import freeze
from mpnp_ros.nuscenes.sensor_files import RADAR_DTYPE
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import Transform
from mpnp_ros.questions.generator import EVERYTHING, Scope
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame, SensorReading
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import sector_of
from mpnp_ros.training.head_data import cached_inputs, recipe_of, sector_targets
from mpnp_ros.training.key_frames import twins
from mpnp_world.standin import write_standin

REGION = CameraRegion(blocks=(1, 2), height=28, width=112, rows=2, columns=8)

CAR = AnnotatedObject('1', 'car', 'parked', (10.0, 1.0, 0.0), (4, 2, 1.5), 0.0, num_lidar_pts=50)
CONE = AnnotatedObject('2', 'traffic cone', None, (-3.0, 8.0, 0.0), (0.4, 0.4, 1), 0.0, num_lidar_pts=5)


@pytest.fixture(scope='module')
def key_frame(tmp_path_factory):
    root = NuScenes(write_standin(tmp_path_factory.mktemp('standin') / 'root', scenes=1, key_frames=1))
    return next(root.key_frames('scene-0001'))


@pytest.fixture(scope='module')
def camera():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(VitShape(width=24, depth=2, heads=2, hidden=48, grid=(4, 4)))
    backbone = freeze(network, network.state_dict(), 'tiny', (0.5,) * 3, (0.5,) * 3, 'cpu', 'float32')
    return CameraInput(backbone, REGION)


@pytest.fixture
def radars(tmp_path):
    """One radar that looks ahead and one that looks left, each with a return 20 m away."""
    points = np.zeros(1, RADAR_DTYPE)
    points['x'], points['ambig_state'] = 20.5, 3
    header = (f'FIELDS {" ".join(RADAR_DTYPE.names)}', 'POINTS 1', 'DATA binary', '')
    (tmp_path / 'scan.pcd').write_bytes('\n'.join(header).encode() + points.tobytes())
    mountings = {'RADAR_FRONT': Transform.from_quaternion((1., 0, 0), (1., 0, 0, 0)),
                 'RADAR_FRONT_LEFT': Transform.about_z(np.pi / 2)}
    return {name: SensorReading(name, 'radar', tmp_path / 'scan.pcd', 5, True, pose, Transform.about_z(0))
            for name, pose in mountings.items()}


def test_a_key_frame_is_read_once(key_frame, camera, tmp_path, monkeypatch):
    first = cached_inputs(key_frame, camera, tmp_path)
    assert first['features'].shape == (6, 2, 8, 48) and first['features'].dtype == torch.float16
    assert first['slopes'].shape == (6, 2, 8) and first['edges'].shape == (6, 9)
    monkeypatch.setattr(camera, 'read', None)
    again = cached_inputs(key_frame, camera, tmp_path)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_grid_of_a_sweep_has_something_in_it(key_frame, tmp_path):
    grid = cached_inputs(key_frame, LidarInput(), tmp_path)['grid']
    assert grid.shape == (6, 288, 40) and grid.dtype == torch.float16
    assert 100 < (grid[0] > 0).sum() < 288 * 40


def test_the_grid_of_the_radars_has_their_returns_in_it(key_frame, radars, tmp_path):
    seen = replace(key_frame, radars=radars)
    grid = cached_inputs(seen, RadarInput(), tmp_path)['grid']
    assert grid.shape == (6, 288, 40) and torch.argwhere(grid[0]).tolist() == [[144, 21], [216, 20]]
    turned = RadarInput().read(seen.turned(np.pi / 2))['grid']
    assert torch.equal(grid.roll(-72, 1), turned)


def test_other_scans_are_read_anew_and_none_are_refused(key_frame, radars, tmp_path):
    front = {'RADAR_FRONT': radars['RADAR_FRONT']}
    grids = [cached_inputs(replace(key_frame, radars=some), RadarInput(), tmp_path)['grid']
             for some in (radars, front)]
    assert (grids[0] > 0).sum() > (grids[1] > 0).sum()
    with pytest.raises(DatasetError, match='without the radar'):
        cached_inputs(key_frame, RadarInput(), tmp_path)


def test_a_turned_vehicle_has_the_same_features_and_turned_cameras(key_frame, camera):
    plain, turned = camera.read(key_frame), camera.read(key_frame.turned(0.5))
    assert torch.equal(plain['features'], turned['features'])
    assert (torch.exp(1j * (plain['edges'] - 0.5)) - torch.exp(1j * turned['edges'])).abs().max() < 1e-5


def test_the_recipe_covers_region_and_kind(camera):
    others = CameraInput(camera._weights, replace(REGION, rows=1))
    assert len({recipe_of(one) for one in (camera, others, LidarInput(), LidarInput(144),
                                             RadarInput())}) == 5


def frame(*objects):
    pose = Transform(np.eye(3), np.zeros(3))
    return KeyFrame('token', 'scene', '', 0, pose, {}, None, {}, objects)


def targets(*objects, scope=EVERYTHING):
    return sector_targets(frame(*objects), scope)


def test_an_object_counts_in_its_sector_and_channel():
    counts = targets(CAR, CONE).counts()
    assert counts.shape == (72, 24) and counts.sum() == 2
    assert counts[sector_of(math.atan2(1, 10)), CHANNELS.index(('car', 'parked'))] == 1
    assert counts[sector_of(math.atan2(8, -3)), CHANNELS.index(('traffic cone', None))] == 1


def test_far_and_hardly_seen_objects_do_not_count():
    others = replace(CAR, centre=(31.0, 0, 0)), replace(CONE, num_lidar_pts=4)
    kept = targets(CAR, CONE, *others, scope=Scope(30, 5))
    assert len(kept.azimuth) == 2


def test_an_unknown_status_is_shared_out():
    counts = targets(replace(CAR, attribute=None)).counts().sum(0)
    assert {channel for channel, count in zip(CHANNELS, counts, strict=True) if count} == {
        ('car', 'moving'), ('car', 'parked'), ('car', 'stopped')}
    assert counts.sum() == pytest.approx(1)


@given(st.floats(-7, 7))
def test_turning_the_targets_is_turning_the_vehicle_the_other_way(angle):
    made = targets(CAR, CONE).counts(angle)
    for item in frame(CAR, CONE).turned(-angle).objects:
        channel = CHANNELS.index((item.category, item.attribute))
        azimuth = math.atan2(item.centre[1], item.centre[0])
        places = {sector_of(azimuth + off).item() for off in (-1e-6, 0, 1e-6)}  # on either side of a border
        assert made[list(places), channel].sum() == 1 == made[:, channel].sum()


def test_mirroring_swaps_left_and_right():
    made = targets(CAR, CONE).counts(mirrored=True)
    assert (made == targets(CAR, CONE).counts()[::-1]).all()


def test_a_frame_without_objects_has_nothing_to_count():
    assert targets().counts().shape == (72, 24) and targets().counts().sum() == 0


def test_scenes_of_a_seed_are_twins():
    assert twins('world-0007-night-clear') == twins('world-0007-day-rain') != twins('world-0008-day-clear')
    assert twins('scene-0061') == 'scene-0061'

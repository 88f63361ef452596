"""Frames of a real 4-D radar, from a made-up folder of the same form."""
from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import radar_frames
from bench.radar_frames import SPAN, found_figures, moves, radar_figures, read_frame, sensor_height
from mpnp_ros.detection.detections import Detections
from mpnp_ros.modalities.radar.doppler import folded

HEIGHT, SPEED = 1.2, 12.
CAR = {'classname': 'Car', 'center3d': [20., 2., -.4], 'dimension3d': [4., 1.8, 1.5],
       'orientation_quat': [1., 0., 0., 0.]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One frame: a street, a car that drives with the vehicle, and one of a class that is not read."""
    rng = np.random.default_rng(0)
    for name in ('radar_6455', 'lidar_vlp16', 'camera_front', 'calibration', 'groundtruth_obj3d'):
        (tmp_path / name).mkdir()
    street = np.column_stack([rng.uniform(5, 60, 300), rng.uniform(-15, 15, 300), rng.uniform(-1, 1, 300)])
    car = np.array([18.2, 2., -.4]) + rng.uniform(-.2, .2, (20, 3))
    points = np.concatenate([street[np.abs(street[:, 1]) > 4], car])
    away = -SPEED * points[:, 0] / np.linalg.norm(points, axis=1)
    away[-20:] += SPEED
    np.savetxt(tmp_path / 'radar_6455/000007.txt', np.column_stack(
        [points, -folded(away, SPAN), np.full(len(points), 52.)]), header='\nX Y Z V_r Mag', comments='')
    ground = np.column_stack([rng.uniform(4, 15, 200), rng.uniform(-3, 3, 200), np.full(200, -HEIGHT)])
    np.savetxt(tmp_path / 'lidar_vlp16/000007.txt', np.column_stack(
        [np.concatenate([ground, car]), np.zeros((220, 3))]), header='X Y Z Reflectivity LaserID Timestamp',
        comments='')
    to_radar = np.eye(4)
    optical = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.]])
    (tmp_path / 'calibration/000007.json').write_text(json.dumps({'sensors': [
        {'calib_data': {'T_to_ref_COS': matrix.tolist(), 'K': np.eye(3).tolist()}}
        for matrix in (to_radar, to_radar, optical)]}))
    (tmp_path / 'groundtruth_obj3d/000007.json').write_text(json.dumps({'objects': [
        CAR, {**CAR, 'classname': 'Other Vehicle'}, {**CAR, 'center3d': [5., 5., 0.]}]}))
    Image.new('RGB', (64, 32)).save(tmp_path / 'camera_front/000007.jpg')
    return tmp_path


def test_a_frame_tells_own_motion_and_what_moves(folder: Path) -> None:
    height = sensor_height(folder, '000007')
    assert height == pytest.approx(HEIGHT)
    frame = read_frame(folder, '000007', height)
    assert frame.motion is not None
    np.testing.assert_allclose(frame.motion.velocity, [SPEED, 0], atol=.1)
    assert [item.category for item in frame.objects] == ['car'], 'only known classes that the camera sees'
    assert frame.objects[0].centre == pytest.approx((20, 2, .8)) and frame.objects[0].num_lidar_pts == 20
    assert moves(frame, 0) is True
    figures = radar_figures([frame])
    assert figures['bands']['15-30 m'] == {'objects': 1, 'with a return': 1, 'with 5 returns': 1,
                                           'median returns': 20}
    assert (figures['objects that move'], figures['objects that stand']) == (1, 0)
    assert frame.camera.rotation is not None and frame.camera.rotation[:, 2].tolist() == [1, 0, 0]


@pytest.mark.parametrize(('place', 'found', 'said'), [((20.5, 2), 1, 1), ((25, 2), 0, 1), ((40, 0), 0, 0)])
def test_found_objects_are_near_and_within_reach(folder: Path, place: tuple[float, float], found: int,
                                                 said: int) -> None:
    frame = read_frame(folder, '000007', HEIGHT)
    detections = Detections(np.array([place], float), np.ones(1), np.eye(10)[3:4])
    counts = found_figures([frame], {frame.name: detections})
    assert counts == {'objects': 1, 'found': found, 'right category': found, 'said': said, 'true': found}
    assert math.isclose(radar_frames.REACH, 30)

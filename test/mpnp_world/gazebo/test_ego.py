"""Sensors are where the rig has them, look where they should, and carry the names of nuScenes."""
from __future__ import annotations

import math
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from mpnp_world.gazebo.ego import rig_urdf
from mpnp_world.gazebo.export import world_sdf
from mpnp_world.sensors.rig import CAMERAS, LIDAR

OPTICAL = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""Ahead, left and up of a camera, columns, in its optical frame: z, -x and -y."""


@pytest.fixture(scope='module')
def sensors(drive_states) -> dict[str, Element]:
    """By name."""
    link = ElementTree.fromstring(world_sdf(drive_states)).find("world/model[@name='ego']/link")
    assert link.get('name') == 'base_link'
    assert link.find('pose') is None
    return {item.get('name'): item for item in link.findall('sensor')}


def rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Of turns about the fixed axes x, y, z in this order, as SDF and URDF define it."""
    (a, b), (c, d), (e, f) = ((math.cos(angle), math.sin(angle)) for angle in (roll, pitch, yaw))
    about_x = np.array([[1, 0, 0], [0, a, -b], [0, b, a]])
    about_y = np.array([[c, 0, d], [0, 1, 0], [-d, 0, c]])
    about_z = np.array([[e, -f, 0], [f, e, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def pose(item: Element) -> tuple[np.ndarray, np.ndarray]:
    """Translation [3] and rotation [3, 3]."""
    values = np.array(item.findtext('pose').split(), float)
    return values[:3], rotation(*values[3:])


@pytest.mark.parametrize('channel', CAMERAS)
def test_cameras_look_where_the_rig_has_them(sensors, channel):
    translation, turn = pose(sensors[channel])
    assert translation == pytest.approx(CAMERAS[channel].translation, abs=1e-4)
    assert turn == pytest.approx(CAMERAS[channel].pose.rotation @ OPTICAL, abs=2e-4)
    assert turn[2, 2] > 0.99  # upright


def test_the_front_camera_looks_ahead_and_the_left_one_left(sensors):
    ahead = {name: pose(sensors[name])[1][:, 0] for name in CAMERAS}
    assert ahead['CAM_FRONT'] == pytest.approx([1, 0, 0], abs=0.02)
    assert ahead['CAM_BACK'] == pytest.approx([-1, 0, 0], abs=0.02)
    assert ahead['CAM_BACK_LEFT'][1] > 0.9
    assert ahead['CAM_FRONT_RIGHT'][1] < -0.7


@pytest.mark.parametrize('channel', CAMERAS)
def test_intrinsics_are_those_of_the_rig_at_half_size(sensors, channel):
    camera = sensors[channel].find('camera')
    focal, x, y = CAMERAS[channel].camera
    given = [float(camera.findtext(f'lens/intrinsics/{name}')) for name in ('fx', 'fy', 'cx', 'cy')]
    assert given == pytest.approx([focal / 2, focal / 2, x / 2, y / 2], abs=1e-3)
    assert [camera.findtext('image/width'), camera.findtext('image/height')] == ['800', '450']
    assert 400 / math.tan(float(camera.findtext('horizontal_fov')) / 2) == pytest.approx(focal / 2, rel=1e-3)


def test_the_lidar_is_the_one_of_the_rig(sensors):
    translation, turn = pose(sensors['LIDAR_TOP'])
    assert translation == pytest.approx(LIDAR.translation, abs=1e-4)
    assert turn == pytest.approx(LIDAR.pose.rotation, abs=2e-4)
    scan = sensors['LIDAR_TOP'].find('lidar/scan')
    low, high = (float(scan.findtext(f'vertical/{end}_angle')) for end in ('min', 'max'))
    assert np.degrees([low, high]) == pytest.approx([-30.67, 10.67], abs=0.01)
    assert scan.findtext('vertical/samples') == '32'
    assert scan.findtext('horizontal/samples') == '1084'


def test_types_frames_topics_and_rates(sensors):
    assert set(sensors) == {*CAMERAS, 'LIDAR_TOP', 'IMU'}
    seen = {name: (item.get('type'), item.findtext('gz_frame_id'), item.findtext('topic'),
                   item.findtext('update_rate')) for name, item in sensors.items()}
    for name in CAMERAS:
        frame = name.lower()
        assert seen[name] == ('camera', frame, f'/{frame}/image_rect', '12')
    assert seen['LIDAR_TOP'] == ('gpu_lidar', 'lidar_top', '/lidar_top', '20')
    assert seen['IMU'] == ('imu', 'base_link', '/imu', '100')


def test_the_body_is_hidden_from_its_own_cameras(drive_states, sensors):
    link = ElementTree.fromstring(world_sdf(drive_states)).find("world/model[@name='ego']/link")
    flags = {int(item.findtext('visibility_flags')) for item in link.findall('visual')}
    masks = {int(sensors[name].findtext('camera/visibility_mask')) for name in CAMERAS}
    assert all(flag & mask == 0 for flag in flags for mask in masks)


def test_urdf_has_the_frames_of_a_converted_scene():
    """Optical frames, z ahead, as in /tf_static of a bag."""
    robot = ElementTree.fromstring(rig_urdf())
    joints = {item.find('child').get('link'): item for item in robot.findall('joint')}
    mountings = {**CAMERAS, 'LIDAR_TOP': LIDAR}
    assert set(joints) == {name.lower() for name in mountings}
    for name, mounting in mountings.items():
        joint = joints[name.lower()]
        assert joint.get('type') == 'fixed'
        assert joint.find('parent').get('link') == 'base_link'
        origin = joint.find('origin')
        assert np.array(origin.get('xyz').split(), float) == pytest.approx(mounting.translation)
        turn = rotation(*map(float, origin.get('rpy').split()))
        assert turn == pytest.approx(mounting.pose.rotation, abs=1e-6)

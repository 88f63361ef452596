from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.calibration import (
    BROWN,
    EQUIDISTANT,
    Distortion,
    axis_azimuth,
    column_azimuths,
    column_edges,
    distort,
    facing,
    image_size,
    nominal_yaw,
    optical_rotation,
    pixel_rays,
    project_points,
    ray_slopes,
    undistort,
)
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.images import CameraView

CONFIG = CameraConfig()
SIZE = (1600, 900)
PINHOLE = np.array([[800.0, 0, 799.5], [0, 800, 449.5], [0, 0, 1]])


def view(**changes):
    return CameraView('cam_front', b'', **{'intrinsics': PINHOLE, 'rotation': facing(0.0)} | changes)


def test_columns_of_a_camera_ahead_run_from_left_to_right():
    found = column_azimuths(view(), SIZE, 4, CONFIG)
    assert found == pytest.approx(np.arctan([0.75, 0.25, -0.25, -0.75]))
    assert axis_azimuth(view(), SIZE, CONFIG) == pytest.approx([0])


@given(st.floats(-3.1, 3.1), st.integers(1, 16))
def test_turning_the_camera_turns_its_columns(yaw, columns):
    straight = column_azimuths(view(), SIZE, columns, CONFIG)
    turned = column_azimuths(view(rotation=facing(yaw)), SIZE, columns, CONFIG)
    assert np.abs(np.exp(1j * turned) - np.exp(1j * (straight + yaw))).max() < 1e-5


def test_a_camera_that_is_upside_down_sees_right_on_its_left():
    upside_down = facing(0.0) @ np.diag([-1.0, -1, 1])
    found = column_azimuths(view(rotation=upside_down), SIZE, 4, CONFIG)
    assert found == pytest.approx(np.arctan([-0.75, -0.25, 0.25, 0.75]))


def test_a_camera_that_looks_straight_down_has_no_azimuth():
    down = facing(0.0) @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert np.isnan(axis_azimuth(view(rotation=down), SIZE, CONFIG)).all()


@pytest.mark.parametrize('name, yaw', [('cam_front', 0), ('CAM_FRONT_LEFT', 55), ('camera_front_right', -55),
                                       ('back', 180), ('cam_back_left', 110), ('cam_back_right', -110),
                                       ('rear', 180), ('camera_rear_left', 110)])
def test_without_calibration_the_name_tells_the_direction(name, yaw):
    bare = CameraView(name, b'')
    assert axis_azimuth(bare, SIZE, CONFIG) == pytest.approx(np.radians([yaw]))
    columns = column_azimuths(bare, SIZE, 64, CONFIG)
    fan = np.unwrap(columns[[0, -1]]) @ [1, -1]
    assert np.degrees(fan) == pytest.approx(CONFIG.nominal_fov, abs=1.5)


@pytest.mark.parametrize('intrinsics', [None, np.zeros((3, 3))])
def test_zero_intrinsics_count_as_none(intrinsics):
    assert np.array_equal(column_azimuths(view(intrinsics=intrinsics), SIZE, 4, CONFIG),
                          column_azimuths(view(intrinsics=None), SIZE, 4, CONFIG))


def test_a_direction_can_be_given_in_the_config():
    config = replace(CONFIG, nominal_views=('mast', 'rear', 'back'), nominal_yaws=(90., 170., 180.))
    for name, yaw in zip(config.nominal_views, config.nominal_yaws, strict=True):
        assert axis_azimuth(CameraView(name, b''), SIZE, config) == pytest.approx([np.radians(yaw)])


@pytest.mark.parametrize('bad, message', [
    (CameraView('cam_mast', b''), "'cam_mast'.*direction is unknown.*nominal_views"),
    (view(rotation=np.ones((3, 3))), "'cam_front'.*rotation"),
    (view(intrinsics=np.diag([800.0, 0, 1])), "'cam_front'.*focal lengths"),
    (view(intrinsics=np.full((3, 3), np.inf)), "'cam_front'.*focal lengths"),
    (view(intrinsics=np.eye(2)), "'cam_front'.*focal lengths")])
def test_a_view_of_unknown_direction_is_refused_by_name(bad, message):
    with pytest.raises(ImageError, match=message):
        column_azimuths(bad, SIZE, 4, CONFIG)


def test_columns_lie_between_their_edges(picture):
    view = CameraView('left', picture, rotation=facing(1.2))
    edges = column_edges(view, (160, 90), 8, CameraConfig())
    middles = column_azimuths(view, (160, 90), 8, CameraConfig())
    assert (edges[:-1] > middles).all() and (middles > edges[1:]).all()
    assert np.degrees(edges[0] - edges[-1]) == pytest.approx(65, abs=1e-3)


def test_slopes_fall_from_row_to_row_within_the_part_that_is_kept(picture):
    view = CameraView('front', picture, np.array([[100.0, 0, 79.5], [0, 100, 44.5], [0, 0, 1]]), facing(0.4))
    slopes = ray_slopes(view, (160, 90), 3, 5, CameraConfig(top=0.5, bottom=0.8))
    assert slopes[:, 2] == pytest.approx([-0.045, -0.135, -0.225], abs=1e-5)
    assert (np.abs(slopes[:, 0]) < np.abs(slopes[:, 2])).all()


def test_a_lens_bends_columns_and_slopes_alike(picture):
    pinhole = np.array([[60.0, 0, 79.5], [0, 60, 44.5], [0, 0, 1]])
    view = CameraView('front', picture, pinhole, facing(0.4), distortion=Distortion(EQUIDISTANT))
    edges = column_edges(view, (160, 90), 2, CONFIG)
    assert edges - 0.4 == pytest.approx([80 / 60, 0, -80 / 60], abs=1e-6)
    assert axis_azimuth(view, (160, 90), CONFIG) == pytest.approx([0.4])
    slopes = ray_slopes(view, (160, 90), 3, 1, CONFIG)
    assert np.arctan(slopes[:, 0]) == pytest.approx([0.5, 0, -0.5], abs=1e-6)
    whole_sphere = replace(view, intrinsics=pinhole / [[4], [4], [1]])
    assert np.isfinite(ray_slopes(whole_sphere, (160, 90), 3, 5, CONFIG)).all()


def test_a_camera_without_intrinsics_has_no_distortion_either():
    bent = view(intrinsics=None, distortion=Distortion(EQUIDISTANT))
    assert np.array_equal(column_azimuths(bent, SIZE, 4, CONFIG),
                          column_azimuths(view(intrinsics=None), SIZE, 4, CONFIG))


def about(axis, degrees):
    """Rotation about x, y or z."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    others = [(1, 2), (2, 0), (0, 1)]['xyz'.index(axis)]
    turn[np.ix_(others, others)] = [[cos, -sin], [sin, cos]]
    return turn


@given(st.floats(-180, 180), st.floats(-40, 40))
def test_the_body_of_a_camera_looks_along_x_and_its_optical_frame_along_z(yaw, pitch):
    body = about('z', yaw) @ about('y', pitch)
    optical = body @ facing(0.)
    for frame in ('camera_link', 'camera_optical_frame'):
        rotation, amiss = optical_rotation(optical, frame)
        assert np.array_equal(rotation, optical) and not amiss
    rotation, amiss = optical_rotation(body, 'camera_link')
    assert np.allclose(rotation, optical)
    assert "'camera_link' is not an optical frame" in amiss and "'camera_optical_frame'" in amiss


def test_a_frame_that_is_called_optical_is_one_but_a_wrong_axis_is_said():
    rotation, amiss = optical_rotation(np.eye(3), 'eye_optical')
    assert np.array_equal(rotation, np.eye(3)) and 'z axis points 90 degrees up; check its transform' in amiss


def test_what_the_name_tells():
    assert nominal_yaw('cam_back', CONFIG) == pytest.approx(np.pi)
    assert nominal_yaw('camera', CONFIG) is None


def test_the_size_of_an_image_is_read_without_decoding_it(picture):
    stream = BytesIO()
    Image.fromarray(picture).save(stream, 'JPEG')
    assert image_size(picture) == image_size(stream.getvalue()) == (picture.shape[1], picture.shape[0])
    assert image_size(b'no image') is None


def small(limit):
    return st.floats(-limit, limit)


brown = st.builds(lambda *numbers: Distortion(BROWN, numbers), small(.3), small(.1), small(.005), small(.005),
                  small(.02), small(.2), small(.05), small(.01), *[small(.005)] * 4, small(.03), small(.03))
fisheye = st.builds(lambda *numbers: Distortion(EQUIDISTANT, numbers), small(.1), small(.02), small(.005),
                    small(.001))
points = st.lists(st.tuples(small(.7), small(.5)), min_size=1, max_size=20).map(np.array)


@given(st.one_of(brown, fisheye), points)
def test_what_is_undistorted_and_distorted_again_is_where_it_was(lens, at):
    rays, told = undistort(lens, at)
    assert np.linalg.norm(rays, axis=1) == pytest.approx(np.ones(len(at)))
    assert distort(lens, rays)[told] == pytest.approx(at[told], abs=1e-6)


@given(st.one_of(brown, fisheye), st.floats(0, 6.3), st.floats(0, .3))
def test_of_several_solutions_the_one_nearest_to_the_middle_is_found(lens, around, out):
    ray = np.array([[np.sin(out) * np.cos(around), np.sin(out) * np.sin(around), np.cos(out)]])
    found, told = undistort(lens, distort(lens, ray))
    assert told.all() and found == pytest.approx(ray, abs=1e-6)


@given(st.lists(st.floats(-1e3, 1e3), max_size=4), st.sampled_from([BROWN, EQUIDISTANT]),
       st.lists(st.tuples(small(1e3), small(1e3)), min_size=1, max_size=9).map(np.array))
def test_any_coefficients_give_directions(numbers, family, at):
    rays, _ = undistort(Distortion(family, tuple(numbers)), at)
    assert np.linalg.norm(rays, axis=1) == pytest.approx(np.ones(len(at)))


def test_known_values():
    """Of cv2.undistortPoints and cv2.fisheye.undistortPoints."""
    for lens, degrees in ((Distortion(BROWN, (-.35, .12)), 34.98), (Distortion(EQUIDISTANT), np.degrees(.6))):
        rays, told = undistort(lens, np.array([[.6, 0], [0, .6], [0, 0]]))
        away = np.degrees(np.arccos(rays[:, 2]))
        assert told.all() and away == pytest.approx([degrees, degrees, 0], abs=.01)


def test_a_fisheye_sees_behind_itself():
    rays, told = undistort(Distortion(EQUIDISTANT), np.array([[2., 0]]))
    assert told.all() and rays == pytest.approx(np.array([[np.sin(2), 0, np.cos(2)]]))


def test_beyond_where_a_model_folds_back_the_last_direction_holds():
    fold = Distortion(BROWN, (-.35,))  # x - .35 x ** 3 is .6506 at most, at x = .976
    rays, told = undistort(fold, np.array([[.65, 0], [.7, 0], [5., 0]]))
    assert told.tolist() == [True, False, False]
    assert np.degrees(np.arctan2(rays[:, 0], rays[:, 2])) == pytest.approx([43.5, 43.9, 43.9], abs=.5)


@pytest.mark.parametrize('lens', [None, Distortion(BROWN, (-.2, .05, .001, -.001)),
                                  Distortion(EQUIDISTANT, (.02, -.003))])
def test_points_along_the_rays_of_pixels_are_projected_to_them(lens):
    matrix = np.array([[400., 0, 319.5], [0, 410, 179.5], [0, 0, 1]])
    view = CameraView('eye', np.zeros((1, 1, 3), np.uint8), matrix, facing(.7), distortion=lens)
    pixels = np.random.default_rng(0).uniform((0, 0), (640, 360), (50, 2))
    rays = pixel_rays(view, (640, 360), pixels, CameraConfig())
    there, ahead = project_points(view, (640, 360), 7 * rays, CameraConfig())
    assert there == pytest.approx(pixels, abs=1e-3) and (ahead > 0).all()
    assert (project_points(view, (640, 360), -rays, CameraConfig())[1] < 0).all()

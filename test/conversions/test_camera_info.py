"""Camera calibration from messages."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from sensor_msgs.msg import CameraInfo

from mpnp_ros.conversions.camera_info import calibration, intrinsics, is_rectified_topic
from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.calibration import BROWN, EQUIDISTANT, Distortion, column_azimuths, facing
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.images import CameraView

K = [800.0, 0.0, 400.0, 0.0, 810.0, 300.0, 0.0, 0.0, 1.0]
P = [700.0, 0.0, 390.0, 5.0, 0.0, 710.0, 290.0, 6.0, 0.0, 0.0, 1.0, 0.0]


def test_rectified_images_take_p_and_others_k():
    info = CameraInfo(k=K, p=P)
    assert intrinsics(info).tolist() == [[700, 0, 390], [0, 710, 290], [0, 0, 1]]
    assert intrinsics(info, rectified=False).ravel().tolist() == K


def test_an_uncalibrated_camera_has_none():
    assert intrinsics(CameraInfo()) is None


def test_region_of_interest_and_binning_are_applied():
    info = CameraInfo(k=K, p=P, binning_x=2, binning_y=4)
    info.roi.x_offset, info.roi.y_offset = 90, 10
    assert intrinsics(info).tolist() == [[350, 0, 150], [0, 177.5, 70], [0, 0, 1]]


@pytest.mark.parametrize('index, value', [(0, -1.0), (4, np.nan), (8, 0.0)])
def test_a_matrix_of_no_camera_is_refused(index, value):
    wrong = list(K)
    wrong[index] = value
    with pytest.raises(ImageError, match='K is not a pinhole matrix'):
        intrinsics(CameraInfo(k=wrong), rectified=False)


def pinhole(focal, width, height, **fields):
    """A camera that looks from the middle of an image of width x height, both matrices given."""
    x, y = (width - 1) / 2, (height - 1) / 2
    return CameraInfo(**{'width': width, 'height': height, 'k': [focal, 0., x, 0., focal, y, 0., 0., 1.],
                         'p': [focal, 0., x, 0., 0., focal, y, 0., 0., 0., 1., 0.]} | fields)


def azimuths(info, size, rectified=True, columns=4):
    """Degrees of the columns of an image with this camera_info."""
    found = calibration(info, size, rectified)
    view = CameraView('eye', b'', found.matrix, facing(0.), distortion=found.distortion)
    return np.degrees(column_azimuths(view, size, columns, CameraConfig()))


def with_roi(info, *roi, binning=(0, 0)):
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = roi
    info.binning_x, info.binning_y = binning
    return info


@pytest.mark.parametrize('info, size', [
    (pinhole(600., 1600, 900), (800, 450)), (pinhole(600., 1600, 900), (1600, 900)),
    (pinhole(600., 1600, 900), (3200, 1800)),
    (pinhole(600., 1600, 900, binning_x=2, binning_y=2), (800, 450)),
    (pinhole(600., 1600, 900, binning_x=2, binning_y=2), (1600, 900)),
    (pinhole(600., 1600, 900, binning_x=2, binning_y=2), (400, 225)),
    (with_roi(pinhole(600., 2000, 1300), 200, 200, 1600, 900), (1600, 900)),
    (with_roi(pinhole(600., 2000, 1300), 200, 200, 1600, 900), (800, 450)),
    (with_roi(pinhole(600., 2000, 1300), 200, 200, 1600, 900, binning=(2, 2)), (800, 450)),
    (with_roi(pinhole(600., 1600, 900), 200, 200, 800, 500), (1600, 900)),
    (pinhole(600., 1601, 901), (800, 450))])
def test_the_size_of_the_image_tells_what_it_was_reduced_by(info, size):
    assert azimuths(info, size) == pytest.approx([45, 18.4, -18.4, -45], abs=.1)
    assert calibration(info, size).concern == ''


def test_an_image_of_another_shape_is_taken_as_cut_and_both_sizes_are_named():
    found = calibration(pinhole(600., 1600, 900), (640, 480))
    assert '640x480' in found.concern and '1600x900' in found.concern
    assert found.matrix == pytest.approx(np.array([[320, 0, 319.5], [0, 320, 239.5], [0, 0, 1]]))


def test_a_size_that_is_not_said_is_that_of_the_image_unless_the_axis_is_far_from_its_middle():
    info = pinhole(600., 1600, 900)
    info.width = info.height = 0
    assert azimuths(info, (1600, 900)) == pytest.approx([45, 18.4, -18.4, -45], abs=.1)
    assert calibration(info, (1600, 900)).concern == ''
    assert azimuths(info, (800, 450)) == pytest.approx([45, 18.4, -18.4, -45], abs=.1)
    assert 'does not say for which size' in calibration(info, (800, 450)).concern


@given(st.floats(.3, 3), st.floats(-.2, .2), st.integers(2, 8), st.sampled_from([(1600, 900), (641, 479)]))
def test_a_resized_image_has_the_same_directions(focal, aside, times, size):
    info = pinhole(focal * size[0], *size)
    info.p[2] += aside * size[0]
    whole, small = azimuths(info, size), azimuths(info, (size[0] * times, size[1] * times))
    assert small == pytest.approx(whole, abs=1e-3)


def test_of_a_matrix_that_is_empty_the_other_takes_the_place():
    only_k, only_p = pinhole(300., 600, 400, p=[0.] * 12), pinhole(300., 600, 400, k=[0.] * 9)
    for info in only_k, only_p:
        for rectified in (True, False):
            found = calibration(info, (600, 400), rectified)
            assert found.matrix[0, 0] == 300 and found.distortion is None and found.concern == ''
    only_k.distortion_model = only_p.distortion_model = 'plumb_bob'
    only_k.d = only_p.d = [-.3, .1, 0., 0., 0.]
    assert 'P is empty' in calibration(only_k, rectified=True).concern
    assert 'K is empty' in calibration(only_p, rectified=False).concern
    assert calibration(only_k, rectified=False).distortion == Distortion(BROWN, (-.3, .1, 0., 0., 0.))
    assert calibration(CameraInfo(d=[.1])).matrix is None


@pytest.mark.parametrize('info, outermost', [
    (pinhole(600., 1920, 1200, distortion_model='equidistant', d=[0.] * 4), 68.75),
    (pinhole(600., 1920, 1200, distortion_model='equidistant'), 68.75),
    (pinhole(600., 1920, 1200, distortion_model='fisheye', d=[0.] * 4), 68.75),
    (pinhole(1000., 1600, 900, distortion_model='plumb_bob', d=[-.35, .12, 0., 0., 0.]), 34.98),
    (pinhole(1000., 1600, 900, distortion_model='', d=[-.35, .12, 0., 0., 0.]), 34.98),
    (pinhole(1000., 1600, 900, distortion_model='rational_polynomial', d=[-.35, .12] + [0.] * 6), 34.98),
    (pinhole(1000., 1600, 900, distortion_model='plumb_bob', d=[0.] * 5), 30.96),
    (pinhole(1000., 1600, 900, distortion_model='plumb_bob'), 30.96)])
def test_directions_of_images_that_are_not_rectified_are_undistorted(info, outermost):
    size = (info.width, info.height)
    assert azimuths(info, size, rectified=False)[[0, 3]] == pytest.approx([outermost, -outermost], abs=.01)
    half = tuple(length // 2 for length in size)
    assert azimuths(info, half, rectified=False)[[0, 3]] == pytest.approx([outermost, -outermost], abs=.01)
    flat = np.degrees(np.arctan(3 / 8 * info.width / info.k[0]))
    assert azimuths(info, size)[[0, 3]] == pytest.approx([flat, -flat], abs=.01)


@pytest.mark.parametrize('model, coefficients, words', [
    ('mystery', [.1], "distortion_model 'mystery' is unknown"), ('', [.1], 'distortion_model is empty'),
    ('plumb_bob', [np.nan], 'not finite'), ('equidistant', [.1] * 5, 'D has 5 numbers'),
    ('plumb_bob', [-.9], 'folds back before the sides')])
def test_what_is_amiss_with_a_distortion_is_said(model, coefficients, words):
    info = pinhole(500., 1000, 600, distortion_model=model, d=coefficients)
    assert words in calibration(info, (1000, 600), rectified=False).concern
    assert calibration(info, (1000, 600)).concern == ''
    assert np.isfinite(azimuths(info, (1000, 600), rectified=False)).all()


def test_zeros_at_the_end_of_a_distortion_are_left_out():
    info = pinhole(500., 1000, 600, distortion_model='equidistant', d=[.1, 0., 0., 0., 0.])
    assert calibration(info, rectified=False).distortion == Distortion(EQUIDISTANT, (.1, 0., 0., 0.))


@pytest.mark.parametrize('topic, rectified', [
    ('/cam_front/image_rect/compressed', True), ('/left/image_rect_color', True),
    ('/infra1/image_rect_raw', True), ('/camera/image_raw', False), ('/camera/image_raw/compressed', False),
    ('/camera/image_color', False), ('/camera/image', False), ('/direct/image', False), ('/rect/image', True),
    ('/rect/image_raw', False), ('/eye/undistorted', True), ('/eye/image_unrectified', False),
    ('/compressed', False)])
def test_the_name_of_the_topic_tells_whether_images_are_rectified(topic, rectified):
    assert is_rectified_topic(topic) is rectified


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=16),
       st.sampled_from(['plumb_bob', 'rational_polynomial', 'equidistant', '', 'other']),
       st.tuples(*[st.integers(0, 3000)] * 2), st.tuples(*[st.integers(1, 3000)] * 2),
       st.tuples(*[st.integers(0, 2000)] * 4), st.tuples(*[st.integers(0, 9)] * 2))
def test_any_camera_info_gives_finite_directions_or_a_named_error(d, model, full, size, roi, binning):
    assume(all(abs(number) < 1e6 or not np.isfinite(number) for number in d))
    info = with_roi(pinhole(700., *full, distortion_model=model, d=d), *roi, binning=binning)
    for rectified in (True, False):
        assert np.isfinite(azimuths(info, size, rectified)).all()

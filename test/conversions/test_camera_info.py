"""Camera calibration from messages."""
from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from sensor_msgs.msg import CameraInfo

from mpnp_ros.conversions.camera_info import intrinsics
from mpnp_ros.errors import ImageError

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

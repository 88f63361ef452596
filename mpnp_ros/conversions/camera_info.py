"""``sensor_msgs/CameraInfo`` -> pinhole matrix."""
from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo

from mpnp_ros.errors import ImageError


def intrinsics(message: CameraInfo, rectified: bool = True) -> np.ndarray | None:
    """Return the [3, 3] pinhole matrix of the images in pixels, or None where the camera is uncalibrated.

    rectified: the images are rectified, so P holds and not K (REP-104).  Binning and the region of
    interest are applied.  Raises ImageError where the matrix is not one of a camera.
    """
    matrix = np.array(message.p if rectified else message.k, np.float64).reshape(3, -1)[:, :3]
    if not matrix.any():
        return None
    if not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0 or not matrix[2, 2]:
        raise ImageError(f'camera_info of {message.header.frame_id!r}: {"P" if rectified else "K"} is not a '
                         'pinhole matrix with positive focal lengths; calibrate the camera again')
    matrix[:2, 2] -= (message.roi.x_offset, message.roi.y_offset)
    matrix[0] /= max(1, message.binning_x)
    matrix[1] /= max(1, message.binning_y)
    return matrix

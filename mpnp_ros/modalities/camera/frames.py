"""Frames of cameras."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mpnp_ros.modalities.camera.calibration import Distortion
    from mpnp_ros.modalities.camera.images import ImageFile


@dataclass(frozen=True, eq=False)
class CameraView:
    """One image of one camera.

    name: unique within the frame, e.g. ``cam_front``.
    image: uint8 RGB [H, W, 3]; or the bytes of an image file, or that as an ImageFile, which is decoded once
        for encoder and judge.
    intrinsics: [3, 3] pinhole matrix in pixels of the full-size image; None or a zero focal length
        (the ROS convention) means uncalibrated.
    rotation: [3, 3] from the camera's optical frame (x right, y down, z ahead) to the base frame
        (x ahead, y left, z up); None means unknown.
    stamp_ns: sensor time, nanoseconds.
    distortion: of the lens, where the image is not rectified; used with intrinsics only.
    position: [3] metres, of the camera in the base frame; None means unknown.
    """

    name: str
    image: np.ndarray | bytes | ImageFile
    intrinsics: np.ndarray | None = None
    rotation: np.ndarray | None = None
    stamp_ns: int = 0
    distortion: Distortion | None = None
    position: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """Images that belong together, any number of any size; ``frame_id`` names their base frame."""

    views: tuple[CameraView, ...]
    frame_id: str = 'base_link'

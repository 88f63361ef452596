"""What messages of detectors hold, in arrays and in the detector's own frame."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.detection.hypotheses import Hypotheses


@dataclass(frozen=True, eq=False)
class SpaceBoxes:
    """Boxes around the robot; n of them, all in the frame ``frame_id``.

    hypotheses: of each, its classes with scores.  centre: [n, 3] metres.  size: [n, 3] metres, NaN: unknown.
    axis: [n, 3] unit vector along the length, NaN: not known.  covariance: [n, 3, 3] of the centre, NaN: not
    known.
    """

    hypotheses: tuple[Hypotheses, ...]
    centre: np.ndarray
    size: np.ndarray
    axis: np.ndarray
    covariance: np.ndarray
    frame_id: str = 'base_link'


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """Boxes in an image; n of them.

    hypotheses: of each, its classes with scores.  corners: [n, 4] pixels, left, top, right and bottom.
    frame_id: of the camera.
    """

    hypotheses: tuple[Hypotheses, ...]
    corners: np.ndarray
    frame_id: str = 'camera'

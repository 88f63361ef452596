"""Boxes as messages of detectors hold them, and where the objects in them are."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_ros.detection.detections import Detections, sectors_between
from mpnp_ros.detection.hypotheses import Hypotheses, NamedObjects
from mpnp_ros.modalities.camera.calibration import Distortion, undistort
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_ros.tokens import SECTORS

HEIGHTS = {'barrier': (1.0, 0.2), 'bicycle': (1.4, 0.3), 'bus': (3.2, 0.3), 'car': (1.6, 0.2),
           'construction vehicle': (3.0, 0.8), 'motorcycle': (1.5, 0.25), 'pedestrian': (1.7, 0.15),
           'traffic cone': (0.75, 0.25), 'trailer': (3.4, 0.7), 'truck': (2.8, 0.7)}
"""Metres, height of objects of each category and its deviation."""
PIXELS, LOOSE = 2.0, 0.05
"""Deviation of the height of a box: pixels, and a share of it."""
CUT_OFF = 0.3
"""Further deviation, as a share, of the height of a box that ends at the border of the image."""
BORDER = 2.0
"""Pixels; a box that ends this near to the border of the image is cut off."""
FARTHEST = 200.0
"""Metres; objects that seem farther away are placed there."""


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


def in_space(boxes: SpaceBoxes, named: NamedObjects, pose: np.ndarray, deviation: float,
             looked: np.ndarray) -> Detections:
    """Return the objects of boxes in space.

    pose: [4, 4] of their frame in the base frame.  deviation: of a distance whose covariance is not
    known, metres.  looked: sectors in which the detector looks, bool [SECTORS].
    """
    turn = pose[:3, :3]
    position = (boxes.centre @ turn.T + pose[:3, 3])[:, :2]
    axis = boxes.axis @ turn.T
    covariance = (turn @ boxes.covariance @ turn.T)[:, :2, :2]
    unit = position / np.hypot(*position.T).clip(1e-6)[:, None]
    variance = np.einsum('ni,nij,nj->n', unit, covariance, unit)
    with np.errstate(invalid='ignore'):
        known = variance > 0
        spread = np.where(known, np.sqrt(np.where(known, variance, 0)), deviation)
    return Detections(position, named.existence, named.categories, size=boxes.size,
                      yaw=np.arctan2(axis[:, 1], axis[:, 0]), range_deviation=spread, looked=looked)


def in_image(boxes: ImageBoxes, named: NamedObjects, pose: np.ndarray, matrix: np.ndarray,
             lens: Distortion | None, size: tuple[int, int]) -> Detections:
    """Return the objects of boxes in an image: their direction, and a distance from their height.

    The deviation of the distance is that of the height of such objects and of the box; where the category is
    not sure it is larger.  pose: [4, 4] of the optical frame in the base frame.  matrix: [3, 3] of the
    camera.  size: width and height of its images.
    """
    left, top, right, bottom = boxes.corners.T
    middle = np.stack([(left + right) / 2, (top + bottom) / 2], 1)
    rays = [_rays(points, matrix, lens, pose) for points in (
        middle, np.stack([middle[:, 0], top], 1), np.stack([middle[:, 0], bottom], 1))]
    unit = rays[0][:, :2] / np.hypot(*rays[0][:, :2].T).clip(1e-6)[:, None]
    steep = [ray[:, 2] / np.hypot(*ray[:, :2].T).clip(1e-6) for ray in rays[1:]]
    tall = (steep[0] - steep[1]).clip(1e-4)
    height, spread = np.array([HEIGHTS[category] for category in CATEGORIES]).T
    far = height / tall[:, None]
    cut = (top <= BORDER) | (bottom >= size[1] - 1 - BORDER)
    vague = np.hypot(PIXELS / (bottom - top).clip(1), LOOSE) + CUT_OFF * cut
    each = far ** 2 * ((spread / height) ** 2 + vague[:, None] ** 2)
    mean = (named.categories * far).sum(1)
    deviation = np.sqrt((named.categories * (each + (far - mean[:, None]) ** 2)).sum(1))
    mean = mean.clip(0.5, FARTHEST)
    row = (size[1] - 1) / 2
    sides = _rays(np.array([[size[0] - 0.5, row], [-0.5, row]]), matrix, lens, pose)
    right_end, left_end = np.arctan2(sides[:, 1], sides[:, 0])
    return Detections(unit * mean[:, None] + pose[:2, 3], named.existence, named.categories,
                      range_deviation=deviation.clip(max=FARTHEST), boxes=boxes.corners,
                      looked=sectors_between(right_end, left_end))


def looked_between(view: Sequence[float]) -> np.ndarray:
    """Return the sectors between two directions in degrees, counter-clockwise; all of them for none."""
    if not view:
        return np.ones(SECTORS, bool)
    return sectors_between(math.radians(view[0]), math.radians(view[1]))


def _rays(points: np.ndarray, matrix: np.ndarray, lens: Distortion | None, pose: np.ndarray) -> np.ndarray:
    """Return the directions [n, 3] of pixels [n, 2] in the base frame."""
    plain = np.linalg.solve(matrix, np.column_stack([points, np.ones(len(points))]).T).T
    if lens is not None:
        plain = undistort(lens, plain[:, :2])[0]
    return plain @ pose[:3, :3].T

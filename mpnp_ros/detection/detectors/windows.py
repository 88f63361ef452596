"""Looks at wide images in overlapping windows, where objects keep more of their pixels."""
from __future__ import annotations

import numpy as np

from mpnp_ros.detection.detectors.base import Boxes, Detector

TOP = 0.3
"""Share of an image above its windows: sky, for a camera that looks level."""
MARGIN = 4
"""Pixels from the side of a window within which a box is cut by it."""


def look(detector: Detector, image: np.ndarray, windows: int = 0) -> Boxes:
    """Return the boxes of the whole image and of windows, in pixels of the image.

    image: uint8 RGB [H, W, 3].  windows: square ones side by side over its lower part.  A box that the side
    of a window cuts is left out; the same object in another window, or in the whole image, stays.
    """
    height, width = image.shape[:2]
    found = []
    for left, top, right, bottom in [(0, 0, width, height), *window_places(width, height, windows)]:
        seen = detector.detect(np.ascontiguousarray(image[top:bottom, left:right]))
        boxes = seen.boxes + np.array([left, top, left, top], np.float32)
        cut = ((left > 0) & (boxes[:, 0] < left + MARGIN) | (top > 0) & (boxes[:, 1] < top + MARGIN)
               | (right < width) & (boxes[:, 2] > right - MARGIN)
               | (bottom < height) & (boxes[:, 3] > bottom - MARGIN))
        found.append(Boxes(boxes, seen.scores).select(~cut))
    return Boxes(np.concatenate([one.boxes for one in found]), np.concatenate([one.scores for one in found]))


def window_places(width: int, height: int, count: int) -> list[tuple[int, int, int, int]]:
    """Return left, top, right and bottom of ``count`` windows over the lower part of an image."""
    top = int(height * TOP)
    side = min(height - top, width)
    starts = np.linspace(0, width - side, count).astype(int) if count > 1 else [(width - side) // 2] * count
    return [(int(left), top, int(left) + side, top + side) for left in starts]

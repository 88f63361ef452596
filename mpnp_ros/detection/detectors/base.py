"""The interface of detectors, and what all of them share.

A detector takes an image and returns boxes with a score for each of its classes.  Wide images are also looked
at in overlapping windows, where objects keep more of their pixels.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

LEAST_SCORE = 0.05
"""Boxes whose best score is below this are not returned."""
MOST_BOXES = 300
"""The most boxes that are returned of one image; the best ones stay."""
WINDOW_TOP = 0.3
"""Share of an image above its windows: sky, for a camera that looks level."""
CUT_MARGIN = 4
"""Pixels; a box that ends this near to the side of a window is cut by it."""

COCO: tuple[str, ...] = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'traffic light',
    'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep', 'cow',
    'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee',
    'skis', 'snowboard', 'sports ball', 'kite', 'baseball bat', 'baseball glove', 'skateboard', 'surfboard',
    'tennis racket', 'bottle', 'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple',
    'sandwich', 'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch',
    'potted plant', 'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote', 'keyboard',
    'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book', 'clock', 'vase', 'scissors',
    'teddy bear', 'hair drier', 'toothbrush')
"""The 80 classes of COCO (arXiv:1405.0312) in the order of their numbers."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes in an image, not yet free of duplicates; n of them.

    boxes: float32 [n, 4] pixels, left, top, right and bottom.  scores: float32 [n, classes], 0..1 each; they
    need not sum to 1.
    """

    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, keep: np.ndarray) -> Boxes:
        """Return the boxes that a mask [n] or indices select."""
        return Boxes(self.boxes[keep], self.scores[keep])


class Detector(Protocol):
    """A frozen network that finds objects in one image.

    classes: names of its classes, in the order of scores.
    sha256: of its weights and of what else decides its output.
    size: (width, height), pixels, to which it shrinks images; smaller images would lose detail.
    """

    classes: tuple[str, ...]
    sha256: str
    size: tuple[int, int]

    def detect(self, image: np.ndarray) -> Boxes:
        """Return the boxes in an image, uint8 RGB [H, W, 3], in its pixels."""
        ...


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image, uint8 [H, W, 3], resized to (width, height); its aspect may change."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def fitted(image: np.ndarray, size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Return the width and height of an image that fits into a size, in multiples of some pixels.

    Its aspect is kept as far as they allow.
    """
    scale = min(size[0] / image.shape[1], size[1] / image.shape[0])
    width, height = (multiple * max(1, round(scale * side / multiple)) for side in image.shape[1::-1])
    return width, height


def best(boxes: np.ndarray, scores: np.ndarray, image: np.ndarray) -> Boxes:
    """Return the best boxes [n, 4] of an image, clipped to it, without empty ones and those of low score."""
    height, width = image.shape[:2]
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4).clip(0, [width, height, width, height])
    top = scores.max(1, initial=0)
    order = np.argsort(-top, kind='stable')[:MOST_BOXES]
    with np.errstate(invalid='ignore'):
        sound = (top[order] >= LEAST_SCORE) & (boxes[order, 2:] > boxes[order, :2]).all(1)
    return Boxes(boxes[order[sound]], np.asarray(scores, np.float32)[order[sound]])


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
        cut = ((left > 0) & (boxes[:, 0] < left + CUT_MARGIN) | (top > 0) & (boxes[:, 1] < top + CUT_MARGIN)
               | (right < width) & (boxes[:, 2] > right - CUT_MARGIN)
               | (bottom < height) & (boxes[:, 3] > bottom - CUT_MARGIN))
        found.append(Boxes(boxes, seen.scores).select(~cut))
    return Boxes(np.concatenate([part.boxes for part in found]),
                 np.concatenate([part.scores for part in found]))


def window_places(width: int, height: int, count: int) -> list[tuple[int, int, int, int]]:
    """Return left, top, right and bottom of ``count`` windows over the lower part of an image."""
    top = int(height * WINDOW_TOP)
    side = min(height - top, width)
    starts = np.linspace(0, width - side, count).astype(int) if count > 1 else [(width - side) // 2] * count
    return [(int(left), top, int(left) + side, top + side) for left in starts]

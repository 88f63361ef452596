"""Conversion of colour mosaics (Bayer patterns) to RGB."""
from __future__ import annotations

import numpy as np

CELLS = {'rggb': (0, 3), 'bggr': (3, 0), 'gbrg': (2, 1), 'grbg': (1, 2)}
"""Which of the four pixels of a cell, numbered row by row, are red and blue."""


def demosaic(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """Return [H, W, 3] RGB of a mosaic [H, W]: the four pixels of a cell share one colour.

    The result has the size of the image, so that its calibration holds; encoders shrink it anyway.
    """
    (height, width), (red, blue) = mosaic.shape, CELLS[pattern]
    mosaic = np.pad(mosaic, [(0, size % 2) for size in mosaic.shape], mode='edge')
    cells = [mosaic[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    first, second = (cells[index] for index in range(4) if index not in (red, blue))
    green = ((first.astype(np.uint32) + second) >> 1).astype(mosaic.dtype)
    small = np.stack([cells[red], green, cells[blue]], axis=-1)
    return small.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]

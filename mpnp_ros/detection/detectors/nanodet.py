"""NanoDet-Plus in the format of ncnn, from a folder on disk."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from mpnp_ros.detection.detectors.base import COCO, LEAST_SCORE, Boxes, best, resized
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.files import sha256_of

STRIDES, SIDES = (8, 16, 32, 64), 32
"""Cells of the four output levels, pixels, and how many numbers of each say where the sides of a box are."""
MEAN, NORM = (103.53, 116.28, 123.675), (1 / 57.375, 1 / 57.12, 1 / 58.395)
MULTIPLE = 64
WIDTH = 1024
INSTALL = 'pip install --no-deps ncnn'


class NanoDet:
    """See :class:`mpnp_ros.detection.detectors.base.Detector`.

    folder: with one .param and one .bin of the same name, and classes.txt with a name in each line where the
    classes are not those of COCO.  width: that images are shrunk to, pixels, 0: 1024; their aspect is kept up
    to a multiple of 64.  Raises ConfigurationError without the package ncnn, WeightsError for other files.
    """

    def __init__(self, folder: Path, threads: int = 0, width: int = 0) -> None:
        try:
            import ncnn
        except ImportError:
            raise ConfigurationError(f'the detector {folder} is run by ncnn, which is not installed: '
                                     f'{INSTALL}') from None
        files = sorted(folder.glob('*.param'))
        if len(files) != 1 or not files[0].with_suffix('.bin').is_file():
            raise WeightsError(f'{folder} must hold one .param file and the .bin file of the same name')
        self._ncnn, self._width = ncnn, width or WIDTH
        self._net = ncnn.Net()
        if threads:
            self._net.opt.num_threads = threads
        if self._net.load_param(str(files[0])) or self._net.load_model(str(files[0].with_suffix('.bin'))):
            raise WeightsError(f'ncnn cannot read {files[0]} and its .bin file; fetch them again')
        self._input, self._output = self._net.input_names()[0], self._net.output_names()[0]
        names = folder / 'classes.txt'
        self.classes = tuple(filter(None, map(str.strip, names.read_text().splitlines()))) \
            if names.is_file() else COCO
        self.sha256 = f'{sha256_of(files[0])} {sha256_of(files[0].with_suffix(".bin"))} {self._width}'
        self.size = (self._width, self._width * 9 // 16)

    def detect(self, image: np.ndarray) -> Boxes:
        """See Detector."""
        size = (self._width, max(MULTIPLE, round(self._width * image.shape[0] / image.shape[1] / MULTIPLE)
                                 * MULTIPLE))
        given = self._ncnn.Mat.from_pixels(np.ascontiguousarray(resized(image, size)),
                                           self._ncnn.Mat.PixelType.PIXEL_RGB2BGR, *size)
        given.substract_mean_normalize(MEAN, NORM)
        run = self._net.create_extractor()
        run.input(self._input, given)
        _, output = run.extract(self._output)
        rows, cells = np.array(output), cells_of(size)
        rows = rows.T if rows.shape[0] == len(self.classes) + SIDES else rows
        if rows.shape != (len(cells), len(self.classes) + SIDES):
            raise WeightsError(f'the network gives {list(rows.shape)} numbers; a NanoDet-Plus of '
                               f'{len(self.classes)} classes gives '
                               f'{[len(cells), len(self.classes) + SIDES]}; name its classes in classes.txt '
                               'beside it')
        scores = rows[:, :len(self.classes)]
        keep = scores.max(1) >= LEAST_SCORE
        boxes = boxes_of(rows[keep, len(self.classes):], cells[keep])
        return best(boxes * np.tile(np.divide(image.shape[1::-1], size), 2), scores[keep], image)


def cells_of(size: tuple[int, int], strides: tuple[int, ...] = STRIDES, middle: float = 0.) -> np.ndarray:
    """Return the cells of all levels for an input (width, height), [n, 3]: x, y and stride, pixels.

    middle: place of the point that boxes are measured from, as a share of the cell.
    """
    levels = []
    for stride in strides:
        y, x = np.mgrid[:-(-size[1] // stride), :-(-size[0] // stride)]
        levels.append(np.stack([(x.ravel() + middle) * stride, (y.ravel() + middle) * stride,
                                np.full(x.size, stride)], 1))
    return np.concatenate(levels).astype(np.float32)


def boxes_of(sides: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return boxes [n, 4] from logits of how many cells away each side is, [n, 4 * m], and cells [n, 3]."""
    bins = sides.reshape(len(sides), 4, sides.shape[1] // 4)
    bins = np.exp(bins - bins.max(-1, keepdims=True, initial=-np.inf))
    reach = (bins / bins.sum(-1, keepdims=True)) @ np.arange(bins.shape[2]) * cells[:, 2:]
    return np.concatenate([cells[:, :2] - reach[:, :2], cells[:, :2] + reach[:, 2:]], 1)

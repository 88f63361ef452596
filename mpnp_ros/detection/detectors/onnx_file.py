"""Detectors in ONNX files; a YAML file beside each describes its input and output."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from mpnp_ros.detection.detectors.base import COCO, Boxes, best, resized
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.files import sha256_of
from mpnp_ros.options import Options, option

INSTALL = 'pip install onnxruntime'
GREY = 114


@dataclass(frozen=True)
class OnnxFormat(Options):
    """What ``detector.yaml`` beside ``detector.onnx`` says."""

    width: int = option(640, 'width of the input', unit='pixel', low=32, high=4096)
    height: int = option(640, 'height of the input', unit='pixel', low=32, high=4096)
    letterbox: bool = option(False, 'keep the aspect and fill the rest with grey')
    colours: str = option('rgb', 'order of the channels', choices=('rgb', 'bgr'))
    scale: float = option(1 / 255, 'what values 0..255 are multiplied by first', low=1e-6, high=1.)
    mean: tuple[float, ...] = option((0., 0., 0.), 'what is subtracted then, for each channel')
    std: tuple[float, ...] = option((1., 1., 1.), 'what is divided by then, for each channel', low=1e-6)
    boxes: str = option('', 'name of the output with the boxes; empty: the first')
    scores: str = option('', 'name of the output with the scores; empty: they follow the numbers of a box')
    objectness: bool = option(False, 'one number before the scores multiplies them, as in YOLOv5')
    box: str = option('cxcywh', 'the four numbers: corners, corner and size, or middle and size',
                      choices=('xyxy', 'xywh', 'cxcywh'))
    unit: str = option('pixel', 'what they count: pixels of the input, or shares of it',
                       choices=('pixel', 'share'))
    activation: str = option('none', 'what makes probabilities of the scores',
                             choices=('none', 'sigmoid', 'softmax'))
    classes: tuple[str, ...] = option((), 'names of the scores in their order; empty: the 80 of COCO')

    def check(self) -> Iterator[str]:
        """There are three channels."""
        for name in ('mean', 'std'):
            if len(self[name]) != 3:
                yield f'{name} has {len(self[name])} entries; give one for each of three channels'


class OnnxDetector:
    """See :class:`mpnp_ros.detection.detectors.base.Detector`.

    path: of the ONNX file; its YAML file has the same name and ending .yaml.  Raises ConfigurationError
    without the package onnxruntime or for a wrong YAML file, WeightsError for a file that cannot be run.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ConfigurationError(f'the detector {path} is run by onnxruntime, which is not installed: '
                                     f'{INSTALL}') from None
        described = path.with_suffix('.yaml')
        if not path.is_file() or not described.is_file():
            raise WeightsError(f'{path} or {described.name} beside it is missing; the second says what the '
                               'network takes and gives')
        self.format = OnnxFormat.from_mapping(yaml.safe_load(described.read_text()) or {}, described)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options,
                                                         providers=onnxruntime.get_available_providers())
        except Exception as error:  # onnxruntime raises classes of its own that share no base
            raise WeightsError(f'{path} cannot be run ({error}); fetch it again') from None
        self.classes = self.format.classes or COCO
        self.sha256 = f'{sha256_of(path)} {sorted(asdict(self.format).items())}'
        self.size = (self.format.width, self.format.height)

    def detect(self, image: np.ndarray) -> Boxes:
        """See Detector."""
        picture, scale = self._picture(image)
        names = [output.name for output in self._session.get_outputs()]
        given = dict(zip(names, self._session.run(None, {self._session.get_inputs()[0].name: picture}),
                         strict=True))
        boxes, scores = split_output(given, self.format, len(self.classes))
        return best(boxes / scale, scores, image)

    def _picture(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the input [1, 3, H, W] and by what pixels of the image are multiplied there [4]."""
        form = self.format
        scale = np.divide(self.size, image.shape[1::-1])
        if form.letterbox:
            scale = np.full(2, scale.min())
        width, height = (int(size) for size in np.round(scale * image.shape[1::-1]).clip(1))
        picture = np.full((form.height, form.width, 3), GREY, np.uint8)
        picture[:height, :width] = resized(image, (width, height))
        channels = picture[..., ::-1] if form.colours == 'bgr' else picture
        mean, std = np.array(form.mean, np.float32), np.array(form.std, np.float32)
        values = (channels.astype(np.float32) * form.scale - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32), np.tile(scale, 2)


def split_output(given: dict[str, np.ndarray], form: OnnxFormat,
                 classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes [n, 4], corners in pixels of the input, and scores [n, classes] from outputs by name.

    Raises WeightsError where they do not have the shapes that the format says.
    """
    for name in filter(None, (form.boxes, form.scores)):
        if name not in given:
            raise WeightsError(f'the network has no output {name!r}; it has {", ".join(given)}')
    extra = classes + form.objectness
    boxes = _rows(given[form.boxes] if form.boxes else next(iter(given.values())),
                  4 if form.scores else 4 + extra)
    scores = _rows(given[form.scores], extra) if form.scores else boxes[:, 4:]
    if form.activation == 'sigmoid':
        scores = 1 / (1 + np.exp(-scores.clip(-50, 50)))
    elif form.activation == 'softmax':
        scores = np.exp(scores - scores.max(1, keepdims=True))
        scores = scores / scores.sum(1, keepdims=True)
    if form.objectness:
        scores = scores[:, 1:] * scores[:, :1]
    return corners(boxes[:, :4], form.box) * (
        np.tile((form.width, form.height), 2) if form.unit == 'share' else 1), scores


def _rows(output: np.ndarray, width: int) -> np.ndarray:
    """Return an output as rows of a width, [n, width], whichever way round it is."""
    flat: np.ndarray = output.reshape(output.shape[-2:]) if output.ndim >= 2 and output.size == np.prod(
        output.shape[-2:]) else np.zeros((0, 0))
    if flat.shape[-1] != width and flat.shape[0] == width:
        flat = flat.T
    if flat.shape[-1] != width:
        raise WeightsError(f'an output has the shape {list(output.shape)}; expected {width} numbers a box, '
                           'as the YAML file says')
    return flat.astype(np.float32)


def corners(boxes: np.ndarray, kind: str) -> np.ndarray:
    """Return boxes [n, 4] as left, top, right and bottom; kind: xyxy, xywh or cxcywh."""
    if kind == 'xyxy':
        return boxes
    low = boxes[:, :2] - (boxes[:, 2:] / 2 if kind == 'cxcywh' else 0)
    return np.concatenate([low, low + boxes[:, 2:]], 1)

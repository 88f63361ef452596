"""CenterNet with a MobileNetV3, of the 80 classes of COCO: the default, installed from the npm registry.

The weights are in the npm package @vladmandic/human, which is under the MIT licence.  They come from
https://github.com/610265158/mobilenetv3_centernet, which states no licence for them.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpnp_ros.detection.detectors.base import COCO, LEAST_SCORE, MOST_BOXES, Boxes, best, fitted, resized
from mpnp_ros.detection.detectors.npm_weights import CENTERNET
from mpnp_ros.detection.detectors.tfjs import Graph, read_graph
from mpnp_ros.device import choose_device

HEAT, REACH = 'tower_0/keypoints', 'tower_0/wh'
NATIVE, STRIDE, MULTIPLE, WIDTH = (512, 512), 4, 32, 896


class CenterNet:
    """See :class:`mpnp_ros.detection.detectors.base.Detector`.

    The network was trained at 512 x 512.  width: an image is shrunk or enlarged until it fits into width x
    4/7 of it, pixels, 0: 896 x 512; its aspect is kept up to a multiple of 32.  Raises WeightsError where the
    weights are not installed.
    """

    classes = COCO

    def __init__(self, device: str = 'cpu', width: int = 0, folder: Path | None = None) -> None:
        self.graph = Graph(*read_graph((folder or CENTERNET.folder()) / 'centernet.json'), (HEAT, REACH),
                           NATIVE, choose_device(device))
        self.size = (width or WIDTH, (width or WIDTH) * 4 // 7)
        # The number goes up whenever other boxes are read from the output.
        self.sha256 = f'{CENTERNET.files["centernet.bin"]} 1{f" {width}" if width else ""}'

    def detect(self, image: np.ndarray) -> Boxes:
        """See Detector."""
        width, height = fitted(image, self.size, MULTIPLE)
        pixels = torch.from_numpy(resized(image, (width, height)).astype(np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            heat, reach = (output[0].float() for output in self.graph(pixels))
            y, x = (heat.amax(0) >= LEAST_SCORE).nonzero(as_tuple=True)
            score = _peaks(heat, y, x).amax(0)
            score, place = score.topk(min(MOST_BOXES, len(score)))
            place = place[score >= LEAST_SCORE]
            y, x = y[place], x[place]
            centre = STRIDE * torch.stack([x, y], 1)
            near, far = reach[:, y, x].T.split(2, 1)
            boxes = torch.cat([centre - near, centre + far], 1).cpu().numpy()
            scores = heat[:, y, x].T.cpu().numpy()
        return best(boxes * np.tile(np.divide(image.shape[1::-1], (width, height)), 2), scores, image)


def _peaks(heat: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return the heat [classes, n] at some places, 0 where it is higher beside them."""
    here, around = heat[:, y, x], functional.pad(heat, (1, 1, 1, 1))
    highest = torch.stack([around[:, y + down, x + right] for down in range(3) for right in range(3)]).amax(0)
    return torch.where(here == highest, here, 0)

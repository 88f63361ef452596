"""Object detectors of transformers: DETR, RT-DETR, D-FINE, YOLOS and others, by folder or id on the hub."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpnp_ros.detection.detectors.base import Boxes, best, resized
from mpnp_ros.detection.detectors.onnx_file import corners
from mpnp_ros.device import choose_device
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.files import read_json, sha256_of

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIDE = 640


class HubDetector:
    """See :class:`mpnp_ros.detection.detectors.base.Detector`.

    folder: with config.json and model.safetensors; code that comes with weights is not run, and pickled
    weights are not read.  Raises WeightsError.
    """

    def __init__(self, folder: Path, device: str = 'cpu') -> None:
        weights = weights_in(folder)
        try:
            from transformers import AutoModelForObjectDetection
            model = AutoModelForObjectDetection.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises errors of many kinds
            raise WeightsError(f'{folder} holds no object detector that transformers knows '
                               f'({type(error).__name__}: {error})') from None
        self._device = choose_device(device)
        self._model = model.to(self._device).float().eval().requires_grad_(False)
        names = model.config.id2label
        self.classes = tuple(str(names[place]) for place in sorted(names))
        self._input = _Preparation(folder)
        self.size = self._input.size
        self.sha256 = f'{sha256_of(weights)} {self._input}'

    @torch.inference_mode()
    def detect(self, image: np.ndarray) -> Boxes:
        """See Detector."""
        pixels = torch.from_numpy(self._input(image)).to(self._device)
        output = self._model(pixel_values=pixels)
        logits, boxes = output.logits[0].float().cpu(), output.pred_boxes[0].float().cpu().numpy()
        # DETR and YOLOS have one more class, "no object", and a softmax; later ones have a sigmoid each.
        scores = logits.softmax(-1)[:, :-1] if logits.shape[-1] == len(self.classes) + 1 else logits.sigmoid()
        return best(corners(boxes, 'cxcywh') * np.tile(image.shape[1::-1], 2),
                    scores[:, :len(self.classes)].numpy(), image)


class _Preparation:
    """Makes inputs as preprocessor_config.json describes them; without it 640 x 640, as for RT-DETR."""

    def __init__(self, folder: Path) -> None:
        path = folder / 'preprocessor_config.json'
        said: dict[str, Any] = read_json(path, 'configuration', 'fetch it again', WeightsError) \
            if path.exists() else {'size': {'height': SIDE, 'width': SIDE}, 'do_normalize': False}
        size = said.get('size') or {}
        size = {'shortest_edge': size, 'longest_edge': 1333} if isinstance(size, int) else size
        self.shortest, self.longest = size.get('shortest_edge'), size.get('longest_edge')
        self.exact = (size['width'], size['height']) if {'width', 'height'} <= size.keys() else None
        if self.exact is None and self.shortest is None:
            raise WeightsError(f'{path}: size is {size!r}; expected height and width, or shortest_edge')
        self.scale = said.get('rescale_factor', 1 / 255) if said.get('do_rescale', True) else 1.
        normalised = said.get('do_normalize', True)
        self.mean = said.get('image_mean', IMAGENET_MEAN) if normalised else [0.] * 3
        self.std = said.get('image_std', IMAGENET_STD) if normalised else [1.] * 3

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that an image 16 x 9 is shrunk to."""
        return self.exact or self._kept(16 * 120, 9 * 120)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the input [1, 3, H, W] of an image."""
        size = self.exact or self._kept(*image.shape[1::-1])
        values = resized(image, size).astype(np.float32) * np.float32(self.scale)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return ((values - mean) / std).transpose(2, 0, 1)[None].copy()

    def __repr__(self) -> str:
        return str(sorted(vars(self).items()))

    def _kept(self, width: int, height: int) -> tuple[int, int]:
        assert self.shortest is not None  # as there is no exact size
        scale = self.shortest / min(width, height)
        if self.longest:
            scale = min(scale, self.longest / max(width, height))
        return round(width * scale), round(height * scale)


def weights_in(folder: Path) -> Path:
    """Return the file of the weights in a folder of transformers; raises WeightsError where it is missing."""
    weights = folder / 'model.safetensors'
    if not weights.is_file():
        raise WeightsError(f'{weights} is missing; pickled weights are not read: save the model with '
                           'safe_serialization=True')
    return weights


def folder_of(source: str) -> Path:
    """Return a folder itself, or that of an id on the Hugging Face hub; raises ConfigurationError."""
    if Path(source).is_dir():
        return Path(source)
    try:
        from huggingface_hub import snapshot_download
        return Path(snapshot_download(source, allow_patterns=['*.json', '*.txt', 'model.safetensors']))
    except Exception as error:  # the hub raises anything from ValueError to its transport's errors
        raise ConfigurationError(f'the detector {source!r} is neither centernet, nanodet-g, nor a folder or '
                                 'ONNX file that exists, and the Hugging Face hub does not give it '
                                 f'({type(error).__name__}: {error})') from None

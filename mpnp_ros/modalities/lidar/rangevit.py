"""RangeViT's encoder: a convolutional stem and a vision transformer on the range view of a whole sweep.

Ando et al. 2023, valeoai/rangevit; used by arXiv:2312.07886 without its decoder.  The weights come from
:mod:`mpnp_ros.modalities.lidar.convert`.  Module names are those of the checkpoint.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpnp_ros.errors import WeightsError
from mpnp_ros.files import head_of, is_whole, mistaken, read_json
from mpnp_ros.modalities.geometry import (
    azimuth_of,
    heading_of,
    is_level,
    levelled,
    sensor_rotation,
    wrap_azimuth,
)
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import sector_tokens
from mpnp_ros.modalities.lidar.sweep import (
    LidarFrame,
    elevation,
    paint,
    project,
    usable_points,
    view_azimuths,
)
from mpnp_ros.modalities.vision import VisionTransformer, VitShape, pool_columns
from mpnp_ros.modalities.vision_weights import Backbone, freeze, read_safetensors
from mpnp_ros.tokens import ModalityTokens

VERSION = 1  # goes up whenever the code gives other tokens for the same sweep
ROWS, COLUMNS, FOV_UP, FOV_DOWN = 32, 2048, 10.0, -30.0
SHAPE = VitShape(patch=(2, 8), grid=(16, 48), channels=5, epsilon=1e-5, layer_scale=False,
                 interpolation='bilinear')
MEAN = (12.12, 10.88, 0.23, -1.04, 0.21)  # of range, x, y, z, intensity
STD = (12.32, 11.47, 6.91, 0.86, 0.16)


class ResidualContext(nn.Module):
    """SalsaNext's context block: two dilated convolutions beside a 1 x 1 one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 3, dilation=2, padding=2)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act = nn.LeakyReLU()

    def forward(self, view: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W]."""
        shortcut = self.act(self.conv1(view))
        near = self.bn1(self.act(self.conv2(shortcut)))
        return shortcut + self.bn2(self.act(self.conv3(near)))


class ResidualBlock(nn.Module):
    """SalsaNext's residual block: three scales side by side, joined by a 1 x 1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 3, dilation=2, padding=2)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv4 = nn.Conv2d(outputs, outputs, 2, dilation=2, padding=1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.conv5 = nn.Conv2d(3 * outputs, outputs, 1)
        self.bn4 = nn.BatchNorm2d(outputs)
        self.act = nn.LeakyReLU()

    def forward(self, view: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W]."""
        first = self.bn1(self.act(self.conv2(view)))
        second = self.bn2(self.act(self.conv3(first)))
        third = self.bn3(self.act(self.conv4(second)))
        joined = self.bn4(self.act(self.conv5(torch.cat([first, second, third], dim=1))))
        return self.act(self.conv1(view)) + joined


class ConvStem(nn.Module):
    """RangeViT's stem: range view [B, 5, H, W] -> patches [B, width, H / 2, W / 8]."""

    def __init__(self, shape: VitShape, base: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            ResidualContext(shape.channels, base), ResidualContext(base, base), ResidualContext(base, base),
            ResidualBlock(base, hidden))
        high, wide = shape.patch
        self.proj_block = nn.Sequential(
            nn.AvgPool2d((high + 1, wide + 1), stride=shape.patch, padding=(high // 2, wide // 2)),
            nn.Conv2d(hidden, shape.width, 1))

    def forward(self, view: Tensor) -> Tensor:
        """[B, 5, H, W] -> [B, width, H / 2, W / 8]."""
        return self.proj_block(self.conv_block(view))


class RangeVitEncoder:
    """Encode a :class:`LidarFrame` with RangeViT; see :class:`mpnp_ros.modalities.registry.Encoder`.

    Unlike the paper, which averages over all azimuths, there is one token per azimuth sector: mean and
    maximum of its patches after the last block and the final norm.
    """

    modality = 'lidar'

    def __init__(self, config: LidarConfig, backbone: Backbone | None = None) -> None:
        self.config = config
        self.backbone = backbone or load_rangevit(config.backbone, config.device, config.dtype)
        self.token_width = 2 * SHAPE.width
        self.fingerprint = config.fingerprint(self.modality, self.backbone.sha256, VERSION)

    def encode(self, frame: LidarFrame) -> ModalityTokens:
        """Return one token per sector, directed by the sensor's rotation; raises PointCloudError."""
        view, filled = rangevit_view(frame, self.config.min_range)
        azimuth, rotation = view_azimuths(self.config.sectors), sensor_rotation(frame)
        if is_level(rotation):
            level = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)], axis=1)
            azimuth = azimuth_of(level @ rotation.T)
        else:
            azimuth = wrap_azimuth(azimuth + heading_of(rotation))
        return sector_tokens(frame, self.fingerprint, self._values(view, filled), azimuth)

    @torch.inference_mode()
    def _values(self, view: np.ndarray, filled: np.ndarray) -> np.ndarray:
        network = self.backbone.network
        scaled = self.backbone.scaled(torch.from_numpy(view)[None])
        scaled *= torch.from_numpy(filled).to(scaled.device)
        patches = network.norm(network(scaled, (SHAPE.depth,)).patches[0]).float()
        return pool_columns(patches, self.config.sectors)[0].cpu().numpy()


def rangevit_view(frame: LidarFrame, min_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Return RangeViT's input before scaling, in the frame of the sensor, levelled, as it was trained.

    float32 [5, 32, 2048]: range, x, y, z in metres and the intensity as it comes; bool [32, 2048].
    """
    cloud = usable_points(frame, min_range)
    points = levelled(frame, cloud.points)
    pixels = project(np.arctan2(points[:, 1], points[:, 0]), elevation(points, cloud.distance), ROWS, COLUMNS,
                     FOV_UP, FOV_DOWN)
    fields = np.concatenate([cloud.distance[None], points.T, cloud.intensity[None]])
    return paint(pixels, cloud.distance, fields, ROWS, COLUMNS)


def is_rangevit(folder: str) -> bool:
    """Return whether ``folder`` was made by the converter."""
    try:
        content = json.loads((Path(folder) / 'config.json').read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get('model_type') == 'rangevit'


def load_rangevit(folder: str, device: str = 'auto', dtype: str = 'auto') -> Backbone:
    """Load a converted checkpoint; raises WeightsError if a file of it was changed or damaged."""
    path = Path(folder)
    source = read_json(path / 'config.json', 'configuration', 'convert the checkpoint again', WeightsError)
    source = source.get('source_sha256') if isinstance(source, dict) else None
    if not isinstance(source, str):
        raise WeightsError(f'{path / "config.json"} has no source_sha256; convert the checkpoint again')
    weights = path / 'model.safetensors'
    if weights.is_file() and (fault := mistaken(head_of(weights))):
        raise WeightsError(f'{weights} {fault}')
    if not is_whole(path, f'rangevit {source}'):
        raise WeightsError(f'{folder} was changed or is damaged; convert the checkpoint again')
    state = read_safetensors(path / 'model.safetensors')
    return freeze(build_rangevit(), state, source, MEAN, STD, device, dtype)


def build_rangevit() -> VisionTransformer:
    """Return RangeViT's encoder without weights."""
    return VisionTransformer(SHAPE, ConvStem(SHAPE))

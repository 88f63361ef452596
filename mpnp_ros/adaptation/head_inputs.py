"""Inputs of heads from key frames: computed once and cached, one folder a frame."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from mpnp_ros.adaptation.key_frames import SENSOR_FRAMES, camera_frame, frame_identity
from mpnp_ros.files import cache_root, cached_folder, write_file
from mpnp_ros.modalities.base import EncoderConfig
from mpnp_ros.modalities.camera import ring
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.lidar import polar as lidar_polar
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.radar import polar as radar_polar
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.vision_weights import Backbone
from mpnp_ros.nuscenes.key_frame import KeyFrame

ARRAYS = 'inputs.safetensors'

Inputs = dict[str, Tensor]
"""Arguments of a head's network for one frame, without the batch dimension; features in float16."""


class HeadInput(Protocol):
    """Makes the inputs of one kind of head.

    kind: camera, lidar or radar; backbone: sha256 of the weights it uses, or empty; options: what of the
    encoder's options shapes the inputs; shape: what of the network's arguments does.
    """

    kind: str
    backbone: str
    options: Mapping[str, Any]
    shape: Mapping[str, Any]

    def read(self, frame: KeyFrame) -> Inputs:
        """Return the inputs of a key frame."""
        ...


@dataclass(frozen=True)
class CameraRegion:
    """Which part of images a camera head reads and how: options of :class:`CameraConfig` and patch rows.

    The default keeps what is between sky and bonnet in images like those of nuScenes.
    """

    blocks: tuple[int, ...] = (8, 11)
    height: int = 126
    width: int = 392
    top: float = 0.36
    bottom: float = 0.92
    rows: int = 4
    columns: int = 28


class CameraInput:
    """Features of all views of a key frame."""

    kind = 'camera'

    def __init__(self, backbone: Backbone, region: CameraRegion | None = None) -> None:
        options = asdict(region or CameraRegion())
        network = backbone.network
        self.shape = {'features': len(options['blocks']) * network.shape.width, 'rows': options.pop('rows'),
                      'columns': options['columns']}
        self.options, self.backbone, self._weights = options, backbone.sha256, backbone
        self._config = replace(CameraConfig(tokens='objects'), **options)
        network.check(self._config.height, self._config.width, self._config.blocks)

    def read(self, frame: KeyFrame) -> Inputs:
        """See :class:`HeadInput`."""
        made = ring.camera_ring(camera_frame(frame), self._config, self._weights, self.shape['rows'],
                                self.shape['columns'])
        return {**made._asdict(), 'features': made.features.half()}


class PolarInput:
    """The polar grid of a key frame.  Subclasses define the sensor and the grid."""

    kind: str
    backbone = ''
    grid: ModuleType
    config: EncoderConfig

    def __init__(self, azimuths: int = 288, ranges: int = 40) -> None:
        self.shape = {'features': self.grid.FEATURES, 'azimuths': azimuths, 'ranges': ranges}
        self.options = {'min_range': self.config.min_range}

    def read(self, frame: KeyFrame) -> Inputs:
        """See :class:`HeadInput`."""
        seen = SENSOR_FRAMES[self.kind](frame)
        grid = self.grid.polar_grid(seen, self.config, self.shape['azimuths'], self.shape['ranges'])
        return {'grid': torch.from_numpy(grid).half()}


class LidarInput(PolarInput):
    """The polar grid of a sweep."""

    kind, grid, config = 'lidar', lidar_polar, LidarConfig(backbone='polar')


class RadarInput(PolarInput):
    """The polar grid of the scans of all radars."""

    kind, grid, config = 'radar', radar_polar, RadarConfig()


def cached_inputs(frame: KeyFrame, source: HeadInput, cache: str | Path | None = None) -> Inputs:
    """Return the inputs of a key frame, cached by its files.

    cache: folder, default :func:`mpnp_ros.files.cache_root`.
    """
    recipe, identity = recipe_of(source), frame_identity(frame, source.kind)
    folder = cache_root(cache) / 'inputs' / f'{source.kind}-{recipe[:12]}'
    folder.mkdir(parents=True, exist_ok=True)

    def build(empty: Path) -> None:
        write_file(empty / ARRAYS, save({name: one.contiguous() for name, one in source.read(frame).items()}))

    return load_file(cached_folder(folder / identity[:16], f'{recipe} {identity}', build) / ARRAYS)


def recipe_of(source: HeadInput) -> str:
    """Return a sha256 of everything that shapes the inputs besides the frame."""
    versions = {'camera': ring.VERSION, 'lidar': lidar_polar.VERSION, 'radar': radar_polar.VERSION}
    text = json.dumps([source.kind, versions[source.kind], source.backbone, source.options, source.shape],
                      sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

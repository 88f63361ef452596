"""The LiDAR encoder that finds objects: one token an object, with its category and whether it moves."""
from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch

from mpnp_ros.detection.classes import CHANNEL_COUNT
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.detection_grid import LENGTH, VERSION, detection_grid
from mpnp_ros.modalities.lidar.detection_network import DetectionNetwork, find
from mpnp_ros.modalities.lidar.encoder import sectors_looked_at
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.questions.vocabulary import CATEGORIES, CATEGORY_OF_CHANNEL, CHANNELS
from mpnp_ros.tokens import ModalityTokens

DEVIATION = 0.3
"""Metres: standard deviation of the distance of an object, about half a cell."""
_MOVING = np.array([status == 'moving' for _, status in CHANNELS])
_RIDDEN = np.array([status == 'with rider' for _, status in CHANNELS])


class LidarDetectionEncoder:
    """Encode a :class:`LidarFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

    One token an object: the probability that it is there, divided among :attr:`channels`.  What moves is seen
    only with the earlier sweep of the frame.
    """

    modality = 'lidar'
    channels, token_width = CHANNELS, CHANNEL_COUNT
    looks_back = True
    """Whether it uses the earlier sweep of a frame."""

    def __init__(self, config: LidarConfig, head: Head | None = None) -> None:
        self.head = head or load_head(config.head, self.modality)
        self.network = cast(DetectionNetwork, self.head.network)
        self.config, self.limits = self.head.configure(config), self.head.limits
        manifest = self.head.manifest
        self._table = np.array(manifest.calibration or (0., 0., 1., 1.)).reshape(-1, 2).T
        self.fingerprint = self.config.fingerprint(
            self.modality, f'{manifest.sha256} {list(manifest.calibration)}', VERSION)

    def encode(self, frame: LidarFrame) -> ModalityTokens:
        """Return one token an object; raises PointCloudError where no point can be used."""
        return self.tokens(self.detect(frame))

    def tokens(self, found: Detections) -> ModalityTokens:
        """Return the tokens of what :meth:`detect` gives."""
        made = detection_tokens(found, self.modality, self.fingerprint, self.limits['max_distance'])
        return replace(made, **self.limits)

    def detect(self, frame: LidarFrame) -> Detections:
        """Return the objects around the robot; raises PointCloudError where no point can be used."""
        network = self.network
        grid = detection_grid(frame, self.config, network.azimuths, network.ranges)
        with torch.inference_mode():
            found = find(network(torch.from_numpy(grid)[None])[0])
        count, known = len(found.mass), self.head.manifest.known
        told = {category for category, _ in (CHANNELS if known is None else known)}
        return Detections(
            found.position, np.interp(found.mass, *self._table), found.categories.clip(0, 1),
            moving=_share(found.categories, found.statuses, _MOVING),
            rider=_share(found.categories, found.statuses, _RIDDEN), statuses=found.statuses.clip(0, 1),
            range_deviation=np.full(count, DEVIATION), sources=(frame.name,),
            source_index=np.zeros(count, np.uint16), known=np.array([name in told for name in CATEGORIES]),
            looked=sectors_looked_at(frame), max_distance=network.ranges * LENGTH, stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id)


def _share(categories: np.ndarray, statuses: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the probability [n] of a status of the objects whose categories have it; wanted: bool [24]."""
    weight = categories[:, np.array(CATEGORY_OF_CHANNEL)[wanted]]
    share = (weight * statuses[:, wanted]).sum(1) / weight.sum(1).clip(1e-9)
    return np.where(weight.sum(1) > 1e-9, share.clip(0, 1), np.nan)

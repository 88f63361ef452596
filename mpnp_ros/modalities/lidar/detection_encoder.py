"""The LiDAR encoder that finds objects: one token an object, with its category and whether it moves."""
from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch

from mpnp_ros.detection.classes import CHANNEL_COUNT
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.modalities.detection_network import LENGTH, DetectionNetwork
from mpnp_ros.modalities.grid_objects import detections_of, find
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.detection_grid import VERSION, detection_grid
from mpnp_ros.modalities.lidar.encoder import sectors_looked_at
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens


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
        return detections_of(
            found, self.head.manifest, network.ranges * LENGTH, sources=(frame.name,),
            source_index=np.zeros(len(found.mass), np.uint16), looked=sectors_looked_at(frame),
            stamp_ns=frame.stamp_ns, frame_id=frame.frame_id)

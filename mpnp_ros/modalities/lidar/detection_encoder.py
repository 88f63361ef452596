"""The LiDAR encoder that finds objects: one token an object, with its category and whether it moves."""
from __future__ import annotations

from typing import cast

import numpy as np
import torch

from mpnp_ros.detection.detections import Detections
from mpnp_ros.modalities.detection_network import LENGTH, DetectionNetwork
from mpnp_ros.modalities.grid_objects import ObjectEncoder, detections_of, find
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.inference import for_inference
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.detection_grid import VERSION, detection_grid
from mpnp_ros.modalities.lidar.encoder import sectors_looked_at
from mpnp_ros.modalities.lidar.sweep import LidarFrame


class LidarDetectionEncoder(ObjectEncoder):
    """Encode a :class:`LidarFrame`; see :class:`~mpnp_ros.modalities.grid_objects.ObjectEncoder`."""

    modality = 'lidar'

    def __init__(self, config: LidarConfig, head: Head | None = None) -> None:
        self.head = head or load_head(config.head, self.modality)
        self.network = cast(DetectionNetwork, self.head.network)
        self._fast = for_inference(self.network)
        self.config = self.head.configure(config)
        manifest = self.head.manifest
        self.fingerprint = self.config.fingerprint(
            self.modality, f'{manifest.sha256} {list(manifest.calibration)}', VERSION)

    def detect(self, frame: LidarFrame) -> Detections:
        """Return the objects around the robot; raises PointCloudError where no point can be used."""
        network = self.network
        grid = detection_grid(frame, self.config, network.azimuths, network.ranges)
        with torch.inference_mode():
            found = find(self._fast(torch.from_numpy(grid)[None])[0])
        return detections_of(
            found, self.head.manifest, network.ranges * LENGTH, sources=(frame.name,),
            source_index=np.zeros(len(found.mass), np.uint16), looked=sectors_looked_at(frame),
            stamp_ns=frame.stamp_ns, frame_id=frame.frame_id)

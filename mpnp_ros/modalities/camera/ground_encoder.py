"""The camera encoder whose head finds objects: one token an object, with its category and what moves."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.lift import Camera, sectors_seen
from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.detection_encoder import calibrated
from mpnp_ros.modalities.camera.ground_network import (
    EARLIER_HEIGHTS,
    HEIGHTS,
    GroundNetwork,
    Places,
    places_in,
)
from mpnp_ros.modalities.camera.images import CameraFrame, load_view
from mpnp_ros.modalities.detection_network import AZIMUTHS, LENGTH, RANGES
from mpnp_ros.modalities.grid_objects import ObjectEncoder, detections_of, find
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.tokens import NO_SOURCE

VERSION = 1  # goes up whenever `ground_inputs` gives other values for the same images
WHITE = 255
SHAPING = 'height', 'width', 'top', 'bottom', 'camera_height'
"""Options that shape the tokens."""


class CameraGroundEncoder(ObjectEncoder):
    """Encode a :class:`CameraFrame`; see :class:`~mpnp_ros.modalities.grid_objects.ObjectEncoder`."""

    modality = 'camera'

    def __init__(self, config: CameraConfig, head: Head | None = None) -> None:
        self.head = head or load_head(config.head, self.modality)
        self.network = cast(GroundNetwork, self.head.network)
        self.config = self.head.configure(config)
        manifest = self.head.manifest
        shaping = CameraConfig(**{name: self.config[name] for name in SHAPING})
        self.fingerprint = shaping.fingerprint(
            self.modality, f'{manifest.sha256} {list(manifest.calibration)}', VERSION)

    def detect(self, frame: CameraFrame) -> Detections:
        """Return the objects around the robot; raises ImageError naming the view at fault."""
        network = self.network
        seen = ground_inputs(frame, self.config, network.shape, network.azimuths, network.ranges)
        images = seen.images.permute(0, 1, 4, 2, 3).float() / WHITE
        places, earlier = (Places(*(each[None] for each in both)) for both in (seen.places, seen.earlier))
        with torch.inference_mode():
            now = network.features(images[0]).flatten(0, 1)[None]
            before = network.features(images[1]).flatten(0, 1)[None] if seen.known else torch.zeros_like(now)
            maps = network.maps(now, places, before, earlier, torch.tensor([float(seen.known)]))
        found = find(maps[0])
        return detections_of(
            found, self.head.manifest, network.ranges * LENGTH, looked=sectors_seen(seen.cameras),
            sources=tuple(view.name for view in frame.views),
            source_index=_viewed_by(found.position, seen.cameras),
            stamp_ns=min(view.stamp_ns for view in frame.views), frame_id=frame.frame_id)


class GroundInputs(NamedTuple):
    """A frame as the network takes it.

    images: uint8 [2, V, height, width, 3], now and before; 0 for an earlier view that is not there.
    places, earlier: where the cells of the grid appear in them.  known: whether there is any earlier view.
    cameras: of the present views.
    """

    images: Tensor
    places: Places
    earlier: Places
    known: bool
    cameras: tuple[Camera, ...]


def ground_inputs(frame: CameraFrame, config: CameraConfig, shape: tuple[int, int], azimuths: int = AZIMUTHS,
                  ranges: int = RANGES) -> GroundInputs:
    """Return the inputs of a frame; raises ImageError naming the view at fault.

    An earlier view that cannot be used is left out.  shape: rows and columns of features, as in
    :func:`places_in`.  azimuths, ranges: cells of the grid.
    """
    if not frame.views:
        raise ImageError('the camera frame has no views; a set must hold at least one image')
    images = np.zeros((2, len(frame.views), config.height, config.width, 3), np.uint8)
    cameras: list[Camera] = []
    earlier: list[Camera | None] = []
    for place, view in enumerate(frame.views):
        images[0, place], size = load_view(view, config)
        cameras.append(calibrated(view, size, config))
        earlier.append(None)
        if view.earlier is not None:
            with suppress(ImageError):  # it was rejected when it came; the present view is judged by itself
                images[1, place], size = load_view(view.earlier, config)
                earlier[-1] = calibrated(view.earlier, size, config)
    band = config.top, config.bottom
    return GroundInputs(
        torch.from_numpy(images), places_in(cameras, shape, band, HEIGHTS, azimuths, ranges),
        places_in(earlier, shape, band, EARLIER_HEIGHTS, azimuths, ranges),
        any(camera is not None for camera in earlier), tuple(cameras))


def _viewed_by(position: np.ndarray, cameras: Sequence[Camera]) -> np.ndarray:
    """Return the view in which each object is farthest from the border, uint16 [n]; NO_SOURCE: none."""
    points = np.column_stack([position, np.ones(len(position))])
    best, chosen = np.zeros(len(points)), np.full(len(points), NO_SOURCE, np.uint16)
    for place, camera in enumerate(cameras):
        pixels, ahead = camera.project(points)
        margin = np.where(ahead > 0, 0.5 - np.abs(pixels[:, 0] / camera.size[0] - 0.5), 0.)
        chosen[margin > best] = place
        best = np.maximum(best, margin)
    return chosen

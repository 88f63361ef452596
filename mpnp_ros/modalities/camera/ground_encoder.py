"""The camera encoder whose head finds objects: one token an object, with its category and what moves."""
from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
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
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, ImageFile, load_view
from mpnp_ros.modalities.detection_network import AZIMUTHS, LENGTH, RANGES
from mpnp_ros.modalities.grid_objects import ObjectEncoder, detections_of, find
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.inference import for_inference
from mpnp_ros.tokens import NO_SOURCE

VERSION = 1  # goes up whenever `ground_inputs` gives other values for the same images
WHITE = 255
KEPT = 6
"""Images of each camera whose features are kept: one is looked at again half a second later, after at most
five others where a frame takes a tenth of a second."""
Look = tuple[Tensor, tuple[int, int]]
"""What is seen in a view, and the width and height of its image."""
SHAPING = 'height', 'width', 'top', 'bottom', 'camera_height'
"""Options that shape the tokens."""


class CameraGroundEncoder(ObjectEncoder):
    """Encode a :class:`CameraFrame`; see :class:`~mpnp_ros.modalities.grid_objects.ObjectEncoder`."""

    modality = 'camera'

    def __init__(self, config: CameraConfig, head: Head | None = None) -> None:
        self.head = head or load_head(config.head, self.modality)
        self.network = cast(GroundNetwork, copy.deepcopy(self.head.network))
        self.network.image = for_inference(self.network.image)
        self.network.objects = for_inference(self.network.objects)
        self.config = self.head.configure(config)
        manifest = self.head.manifest
        shaping = CameraConfig(**{name: self.config[name] for name in SHAPING})
        self.fingerprint = shaping.fingerprint(
            self.modality, f'{manifest.sha256} {list(manifest.calibration)}', VERSION)
        self._kept: defaultdict[str, OrderedDict[bytes, Look]] = defaultdict(OrderedDict)

    def detect(self, frame: CameraFrame) -> Detections:
        """Return the objects around the robot; raises ImageError naming the view at fault."""
        network = self.network
        with torch.inference_mode():
            seen = ground_inputs(frame, self.look, self.config, network.shape, network.azimuths,
                                 network.ranges)
            places, earlier = (Places(*(each[None] for each in both)) for both in (seen.places, seen.earlier))
            now, before = (torch.cat(each)[None] for each in (seen.now, seen.before))
            maps = network.maps(now, places, before, earlier, torch.tensor([float(seen.known)]))
        found = find(maps[0])
        return detections_of(
            found, self.head.manifest, network.ranges * LENGTH, looked=sectors_seen(seen.cameras),
            sources=tuple(view.name for view in frame.views),
            source_index=_viewed_by(found.position, seen.cameras),
            stamp_ns=min(view.stamp_ns for view in frame.views), frame_id=frame.frame_id)

    def look(self, view: CameraView) -> Look:
        """Return the features [rows * columns, width] of a view; an image that came before is not read again.

        Raises ImageError naming the view.
        """
        kept, key = self._kept[view.name], _digest(view.image)
        if key in kept:
            kept.move_to_end(key)
        else:
            image, size = load_view(view, self.config)
            pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / WHITE
            kept[key] = self.network.features(pixels)[0], size
            if len(kept) > KEPT:
                kept.popitem(last=False)
        return kept[key]


def _digest(image: np.ndarray | bytes | ImageFile) -> bytes:
    """A key of the content of an image."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(image, np.ndarray):
        digest.update(f'{image.shape} '.encode())
        digest.update(np.ascontiguousarray(image).data)
    elif isinstance(image, ImageFile):
        digest.update(f'{image.pixels} '.encode())
        digest.update(image.data)
    else:
        digest.update(image)
    return digest.digest()


class GroundInputs(NamedTuple):
    """A frame as the network takes it.

    now, before: what was looked at in each view; 0 for an earlier view that is not there.  places, earlier:
    where the cells of the grid appear in them.  known: whether there is any earlier view.  cameras: of the
    present views.
    """

    now: tuple[Tensor, ...]
    before: tuple[Tensor, ...]
    places: Places
    earlier: Places
    known: bool
    cameras: tuple[Camera, ...]


def ground_inputs(frame: CameraFrame, look: Callable[[CameraView], Look], config: CameraConfig,
                  shape: tuple[int, int], azimuths: int = AZIMUTHS, ranges: int = RANGES) -> GroundInputs:
    """Return the inputs of a frame; raises ImageError naming the view at fault.

    An earlier view that cannot be used is left out.  look: view -> what the network takes of it.  shape: rows
    and columns of features, as in :func:`places_in`.  azimuths, ranges: cells of the grid.
    """
    if not frame.views:
        raise ImageError('the camera frame has no views; a set must hold at least one image')
    now: list[Tensor] = []
    cameras: list[Camera] = []
    before: list[Tensor] = []
    earlier: list[Camera | None] = []
    for view in frame.views:
        seen, size = look(view)
        now.append(seen)
        cameras.append(calibrated(view, size, config))
        before.append(torch.zeros_like(seen))
        earlier.append(None)
        if view.earlier is not None:
            with suppress(ImageError):  # it was rejected when it came; the present view is judged by itself
                seen, size = look(view.earlier)
                before[-1], earlier[-1] = seen, calibrated(view.earlier, size, config)
    band = config.top, config.bottom
    return GroundInputs(
        tuple(now), tuple(before), places_in(cameras, shape, band, HEIGHTS, azimuths, ranges),
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

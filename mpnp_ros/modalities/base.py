"""What every modality is made of: frames in, an encoder with a declared configuration, tokens out."""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mpnp_ros.options import Options, option
from mpnp_ros.tokens import ModalityTokens

if TYPE_CHECKING:
    from mpnp_ros.modalities.camera.decode import ImageFile
    from mpnp_ros.modalities.camera.distortion import Distortion


@dataclass(frozen=True, eq=False)
class CameraView:
    """One image of one camera.

    name: unique within the frame, e.g. ``cam_front``.
    image: uint8 RGB [H, W, 3]; or the bytes of an image file, or that as an ImageFile, which is decoded once
        for encoder and judge.
    intrinsics: [3, 3] pinhole matrix in pixels of the full-size image; None or a zero focal length
        (the ROS convention) means uncalibrated.
    rotation: [3, 3] from the camera's optical frame (x right, y down, z ahead) to the base frame
        (x ahead, y left, z up); None means unknown.
    stamp_ns: sensor time, nanoseconds.
    distortion: of the lens, where the image is not rectified; used with intrinsics only.
    """

    name: str
    image: np.ndarray | bytes | ImageFile
    intrinsics: np.ndarray | None = None
    rotation: np.ndarray | None = None
    stamp_ns: int = 0
    distortion: Distortion | None = None


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """Images that belong together, any number of any size; ``frame_id`` names their base frame."""

    views: tuple[CameraView, ...]
    frame_id: str = 'base_link'


@dataclass(frozen=True, eq=False)
class LidarFrame:
    """One sweep.

    points: [N, >=3] floating point x y z in metres, sensor frame; NaN and Inf mark lost returns.
    intensity: [N], or None where the sensor has none.
    rotation, translation: [3, 3] and [3] metres, sensor to base frame; None means that they coincide.
    name: of the sensor; stamp_ns: sensor time; ``frame_id`` names the base frame.
    """

    points: np.ndarray
    intensity: np.ndarray | None = None
    rotation: np.ndarray | None = None
    translation: np.ndarray | None = None
    stamp_ns: int = 0
    name: str = 'lidar'
    frame_id: str = 'base_link'


@dataclass(frozen=True, eq=False)
class RadarScan:
    """What one radar measured at one moment; N may be 0.

    points: [N, 3] x y z metres, sensor frame.
    velocity, compensated: [N, 2] metres/second along x and y of the sensor, relative to the radar, and over
        ground, that is without the radar's own motion; only the part along the line of sight is measured.
    rcs: [N] radar cross section, dBsm.
    dyn_prop: [N] how the radar calls the motion: codes of nuScenes, 0 moving .. 7 stopped.
    rotation, translation, name, stamp_ns: as of :class:`LidarFrame`.
    """

    points: np.ndarray
    velocity: np.ndarray
    compensated: np.ndarray
    rcs: np.ndarray
    dyn_prop: np.ndarray
    rotation: np.ndarray | None = None
    translation: np.ndarray | None = None
    stamp_ns: int = 0
    name: str = 'radar'


@dataclass(frozen=True, eq=False)
class RadarFrame:
    """Scans that belong together, of any number of radars; ``frame_id`` names their base frame."""

    scans: tuple[RadarScan, ...]
    frame_id: str = 'base_link'


class Encoder(Protocol):
    """A frozen encoder of one modality.

    modality: registered name.
    fingerprint: ``<modality>-<12 hex digits>``, equal for encoders whose tokens mean the same:
        it covers the weights and every option that changes the tokens, not device or dtype.
    token_width: D of its tokens.

    One with a head has limits too: what its tokens cannot know, see Head.limits.
    """

    modality: str
    fingerprint: str
    token_width: int

    def encode(self, frame: Any) -> ModalityTokens:
        """Return the tokens of one frame of this modality's type."""
        ...


@dataclass(frozen=True)
class EncoderConfig(Options):
    """Options that every encoder has; a modality derives from it and adds its own.

    Notes of an option: ``shapes_tokens=False`` where it does not change what the tokens mean; ``added=True``
    where it is newer than published links: while it has its default it leaves fingerprints as they were.
    """

    device: str = option('auto', 'where the encoder runs: auto, cpu, cuda or cuda:<index>',
                         shapes_tokens=False)
    dtype: str = option('auto', 'number format of the weights; auto measures which is faster',
                        choices=('auto', 'float32', 'bfloat16'), shapes_tokens=False)

    def fingerprint(self, modality: str, weights: str, version: int) -> str:
        """Return ``<modality>-<12 hex digits>`` over the weights' hash, the code's version and options."""
        shaping = {row.name: self[row.name] for row in type(self).declared()
                   if row.notes.get('shapes_tokens', True)
                   and not (row.notes.get('added') and self[row.name] == row.default)}
        text = json.dumps([modality, version, weights, shaping], sort_keys=True)
        return f'{modality}-{hashlib.sha256(text.encode()).hexdigest()[:12]}'

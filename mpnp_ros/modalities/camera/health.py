"""Quality of images: light, contrast and sharpness; damaged files, and images that do not change.

Images are judged at about 100 pixels across, below the 224 of an encoder; a file is decoded once for both.
Measured with the limits below, lowest / median / highest of sets of six:

    ============================  ================  ======================  ====
    images                        mean luminance    quality of the set      sets
    ============================  ================  ======================  ====
    nuScenes, day                 109               1.00                       1
    the same, 5 times darker       22               0.00                       1
    world, day, any weather       91 / 128 / 164    0.96 / 1.00 / 1.00        55
    world, dusk, any weather      66 /  85 / 116    0.89 / 1.00 / 1.00        12
    world, night, any weather     24 /  35 /  49    0.00 / 0.15 / 0.53        55
    ============================  ================  ======================  ====
"""
from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, ImageFile, Picture, decode
from mpnp_ros.modalities.health import (
    SCALE,
    Attendance,
    Health,
    HealthFinding,
    HealthLimits,
    grade,
    health,
    worst,
)
from mpnp_ros.options import option
from mpnp_ros.tokens import SECOND

WIDTH = 96
SAMPLED = 8
BLACK, WHITE = 5, 250
DAMAGED = 0.4  # quality of a damaged file without missing rows: its content may be wrong


@dataclass(frozen=True)
class CameraLimits(HealthLimits):
    """Limits of a view's quality, 0 at the first value and 1 at the second."""

    luminance: tuple[float, ...] = option(
        (35.0, 65.0), f'mean luminance of a view: {SCALE}', low=0, high=255)
    contrast: tuple[float, ...] = option(
        (10.0, 40.0), 'luminance difference between the 95th and the 5th percentile of a view: '
                      f'{SCALE}', low=0, high=255)
    clipped: tuple[float, ...] = option(
        (0.6, 0.25), f'share of the pixels of a view that are black or white: {SCALE}', low=0, high=1)
    sharpness: tuple[float, ...] = option(
        (0.05, 0.25), 'deviation of the Laplacian of a view over that of its luminance, which is about 1 in '
                      f'a sharp image: {SCALE}', low=0, high=10)
    frozen_after: float = option(
        3.0, 'time an image that used to change may stay the same before its quality is 0; 0: never',
        unit='s', low=0, high=3600)
    silent_after: float = option(
        2.0, 'time a view that was present may be missing before its quality is 0; 0: never', unit='s', low=0,
        high=3600)

    def judge(self) -> CameraJudge:
        """Return a new judge with these limits."""
        return CameraJudge(self)


class CameraJudge:
    """Judges a :class:`CameraFrame`; remembers by name since when each view is unchanged."""

    def __init__(self, limits: CameraLimits) -> None:
        self._limits = limits
        self._attendance = Attendance(limits.silent_after)
        self._seen: dict[str, tuple[int, int | None]] = {}

    def judge(self, frame: CameraFrame) -> Health:
        """Return the mean quality of the views and one concern a view; raises ImageError naming the view."""
        missed = self._attendance.missed({view.name: view.stamp_ns for view in frame.views})
        return health({view.name: worst(self._findings(view)) for view in frame.views} | missed)

    def _findings(self, view: CameraView) -> Iterator[HealthFinding]:
        limits, still = self._limits, self._still(view)
        frozen = 0 < limits.frozen_after <= still
        yield HealthFinding(0. if frozen else 1., f'is frozen (the same image for {still:.1f} s)')
        try:
            picture = decode(view.image, (WIDTH, 1))
        except ImageError as error:
            raise ImageError(f'view {view.name!r}: {error}') from None
        if picture.damage:
            yield HealthFinding(DAMAGED * (1 - picture.missing), f'is a damaged JPEG ({picture.damage})')
        pixels = luminance(picture)
        mean, (low, high) = pixels.mean(), np.percentile(pixels, (5, 95))
        clipped = np.mean((pixels <= BLACK) | (pixels >= WHITE))
        sharp = sharpness(pixels)
        yield HealthFinding(grade(mean, limits.luminance), f'is dark (mean {mean:.0f} of 255)')
        yield HealthFinding(grade(clipped, limits.clipped), f'is clipped ({clipped:.0%} is black or white)')
        yield HealthFinding(grade(high - low, limits.contrast),
                            f'has little contrast ({high - low:.0f} of 255)')
        yield HealthFinding(grade(sharp, limits.sharpness), f'is blurred (sharpness {sharp:.2f})')

    def _still(self, view: CameraView) -> float:
        """Return the seconds of sensor time that the view is unchanged; 0 where it has never changed.

        So a single image that is repeated, as by a replay of one key frame, is not frozen.
        """
        image = view.image
        data = image[::SAMPLED, ::SAMPLED].tobytes() if isinstance(image, np.ndarray) else \
            image.data if isinstance(image, ImageFile) else image
        mark, (before, since) = zlib.crc32(data), self._seen.get(view.name, (None, None))
        if mark != before:
            self._seen[view.name] = (mark, None if before is None else view.stamp_ns)
            return 0.
        return 0. if since is None else (view.stamp_ns - since) / SECOND


def luminance(picture: Picture) -> np.ndarray:
    """Return the picture in grey, float32 [H, W] of 0..255, W from 96 to twice that unless it has fewer."""
    image = picture.image
    return np.asarray(image.reduce(max(1, image.width // WIDTH)).convert('L'), np.float32)


def sharpness(pixels: np.ndarray) -> float:
    """Return the deviation of the Laplacian of [H, W] over that of the pixels; 0 where all are the same."""
    if min(pixels.shape) < 3 or not pixels.std():
        return 0.
    inner = pixels[1:-1, 1:-1]
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    return float((4 * inner - around).std() / pixels.std())

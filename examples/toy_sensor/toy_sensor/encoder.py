"""Frames, options and encoder of the sonar ring."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.modalities.geometry import heading_of
from mpnp_ros.modalities.registry import EncoderConfig
from mpnp_ros.options import option
from mpnp_ros.tokens import ModalityTokens

VERSION = 1  # goes up whenever the code below gives other tokens for the same frame


@dataclass(frozen=True, eq=False)
class Echo:
    """What one sonar measured.

    name: of the sonar; distance, nearest, farthest: measured, and what it can measure, metres; an infinite
    distance means no echo.  rotation: [3, 3] sensor to base frame; stamp_ns: sensor time.
    """

    name: str
    distance: float
    nearest: float
    farthest: float
    rotation: np.ndarray
    stamp_ns: int = 0


@dataclass(frozen=True, eq=False)
class SonarFrame:
    """Echoes that belong together, of any number of sonars; ``frame_id`` names their base frame."""

    echoes: tuple[Echo, ...]
    frame_id: str = 'base_link'


@dataclass(frozen=True)
class SonarConfig(EncoderConfig):
    """Options: those of every encoder, and one of its own."""

    scale: float = option(1.0, 'distance at which an echo counts half', unit='m', low=0.01, high=100)


class SonarEncoder:
    """One token for each sonar: how near its echo is, whether there is one, and 1."""

    modality = 'sonar'
    token_width = 3

    def __init__(self, config: SonarConfig) -> None:
        self.config = config
        self.fingerprint = config.fingerprint(self.modality, '', VERSION)

    def encode(self, frame: SonarFrame) -> ModalityTokens:
        """Return the tokens of a frame with at least one echo."""
        distance = np.array([echo.distance for echo in frame.echoes], np.float32)
        heard = np.isfinite(distance)
        near = np.where(heard, self.config.scale / (self.config.scale + distance), 0)
        stamps = tuple(echo.stamp_ns for echo in frame.echoes)
        return ModalityTokens(
            modality=self.modality, encoder=self.fingerprint,
            values=np.stack([near, heard, np.ones_like(near)], 1).astype(np.float32),
            azimuth=np.array([heading_of(echo.rotation) for echo in frame.echoes], np.float32),
            distance=np.where(heard, distance, np.nan), sources=tuple(echo.name for echo in frame.echoes),
            source_index=np.arange(len(frame.echoes), dtype=np.uint16), source_stamps_ns=stamps,
            stamp_ns=min(stamps), frame_id=frame.frame_id)

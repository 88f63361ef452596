"""Options of the encoder of detections."""
from __future__ import annotations

from dataclasses import dataclass

from mpnp_ros.modalities.registry import EncoderConfig
from mpnp_ros.options import option


@dataclass(frozen=True)
class DetectionsConfig(EncoderConfig):
    """Options of the encoder; by default it reaches as far as the shipped links count."""

    reach: float = option(30.0, 'objects beyond are not counted, as questions do not ask about them',
                          unit='m', low=1, high=1000)

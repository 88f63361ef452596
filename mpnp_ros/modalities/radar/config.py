"""Options of the radar encoder."""
from __future__ import annotations

from dataclasses import dataclass

from mpnp_ros.modalities.registry import EncoderConfig
from mpnp_ros.options import option


@dataclass(frozen=True)
class RadarConfig(EncoderConfig):
    """Defaults: the head that comes with the package."""

    head: str = option(
        'radar-driving-world', 'a head that comes with the package, or the folder that mpnp pretrain made; '
                               'it sets min_range', shapes_tokens=False)
    min_range: float = option(1.0, 'nearer returns are the robot itself and are dropped', unit='m',
                              low=0, high=100)

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
    doppler_span: float = option(
        0.0, 'of radars without speeds over ground: span of speeds, beyond which they begin anew; 0: there '
             'is none', unit='m/s', low=0, high=1000, shapes_tokens=False)
    nearing_positive: bool = option(
        False, 'of radars without speeds over ground: speeds of what comes nearer are positive',
        shapes_tokens=False)
    power_offset: float = option(
        0.0, 'of radars without speeds over ground: taken from the strength of returns, for cross sections '
             'in dBsm', unit='dB', low=-200, high=200, shapes_tokens=False)

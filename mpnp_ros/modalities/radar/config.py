"""Options of the radar encoder."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpnp_ros.modalities.registry import EncoderConfig
from mpnp_ros.options import option

SHORTEST_SPAN = 3.0
"""Metres/second; in a shorter span most returns agree with any motion."""


@dataclass(frozen=True)
class RadarConfig(EncoderConfig):
    """Defaults: the head that comes with the package."""

    tokens: str = option(
        'counts', 'counts: what the head tells. moving: one token for each object that moves, from returns '
                  'that move together; it needs no head, but a radar with many returns',
        choices=('counts', 'moving'), added=True)
    head: str = option(
        'radar-driving-world', 'a head that comes with the package, or the folder that mpnp pretrain made; '
                               'it sets min_range', shapes_tokens=False)
    min_range: float = option(1.0, 'nearer returns are the robot itself and are dropped', unit='m',
                              low=0, high=100)
    least_returns: int = option(8, 'of moving: returns of an object, at least', low=1, high=1000, added=True)
    max_distance: float = option(30.0, 'of moving: objects farther away do not count', unit='m', low=1,
                                 high=300, added=True)
    doppler_span: float = option(
        0.0, 'of radars without speeds over ground: span of speeds, beyond which they begin anew; 0: there '
             'is none', unit='m/s', low=0, high=1000, shapes_tokens=False)
    nearing_positive: bool = option(
        False, 'of radars without speeds over ground: speeds of what comes nearer are positive',
        shapes_tokens=False)
    power_offset: float = option(
        0.0, 'of radars without speeds over ground: taken from the strength of returns, for cross sections '
             'in dBsm', unit='dB', low=-200, high=200, shapes_tokens=False)

    def check(self) -> Iterator[str]:
        """Speeds of a short span cannot tell what moves."""
        if 0 < self.doppler_span < SHORTEST_SPAN:
            yield f'doppler_span is {self.doppler_span:g} m/s; it must be 0, or {SHORTEST_SPAN:g} or more'

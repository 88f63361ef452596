"""Options of the IMU encoder."""
from __future__ import annotations

from dataclasses import dataclass

from mpnp_ros.modalities.registry import EncoderConfig
from mpnp_ros.options import option


@dataclass(frozen=True)
class ImuConfig(EncoderConfig):
    """Defaults: the head that comes with the package."""

    head: str = option(
        'imu-drive', 'a head that comes with the package, or the folder that python -m bench.imu train made',
        shapes_tokens=False)
    gravity: str = option(
        'auto', 'how gravity is in the accelerations: up at rest as REP 145 has it, down, or removed; auto: '
                'removed where the mean is small, down where the mounting or the orientation says so, or up',
        choices=('auto', 'up', 'down', 'removed'), shapes_tokens=False)

"""Makes of LiDARs and their mountings: the one of the rig, and random ones to train networks on.

Random ones are spread over what robots have: beams, resolution, height, small errors of the mounting, noise,
lost returns and scales of intensity.  Their points are in the frame of the rig's LiDAR, as if they had been
registered to it.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mpnp_world.sensors.rig import LIDAR_COLUMNS, LIDAR_ELEVATIONS, LIDAR_RINGS

STREAM = 7
RANGE_NOISE = 0.02
"""Standard deviation, metres (HDL-32E data sheet: 2 cm)."""
DROP_OUT = 0.01
"""Share of returns lost at random."""
MAKES = ((16, -15., 15., 0.), (16, -15., 15., 0.), (24, -30., 10., 0.), (32, -30.67, 10.67, 0.),
         (32, -25., 15., 0.6), (40, -25., 15., 0.5), (64, -24.8, 2., 0.), (64, -25., 15., 0.5),
         (64, -22.5, 22.5, 0.), (128, -25., 15., 0.5))
"""Beams, elevations of the lowest and the highest in degrees, and the share of them within DENSE."""
DENSE = (-6., 2.)
"""Degrees: where makes with uneven beams have most of them."""
COLUMNS = (600, 1800)
MOST_RAYS = 90_000
STANDARD = 0.4
"""Share of scenes with the beams of the rig's own LiDAR."""


@dataclass(frozen=True)
class LidarModel:
    """A LiDAR and how it is mounted.

    elevations: degrees, of each ring from the lowest.  columns: rays of a ring.  lift: metres above the LiDAR
    of the rig.  tilt: radians by which its points are turned without the calibration's knowing, about the
    left and the forward axis; sag: metres by which they are too high.  noise: metres.  drop_out: share of
    returns that are lost.  gain, gamma: intensities are gain * share ** gamma of the full scale.
    rate: sweeps per second that are written between key frames.
    """

    elevations: tuple[float, ...] = tuple(np.linspace(*LIDAR_ELEVATIONS, LIDAR_RINGS).tolist())
    columns: int = LIDAR_COLUMNS
    lift: float = 0.
    tilt: tuple[float, float] = (0., 0.)
    sag: float = 0.
    noise: float = RANGE_NOISE
    drop_out: float = DROP_OUT
    gain: float = 1.
    gamma: float = 1.
    rate: float = 20.

    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Directions [N, 3] of one sweep in the ego frame, float64, and the ring index of each."""
        azimuth = np.linspace(0, 2 * np.pi, self.columns, endpoint=False)[:, None]
        elevation = np.radians(self.elevations)[None]
        rays = np.stack(np.broadcast_arrays(np.cos(azimuth) * np.cos(elevation),
                                            np.sin(azimuth) * np.cos(elevation), np.sin(elevation)), -1)
        return rays.reshape(-1, 3), np.tile(np.arange(len(self.elevations)), self.columns)


HDL_32E = LidarModel()
"""The LiDAR of the rig."""


def random_lidar(seed: int) -> LidarModel:
    """The LiDAR of a scene, by its seed; it has one sweep 0.35 to 0.6 s before each key frame."""
    rng = np.random.default_rng([seed, STREAM])
    beams, low, high, dense = MAKES[rng.integers(len(MAKES))]
    columns = min(int(rng.integers(*COLUMNS)), MOST_RAYS // beams)
    own = rng.random() < STANDARD
    inner = round(dense * beams)
    elevations = np.sort(np.concatenate([np.linspace(*DENSE, inner), np.linspace(low, high, beams - inner)]))
    gain, gamma = rng.uniform(.3, 1.6), rng.uniform(.6, 1.5)
    return LidarModel(
        HDL_32E.elevations if own else tuple(elevations.tolist()), HDL_32E.columns if own else columns,
        0. if own else float(rng.uniform(-.3, .4)),
        tuple(rng.normal(0, math.radians(.5), 2).tolist()), float(rng.normal(0, .04)),
        float(rng.uniform(.01, .04)), float(rng.choice([.01, .03, .1])), float(gain), float(gamma),
        float(1 / rng.uniform(.35, .6)))

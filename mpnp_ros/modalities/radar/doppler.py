"""Scans of radars that measure only how fast a point comes nearer or goes away, as 4-D radars do.

What stands seems to move against the motion of the robot, so most points tell how the robot moves (Kellner et
al., Instantaneous ego-motion estimation using Doppler radar, ITSC 2013).  What differs moves by itself.
Many radars tell speeds modulo a span: beyond half of it they begin anew at the other end.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.radar.frames import RadarScan

if TYPE_CHECKING:
    from mpnp_ros.modalities.radar.config import RadarConfig

SPEEDS = ('velocity', 'radial_velocity', 'radial_speed', 'doppler', 'doppler_velocity', 'v_r', 'vr',
          'range_rate', 'v')
"""Names of the field of the speed along the line of sight, the first that a cloud has."""
POWERS = ('rcs', 'power', 'intensity', 'snr', 'amplitude', 'mag')
"""Names of the field of the strength of a return, dB or dBsm; without one it is 0."""
SLOWEST, FASTEST, STEP = -10., 45., 0.1
"""Metres/second ahead that the robot may drive, and how finely this is searched."""
MOST_ACROSS = 4.0
"""Metres/second sideways that a radar may move, as one ahead of the axle does in turns."""
SEARCHED = 400
"""Points that are searched with, at most; all of them refine what is found."""
AGREES = 0.25
"""Metres/second by which the speed of what stands may differ from that by the motion of the robot."""
MOVES = 0.5
"""Metres/second over ground from which on a point moves."""
FEWEST, LEAST_SHARE, SURE_SHARE = 8, 0.4, 0.6
"""Points, and the share of them, that must agree on the motion of the robot; and the share from which on no
other motion is looked for."""
MOVING, STATIONARY, UNKNOWN = 0, 1, 4
"""Codes of dyn_prop."""


@dataclass(frozen=True, eq=False)
class OwnMotion:
    """How the radar moves over ground.

    velocity: [2] metres/second along x and y.  share: of the points that agree.
    """

    velocity: np.ndarray
    share: float


def own_motion(rays: np.ndarray, speed: np.ndarray, span: float = math.inf) -> OwnMotion | None:
    """Return the motion that most points agree on, or None where too few do.

    rays: [N, 2] horizontal parts of the unit vectors to the points, x ahead of the robot.  speed: [N]
    metres/second, positive for what goes away.  span: of the speeds; inf: they are not folded.
    """
    if len(speed) < FEWEST:
        return None
    ahead, left = np.arange(SLOWEST, FASTEST, STEP), np.arange(-MOST_ACROSS, MOST_ACROSS, 2 * STEP)
    motion = _agreed(np.stack([ahead, np.zeros(len(ahead))], 1), rays, speed, span)
    if motion.share < SURE_SHARE:  # a radar far ahead of the axle moves sideways in turns
        sideways = np.stack(np.meshgrid(ahead[::2], left), -1).reshape(-1, 2)
        motion = max(motion, _agreed(sideways, rays, speed, span), key=lambda motion: motion.share)
    return motion if motion.share >= LEAST_SHARE else None


def _agreed(candidates: np.ndarray, rays: np.ndarray, speed: np.ndarray, span: float) -> OwnMotion:
    """Return the velocity of candidates [M, 2] on which most points agree, refined by these."""
    part = slice(None, None, math.ceil(len(speed) / SEARCHED))
    rest = folded(speed[part] + candidates @ rays[part].T, span)
    velocity = candidates[(np.abs(rest) < AGREES).sum(1).argmax()]
    for _ in range(3):
        rest = folded(speed + rays @ velocity, span)
        agree = np.abs(rest) < AGREES
        velocity = velocity - np.linalg.lstsq(rays[agree], rest[agree], rcond=None)[0]
    return OwnMotion(velocity, float((np.abs(folded(speed + rays @ velocity, span)) < AGREES).mean()))


def folded(speed: np.ndarray, span: float) -> np.ndarray:
    """Return speeds [N] as a radar tells them that knows them modulo a span, in -span / 2 .. span / 2."""
    return speed if math.isinf(span) else (speed + span / 2) % span - span / 2


def doppler_scan(points: np.ndarray, speed: np.ndarray, rcs: np.ndarray, span: float = math.inf, *, name: str,
                 stamp_ns: int = 0, rotation: np.ndarray | None = None,
                 translation: np.ndarray | None = None) -> RadarScan:
    """Return a scan with speeds over ground, by the motion of the robot that the scan itself tells.

    points: [N, 3] metres in the frame of the radar.  speed: [N] metres/second along the line of sight,
    positive for what goes away.  rcs: [N] dBsm.  span: see :func:`own_motion`.  The rest is as in RadarScan.
    Where the points do not agree on the motion of the robot, speeds over ground are 0 and dyn_prop says that
    they are not known.  Points that are no numbers stay, so that the health of the radar counts them.
    Raises PointCloudError where the arrays do not fit together.
    """
    if points.shape != (len(speed), 3) or rcs.shape != speed.shape:
        raise PointCloudError(f'{name}: {list(points.shape)} points have {list(speed.shape)} speeds and '
                              f'{list(rcs.shape)} cross sections')
    far = np.linalg.norm(points, axis=1)
    usable = np.isfinite(far) & np.isfinite(speed) & (far > 0)
    rays = points / np.where(usable, far, math.nan)[:, None]
    ahead = (rays if rotation is None else rays @ rotation.T)[:, :2]
    motion = own_motion(ahead[usable], speed[usable], span)
    over_ground, state = np.where(usable, 0., math.nan), np.full(len(speed), UNKNOWN)
    if motion is not None:
        over_ground[usable] = folded(speed[usable] + ahead[usable] @ motion.velocity, span)
        state[usable] = np.where(np.abs(over_ground[usable]) > MOVES, MOVING, STATIONARY)
    level = points[:, :2] / np.hypot(*points[:, :2].T).clip(1e-6)[:, None]
    return RadarScan(points, speed[:, None] * level, over_ground[:, None] * level,
                     np.where(np.isfinite(rcs), rcs, 0.), state, rotation, translation, stamp_ns, name)


def fields_of(fields: Sequence[str]) -> tuple[str, ...] | None:
    """Return the field of a cloud that holds speeds, and that of strengths if it has one.

    None: it has no speeds along the line of sight.
    """
    lower = [field.lower() for field in fields]
    found = [next((name for name in names if name in lower), None) for names in (SPEEDS, POWERS)]
    return None if found[0] is None else tuple(filter(None, found))


def doppler_records(records: np.ndarray, config: RadarConfig, name: str, stamp_ns: int = 0,
                    rotation: np.ndarray | None = None, translation: np.ndarray | None = None) -> RadarScan:
    """Return the scan of a cloud without speeds over ground.

    records: structured [N] with x, y, z and what :func:`fields_of` names.  The rest is as in RadarScan.
    """
    names = fields_of(records.dtype.names or ())
    assert names is not None  # the caller has looked
    points = np.stack([records[axis].astype(np.float64) for axis in 'xyz'], 1)
    speed = records[names[0]].astype(np.float64)
    rcs = records[names[1]] - config.power_offset if len(names) > 1 else np.zeros(len(records))
    return doppler_scan(points, -speed if config.nearing_positive else speed, rcs.astype(np.float64),
                        config.doppler_span or math.inf, name=name, stamp_ns=stamp_ns, rotation=rotation,
                        translation=translation)

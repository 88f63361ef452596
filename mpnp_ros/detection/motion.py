"""Whether detected objects move, from their positions over time.

Each track has two hypotheses: the object stands, or it goes at about a constant velocity.  Both are Kalman
filters in a frame that does not move, and the odds between them follow from what is measured.  Detections are
assigned to tracks by the Hungarian method.

A direction is measured well by every sensor, a distance is not.  The errors of a bad distance are alike from
frame to frame, so it is weighted down by more than its deviation: then only motion across the line of sight
counts, and what cannot be told stays near how often such objects move.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from mpnp_ros.detection.classes import MOVING, RIDER
from mpnp_ros.detection.detections import Detections
from mpnp_ros.poses import Transform
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_ros.tokens import SECOND

FIXTURES = ('barrier', 'traffic cone')
CYCLES = ('bicycle', 'motorcycle')


def _of_each(pedestrian: float, cycle: float, vehicle: float, fixture: float) -> np.ndarray:
    values = {'pedestrian': pedestrian, **dict.fromkeys(CYCLES, cycle), **dict.fromkeys(FIXTURES, fixture)}
    return np.array([values.get(category, vehicle) for category in CATEGORIES])


PRIOR = _of_each(MOVING['pedestrian'], MOVING['vehicle'], MOVING['vehicle'], 0.02)
"""How often objects of each category move."""
SPREAD = _of_each(1.5, 5.0, 6.0, 1.0)
"""Metres/second, deviation of the velocity of what moves."""
ACCELERATION = _of_each(1.0, 2.0, 2.0, 0.5)
"""Metres/second^2, process noise of what moves."""
DRIFT = 0.15
"""Metres in a second, process noise of what stands: another part of it is seen."""
ACROSS, ACROSS_PER_METRE = 0.25, 0.008
"""Metres, deviation across the line of sight: of the middle of an object, and of a direction."""
LEAST_DEVIATION, UNTOLD_DEVIATION = 0.3, 0.15
"""Deviation of a distance: at least, in metres; where it is not known, as a share of the distance."""
WELL_MEASURED = 0.5
"""Metres of deviation up to which distances of two frames err independently."""
APART = 1.0
"""Metres of deviation at which half of what is measured counts, and odds reach half as far: neighbours are
taken for each other, and errors that are alike add up to what looks like motion.
"""
STEADY = 2.0
"""Metres/second, largest deviation of a velocity that is given."""
MEMORY = 3.0
"""Seconds in which the odds decay to 37 %: things start and stop."""
SUREST, LARGEST_MISFIT = 6.0, 30.0
GATE = 9.2
"""Chi-square of two degrees of freedom, 99 %."""
LOST, MISSES = 1.2, 2
"""An object that is not seen any more is forgotten after this many seconds and at least this many frames."""
LONGEST_GAP = 3.0
"""Seconds between two frames after which no object can be recognised."""
FASTEST_EGO = 70.0
"""Metres/second; a larger jump of the pose is a correction of the localisation."""
ALIKE, ODD = 0.3, 0.02
"""Agreement of two categories that are taken for each other, and of two that are not."""
LEAST_AGREEMENT = 0.05
SPEED_DEVIATION = 0.25
"""Metres/second, deviation of a velocity that a detector gives."""
LEARNED = 0.3
"""Weight of the newest categories in those of a track."""


def _agreement() -> np.ndarray:
    """How well a detector's categories agree, [10, 10]."""
    kind = {**dict.fromkeys(CATEGORIES, 'vehicle'), 'pedestrian': 'pedestrian',
            **dict.fromkeys(CYCLES, 'cycle'), **dict.fromkeys(FIXTURES, 'fixture')}
    near = {'cycle', 'pedestrian'}
    return np.array([[1. if row == column else
                      ALIKE if kind[row] == kind[column] or {kind[row], kind[column]} == near else ODD
                      for column in CATEGORIES] for row in CATEGORIES])


AGREEMENT = _agreement()


@dataclass(frozen=True, eq=False)
class _Tracks:
    """T tracks.

    number: [T] int64.  state, cov: [T, 4] and [T, 4, 4] of x, y and velocity if it moves; place, doubt:
    [T, 2] and [T, 2, 2] if it stands; in the fixed frame.  odds: [T] log, that it moves.
    categories: [T, 10].
    hits: [T] frames in which it was seen.  misses: [T] frames since then.  unseen: [T] seconds since then.
    """

    number: np.ndarray
    state: np.ndarray
    cov: np.ndarray
    place: np.ndarray
    doubt: np.ndarray
    odds: np.ndarray
    categories: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    unseen: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    def select(self, keep: np.ndarray) -> _Tracks:
        return _Tracks(*(getattr(self, field.name)[keep] for field in fields(self)))

    def joined(self, others: _Tracks) -> _Tracks:
        return _Tracks(*(np.concatenate([getattr(self, field.name), getattr(others, field.name)])
                         for field in fields(self)))

    @property
    def prior(self) -> np.ndarray:
        """Log odds of moving before anything is seen."""
        return log_odds(self.categories @ PRIOR)


@dataclass(frozen=True, eq=False)
class _Sights:
    """M detections in the fixed frame.

    position: [M, 2].  axes: [M, 2, 2], unit vectors along the line of sight and across it.  deviation: [M, 2]
    along these, metres.  categories: [M, 10].
    """

    position: np.ndarray
    axes: np.ndarray
    deviation: np.ndarray
    categories: np.ndarray

    @property
    def noise(self) -> np.ndarray:
        """Covariance of the positions, [M, 2, 2]."""
        return np.einsum('mai,ma,maj->mij', self.axes, self.deviation ** 2, self.axes)


class MotionTracker:
    """Estimates which detections move, from those of earlier frames.

    concern: why the motion in the newest frame cannot be estimated; empty where it can.
    """

    def __init__(self, most: int = 512) -> None:
        """most: the number of tracks to keep; those that were seen last stay."""
        self.concern = ''
        self._most, self._next = most, 0
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self._tracks: _Tracks | None = None
        self._stamp_ns: int | None = None
        self._ego = np.zeros(2)

    def follow(self, detections: Detections, ego: Transform | None) -> Detections:
        """Return the detections with ``moving``, ``velocity``, ``rider`` and ``track`` where these are known.

        ego: pose of their frame at their time, in a frame that does not move; None: not known, so that only
        velocities from the detector are used.  What the detector gives stays, but ``motion_evidence`` is
        averaged with that of the tracks.  Frames come in the order of
        their time; a frame that goes back in time starts anew.
        """
        told = np.isfinite(detections.velocity).all(1)
        moving = np.where(np.isnan(detections.moving) & told,
                          moving_of_velocity(detections.velocity, detections.categories), detections.moving)
        self.concern = ''
        if ego is None:
            self.concern = 'the pose of the robot is not known, so that motion cannot be seen'
            odds = log_odds(detections.categories @ PRIOR) + detections.motion_evidence
            return replace(detections, moving=np.where(np.isnan(moving), _chance(odds), moving))
        self._begin(detections.stamp_ns, ego.translation[:2])
        sights = _sights(detections, ego)
        rows = self._assigned(sights)
        followed, index = self._taken(sights, rows)
        tracks = followed.select(index)
        seen_again = tracks.hits > 1
        evidence = np.stack([np.where(seen_again, tracks.odds - tracks.prior, math.nan),
                             detections.motion_evidence])
        known = np.isfinite(evidence)
        pooled = np.where(known, evidence, 0.).sum(0) / known.sum(0).clip(1)
        chance = _chance(tracks.prior + pooled)
        moving = np.where(np.isnan(moving) & known.any(0), chance, moving)
        steady = seen_again & (np.trace(tracks.cov[:, 2:, 2:], axis1=1, axis2=2) / 2 < STEADY ** 2)
        velocity = chance[:, None] * tracks.state[:, 2:] @ ego.rotation[:2, :2]
        velocity = np.where(told[:, None] | ~steady[:, None], detections.velocity, velocity)
        resting = (RIDER - MOVING['vehicle']) / (1 - MOVING['vehicle'])
        rider = np.where(np.isnan(detections.rider), moving + (1 - moving) * resting, detections.rider)
        if len(followed) > self._most:  # keep those that were seen last, of these those that were seen most
            order = np.lexsort((-followed.hits, followed.unseen))
            followed = followed.select(np.sort(order[:self._most]))
        self._tracks = followed
        return replace(detections, moving=moving, velocity=velocity, rider=rider, track=tracks.number)

    def _begin(self, stamp_ns: int, place: np.ndarray) -> None:
        """Predict the tracks at this time, or start anew."""
        seconds = 0. if self._stamp_ns is None else (stamp_ns - self._stamp_ns) / SECOND
        shift = float(np.hypot(*(place - self._ego)))
        jumped = self._stamp_ns is not None and shift > 2. + FASTEST_EGO * seconds
        if not 0 <= seconds <= LONGEST_GAP or jumped:
            self.forget()
        self._stamp_ns, self._ego = stamp_ns, place
        if self._tracks is not None:
            self._tracks = _predicted(self._tracks, seconds)

    def _assigned(self, sights: _Sights) -> np.ndarray:
        """Return the row of the track of each detection, [M]; -1: none."""
        rows = np.full(len(sights.position), -1)
        if self._tracks is None or not len(self._tracks) or not len(rows):
            return rows
        costs = _costs(self._tracks, sights)
        impossible = 1e6
        chosen, columns = linear_sum_assignment(np.where(np.isfinite(costs), costs, impossible))
        good = np.isfinite(costs[chosen, columns])
        rows[columns[good]] = chosen[good]
        return rows

    def _taken(self, sights: _Sights, rows: np.ndarray) -> tuple[_Tracks, np.ndarray]:
        """Return the tracks, updated, with new ones and without lost ones, and the row of each detection."""
        new, count = rows < 0, int((rows < 0).sum())
        begun = _begun(sights, new, self._next)
        self._next += count
        if self._tracks is None:
            return begun, np.arange(count)
        known = _updated(self._tracks, sights, rows)
        kept = (known.unseen <= LOST) | (known.misses < MISSES)
        place = np.append(np.cumsum(kept) - 1, -1)
        index = np.where(new, kept.sum() + np.cumsum(new) - 1, place[rows])
        return known.select(kept).joined(begun), index


def moving_of_velocity(velocity: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Return the probability of moving [n] of objects with a measured velocity over ground [n, 2].

    categories: [n, 10] probabilities.  NaN where the velocity is.
    """
    still, wide = SPEED_DEVIATION ** 2, (categories @ SPREAD) ** 2 + SPEED_DEVIATION ** 2
    square = (velocity ** 2).sum(1)
    gain = .5 * square * (1 / still - 1 / wide) - np.log(wide / still)
    odds = np.clip(log_odds(categories @ PRIOR) + gain, -SUREST, SUREST)
    return _chance(odds)


def _chance(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def log_odds(chance: np.ndarray) -> np.ndarray:
    """Return the logarithm of the odds of probabilities, limited where they are nearly 0 or 1."""
    chance = chance.clip(1e-3, 1 - 1e-3)
    return np.log(chance / (1 - chance))


def position_noise(detections: Detections) -> np.ndarray:
    """Return the covariance of the positions, [n, 2, 2] in their frame."""
    return _sights(detections, Transform(np.eye(3), np.zeros(3))).noise


def _sights(detections: Detections, ego: Transform) -> _Sights:
    """Return the detections in the frame that ``ego`` leads to."""
    turn, far = ego.rotation[:2, :2], detections.distance
    unit = np.where(far[:, None] > 1e-6, detections.position / far.clip(1e-6)[:, None], [1., 0.])
    axes = np.stack([unit, np.stack([-unit[:, 1], unit[:, 0]], 1)], 1) @ turn.T
    along = detections.range_deviation
    along = np.where(np.isnan(along), UNTOLD_DEVIATION * far, along).clip(LEAST_DEVIATION)
    across = np.where(np.isnan(detections.cross_deviation), ACROSS, detections.cross_deviation)
    deviation = np.stack([along, across + ACROSS_PER_METRE * far], 1)
    return _Sights(detections.position @ turn.T + ego.translation[:2], axes, deviation, detections.categories)


def _predicted(tracks: _Tracks, seconds: float) -> _Tracks:
    """Return the tracks so many seconds later."""
    move, identity = np.eye(4), np.eye(2)
    move[0, 2] = move[1, 3] = seconds
    noise = np.block([[identity * seconds ** 4 / 4, identity * seconds ** 3 / 2],
                      [identity * seconds ** 3 / 2, identity * seconds ** 2]])
    pushed = (tracks.categories @ ACCELERATION ** 2)[:, None, None] * noise
    return replace(
        tracks, state=tracks.state @ move.T, cov=move @ tracks.cov @ move.T + pushed,
        doubt=tracks.doubt + DRIFT ** 2 * seconds * identity,
        odds=tracks.prior + (tracks.odds - tracks.prior) * math.exp(-seconds / MEMORY),
        misses=tracks.misses + 1, unseen=tracks.unseen + seconds)


def _costs(tracks: _Tracks, sights: _Sights) -> np.ndarray:
    """Return minus twice the log likelihood of each track and detection, [T, M]; inf: impossible."""
    agreement = tracks.categories @ AGREEMENT @ sights.categories.T
    best = np.full((len(tracks), len(sights.position)), np.inf)
    for mean, cov, odds in ((tracks.state[:, :2], tracks.cov[:, :2, :2], tracks.odds),
                            (tracks.place, tracks.doubt, -tracks.odds)):
        gap = sights.position[None] - mean[:, None]
        spread = cov[:, None] + sights.noise[None]
        size = spread[..., 0, 0] * spread[..., 1, 1] - spread[..., 0, 1] ** 2
        far = (spread[..., 1, 1] * gap[..., 0] ** 2 + spread[..., 0, 0] * gap[..., 1] ** 2
               - 2 * spread[..., 0, 1] * gap[..., 0] * gap[..., 1]) / size
        cost = far + np.log(size) + 2 * np.log1p(np.exp(-odds))[:, None]
        best = np.where(far < GATE, np.minimum(best, cost), best)
    return np.where(agreement < LEAST_AGREEMENT, np.inf, best - 2 * np.log(agreement.clip(1e-9)))


def _updated(tracks: _Tracks, sights: _Sights, rows: np.ndarray) -> _Tracks:
    """Return the tracks corrected by their detections, first across the line of sight and then along it."""
    columns = np.flatnonzero(rows >= 0)
    rows = rows[columns]
    state, cov, place, doubt = (array[rows] for array in (tracks.state, tracks.cov, tracks.place,
                                                          tracks.doubt))
    gain = np.zeros(len(rows))
    deviation = sights.deviation[columns]
    trust = 1 / (1 + (deviation[:, 0] / APART) ** 2)
    deviation[:, 0] *= (deviation[:, 0] / WELL_MEASURED).clip(1)
    for axis in (1, 0):
        unit, variance = sights.axes[columns, axis], deviation[:, axis] ** 2
        measured = (unit * sights.position[columns]).sum(1)
        state, cov, moves = _corrected(state, cov, unit, measured, variance)
        place, doubt, stands = _corrected(place, doubt, unit, measured, variance)
        gain += moves - stands
    made = {name: getattr(tracks, name).copy() for name in (
        'state', 'cov', 'place', 'doubt', 'odds', 'categories', 'hits', 'misses', 'unseen')}
    made['state'][rows], made['cov'][rows] = state, cov
    made['place'][rows], made['doubt'][rows] = place, doubt
    prior, most = tracks.prior[rows], SUREST * trust
    told = np.clip(tracks.odds[rows] + trust * gain - prior, -most, most)
    made['odds'][rows] = np.clip(prior + told, -SUREST, SUREST)
    made['categories'][rows] += LEARNED * (sights.categories[columns] - tracks.categories[rows])
    made['hits'][rows] += 1
    made['misses'][rows], made['unseen'][rows] = 0, 0.
    return replace(tracks, **made)


def _corrected(mean: np.ndarray, cov: np.ndarray, unit: np.ndarray, measured: np.ndarray,
               variance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return n Kalman filters updated by a number each, along directions [n, 2], and its log likelihood."""
    across = np.einsum('nij,nj->ni', cov[:, :, :2], unit)
    spread = (across[:, :2] * unit).sum(1) + variance
    gap = measured - (unit * mean[:, :2]).sum(1)
    weight = across / spread[:, None]
    likelihood = -.5 * (np.minimum(gap ** 2 / spread, LARGEST_MISFIT) + np.log(spread))
    return mean + weight * gap[:, None], cov - weight[:, :, None] * across[:, None], likelihood


def _begun(sights: _Sights, new: np.ndarray, first: int) -> _Tracks:
    """Return tracks of the new detections, numbered from ``first``."""
    position, noise, categories = sights.position[new], sights.noise[new], sights.categories[new]
    count = len(position)
    state, cov = np.zeros((count, 4)), np.zeros((count, 4, 4))
    state[:, :2], cov[:, :2, :2] = position, noise
    cov[:, 2, 2] = cov[:, 3, 3] = categories @ SPREAD ** 2
    return _Tracks(first + np.arange(count), state, cov, position, noise, log_odds(categories @ PRIOR),
                   categories, np.ones(count, int), np.zeros(count, int), np.zeros(count))

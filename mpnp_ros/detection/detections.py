"""Detected objects around the robot, and the tokens that count them.

Objects may come from a network on images, from clusters of LiDAR points or from a robot's own perception.
Each object becomes one token: its probability of existence, divided among categories and statuses.  Links
that count read such tokens, whatever made them.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from mpnp_ros.detection.classes import CATEGORY_COUNT, CHANNEL_COUNT, known_channels, status_shares
from mpnp_ros.errors import TokensError
from mpnp_ros.tokens import NO_SOURCE, SECTOR, SECTORS, ModalityTokens

PER_OBJECT = ('position', 'existence', 'categories', 'moving', 'rider', 'statuses', 'velocity', 'size',
              'yaw', 'range_deviation', 'cross_deviation', 'motion_evidence', 'boxes', 'source_index',
              'track')
"""Fields of Detections with a row for each object."""
ROUNDING = 1e-6
"""Degrees."""


def _unknown(*shape: int) -> np.ndarray:
    return np.full(shape, math.nan)


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects that were detected at one moment; n of them.

    position: [n, 2] metres, x ahead and y left of the origin of ``frame_id``, of the middle of the object.
    existence: [n] probability that there is such an object.
    categories: [n, 10] probability of each of ``mpnp_ros.questions.vocabulary.CATEGORIES``; rows sum to 1.
    moving: [n] probability that it moves; NaN: not known.
    rider: [n] probability that somebody rides it, for cycles; NaN: not known.
    statuses: [n, 24] probability of each status if the object is of that category; those of a category sum
        to 1.  A row of NaN: they follow from ``moving`` and ``rider``.
    velocity: [n, 2] metres per second over ground, along the axes of ``frame_id``; NaN: not known.
    size: [n, 3] metres, length, width and height; NaN: not known.
    yaw: [n] radians; NaN: not known.
    range_deviation: [n] metres, standard deviation of the distance; NaN: not known.
    cross_deviation: [n] metres, standard deviation across the line of sight; NaN: not known.
    motion_evidence: [n] log of how much likelier what a sensor measured is if the object moves than if it
    stands; NaN: not known.
    boxes: [n, 4] pixels, left, top, right and bottom in the image of its source; NaN: none.
    sources: names of views or sensors.  source_index: [n] uint16, the source of each; NO_SOURCE: none.
    track: [n] int64, the same for one object over time; -1: not tracked.
    known: [10] bool, which categories the detector can recognise at all.
    looked: [SECTORS] bool, in which sectors some source looks.
    max_distance: metres up to which objects are detected; inf: no limit.
    stamp_ns: sensor time, nanoseconds.
    """

    position: np.ndarray
    existence: np.ndarray
    categories: np.ndarray
    moving: np.ndarray = field(default_factory=lambda: _unknown(0))
    rider: np.ndarray = field(default_factory=lambda: _unknown(0))
    statuses: np.ndarray = field(default_factory=lambda: _unknown(0, CHANNEL_COUNT))
    velocity: np.ndarray = field(default_factory=lambda: _unknown(0, 2))
    size: np.ndarray = field(default_factory=lambda: _unknown(0, 3))
    yaw: np.ndarray = field(default_factory=lambda: _unknown(0))
    range_deviation: np.ndarray = field(default_factory=lambda: _unknown(0))
    cross_deviation: np.ndarray = field(default_factory=lambda: _unknown(0))
    motion_evidence: np.ndarray = field(default_factory=lambda: _unknown(0))
    boxes: np.ndarray = field(default_factory=lambda: _unknown(0, 4))
    sources: tuple[str, ...] = ()
    source_index: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    track: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    known: np.ndarray = field(default_factory=lambda: np.ones(CATEGORY_COUNT, bool))
    looked: np.ndarray = field(default_factory=lambda: np.ones(SECTORS, bool))
    max_distance: float = math.inf
    stamp_ns: int = 0
    frame_id: str = 'base_link'

    def __post_init__(self) -> None:
        n = len(self.position)
        fill = {'moving': _unknown(n), 'rider': _unknown(n), 'statuses': _unknown(n, CHANNEL_COUNT),
                'velocity': _unknown(n, 2), 'size': _unknown(n, 3), 'yaw': _unknown(n),
                'range_deviation': _unknown(n), 'cross_deviation': _unknown(n),
                'motion_evidence': _unknown(n), 'boxes': _unknown(n, 4),
                'source_index': np.full(n, NO_SOURCE, np.uint16), 'track': np.full(n, -1)}
        for name, unknown in fill.items():
            if n and not len(getattr(self, name)):
                object.__setattr__(self, name, unknown)
        shapes = {'position': (n, 2), 'existence': (n,), 'categories': (n, CATEGORY_COUNT),
                  **{name: unknown.shape for name, unknown in fill.items()},
                  'known': (CATEGORY_COUNT,), 'looked': (SECTORS,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise TokensError(f'{n} detections: {name} has shape {list(getattr(self, name).shape)}; '
                                  f'expected {list(shape)}')
        if not np.isfinite(self.position).all():
            raise TokensError('detections: a position is NaN or infinite; leave out what has no position')
        for name in ('existence', 'categories', 'moving', 'rider', 'statuses'):
            values = getattr(self, name)
            if ((values < 0) | (values > 1)).any():
                raise TokensError(f'detections: {name} must lie in 0..1; calibrate scores to probabilities')

    def __len__(self) -> int:
        return len(self.position)

    @property
    def distance(self) -> np.ndarray:
        """Return the distance of each object, [n] metres."""
        return np.hypot(*self.position.T)

    @property
    def azimuth(self) -> np.ndarray:
        """Return the direction of each object, [n] radians, 0 ahead and pi/2 left."""
        return np.arctan2(self.position[:, 1], self.position[:, 0])

    def select(self, keep: np.ndarray) -> Detections:
        """Return the objects that a mask [n] or indices select, in their order."""
        return replace(self, **{name: getattr(self, name)[keep] for name in PER_OBJECT})

    def within(self, reach: float) -> np.ndarray:
        """Return the probability that each object is nearer than that, given the deviation of its distance.

        reach: metres.
        """
        if not math.isfinite(reach):
            return np.ones(len(self))
        deviation = np.nan_to_num(self.range_deviation).clip(0.01)
        return np.array([0.5 * math.erfc((far - reach) / (math.sqrt(2) * spread))
                         for far, spread in zip(self.distance, deviation, strict=True)])

    def counts(self) -> np.ndarray:
        """Return the expected number of each channel by object, float32 [n, 24]; see :data:`CHANNELS`."""
        shares = status_shares(self.moving, self.rider)
        values = np.zeros((len(self), CHANNEL_COUNT), np.float32)
        for category, (channels, share) in enumerate(shares):
            given = self.statuses[:, channels]
            share = np.where(np.isnan(given), share, given)
            values[:, channels] = (self.existence * self.categories[:, category])[:, None] * share
        return values


def detection_tokens(detections: Detections, modality: str, encoder: str,
                     reach: float = math.inf) -> ModalityTokens:
    """Return one token for each object; a frame without objects is one token of zeros without a direction.

    modality, encoder: as in ModalityTokens.  reach: metres; an object counts by the probability that it
    is nearer, see :meth:`Detections.within`.
    """
    inside = detections.within(reach)
    seen = detections.select(inside > 0.01)
    values = seen.counts() * inside[inside > 0.01, None].astype(np.float32)
    azimuth, distance, index = seen.azimuth, seen.distance, seen.source_index
    boxes = seen.boxes if np.isfinite(seen.boxes).any() else np.zeros((0, 4))
    if not len(seen):
        values, azimuth = np.zeros((1, CHANNEL_COUNT), np.float32), np.full(1, math.nan)
        distance, index = np.full(1, math.nan), np.full(1, NO_SOURCE, np.uint16)
    return ModalityTokens(
        modality, encoder, values, azimuth.astype(np.float32), sources=detections.sources, source_index=index,
        source_stamps_ns=(detections.stamp_ns,) * len(detections.sources), stamp_ns=detections.stamp_ns,
        frame_id=detections.frame_id, distance=distance.astype(np.float32),
        known=known_channels(detections.known), looked=detections.looked,
        max_distance=min(reach, detections.max_distance), boxes=boxes.astype(np.float32))


def sectors_between(start: float, end: float) -> np.ndarray:
    """Return the sectors that lie wholly between two directions, counter-clockwise, bool [SECTORS].

    start, end: radians.
    """
    width = math.degrees(end - start) % 360
    begins = (np.arange(SECTORS) * SECTOR - 180 - math.degrees(start) + ROUNDING) % 360
    return begins + SECTOR <= width + 2 * ROUNDING

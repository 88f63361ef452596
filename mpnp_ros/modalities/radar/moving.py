"""The radar encoder that needs no head: what moves, from returns that move together.

It needs a radar with many returns, as a 4-D radar.  What stands is not told from walls and signs, so only
what moves is known.  One token an object; its categories follow from how fast and how large it is.  What
crosses, or is small, is often not found: so it says nothing of directions in which it finds nothing.
"""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from mpnp_ros.detection.classes import CATEGORY_COUNT, CHANNEL_COUNT
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.geometry import in_base_frame
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.doppler import FEWEST, UNKNOWN
from mpnp_ros.modalities.radar.frames import MOVING, RadarFrame, radial_speed, usable_returns
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_of

VERSION = 2  # goes up whenever the encoder gives other tokens for the same scans
LOW, HIGH = -0.5, 4.0
"""Metres above the base frame between which returns of traffic lie."""
UNMOUNTED = 2.0
"""Metres above the ground, at most, of a radar whose mounting is not known: so much lower may traffic lie.

On 29 real frames, moved as if the radar were 2.2 m high, 43 of 48 objects are found; 27 if this is 0.
"""
CELL = 0.3
"""Metres within which returns count as one, so that dense returns do not have all their pairs listed."""
GAP, PER_SPEED = 1.5, 1.5
"""Metres between neighbouring returns of one object, and metres that a difference of 1 m/s counts as."""
REAL = 0.75
"""Probability that returns that move together are of an object and no reflection.

Of such groups ahead on 29 real frames, 78 % lay on an annotated object (docs/results/radar_frames.md).
"""
DEVIATION, CROSS_DEVIATION = 1.0, 0.5
"""Metres, of the middle of an object along and across the line of sight: its near side is what is seen."""
RUNNING, SMALL = 3.5, 1.5
"""Metres/second and metres that a pedestrian does not exceed."""
MOVES = 0.97
"""Probability that what the radar says to move does."""


def _shares(**shares: float) -> np.ndarray:
    return np.array([shares.get(category, 0.) for category in CATEGORIES])


TRAFFIC = _shares(car=.76, truck=.12, bus=.05, motorcycle=.03, bicycle=.03, trailer=.01)
"""What moves on a road and is no pedestrian; an assumption, not fitted to any drive."""
ON_FOOT = _shares(pedestrian=1.)
WALKS = 0.6
"""Probability that what is small and slow is a pedestrian."""
LOST = ('own motion cannot be told from its returns, so it finds nothing that moves; check '
        'encoder.doppler_span, encoder.nearing_positive and its transform')
"""Concern about a radar whose returns do not agree on the motion of the robot."""
KNOWN = np.array([status in ('moving', 'with rider') for _, status in CHANNELS])
"""Channels of what moves."""


class RadarMovingEncoder:
    """Encode a :class:`RadarFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`."""

    modality = 'radar'
    channels, token_width = CHANNELS, CHANNEL_COUNT

    def __init__(self, config: RadarConfig) -> None:
        self.config = config
        self.limits = {'known': KNOWN, 'max_distance': config.max_distance}
        self.fingerprint = config.fingerprint(self.modality, 'moving', VERSION)

    def encode(self, frame: RadarFrame) -> ModalityTokens:
        """Return one token an object, and why a radar finds nothing; raises as :meth:`detect`."""
        found = self.detect(frame)
        tokens = detection_tokens(found, self.modality, self.fingerprint, found.max_distance)
        concerns = []
        for scan in frame.scans:
            kept = usable_returns(scan, self.config.min_range)
            if len(kept.points) >= FEWEST and (kept.dyn_prop == UNKNOWN).all() and not kept.compensated.any():
                concerns.append(f'{scan.name}: {LOST}')  # so doppler_scan leaves it
        return replace(tokens, known=KNOWN, source_stamps_ns=tuple(scan.stamp_ns for scan in frame.scans),
                       concerns=tuple(concerns))

    def detect(self, frame: RadarFrame) -> Detections:
        """Return what moves around the robot.

        Raises PointCloudError where there is no radar, or its arrays do not fit together.
        """
        if not frame.scans:
            raise PointCloudError('the frame has no scan of any radar')
        scans = [usable_returns(scan, self.config.min_range) for scan in frame.scans]
        points = np.concatenate([in_base_frame(scan, scan.points) for scan in scans])
        speed = np.concatenate([radial_speed(scan.points, scan.compensated) for scan in scans])
        source = np.repeat(np.arange(len(scans)), [len(scan.points) for scan in scans])
        moving = np.concatenate([np.isin(scan.dyn_prop, MOVING) for scan in scans])
        low = np.array([LOW if scan.translation is not None else LOW - UNMOUNTED for scan in scans])[source]
        near = moving & (points[:, 2] > low) & (points[:, 2] < HIGH) & (
            np.hypot(*points[:, :2].T) < self.config.max_distance + 10)
        groups = grouped(points[near, :2], speed[near], self.config.least_returns, self.config.doppler_span)
        places = [np.flatnonzero(near)[group] for group in groups]
        n, looked = len(places), np.zeros(SECTORS, bool)
        for group in places:
            looked[sector_of(np.arctan2(*points[group, 1::-1].T))] = True
        fast = np.array([abs(np.median(speed[group])) > RUNNING
                         or np.hypot(*np.ptp(points[group, :2], axis=0)) > SMALL for group in places], bool)
        walks = np.where(fast, 0., WALKS)[:, None]
        return Detections(
            position=np.array([points[group, :2].mean(0) for group in places]).reshape(n, 2),
            existence=np.full(n, REAL),
            categories=((1 - walks) * TRAFFIC + walks * ON_FOOT).reshape(n, CATEGORY_COUNT),
            moving=np.full(n, MOVES), rider=np.full(n, MOVES), range_deviation=np.full(n, DEVIATION),
            cross_deviation=np.full(n, CROSS_DEVIATION), sources=tuple(scan.name for scan in scans),
            source_index=np.array([source[group[0]] for group in places], np.uint16), looked=looked,
            max_distance=self.config.max_distance, stamp_ns=min(scan.stamp_ns for scan in frame.scans),
            frame_id=frame.frame_id)


def grouped(places: np.ndarray, speed: np.ndarray, least: int, span: float = 0.) -> list[np.ndarray]:
    """Return the indices of the returns of each object, of so many returns at least.

    places: [N, 2] metres.  speed: [N] metres/second.  span: of the speeds, beyond which they begin anew; 0:
    none.
    """
    if not len(places):
        return []
    turn = speed[:, None]
    if span:  # on a circle, both ends of the span meet
        angle = math.tau * speed / span
        turn = np.stack([np.cos(angle), np.sin(angle)], 1) * span / math.tau
    spots = np.column_stack([places, PER_SPEED * turn])
    _, cell, count = np.unique(np.floor(spots / CELL), axis=0, return_inverse=True, return_counts=True)
    centres = np.zeros((len(count), spots.shape[1]))
    np.add.at(centres, cell.ravel(), spots)
    pairs = KDTree(centres / count[:, None]).query_pairs(GAP, output_type='ndarray')
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(count), len(count)))
    name = connected_components(graph, directed=False)[1][cell.ravel()]
    return [np.flatnonzero(name == each) for each in np.flatnonzero(np.bincount(name) >= least)]

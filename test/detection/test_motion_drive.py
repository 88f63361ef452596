"""What moves on a real drive, from the middles of its true boxes with noise."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mpnp_ros.detection.classes import MOVING
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.motion import MotionTracker
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import Transform
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.vocabulary import CATEGORIES

ROOT = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'pandaset_002'
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f'there is no {ROOT.name} in shared/data')
STATUSES = ('moving', 'parked', 'stopped', 'standing')
SECOND = 1_000_000_000
Placed = list[tuple[AnnotatedObject, np.ndarray]]


def moments(root: NuScenes, scene: str) -> Iterator[tuple[int, Transform, Placed, bool]]:
    """Stamp, pose, objects in the map and whether it is a key frame, of each sweep, in order."""
    keys = list(root.key_frames(scene))
    rows: dict[str, list[tuple[int, np.ndarray, AnnotatedObject]]] = {}
    for frame in keys:
        for item in frame.objects:
            rows.setdefault(item.instance, []).append(
                (frame.stamp_ns, frame.ego_pose.apply(np.array(item.centre)), item))
    by_stamp = {frame.lidar.stamp_ns: frame for frame in keys}
    for sweep in (reading for reading in root.readings(scene) if reading.modality == 'lidar'):
        if frame := by_stamp.get(sweep.stamp_ns):
            yield sweep.stamp_ns, frame.ego_pose, [
                (item, frame.ego_pose.apply(np.array(item.centre))) for item in frame.objects], True
            continue
        there = []
        for known in rows.values():
            for (start, one, item), (end, other, _) in zip(known, known[1:], strict=False):
                if start <= sweep.stamp_ns < end < start + SECOND:
                    share = (sweep.stamp_ns - start) / (end - start)
                    there.append((item, one + share * (other - one)))
        yield sweep.stamp_ns, sweep.ego_pose, there, False


def statuses(along: float, relative: float, seed: int) -> np.ndarray:
    """[n, 3]: whether it moves, the probability said of it, and the prior, of objects within 30 m."""
    root, rng, rows = NuScenes(ROOT), np.random.default_rng(seed), []
    for scene in root.scenes:
        tracker = MotionTracker()
        for stamp, pose, placed, key in moments(root, scene['name']):
            there = [(item, pose.inverse().apply(place)[:2]) for item, place in placed if rng.random() > .1]
            there = [(item, place) for item, place in there if np.hypot(*place) < 45]
            place = np.array([place for _, place in there]).reshape(-1, 2)
            far = np.hypot(*place.T)
            deviation = along + relative * far
            unit = place / far[:, None]
            noisy = place + unit * (deviation * rng.normal(size=len(far)))[:, None] + \
                np.stack([-unit[:, 1], unit[:, 0]], 1) * (.25 * rng.normal(size=len(far)))[:, None]
            categories = .1 * np.ones((len(far), 10)) / 10
            categories[np.arange(len(far)), [CATEGORIES.index(item.category) for item, _ in there]] += .9
            told = tracker.follow(Detections(noisy, np.ones(len(far)), categories, range_deviation=deviation,
                                             stamp_ns=stamp), pose)
            for (item, place), chance in zip(there, told.moving, strict=True):
                if key and np.hypot(*place) < 30 and item.attribute in STATUSES:
                    prior = MOVING['pedestrian' if item.category == 'pedestrian' else 'vehicle']
                    rows.append((item.attribute == 'moving', prior if np.isnan(chance) else chance, prior))
    return np.array(rows)


@pytest.mark.parametrize('along, relative, least', [(.4, 0., .92), (0., .15, .82)], ids=['lidar', 'camera'])
def test_motion_is_told_better_than_by_the_prior(along, relative, least):
    moves, said, prior = statuses(along, relative, 0).T
    right, before = (((chance > .5) == moves).mean() for chance in (said, prior))
    assert right >= least and right > before
    assert ((said - moves) ** 2).mean() < ((prior - moves) ** 2).mean()


def test_very_bad_distances_are_hardly_worse_than_the_prior():
    moves, said, prior = statuses(0., .3, 0).T
    assert ((said - moves) ** 2).mean() < ((prior - moves) ** 2).mean() + .05

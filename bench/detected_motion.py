"""Measure how well motion is recognised on a real drive, from the middles of true boxes with noise.

    python -m bench.detected_motion ROOT        # a nuScenes-like root with LiDAR sweeps, such as pandaset_002

Prints how often moving or not is right at key frames within 30 m, and the Brier score, beside the prior.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpnp_ros.detection.classes import MOVING
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.motion import MotionTracker
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import Transform
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_ros.tokens import SECOND

STATUSES = ('moving', 'parked', 'stopped', 'standing')
SEEN, ASKED = 45.0, 30.0
"""Metres up to which objects are detected, and judged."""
DRAWS = 3
Placed = list[tuple[AnnotatedObject, np.ndarray]]


@dataclass(frozen=True)
class DetectionNoise:
    """Errors of a detector.

    along: metres, deviation along the line of sight.  relative: more of it, as a share of the distance.
    alike: correlation of these errors of one object in frames in succession.  across: metres, across the line
    of sight.  missed: share of objects that are not detected.
    """

    along: float = 0.
    relative: float = 0.
    alike: float = 0.
    across: float = 0.25
    missed: float = 0.1


NOISES = {'0.4 m': DetectionNoise(0.4),
          '0.4 m, alike in frames in succession (0.8)': DetectionNoise(0.4, alike=0.8),
          '15 % of the distance': DetectionNoise(relative=0.15),
          '15 %, alike in frames in succession (0.8)': DetectionNoise(relative=0.15, alike=0.8),
          '30 % of the distance': DetectionNoise(relative=0.3)}


def moments(root: NuScenes, scene: str) -> Iterator[tuple[int, Transform, Placed, bool]]:
    """Yield of each sweep, in order, its stamp, pose, objects in the map and whether it is a key frame."""
    keys = list(root.key_frames(scene))
    rows: dict[str, list[tuple[int, np.ndarray, AnnotatedObject]]] = {}
    for frame in keys:
        for item in frame.objects:
            rows.setdefault(item.instance, []).append(
                (frame.stamp_ns, frame.ego_pose.apply(np.array(item.centre)), item))
    by_stamp = {frame.lidar.stamp_ns: frame for frame in keys if frame.lidar is not None}
    for sweep in (reading for reading in root.readings(scene) if reading.modality == 'lidar'):
        if key_frame := by_stamp.get(sweep.stamp_ns):
            yield sweep.stamp_ns, key_frame.ego_pose, [
                (item, key_frame.ego_pose.apply(np.array(item.centre))) for item in key_frame.objects], True
            continue
        there = []
        for known in rows.values():
            for (start, before, item), (end, after, _) in zip(known, known[1:], strict=False):
                if start <= sweep.stamp_ns < end < start + SECOND:
                    share = (sweep.stamp_ns - start) / (end - start)
                    there.append((item, before + share * (after - before)))
        yield sweep.stamp_ns, sweep.ego_pose, there, False


def statuses(root: Path, noise: DetectionNoise, seed: int) -> np.ndarray:
    """Return [n, 3]: whether an object moves, the estimated probability that it does, and the prior."""
    tables, rng, rows = NuScenes(root), np.random.default_rng(seed), []
    for scene in tables.scenes:
        tracker = MotionTracker()
        errors: dict[str, float] = {}
        for stamp, pose, placed, key in moments(tables, scene['name']):
            there = [(item, pose.inverse().apply(place)[:2]) for item, place in placed
                     if rng.random() > noise.missed]
            there = [(item, place) for item, place in there if np.hypot(*place) < SEEN]
            found = _detected(there, noise, errors, rng, stamp)
            told = tracker.follow(found, pose)
            for (item, place), chance in zip(there, told.moving, strict=True):
                if key and np.hypot(*place) < ASKED and item.attribute in STATUSES:
                    prior = MOVING['pedestrian' if item.category == 'pedestrian' else 'vehicle']
                    rows.append((item.attribute == 'moving', prior if np.isnan(chance) else chance, prior))
    return np.array(rows)


def _detected(there: Placed, noise: DetectionNoise, errors: dict[str, float], rng: np.random.Generator,
              stamp: int) -> Detections:
    """Return objects with the errors of a detector.

    errors: of each object along the line of sight, in deviations; updated.
    """
    for item, _ in there:
        fresh = rng.normal()
        before = errors.get(item.instance)
        errors[item.instance] = fresh if before is None else \
            noise.alike * before + np.sqrt(1 - noise.alike ** 2) * fresh
    place = np.array([place for _, place in there]).reshape(-1, 2)
    far = np.hypot(*place.T)
    deviation, unit = noise.along + noise.relative * far, place / far[:, None]
    along = deviation * [errors[item.instance] for item, _ in there]
    noisy = place + unit * along[:, None] + \
        np.stack([-unit[:, 1], unit[:, 0]], 1) * (noise.across * rng.normal(size=len(far)))[:, None]
    categories = np.full((len(far), 10), .01)
    categories[np.arange(len(far)), [CATEGORIES.index(item.category) for item, _ in there]] += .9
    return Detections(noisy, np.ones(len(far)), categories, range_deviation=deviation, stamp_ns=stamp)


def main(root: Path) -> None:
    """Print the table."""
    print('| noise along the line of sight | right | prior alone | Brier score | of the prior |')
    print('|---|---|---|---|---|')
    for name, noise in NOISES.items():
        moves, said, prior = np.concatenate([statuses(root, noise, seed) for seed in range(DRAWS)]).T
        right = [100 * ((chance > .5) == moves).mean() for chance in (said, prior)]
        brier = [((chance - moves) ** 2).mean() for chance in (said, prior)]
        print(f'| {name} | {right[0]:.1f} % | {right[1]:.1f} % | {brier[0]:.3f} | {brier[1]:.3f} |')


if __name__ == '__main__':
    main(Path(sys.argv[1]))

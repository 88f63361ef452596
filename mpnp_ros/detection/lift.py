"""From boxes in the images of calibrated cameras to objects around the robot.

Distance of a box: from the cluster of LiDAR points that it covers where these are given, else from where its
lower edge meets the ground and from how tall it is.  The ground is flat and at height 0 of the base frame.
A cluster as large as one object is one object, however many boxes lie on it.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.detection.boxes import KIND, CategoryBoxes, area, intersections
from mpnp_ros.detection.classes import CATEGORY_COUNT
from mpnp_ros.detection.clusters import Clusters
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.ranging import ProjectedClusters, RangeClaim, share_points, supported
from mpnp_ros.poses import wrap_angle
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_ros.tokens import SECTORS

HEIGHT = {'barrier': (1.0, .2), 'bicycle': (1.3, .2), 'bus': (3.4, .12), 'car': (1.65, .1),
          'construction vehicle': (3.1, .3), 'motorcycle': (1.45, .2), 'pedestrian': (1.72, .08),
          'traffic cone': (.9, .3), 'trailer': (3.8, .15), 'truck': (2.9, .25)}
"""Height of each category in metres, and the standard deviation of its logarithm."""
DEPTH = {'barrier': .25, 'bicycle': .3, 'bus': 2.5, 'car': 1.2, 'construction vehicle': 2., 'motorcycle': .4,
         'pedestrian': .15, 'traffic cone': .15, 'trailer': 2.5, 'truck': 2.}
"""Typical distance from the visible side to the middle of an object, metres."""
RIDDEN = 1.75, .1
"""Height of a cycle with its rider, as in HEIGHT."""
VEHICLE, CYCLE, PERSON = 0, 1, 2
"""Indices in KINDS."""
SLOPE = 0.012
"""Deviation of the rise of a line of sight: the road is not flat and the robot nods."""
EDGE = 0.05
"""Deviation of the logarithm of a box's height."""
BORDER = 0.01
"""Share of an image at its border that a box must reach to be cut by it."""
CUT_BELOW = 6.
"""Greatest distance of what reaches the lower border, metres."""
LARGEST = {VEHICLE: 6.0, CYCLE: 2.2, PERSON: 0.9}
"""Metres, length of a cluster that can be one object, by kind."""
APART = 3.0
"""Metres between the places of two objects from which on LiDAR tells them apart."""
RIDER_SEEN, RIDER_UNSEEN = 0.9, 0.15
"""Probability of a rider where a person is seen on a cycle, and where none is."""
BESIDE = math.radians(2.5)
"""Angle between the places where two cameras see the same object, at most, for a thin one."""
SIDEWAYS = 0.03
"""Share of the width of an image beside it where what is half in it may still have its middle."""
FITTING = 0.35
"""Logarithm of the ratio of two distances of the same object, at most."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera.

    position: [3] metres in the base frame.  size: (width, height) of its image, pixels.
    rays: pixels [n, 2] -> directions [n, 3] in the base frame.
    project: points [n, 3] of the base frame -> pixels [n, 2], and metres ahead [n]; behind it is negative.
    """

    name: str
    position: np.ndarray
    size: tuple[int, int]
    rays: Callable[[np.ndarray], np.ndarray]
    project: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class ViewedObject:
    """An object as one camera sees it.

    distance: horizontal metres from the camera; deviation: of it.  heading: [2] horizontal unit vector.
    edges: azimuths of its left and right side as seen from the camera, radians.  cut: a border of the image
    hides a side of it.  claim: points of LiDAR that tell the distance.
    """

    camera: Camera
    source: int
    box: np.ndarray
    existence: float
    categories: np.ndarray
    rider: float
    distance: float
    deviation: float
    heading: np.ndarray
    edges: tuple[float, float]
    cut: bool
    claim: RangeClaim | None = None

    @property
    def position(self) -> np.ndarray:
        """Return [2] metres in the base frame."""
        return self.camera.position[:2] + self.distance * self.heading

    @property
    def kind(self) -> int:
        """Return the index in KINDS of its likeliest category."""
        return int(KIND[self.categories.argmax()])

    @property
    def category(self) -> str:
        """Return its likeliest category."""
        return CATEGORIES[int(self.categories.argmax())]


def lift(seen: Sequence[CategoryBoxes], cameras: Sequence[Camera], clusters: Clusters | None = None, *,
         known: np.ndarray | None = None, min_points: int = 0, max_distance: float = math.inf,
         stamp_ns: int = 0, frame_id: str = 'base_link') -> Detections:
    """Return the objects that cameras see, each once.

    seen: boxes of each camera.  clusters: of LiDAR points in the base frame; None: there is no LiDAR.
    known: bool [10], categories that the detector can tell.  min_points: boxes with fewer LiDAR points are
    left out, where clusters are given.  max_distance: see Detections.
    """
    sights = [sight for source, (boxes, camera) in enumerate(zip(seen, cameras, strict=True))
              for sight in one_each(sights_of(boxes, camera, source, clusters), clusters)
              if clusters is None or (len(sight.claim.points) if sight.claim else 0) >= min_points]
    objects = [joined(group) for group in grouped(sights, clusters)]
    n = len(objects)
    evidence = np.array([math.nan if clusters is None or sight.claim is None else
                         clusters.evidence[sight.claim.cluster] for sight in objects])
    return Detections(
        position=np.array([sight.position for sight in objects]).reshape(n, 2),
        existence=np.array([sight.existence for sight in objects]),
        categories=np.array([sight.categories for sight in objects]).reshape(n, CATEGORY_COUNT),
        motion_evidence=evidence, rider=np.array([sight.rider for sight in objects]),
        range_deviation=np.array([sight.deviation for sight in objects]),
        boxes=np.array([sight.box for sight in objects]).reshape(n, 4),
        sources=tuple(camera.name for camera in cameras),
        source_index=np.array([sight.source for sight in objects], np.uint16),
        known=np.ones(CATEGORY_COUNT, bool) if known is None else known, looked=sectors_seen(cameras),
        max_distance=max_distance, stamp_ns=stamp_ns, frame_id=frame_id)


def sights_of(seen: CategoryBoxes, camera: Camera, source: int, clusters: Clusters | None = None,
              ) -> list[ViewedObject]:
    """Return what one camera sees; a person on a cycle is part of it."""
    pairs, kind = riders(seen), seen.kind
    projected = None if clusters is None else ProjectedClusters(
        clusters, *camera.project(clusters.points), camera.position, camera.size)
    made = []
    for place in range(len(seen)):
        if place in pairs.values():
            continue
        box, rider = seen.boxes[place], math.nan
        if kind[place] == CYCLE:
            rider = RIDER_SEEN if place in pairs else RIDER_UNSEEN
        if place in pairs:
            other = seen.boxes[pairs[place]]
            box = np.concatenate([np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])])
        sight = _by_sight(camera, source, box, float(seen.existence[place]), seen.categories[place], rider)
        if projected is not None:
            sight = _measured(sight, projected)
        made.append(sight)
    return made


def riders(seen: CategoryBoxes) -> dict[int, int]:
    """Return cycle -> the person on it, by place: one who reaches above it and ends within it."""
    pairs: dict[int, int] = {}
    kind = seen.kind
    people = np.flatnonzero(kind == PERSON)
    for cycle in np.flatnonzero(kind == CYCLE):
        left, top, right, bottom = seen.boxes[cycle]
        tall = bottom - top
        for person in people:
            other = seen.boxes[person]
            within = min(right, other[2]) - max(left, other[0]) > (other[2] - other[0]) / 2
            upright = other[1] < top + .3 * tall and top < other[3] < bottom + .1 * tall
            if within and upright and person not in pairs.values():
                pairs[int(cycle)] = int(person)
                break
    return pairs


def _by_sight(camera: Camera, source: int, box: np.ndarray, existence: float, categories: np.ndarray,
              rider: float) -> ViewedObject:
    """Return the sight of a box, with a distance from the ground and from its height, by their deviations."""
    left, top, right, bottom = box
    width, height = camera.size
    middle = (left + right) / 2
    rays = camera.rays(np.array([[middle, top], [middle, bottom], [middle, (top + bottom) / 2],
                                 [left, (top + bottom) / 2], [right, (top + bottom) / 2]]))
    across = np.hypot(*rays[:, :2].T).clip(1e-9)
    rise = rays[:, 2] / across
    category = CATEGORIES[int(categories.argmax())]
    tall, spread = RIDDEN if rider == RIDER_SEEN else HEIGHT[category]
    by_height = tall / max(1e-3, rise[0] - rise[1])
    height_deviation = math.hypot(spread, EDGE)
    by_ground = camera.position[2] / -rise[1] if rise[1] < -1e-3 and camera.position[2] > 0 else math.inf
    ground_deviation = math.hypot(EDGE, SLOPE * by_ground / max(.1, camera.position[2]))
    cut_above, cut_below = top < BORDER * height, bottom > (1 - BORDER) * height
    if cut_below:
        distance, deviation = (min(by_height, CUT_BELOW), .3) if not cut_above else (CUT_BELOW * 2 / 3, .4)
    elif not math.isfinite(by_ground):
        distance, deviation = by_height, height_deviation
    elif cut_above:
        distance, deviation = by_ground, ground_deviation
    else:
        trust = np.array([height_deviation, ground_deviation]) ** -2
        distance = math.exp(float(trust @ np.log([by_height, by_ground]) / trust.sum()))
        apart = abs(math.log(by_height / by_ground)) / math.hypot(height_deviation, ground_deviation)
        deviation = float(trust.sum() ** -.5) * max(1., apart)  # where both disagree neither is as good
    distance += DEPTH[category]
    azimuth = np.arctan2(rays[3:, 1], rays[3:, 0])
    return ViewedObject(camera, source, box, existence, categories, rider, distance, deviation * distance,
                        rays[2, :2] / across[2], (float(azimuth[0]), float(azimuth[1])),
                        bool(left < BORDER * width or right > (1 - BORDER) * width))


def _measured(sight: ViewedObject, projected: ProjectedClusters) -> ViewedObject:
    """Return a sight with the distance and the support of the cluster that its box covers."""
    claim = projected.claim(sight.box, sight.distance, sight.deviation)
    if claim is None:
        unseen = projected.looked(sight.box, sight.distance)
        return replace(sight, existence=supported(sight.existence, False)) if unseen else sight
    distance = claim.nearest + max(claim.depth / 2, .8 * DEPTH[sight.category])
    return replace(sight, existence=supported(sight.existence, True), distance=distance,
                   deviation=.3 + .02 * distance, claim=claim)


def one_each(sights: Sequence[ViewedObject], clusters: Clusters | None = None) -> list[ViewedObject]:
    """Return what one camera sees without second boxes of one object: two cars cannot stand in one place."""
    kept: list[ViewedObject] = []
    for sight in sorted(sights, key=lambda sight: -sight.existence):
        if not any(_one_cluster(sight, other, clusters) or
                   sight.kind == other.kind == VEHICLE and _one_place(sight, other) for other in kept):
            kept.append(sight)
    return kept


def _one_cluster(first: ViewedObject, second: ViewedObject, clusters: Clusters | None) -> bool:
    """Whether two boxes of one kind lie on points that can be one object only."""
    if clusters is None or first.claim is None or second.claim is None or first.kind != second.kind:
        return False
    if share_points(first.claim, second.claim):
        return True
    place = first.claim.cluster
    return place == second.claim.cluster and bool(clusters.length[place] < LARGEST.get(first.kind, 0.))


def _one_place(first: ViewedObject, second: ViewedObject) -> bool:
    """Whether two boxes of one image cannot be two cars: direction, distance and box agree."""
    apart = abs(wrap_angle(_middle(second) - _middle(first))) * min(first.distance, second.distance)
    far = abs(math.log(first.distance / second.distance))
    common = intersections(first.box, second.box[None])[0] / min(area(first.box), area(second.box))
    return apart < .9 and far < .12 and common > .3


def grouped(sights: Sequence[ViewedObject], clusters: Clusters | None = None) -> list[list[ViewedObject]]:
    """Return the sights of each object: at most one of every camera, the best fitting pairs first."""
    pairs = sorted((misfit, later, earlier) for later in range(len(sights)) for earlier in range(later)
                   if (misfit := _misfit(sights[later], sights[earlier], clusters)) < 1)
    group = list(range(len(sights)))
    for _, later, earlier in pairs:
        merged = [place for place, each in enumerate(group) if each in (group[later], group[earlier])]
        sources = [sights[place].source for place in merged]
        if len(set(sources)) == len(sources):
            for place in merged:
                group[place] = group[merged[0]]
    return [[sights[place] for place, each in enumerate(group) if each == name]
            for name in dict.fromkeys(group)]


def _misfit(first: ViewedObject, second: ViewedObject, clusters: Clusters | None) -> float:
    """Return how badly the sights of two cameras fit as one object; from 1 on they are different objects."""
    if first.source == second.source or first.kind != second.kind:
        return math.inf
    if _one_cluster(first, second, clusters):
        return 0.
    if first.claim and second.claim and np.hypot(*(first.position - second.position)) > APART:
        return math.inf
    if not (_may_see(first, second.camera) and _may_see(second, first.camera)):
        return math.inf
    towards = [math.atan2(*sight.position[::-1]) for sight in (first, second)]
    apart = abs(wrap_angle(towards[1] - towards[0]))
    halves = [abs(wrap_angle(sight.edges[1] - sight.edges[0])) / 2 for sight in (first, second)]
    offsets = (float(np.hypot(*sight.camera.position[:2])) for sight in (first, second))
    parallax = sum(offset * sight.deviation / max(2., sight.distance) ** 2
                   for offset, sight in zip(offsets, (first, second), strict=True))
    if first.cut and second.cut:  # two parts of it touch or overlap
        turn = max(apart - sum(halves), 0) / (BESIDE + parallax) + .1 * apart / sum(halves)
    elif first.cut or second.cut:  # the middle of a part of it lies within the whole
        turn = apart / (halves[int(first.cut)] + BESIDE + parallax)
    else:
        turn = apart / (.3 * min(halves) + BESIDE + parallax)
    distances = [max(1., float(np.hypot(*sight.position))) for sight in (first, second)]
    spread = math.hypot(first.deviation / distances[0], second.deviation / distances[1])
    far = abs(math.log(distances[0] / distances[1])) / max(FITTING, 2 * spread)
    return max(turn, far) if turn < 1 and far < 1 else math.inf


def _may_see(sight: ViewedObject, camera: Camera) -> bool:
    """Whether some of an object that one camera sees lies in the image of another."""
    ways = np.array([sight.heading, *([math.cos(edge), math.sin(edge)] for edge in sight.edges)])
    places = sight.camera.position[:2] + sight.distance * ways
    pixels, ahead = camera.project(np.column_stack([places, np.full(3, HEIGHT[sight.category][0] / 2)]))
    margin = SIDEWAYS * camera.size[0]
    return bool(((ahead > 0) & (pixels[:, 0] > -margin) & (pixels[:, 0] < camera.size[0] + margin)).any())


def joined(group: Sequence[ViewedObject]) -> ViewedObject:
    """Return one sight for those of one object: the place of the best, what all say of its category."""
    best = min(group, key=lambda sight: (sight.claim is None, sight.cut, sight.deviation / sight.distance))
    weights = np.array([sight.existence for sight in group])
    categories = weights @ np.stack([sight.categories for sight in group]) / weights.sum().clip(1e-9)
    riders_seen = [sight.rider for sight in group if not math.isnan(sight.rider)]
    if best.cut and best.claim is None and len(group) > 1:  # each shows a part: the whole is between them
        way = np.mean([sight.position for sight in group], axis=0) - best.camera.position[:2]
        distance = float(np.hypot(*way).clip(.1))
        best = replace(best, distance=distance, heading=way / distance)
    return replace(best, existence=float(weights.max()), categories=categories,
                   rider=max(riders_seen) if riders_seen else math.nan)


def sectors_seen(cameras: Sequence[Camera], finer: int = 10) -> np.ndarray:
    """Return the sectors most of which some camera sees, bool [SECTORS]."""
    seen = np.zeros(SECTORS * finer, bool)
    for camera in cameras:
        width, height = camera.size
        columns = np.linspace(0, width - 1, 65)
        rays = camera.rays(np.stack([columns, np.full(65, (height - 1) / 2)], 1))
        azimuth = np.unwrap(np.arctan2(rays[:, 1], rays[:, 0]))
        steps = np.interp(np.linspace(0, 64, 64 * finer + 1), np.arange(65), azimuth)
        seen[np.floor((steps / (2 * np.pi) + .5) * len(seen)).astype(int) % len(seen)] = True
    return seen.reshape(SECTORS, finer).mean(1) > .75


def _middle(sight: ViewedObject) -> float:
    return math.atan2(sight.heading[1], sight.heading[0])

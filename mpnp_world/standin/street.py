"""The street: poses of all actors as functions of time.

Street frame: x along the road, the ego vehicle drives towards +x on the line y = 0 (right-hand traffic).
"""
from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.poses import Transform, rotation_about_z

EGO_LANE, RIGHT_LANE, ONCOMING_LANES = 0.0, -3.5, (3.5, 7.0)
PARKING = {'right': -6.6, 'left': 10.1}
SIDEWALK = {'right': -9.6, 'left': 13.1}
BUILDING_EDGE = {'right': -12.0, 'left': 15.5}
ROAD_EDGES = (-7.9, 11.4)

SIZES = {
    'car': (4.5, 1.85, 1.6), 'truck': (7.5, 2.5, 3.2), 'bus': (11.0, 2.8, 3.5), 'trailer': (9.0, 2.5, 3.4),
    'construction vehicle': (6.2, 2.6, 3.2), 'motorcycle': (2.1, .8, 1.5), 'bicycle': (1.75, .6, 1.2),
    'pedestrian': (.7, .7, 1.75), 'traffic cone': (.42, .42, .8), 'barrier': (.5, 2.2, 1.05),
}
"""Length, width, height by category, metres."""

_VEHICLE_PAINTS = [(188, 40, 44), (44, 82, 150), (226, 226, 222), (60, 64, 70), (150, 154, 158),
                   (52, 108, 76)]
_CYCLE_PAINTS = [(168, 34, 40), (30, 30, 34), (36, 84, 150)]
PAINTS = {
    'car': _VEHICLE_PAINTS, 'truck': _VEHICLE_PAINTS, 'bus': [(214, 58, 40), (40, 120, 178), (62, 140, 76)],
    'trailer': [(206, 206, 200), (150, 160, 170)], 'construction vehicle': [(232, 172, 24)],
    'motorcycle': _CYCLE_PAINTS, 'bicycle': _CYCLE_PAINTS,
    'pedestrian': [(196, 60, 60), (52, 96, 168), (224, 214, 196), (70, 128, 84), (92, 70, 118)],
    'traffic cone': [(236, 98, 22)], 'barrier': [(232, 232, 228)],
}
"""Colours (red, green, blue) of each category; a pedestrian's is that of the shirt."""


@dataclass(frozen=True)
class Actor:
    """An annotated actor: place at time 0 in the street frame, heading, speed and colour."""

    name: str
    category: str
    attribute: str | None
    x: float
    y: float
    yaw: float
    speed: float
    size: tuple[float, float, float]
    colour: tuple[int, int, int]

    def pose(self, time: float) -> Transform:
        """The pose of the middle of its underside in the street frame at ``time`` seconds."""
        travelled = self.speed * time
        x, y = self.x + travelled * math.cos(self.yaw), self.y + travelled * math.sin(self.yaw)
        return Transform(rotation_about_z(self.yaw), _point(x, y))


@dataclass(frozen=True)
class Building:
    """A block beside the road: extent along x, the side's edge, depth, height and colour."""

    start: float
    end: float
    side: str
    depth: float
    height: float
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class StandinStreet:
    """One scene. origin: street frame -> map frame; speed: of the ego vehicle, metres/second."""

    name: str
    description: str
    night: bool
    origin: Transform
    speed: float
    actors: tuple[Actor, ...]
    buildings: tuple[Building, ...]

    def ego(self, time: float) -> Transform:
        """Pose of the ego vehicle in the street frame at ``time`` seconds."""
        return Transform(rotation_about_z(0.0), _point(self.speed * time, EGO_LANE))

    def ego_in_map(self, time: float) -> Transform:
        """Pose of the ego vehicle in the map frame."""
        return self.origin @ self.ego(time)


def make_street(number: int, seed: int) -> StandinStreet:
    """Scene ``number`` (from 1) of a stand-in: even numbers are night scenes."""
    rng = random.Random(f'street/{seed}/{number}')
    night = number % 2 == 0
    actors = [replace(actor, name=f'{index:03d}') for index, actor in enumerate(_actors(rng))]
    return StandinStreet(
        name=f'scene-{number:04d}', night=night, speed=rng.uniform(3.0, 6.0),
        description=('Night, ' if night else '') + 'generated street, parked cars, construction, pedestrians',
        origin=Transform(rotation_about_z(rng.uniform(-math.pi, math.pi)),
                         _point(rng.uniform(300, 900), rng.uniform(300, 900))),
        actors=tuple(actors), buildings=tuple(_buildings(rng)))


def _actors(rng: random.Random) -> Iterator[Actor]:
    yield from _traffic(rng)
    yield from _parking(rng)
    yield from _construction(rng)
    yield from _sidewalks(rng)


def _traffic(rng: random.Random) -> Iterator[Actor]:
    yield _actor(rng, 'car', 'moving', rng.uniform(14, 24), EGO_LANE, speed=rng.uniform(4, 7))
    yield _actor(rng, rng.choice(['car', 'truck']), 'moving', rng.uniform(-24, -15), EGO_LANE,
                 speed=rng.uniform(3, 5))
    yield _actor(rng, 'motorcycle', 'with rider', rng.uniform(4, 12), RIGHT_LANE, speed=rng.uniform(3, 6))
    yield _actor(rng, 'truck', 'stopped', rng.uniform(22, 34), RIGHT_LANE)
    yield _actor(rng, 'bus', 'moving', rng.uniform(-32, -20), RIGHT_LANE, speed=rng.uniform(3, 5))
    for lane in ONCOMING_LANES:
        x = rng.uniform(-38, -28)
        while x < 45:
            category = rng.choice(['car', 'car', 'car', 'truck', 'bus', 'motorcycle'])
            stopped = category != 'motorcycle' and rng.random() < .25
            status = 'with rider' if category == 'motorcycle' else 'stopped' if stopped else 'moving'
            yield _actor(rng, category, status, x, lane, yaw=math.pi, speed=0.0 if stopped else 6.0)
            x += rng.uniform(20, 34)


def _parking(rng: random.Random) -> Iterator[Actor]:
    yield _actor(rng, 'trailer', 'parked', rng.uniform(16, 22), PARKING['right'])
    for x in (-34, -27, -20, -13, -6, 1, 8, 29, 36):
        if rng.random() < .6:
            yield _actor(rng, 'car', 'parked', x + rng.uniform(-.6, .6), PARKING['right'])
    for x in (-30, -22, -14, 30, 38):
        if rng.random() < .4:
            yield _actor(rng, 'car', 'parked', x, PARKING['left'], yaw=math.pi)


def _construction(rng: random.Random) -> Iterator[Actor]:
    start, side = rng.uniform(2, 10), PARKING['left']
    yield _actor(rng, 'construction vehicle', rng.choice(['stopped', 'moving']), start + 6, side, yaw=math.pi)
    for index in range(rng.randint(3, 5)):
        yield _actor(rng, 'traffic cone', None, start + 3 * index, side - 1.75)
    for index in range(rng.randint(2, 4)):
        row, place = divmod(index, 2)
        yield _actor(rng, 'barrier', None, start - 4 + 16 * row, side - 1.0 + 2.3 * place, yaw=math.pi * row)


def _sidewalks(rng: random.Random) -> Iterator[Actor]:
    for side, y in SIDEWALK.items():
        x = rng.uniform(-36, -28)
        while x < 40:
            yield _walker(rng, x, y + rng.uniform(-.9, .9))
            x += rng.uniform(8, 16)
        kerb = y - 1.2 if side == 'left' else y + 1.2
        yield _actor(rng, 'bicycle', 'without rider', rng.uniform(-12, 18), kerb)
    yield _actor(rng, 'bicycle', 'with rider', rng.uniform(-12, 20), ROAD_EDGES[0] + .3, speed=3.5)
    yield _actor(rng, 'motorcycle', 'without rider', rng.uniform(20, 24), SIDEWALK['left'] - 1.2)


def _walker(rng: random.Random, x: float, y: float) -> Actor:
    status = rng.choices(['moving', 'standing', 'not standing'], [6, 3, 1])[0]
    yaw = rng.choice([0.0, math.pi]) if status == 'moving' else rng.uniform(-math.pi, math.pi)
    return _actor(rng, 'pedestrian', status, x, y, yaw, 1.3 if status == 'moving' else 0.0)


def _actor(rng: random.Random, category: str, attribute: str | None, x: float, y: float,
           yaw: float = 0.0, speed: float = 0.0) -> Actor:
    length, width, height = (value * rng.uniform(.95, 1.05) for value in SIZES[category])
    if attribute == 'with rider':
        height += .45
    if attribute == 'not standing':
        height *= .7
    return Actor('', category, attribute, x, y, yaw, speed, (length, width, height),
                 rng.choice(PAINTS[category]))


def _buildings(rng: random.Random) -> Iterator[Building]:
    for side in BUILDING_EDGE:
        x = -110.0
        while x < 110:
            end = x + rng.uniform(12, 26)
            colour = rng.choice([(176, 150, 128), (150, 158, 166), (188, 176, 150), (140, 112, 100)])
            yield Building(x, end, side, rng.uniform(8, 14), rng.uniform(7, 20), colour)
            x = end + rng.choice([0.0, 0.0, rng.uniform(3, 8)])


def _point(x: float, y: float) -> np.ndarray:
    return np.array([x, y, 0.0])

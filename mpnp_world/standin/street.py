"""The street: poses of all actors as functions of time, and their shapes.

An actor is a few tapered blocks inside its annotated box.

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

Colour = tuple[int, int, int]

GLASS, TYRE, DARK, SKIN = (46, 58, 70), (24, 24, 26), (58, 60, 66), (214, 168, 138)
TROUSERS, WHITE, RED = (50, 54, 72), (246, 246, 240), (206, 30, 34)
HEADLIGHT, TAILLIGHT = (255, 250, 220), (220, 24, 28)


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
    actors = [*_traffic(rng), *_parking(rng), *_construction(rng), *_sidewalks(rng)]
    actors = [replace(actor, name=f'{index:03d}') for index, actor in enumerate(actors)]
    return StandinStreet(
        name=f'scene-{number:04d}', night=night, speed=rng.uniform(3.0, 6.0),
        description=('Night, ' if night else '') + 'generated street, parked cars, construction, pedestrians',
        origin=Transform(rotation_about_z(rng.uniform(-math.pi, math.pi)),
                         _point(rng.uniform(300, 900), rng.uniform(300, 900))),
        actors=tuple(actors), buildings=tuple(_buildings(rng)))


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
            place = x, y + rng.uniform(-.9, .9)
            status = rng.choices(['moving', 'standing', 'not standing'], [6, 3, 1])[0]
            yaw = rng.choice([0.0, math.pi]) if status == 'moving' else rng.uniform(-math.pi, math.pi)
            yield _actor(rng, 'pedestrian', status, *place, yaw, 1.3 if status == 'moving' else 0.0)
            x += rng.uniform(8, 16)
        kerb = y - 1.2 if side == 'left' else y + 1.2
        yield _actor(rng, 'bicycle', 'without rider', rng.uniform(-12, 18), kerb)
    yield _actor(rng, 'bicycle', 'with rider', rng.uniform(-12, 20), ROAD_EDGES[0] + .3, speed=3.5)
    yield _actor(rng, 'motorcycle', 'without rider', rng.uniform(20, 24), SIDEWALK['left'] - 1.2)


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


@dataclass(frozen=True)
class Block:
    """An upright block in the actor's frame (x ahead, z = 0 on the ground).

    centre: (x, y, z) of its middle; size: (length, width, height) metres; taper: size of its top
    relative to its bottom; lit: emits light, also at night; outward: (x, y) of a
    block on the surface of another one, visible from that side only.
    """

    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    colour: Colour
    taper: tuple[float, float] = (1.0, 1.0)
    lit: bool = False
    outward: tuple[float, float] | None = None

    @property
    def corners(self) -> np.ndarray:
        """[8, 3]: the bottom counter-clockwise seen from above, then the top."""
        x, y, z = self.centre
        length, width, height = self.size
        signs = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) / 2
        bottom = np.c_[signs * (length, width) + (x, y), np.full(4, z - height / 2)]
        top = np.c_[signs * (length, width) * self.taper + (x, y), np.full(4, z + height / 2)]
        return np.concatenate([bottom, top])


def blocks_of(actor: Actor) -> tuple[Block, ...]:
    """The blocks of an actor."""
    return tuple(_SHAPES[actor.category](actor))


def building_block(building: Building) -> Block:
    """The block of a building in the street frame."""
    edge = BUILDING_EDGE[building.side]
    y = edge + building.depth / 2 * (1 if building.side == 'left' else -1)
    return Block(((building.start + building.end) / 2, y, building.height / 2),
                 (building.end - building.start, building.depth, building.height), building.colour)


def _car(actor: Actor) -> Iterator[Block]:
    length, width, height = actor.size
    yield from _wheels(length, width, .34, (.31, -.31))
    yield Block((0, 0, .50), (length, width, .56), actor.colour, (.99, .96))
    cabin = height - .86
    yield Block((-.04 * length, 0, .78 + cabin / 2), (.60 * length, .92 * width, cabin), GLASS, (.70, .84))
    yield Block((-.04 * length, 0, height - .04), (.42 * length, .77 * width, .08), actor.colour)
    yield from _lights(length, width, .58)


def _truck(actor: Actor) -> Iterator[Block]:
    length, width, height = actor.size
    cab = .24 * length
    yield from _wheels(length, width, .5, (.36, -.22, -.36))
    yield Block((0, 0, .75), (length, .8 * width, .3), DARK)
    yield Block((length / 2 - cab / 2, 0, .4 + .36 * height), (cab, .95 * width, .72 * height), actor.colour)
    yield Block((length / 2 - .06, 0, .62 * height), (.12, .84 * width, .2 * height), GLASS)
    yield Block((-cab / 2 - .1, 0, .9 + (height - .9) / 2), (length - cab - .2, width, height - .9),
                (222, 222, 216))
    yield from _lights(length, .95 * width, .8)


def _bus(actor: Actor) -> Iterator[Block]:
    length, width, height = actor.size
    yield from _wheels(length, width, .5, (.32, -.28))
    yield Block((0, 0, .35 + .17 * height), (length, width, .34 * height), actor.colour)
    yield Block((0, 0, .35 + .48 * height), (.995 * length, .985 * width, .28 * height), GLASS)
    top = .35 + .62 * height
    yield Block((0, 0, (top + height) / 2), (length, width, height - top), actor.colour)
    yield from _lights(length, width, .8)


def _trailer(actor: Actor) -> Iterator[Block]:
    length, width, height = actor.size
    yield from _wheels(length, width, .48, (-.30, -.42))
    yield Block((.38 * length, 0, .45), (.2, .5 * width, .9), DARK)
    yield Block((0, 0, 1.0), (length, .9 * width, .2), DARK)
    yield Block((0, 0, 1.1 + (height - 1.1) / 2), (length, width, height - 1.1), actor.colour)
    yield Block((0, 0, 1.35), (1.002 * length, 1.002 * width, .18), RED)


def _construction_vehicle(actor: Actor) -> Iterator[Block]:
    length, width, height = actor.size
    for side in (-1, 1):
        yield Block((-.1 * length, side * .36 * width, .4), (.62 * length, .26 * width, .8), TYRE, (.8, 1.0))
    yield Block((-.16 * length, 0, 1.25), (.48 * length, .9 * width, .9), actor.colour)
    cabin = height - 1.7
    yield Block((-.04 * length, .18 * width, 1.7 + cabin / 2), (.22 * length, .44 * width, cabin), GLASS)
    yield Block((.22 * length, -.12 * width, 2.2), (.36 * length, .3, .36), actor.colour)
    yield Block((.40 * length, -.12 * width, 1.5), (.3, .3, 1.6), actor.colour)
    yield Block((.42 * length, -.12 * width, .45), (.16 * length, .8, .8), DARK, (.6, 1.0))


def _bicycle(actor: Actor) -> Iterator[Block]:
    length, width, _ = actor.size
    for end in (-1, 1):
        yield from _wheel(end * .32 * length, 0, .33, .06)
    yield Block((0, 0, .58), (.52 * length, .07, .16), actor.colour)
    yield Block((-.12 * length, 0, .70), (.07, .07, .36), actor.colour)
    yield Block((.24 * length, 0, .70), (.07, .07, .36), actor.colour)
    yield Block((.24 * length, 0, .88), (.08, .86 * width, .08), DARK)
    yield Block((-.16 * length, 0, .84), (.26, .14, .08), DARK)
    yield from _rider(actor, .86)


def _motorcycle(actor: Actor) -> Iterator[Block]:
    length, width, _ = actor.size
    for end in (-1, 1):
        yield from _wheel(end * .34 * length, 0, .31, .18)
    yield Block((0, 0, .62), (.56 * length, .34, .44), actor.colour)
    yield Block((.28 * length, 0, .98), (.1, .9 * width, .1), DARK)
    yield Block((.36 * length, 0, .78), (.1, .2, .2), HEADLIGHT, lit=True, outward=(1, 0))
    yield Block((-.47 * length, 0, .72), (.06, .2, .12), TAILLIGHT, lit=True, outward=(-1, 0))
    yield from _rider(actor, .88)


def _rider(actor: Actor, saddle: float) -> Iterator[Block]:
    if actor.attribute != 'with rider':
        return
    shirt, top = (60, 120, 110), actor.size[2]
    yield Block((.04, 0, saddle - .18), (.42, .42, .40), TROUSERS)
    yield Block((-.06, 0, (saddle + top - .26) / 2), (.32, .46, top - .26 - saddle), shirt)
    yield Block((-.02, 0, top - .13), (.25, .22, .26), SKIN if actor.category == 'bicycle' else WHITE)


def _pedestrian(actor: Actor) -> Iterator[Block]:
    _, width, height = actor.size
    waist = .46 * height if actor.attribute != 'not standing' else .3 * height
    stride = .17 if actor.attribute == 'moving' else .0
    for side in (-1, 1):
        yield Block((side * stride, side * .11, waist / 2), (.17, .16, waist), TROUSERS)
    if actor.attribute == 'not standing':
        yield Block((.14, 0, waist * .75), (.5, .4, waist * .5), TROUSERS)
    shoulders = height - .30
    yield Block((0, 0, (waist + shoulders) / 2), (.25, .46, shoulders - waist), actor.colour)
    for side in (-1, 1):
        yield Block((-side * stride * .7, side * .28, (waist + shoulders) / 2 + .04),
                    (.13, min(.11, width / 6), shoulders - waist), actor.colour)
    yield Block((0, 0, height - .14), (.21, .20, .28), SKIN)


def _traffic_cone(actor: Actor) -> Iterator[Block]:
    length, width, height = actor.size
    yield Block((0, 0, .03), (length, width, .06), DARK)
    for low, high, colour in ((.06, .40, actor.colour), (.40, .66, WHITE), (.66, 1.0, actor.colour)):
        bottom, top = (.78 * length * (1 - .82 * part) for part in (low, high))
        yield Block((0, 0, height * (low + high) / 2), (bottom, bottom, height * (high - low)), colour,
                    (top / bottom, top / bottom))


def _barrier(actor: Actor) -> Iterator[Block]:
    length, width, height = actor.size
    for side in (-1, 1):
        yield Block((0, side * .40 * width, .22), (length, .1, .44), DARK)
    panels = 6
    for panel in range(panels):
        y = ((panel + .5) / panels - .5) * width
        colour = RED if panel % 2 else actor.colour
        yield Block((0, y, (.4 + height) / 2), (.12, width / panels, height - .4), colour)


def _wheels(length: float, width: float, radius: float, places: tuple[float, ...]) -> Iterator[Block]:
    for place in places:
        for side in (-1, 1):
            yield from _wheel(place * length, side * (width / 2 - .05), radius, .1, (0, side))


def _wheel(x: float, y: float, radius: float, width: float,
           outward: tuple[float, float] | None = None) -> Iterator[Block]:
    """A hexagonal wheel that stands on the ground: two tapered halves."""
    flat, wide = 1.1 * radius, 2 * radius
    yield Block((x, y, radius / 2), (flat, width, radius), TYRE, (wide / flat, 1.0), outward=outward)
    yield Block((x, y, 1.5 * radius), (wide, width, radius), TYRE, (flat / wide, 1.0), outward=outward)


def _lights(length: float, width: float, height: float) -> Iterator[Block]:
    for side in (-1, 1):
        y = side * .36 * width
        for end, colour in ((1, HEADLIGHT), (-1, TAILLIGHT)):
            yield Block((end * (length / 2 - .01), y, height), (.06, .2 * width, .16), colour, lit=True,
                        outward=(end, 0))


_SHAPES = {
    'car': _car, 'truck': _truck, 'bus': _bus, 'trailer': _trailer,
    'construction vehicle': _construction_vehicle, 'motorcycle': _motorcycle, 'bicycle': _bicycle,
    'pedestrian': _pedestrian, 'traffic cone': _traffic_cone, 'barrier': _barrier,
}

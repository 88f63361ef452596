"""Shapes of things in Gazebo: a few boxes, cylinders and ellipsoids each.

A body fills the box of its annotation and has the characteristic parts of its kind.
"""
from __future__ import annotations

import math
from collections.abc import Callable

from mpnp_world.gazebo.elements import Solid, Triple
from mpnp_world.models.street import SIGNAL_ARM, SIGNAL_HEADS
from mpnp_world.scene.state import Fixture, WorldObject

ON_ITS_SIDE, BOOM_UP = (math.pi / 2, 0.0, 0.0), (0.0, -0.45, 0.0)
LAMP_HEAD = 0.85
"""Position of the light along the arm of a street lamp."""
WITH_RIDER, SITTING = 'with rider', 'not standing'


def body(item: WorldObject) -> list[Solid]:
    """The solids of an annotated thing in its own frame."""
    return _BODIES[item.kind](item)


def fixture_solids(item: Fixture, glowing: bool) -> list[Solid]:
    """The solids of a fixture in its own frame.  glowing: whether street lamps are on."""
    length, width, height = item.size
    if item.kind == 'tree':
        crown = 0.68 * height
        return [_pole(0.14, height - crown / 2, 'bark'),
                Solid('ellipsoid', (length, width, crown), (0, 0, height - crown / 2), 'leaf')]
    if item.kind == 'lamp':
        return [_pole(0.08, height, 'metal'),
                Solid('box', (length, 0.1, 0.1), (length / 2, 0, height - 0.1), 'metal'),
                Solid('box', (0.6, 0.25, 0.1), (LAMP_HEAD * length, 0, height - 0.15), 'lamp_glass',
                      lit=glowing)]
    if item.kind == 'signal_pole':
        mast = max(up for _, up in SIGNAL_HEADS) + 0.7
        return [_pole(0.07, mast, 'metal'),
                Solid('box', (0.1, SIGNAL_ARM, 0.1), (0, SIGNAL_ARM / 2, mast - 0.1), 'metal')]
    if item.kind == 'building':
        return [Solid('box', item.size, (0, 0, height / 2), 'facade'),
                Solid('box', (length, width, 0.3), (0, 0, height), 'roof')]
    return [Solid('box', item.size, (0, 0, height / 2), 'concrete')]


def _pole(radius: float, height: float, material: str) -> Solid:
    return Solid('cylinder', (2 * radius, 2 * radius, height), (0, 0, height / 2), material)


def _slab(size: Triple, start: Triple, share: Triple, material: str, lit: bool = False) -> Solid:
    """A box given in shares of ``size``: start (x from the rear, z from the ground) and extent."""
    length, width, height = (extent * part for extent, part in zip(size, share, strict=True))
    x, y, z = (extent * part for extent, part in zip(size, start, strict=True))
    return Solid('box', (length, width, height), (x + length / 2 - size[0] / 2, y, z + height / 2), material,
                 lit=lit)


def _wheels(size: Triple, radius: float, axles: tuple[float, ...] = (-0.31, 0.31)) -> list[Solid]:
    """Pairs of wheels at shares of the length from the middle."""
    side = size[1] / 2 - 0.11
    tyre = (2 * radius, 2 * radius, 0.22)
    return [Solid('cylinder', tyre, (axle * size[0], y, radius), 'tyre', ON_ITS_SIDE)
            for axle in axles for y in (-side, side)]


def _lamps(item: WorldObject, height: float) -> list[Solid]:
    """Head lights and tail lights, as bars across."""
    front = _slab(item.size, (0.985, 0, height), (0.016, 0.8, 0.07), 'head_light', item.lights)
    rear = _slab(item.size, (-0.001, 0, height), (0.016, 0.8, 0.07), 'tail_light',
                 item.lights or item.braking)
    return [front, rear]


def _car(item: WorldObject, rear: float = 0.14, front: float = 0.72) -> list[Solid]:
    """A hull, and a cabin from ``rear`` to ``front``, in shares of the length."""
    size, cabin = item.size, front - rear
    return [_slab(size, (0, 0, 0.14), (1, 1, 0.46), 'paint'),
            _slab(size, (rear, 0, 0.6), (cabin, 0.88, 0.36), 'glass'),
            _slab(size, (rear + 0.03, 0, 0.96), (cabin - 0.1, 0.84, 0.04), 'paint'),
            *_lamps(item, 0.42), *_wheels(size, 0.33)]


def _hatchback(item: WorldObject) -> list[Solid]:
    return _car(item, 0.02, 0.72)


def _van(item: WorldObject) -> list[Solid]:
    size = item.size
    return [_slab(size, (0, 0, 0.12), (1, 1, 0.42), 'paint'),
            _slab(size, (0, 0, 0.54), (0.68, 1, 0.46), 'paint'),
            _slab(size, (0.68, 0, 0.54), (0.2, 0.94, 0.4), 'glass'),
            *_lamps(item, 0.36), *_wheels(size, 0.34)]


def _ambulance(item: WorldObject) -> list[Solid]:
    size = item.size
    beacon = _slab(size, (0.72, 0, 0.94), (0.05, 0.7, 0.06), 'siren_light', item.siren)
    return [*_van(item), beacon, _slab(size, (0.05, 0, 0.45), (0.6, 1.01, 0.06), 'red')]


def _pickup(item: WorldObject) -> list[Solid]:
    size = item.size
    return [_slab(size, (0, 0, 0.2), (1, 1, 0.36), 'paint'),
            _slab(size, (0.38, 0, 0.56), (0.34, 0.9, 0.44), 'glass'),
            *_lamps(item, 0.42), *_wheels(size, 0.38)]


def _box_truck(item: WorldObject) -> list[Solid]:
    size = item.size
    return [_slab(size, (0, 0, 0.28), (0.74, 1, 0.72), 'white'),
            _slab(size, (0.76, 0, 0.14), (0.24, 0.94, 0.34), 'paint'),
            _slab(size, (0.76, 0, 0.48), (0.2, 0.9, 0.24), 'glass'),
            _slab(size, (0, 0, 0.16), (0.76, 0.4, 0.12), 'trim'),
            *_lamps(item, 0.2), *_wheels(size, 0.48)]


def _bus(item: WorldObject) -> list[Solid]:
    size = item.size
    return [_slab(size, (0, 0, 0.1), (1, 0.98, 0.34), 'paint'),
            _slab(size, (0, 0, 0.44), (1, 1, 0.34), 'glass'),
            _slab(size, (0, 0, 0.78), (1, 0.98, 0.22), 'paint'),
            *_lamps(item, 0.14), *_wheels(size, 0.48)]


def _trailer(item: WorldObject) -> list[Solid]:
    size = item.size
    return [_slab(size, (0, 0, 0.3), (1, 1, 0.7), 'white'), _slab(size, (0, 0, 0.2), (1, 0.4, 0.1), 'trim'),
            _lamps(item, 0.24)[1], *_wheels(size, 0.48, (-0.35, -0.22))]


def _excavator(item: WorldObject) -> list[Solid]:
    size = item.size
    length, width, height = size
    tracks = [Solid('box', (0.55 * length, 0.2 * width, 0.8), (-0.2 * length, y * width, 0.4), 'tyre')
              for y in (-0.4, 0.4)]
    return [*tracks, _slab(size, (0.02, 0, 0.25), (0.5, 0.9, 0.35), 'yellow'),
            _slab(size, (0.3, 0.2, 0.6), (0.22, 0.36, 0.35), 'glass'),
            Solid('box', (0.5 * length, 0.3, 0.4), (0.24 * length, 0, 0.68 * height), 'yellow', BOOM_UP),
            Solid('box', (0.3, 0.25, 0.7 * height), (0.46 * length, 0, 0.45 * height), 'yellow')]


def _cycle(item: WorldObject) -> list[Solid]:
    """A motorcycle or bicycle, with the height of its rider if it has one."""
    length, width, height = item.size
    ridden = item.attribute == WITH_RIDER
    own = 0.62 * height if ridden else height
    motor = item.kind == 'motorcycle'
    radius, breadth = min(0.34, 0.19 * length), 0.16 if motor else 0.05
    wheels = [Solid('cylinder', (2 * radius, 2 * radius, breadth), (x, 0, radius), 'tyre', ON_ITS_SIDE)
              for x in (radius - length / 2, length / 2 - radius)]
    frame = Solid('box', (0.55 * length, 0.3 if motor else 0.06, 0.35 * own), (0, 0, 0.6 * own), 'paint')
    bar = Solid('box', (0.06, width, 0.06), (0.25 * length, 0, 0.97 * own), 'trim')
    rider = [Solid('box', (0.28, 0.42, 0.3 * height), (-0.08 * length, 0, 0.7 * height), 'cloth'),
             Solid('ellipsoid', (0.24, 0.2, 0.15 * height), (-0.04 * length, 0, 0.925 * height), 'skin')]
    return [*wheels, frame, bar, *(rider if ridden else ())]


def _person(item: WorldObject) -> list[Solid]:
    """Legs, body and head; lower and further forward for sitting people."""
    if item.attribute == SITTING:
        return [_slab(item.size, (0.1, 0, 0.1), (0.8, 0.7, 0.4), 'trousers'),
                _slab(item.size, (0.1, 0, 0.4), (0.4, 0.8, 0.4), 'cloth'), _head(item, -0.2, 0.2)]
    legs = [_slab(item.size, (0.35, y, 0), (0.3, 0.24, 0.48), 'trousers') for y in (-0.16, 0.16)]
    return [*legs, _slab(item.size, (0.32, 0, 0.48), (0.36, 0.72, 0.36), 'cloth'), _head(item, 0.0, 0.15)]


def _head(item: WorldObject, forward: float, share: float) -> Solid:
    """The uppermost ``share`` of the height."""
    length, _, height = item.size
    middle = (forward * length, 0, (1 - share / 2) * height)
    return Solid('ellipsoid', (0.22, 0.19, share * height), middle, 'skin')


def _cone(item: WorldObject) -> list[Solid]:
    length, width, height = item.size
    rings = ((0.64, 0.04, 0.32, 'orange'), (0.44, 0.36, 0.28, 'reflector'), (0.26, 0.64, 0.36, 'orange'))
    return [Solid('box', (length, width, 0.04 * height), (0, 0, 0.02 * height), 'trim'),
            *(Solid('cylinder', (wide * length, wide * length, tall * height),
                    (0, 0, (start + tall / 2) * height), material) for wide, start, tall, material in rings)]


def _barrier(item: WorldObject) -> list[Solid]:
    size = item.size
    boards = [_slab(size, (0.4, 0, start), (0.2, 1, 0.22), material)
              for start, material in ((0.74, 'orange'), (0.4, 'white'))]
    feet = [Solid('box', (size[0], 0.1, 0.9 * size[2]), (0, y * size[1], 0.45 * size[2]), 'concrete')
            for y in (-0.4, 0.4)]
    return boards + feet


_BODIES: dict[str, Callable[[WorldObject], list[Solid]]] = {
    'sedan': _car, 'hatchback': _hatchback, 'suv': _hatchback, 'van': _van, 'ambulance': _ambulance,
    'pickup': _pickup, 'box_truck': _box_truck, 'bus': _bus, 'trailer': _trailer, 'excavator': _excavator,
    'motorcycle': _cycle, 'bicycle': _cycle, 'pedestrian': _person, 'child': _person,
    'cone': _cone, 'barrier': _barrier,
}

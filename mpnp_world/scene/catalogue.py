"""The kinds of objects: their nuScenes categories, and random kinds, sizes and colours of them."""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np

from mpnp_ros.questions.vocabulary import CATEGORY_OF_NUSCENES
from mpnp_world.scene.state import Colour

Size = tuple[float, float, float]
T = TypeVar('T')


@dataclass(frozen=True)
class Kind:
    """A kind of object, such as a hatchback.

    nuscenes: category; size: mean length, width, height, metres; spread: of size, relative.
    """

    nuscenes: str
    size: tuple[float, float, float]
    spread: float = 0.05

    @property
    def category(self) -> str:
        """The category of NuScenes-QA."""
        return CATEGORY_OF_NUSCENES[self.nuscenes]


KINDS: dict[str, Kind] = {
    'sedan': Kind('vehicle.car', (4.6, 1.93, 1.5)),
    'hatchback': Kind('vehicle.car', (4.1, 1.85, 1.55)),
    'suv': Kind('vehicle.car', (4.8, 2.0, 1.75)),
    'van': Kind('vehicle.car', (5.1, 2.0, 2.0)),
    'ambulance': Kind('vehicle.truck', (6.0, 2.2, 2.6)),
    'pickup': Kind('vehicle.truck', (5.6, 2.0, 1.9)),
    'box_truck': Kind('vehicle.truck', (8.0, 2.5, 3.1)),
    'bus': Kind('vehicle.bus.rigid', (11.2, 2.9, 3.5)),
    'trailer': Kind('vehicle.trailer', (10.0, 2.6, 3.7)),
    'excavator': Kind('vehicle.construction', (6.4, 2.8, 3.2)),
    'motorcycle': Kind('vehicle.motorcycle', (2.1, 0.8, 1.45)),
    'bicycle': Kind('vehicle.bicycle', (1.75, 0.6, 1.25)),
    'pedestrian': Kind('human.pedestrian.adult', (0.75, 0.65, 1.75)),
    'child': Kind('human.pedestrian.child', (0.55, 0.5, 1.25)),
    'cone': Kind('movable_object.trafficcone', (0.41, 0.41, 0.75), 0.0),
    'barrier': Kind('movable_object.barrier', (0.5, 2.5, 1.0), 0.0),
}
"""Sizes are the means of nuScenes; a cycle with a rider is as tall as its rider (1.75 m)."""

TRAFFIC: Mapping[str, float] = {
    'sedan': 5, 'hatchback': 3, 'suv': 4, 'van': 1.5, 'ambulance': .5, 'pickup': .9, 'box_truck': .9,
    'bus': 2.0, 'trailer': 1.2, 'excavator': .5, 'motorcycle': 1.3}
"""Relative frequencies of driving kinds; a trailer comes with a truck."""
PARKED: Mapping[str, float] = {
    'sedan': 5, 'hatchback': 4, 'suv': 4, 'van': 1.5, 'pickup': .6, 'box_truck': .4, 'bus': .4,
    'trailer': .6, 'motorcycle': .35, 'bicycle': .25, 'ambulance': .15, 'excavator': .15}
TOP_SPEED = {'bus': .8, 'trailer': .75, 'box_truck': .85, 'excavator': .5, 'motorcycle': 1.1}
"""Top speeds relative to cars."""
BODIES = 1000
"""Body numbers are below this; models take them modulo the number of bodies."""
CYCLES = ('bicycle', 'motorcycle')
RIDER_HEIGHT = 1.75
PAINTS: Mapping[Colour, float] = {
    (.82, .82, .82): 5, (.72, .73, .75): 4, (.06, .06, .07): 4, (.28, .29, .31): 4, (.45, .04, .05): 2,
    (.05, .12, .42): 2, (.48, .5, .48): 2, (.07, .2, .1): .7, (.6, .45, .1): .7, (.35, .2, .1): .7}
OWN_PAINT: Mapping[str, Colour] = {
    'ambulance': (.9, .9, .88), 'excavator': (.85, .55, .05), 'cone': (.95, .28, .04),
    'barrier': (.8, .8, .78)}
CLOTHES: Mapping[Colour, float] = {
    (.6, .1, .1): 1, (.12, .2, .5): 1, (.75, .72, .65): 1, (.08, .08, .09): 1, (.2, .4, .25): 1,
    (.7, .5, .15): 1, (.35, .35, .4): 1, (.5, .2, .4): 1}



def choose(rng: np.random.Generator, frequencies: Mapping[T, float]) -> T:
    """A random key by relative frequency."""
    sums = list(accumulate(frequencies.values()))
    return list(frequencies)[bisect_right(sums, rng.random() * sums[-1])]


def draw_size(rng: np.random.Generator, kind: str) -> Size:
    """A random size around the mean of a kind."""
    spread = KINDS[kind].spread
    deviations = rng.normal(size=3).clip(-2, 2).tolist()
    length, width, height = (mean * (1 + spread * deviation)
                             for mean, deviation in zip(KINDS[kind].size, deviations, strict=True))
    return length, width, height


def ridden(size: Size) -> Size:
    """The size of a cycle with its rider."""
    return size[0], max(size[1], .6), max(size[2], RIDER_HEIGHT)


def draw_colour(rng: np.random.Generator, kind: str) -> Colour:
    """A random colour of paint or clothes."""
    if kind in OWN_PAINT:
        return OWN_PAINT[kind]
    colour = choose(rng, CLOTHES if KINDS[kind].category == 'pedestrian' else PAINTS)
    red, green, blue = (min(channel * shade, 1.0)
                        for channel, shade in zip(colour, rng.uniform(.85, 1.15, 3).tolist(), strict=True))
    return red, green, blue

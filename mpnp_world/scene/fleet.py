"""Random kinds, sizes and colours of vehicles in traffic and parking."""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import TypeVar

import numpy as np

from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.state import Colour

Size = tuple[float, float, float]
T = TypeVar('T')

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

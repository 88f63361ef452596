"""Which vehicle it is: kinds, sizes and colours as they are drawn for traffic and for parking."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpnp_ros.world.catalogue import KINDS
from mpnp_ros.world.state import Colour

Size = tuple[float, float, float]

TRAFFIC: Mapping[str, float] = {
    'sedan': 5, 'hatchback': 3, 'suv': 4, 'van': 1.5, 'ambulance': .5, 'pickup': 1.6, 'box_truck': 1.6,
    'bus': 2.4, 'trailer': 1.1, 'excavator': .7, 'motorcycle': 2.2}
"""What drives, by relative frequency; a trailer is drawn by a truck."""
PARKED: Mapping[str, float] = {
    'sedan': 5, 'hatchback': 4, 'suv': 4, 'van': 1.5, 'pickup': 1.2, 'box_truck': .9, 'bus': .4,
    'trailer': .8, 'motorcycle': 1.6, 'bicycle': 1.6, 'ambulance': .2, 'excavator': .3}
TOP_SPEED = {'bus': .8, 'trailer': .75, 'box_truck': .85, 'excavator': .5, 'motorcycle': 1.1}
"""Relative to that of cars."""
CYCLES = ('bicycle', 'motorcycle')
RIDER_HEIGHT = 1.75
PAINTS: tuple[tuple[Colour, float], ...] = (
    ((.82, .82, .82), 5), ((.72, .73, .75), 4), ((.06, .06, .07), 4), ((.28, .29, .31), 4),
    ((.45, .04, .05), 2), ((.05, .12, .42), 2), ((.48, .5, .48), 2), ((.07, .2, .1), .7),
    ((.6, .45, .1), .7), ((.35, .2, .1), .7))
OWN_PAINT: Mapping[str, Colour] = {
    'ambulance': (.9, .9, .88), 'excavator': (.85, .55, .05), 'cone': (.95, .28, .04),
    'barrier': (.8, .8, .78)}
CLOTHES: tuple[Colour, ...] = (
    (.6, .1, .1), (.12, .2, .5), (.75, .72, .65), (.08, .08, .09), (.2, .4, .25), (.7, .5, .15),
    (.35, .35, .4), (.5, .2, .4))


def draw_kind(rng: np.random.Generator, frequencies: Mapping[str, float]) -> str:
    """One of the kinds by its relative frequency."""
    return list(frequencies)[_weighted(rng, list(frequencies.values()))]


def draw_size(rng: np.random.Generator, kind: str) -> Size:
    """Around the mean of the kind."""
    scale = KINDS[kind].spread * np.clip(rng.normal(size=3), -2, 2) + 1
    length, width, height = (np.array(KINDS[kind].size) * scale).tolist()
    return length, width, height


def ridden(size: Size) -> Size:
    """The size of a cycle with its rider."""
    return size[0], max(size[1], .6), max(size[2], RIDER_HEIGHT)


def draw_colour(rng: np.random.Generator, kind: str) -> Colour:
    """Paint, or what somebody wears."""
    if kind in OWN_PAINT:
        return OWN_PAINT[kind]
    if KINDS[kind].category == 'pedestrian':
        colour = CLOTHES[rng.integers(len(CLOTHES))]
    else:
        colour = PAINTS[_weighted(rng, [frequency for _, frequency in PAINTS])][0]
    red, green, blue = (float(np.clip(channel * rng.uniform(.85, 1.15), 0, 1)) for channel in colour)
    return red, green, blue


def _weighted(rng: np.random.Generator, weights: Sequence[float]) -> int:
    """An index by weight."""
    return int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights), side='right'))

"""Boxes from above: corners, overlap, ground that is taken."""
from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpnp_world.scene.boxes import Box, Ground, footprint, footprints, overlap

places, yaws, sizes = st.floats(-20, 20), st.floats(-math.pi, math.pi), st.floats(.3, 12)
boxes = st.tuples(places, places, yaws, sizes, sizes)


def contains(box: Box, points: np.ndarray) -> bool:
    """Whether one of the points lies well inside of the box."""
    offset = points - box[:2]
    cosine, sine = math.cos(box[2]), math.sin(box[2])
    along, across = offset @ (cosine, sine), offset @ (-sine, cosine)
    return bool(((np.abs(along) < box[3] / 2 - 1e-6) & (np.abs(across) < box[4] / 2 - 1e-6)).any())


def filled(box: Box) -> np.ndarray:
    """Points [121, 2] all over a box."""
    steps = np.linspace(-.5, .5, 11)
    grid = np.stack(np.meshgrid(steps * box[3], steps * box[4]), -1).reshape(-1, 2)
    cosine, sine = math.cos(box[2]), math.sin(box[2])
    return grid @ np.array([[cosine, sine], [-sine, cosine]]) + box[:2]


@given(boxes, boxes)
def test_boxes_that_share_a_point_overlap(first: Box, other: Box) -> None:
    """Overlap is symmetrical and never misses a common point."""
    found = overlap(footprint(*first), footprint(*other))
    assert found == overlap(footprint(*other), footprint(*first))
    if contains(first, filled(other)):
        assert found


@given(st.lists(boxes, min_size=1, max_size=12))
def test_taken_ground_is_taken_once(wanted: list[Box]) -> None:
    """What has been taken never overlaps, and what was refused overlaps something."""
    ground, taken = Ground(), []
    for box in wanted:
        hindered = any(overlap(footprint(*box), footprint(*other)) for other in taken)
        assert ground.take(box) == (not hindered)
        taken += [] if hindered else [box]


@given(st.lists(boxes, min_size=1, max_size=5))
def test_many_footprints_are_those_of_each(several: list[Box]) -> None:
    """The same corners in the same order."""
    assert np.allclose(footprints(np.array(several)), [footprint(*box) for box in several])

"""The objects that the output of a detection network means."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mpnp_ros.modalities.detection_network import CENTRE, KINDS, OFFSETS, STATES
from mpnp_ros.modalities.grid_objects import RADIUS, find, positions
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS

CAR, PEDESTRIAN = CATEGORIES.index('car'), CATEGORIES.index('pedestrian')
MOVING = CHANNELS.index(('car', 'moving'))


def empty() -> Tensor:
    """Maps without an object."""
    maps = torch.zeros(OFFSETS.stop, 288, 72)
    maps[CENTRE] = -9.
    return maps


def put(maps: Tensor, azimuth: int, ring: int, chance: float, category: int = CAR,
        offsets: tuple[float, float] = (0., 0.)) -> None:
    """Put what makes an object into a cell."""
    maps[CENTRE, azimuth, ring] = np.log(chance / (1 - chance))
    maps[KINDS, azimuth, ring] = 0.
    maps[KINDS, azimuth, ring][category] = 8.
    maps[STATES, azimuth, ring][MOVING] = 2.
    maps[OFFSETS, azimuth, ring] = torch.tensor(offsets)


def test_an_object_is_where_its_cell_points_to() -> None:
    maps = empty()
    put(maps, 144, 20, .8, offsets=(.1, -.3))
    found = find(maps)
    angle = np.pi / 288 - .3 / 10.25
    np.testing.assert_allclose(found.position, [[10.35 * np.cos(angle), 10.35 * np.sin(angle)]], rtol=1e-6)
    assert found.mass == pytest.approx([.8]) and found.categories[0, CAR] > .99
    assert found.statuses[0, MOVING] == pytest.approx(np.exp(2) / (np.exp(2) + 2))
    for category in CATEGORIES:
        own = [name == category for name, _ in CHANNELS]
        assert found.statuses[0, own].sum() == pytest.approx(1)


def test_an_object_on_a_border_between_cells_is_one() -> None:
    maps = empty()
    put(maps, 144, 20, .4, offsets=(.25, 0))
    put(maps, 144, 21, .5, offsets=(-.25, 0))
    found = find(maps)
    assert found.mass == pytest.approx([.9])
    np.testing.assert_allclose(np.hypot(*found.position[0]), 10.5, rtol=1e-6)


def test_behind_the_robot_the_circle_closes() -> None:
    maps = empty()
    put(maps, 0, 20, .5)
    put(maps, 287, 20, .4)
    found = find(maps)
    assert found.mass == pytest.approx([.9]) and found.position[0, 0] < -10


def test_two_objects_near_each_other_are_two_if_their_kind_fits_between() -> None:
    for category, count in ((PEDESTRIAN, 2), (CAR, 1)):
        maps = empty()
        put(maps, 144, 20, .9, category)
        put(maps, 144, 22, .7, category)
        found = find(maps)
        assert len(found.mass) == count and RADIUS[PEDESTRIAN] < 1 < RADIUS[CAR]
        assert found.mass.sum() == pytest.approx(1.6)


def test_nothing_is_found_in_an_empty_map() -> None:
    found = find(empty())
    assert [values.shape for values in found] == [(0, 2), (0,), (0, 10), (0, 24)]


def test_offsets_and_places_agree() -> None:
    place = np.array([[7., 3.], [-9., -.1], [0.2, 0.1]])
    far, angle = np.hypot(*place.T), np.arctan2(*place.T[::-1])
    cell = (angle / (2 * np.pi) + .5) * 288
    azimuth, ring = cell.astype(int), (far / .5).astype(int)
    middle = (ring + .5) * .5
    offsets = np.stack([far - middle, (cell - azimuth - .5) * 2 * np.pi / 288 * middle.clip(1)], 1)
    np.testing.assert_allclose(positions(azimuth, ring, offsets, 288), place, atol=1e-9)

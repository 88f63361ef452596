"""The network that finds objects on the ground in images."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mpnp_ros.detection.lift import Camera
from mpnp_ros.modalities.camera.ground_network import (
    EARLIER_HEIGHTS,
    HEIGHTS,
    GroundNetwork,
    Places,
    cell_points,
    places_in,
)
from mpnp_ros.modalities.detection_network import TURN

SHAPE, BAND = (4, 16), (0.25, 1.0)
CELLS = 288 * 72


def camera(yaw: float = 0., focal: float = 50., height: float = 1.5) -> Camera:
    """A level camera of 160 x 90 pixels that looks to an azimuth, radians."""
    ahead, left = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([-np.sin(yaw), np.cos(yaw), 0])

    def project(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen = points - [0, 0, height]
        depth = seen @ ahead
        far = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        return np.stack([80 - focal * (seen @ left) / far, 45 - focal * seen[:, 2] / far], 1), depth

    return Camera(f'at {yaw:.1f}', np.array([0, 0, height]), (160, 90), lambda pixels: pixels, project)


def cell(azimuth: float, far: float) -> int:
    """Index of the cell at degrees and metres."""
    return int((azimuth / 360 + .5) * 288) * 72 + int(far / .5)


def test_a_cell_takes_the_pixels_in_which_its_place_appears() -> None:
    places = places_in([camera()], SHAPE, BAND, HEIGHTS)
    assert places.rows.shape == places.parts.shape == (len(HEIGHTS) * CELLS,)
    point = cell_points(HEIGHTS)[cell(10, 8.)]
    assert np.degrees(np.arctan2(*point[1::-1])) == pytest.approx(10.6, abs=.1)
    pixels, _ = camera().project(point[None])
    row = (pixels[0, 1] / 90 - .25) / .75 * 4
    column = int(pixels[0, 0] / 10)
    assert int(places.rows[cell(10, 8.)]) == int(row) * 16 + column
    assert float(places.parts[cell(10, 8.)]) == pytest.approx(row - int(row) - .5, abs=1e-5)
    higher = [int(places.rows[height * CELLS + cell(0, 3.)]) // 16 for height in range(len(HEIGHTS))]
    assert higher == sorted(higher, reverse=True) and higher[0] > higher[-1]


def test_what_no_view_sees_has_no_pixel() -> None:
    places = places_in([camera(), None], SHAPE, BAND, EARLIER_HEIGHTS)
    nothing = 2 * 4 * 16
    assert int(places.rows[cell(179, 9.)]) == int(places.rows[cell(90, 9.)]) == nothing
    assert int(places.rows[cell(0, 9.)]) < nothing
    assert (places_in([None], SHAPE, BAND, HEIGHTS).rows == 4 * 16).all()


def test_of_two_views_the_one_farther_from_its_border_counts() -> None:
    places = places_in([camera(0.), camera(np.radians(60))], SHAPE, BAND, HEIGHTS)
    assert int(places.rows[cell(20, 9.)]) < 64 <= int(places.rows[cell(40, 9.)]) < 128


@pytest.fixture(scope='module')
def network() -> GroundNetwork:
    torch.manual_seed(0)
    made = GroundNetwork(32, 64, features=8, hidden=4, merged=8)
    torch.nn.init.normal_(made.unseen)
    return made.eval().requires_grad_(False)


def inputs(turn: int = 0) -> dict[str, torch.Tensor]:
    """Three views; the grid turned by cells."""
    generator = torch.Generator().manual_seed(1)
    cameras = [camera(yaw) for yaw in (0., 2., 4.)]

    def turned(places: Places) -> Places:
        return Places(*(values.reshape(-1, 288, 72).roll(turn, 1).flatten()[None] for values in places))

    now = turned(places_in(cameras, (8, 16), BAND, HEIGHTS))
    before = turned(places_in(cameras, (8, 16), BAND, EARLIER_HEIGHTS))
    return {'images': torch.rand(1, 2, 3, 3, 32, 64, generator=generator), 'rows': now.rows,
            'parts': now.parts, 'earlier_rows': before.rows, 'earlier_parts': before.parts,
            'known': torch.ones(1)}


def test_turning_the_cameras_turns_the_output(network: GroundNetwork) -> None:
    plain = network(**inputs())
    assert plain.shape == (1, 37, 288, 72) and plain.std() > 1e-3
    for turn in (TURN, 11 * TURN):
        assert torch.allclose(network(**inputs(turn)), plain.roll(turn, 2), atol=1e-5)


def test_earlier_images_count_only_where_they_are_known(network: GroundNetwork) -> None:
    seen = inputs()
    other = {**seen, 'images': torch.cat([seen['images'][:, :1], torch.zeros(1, 1, 3, 3, 32, 64)], 1)}
    assert not torch.allclose(network(**seen), network(**other), atol=1e-4)
    without = {'known': torch.zeros(1)}
    assert torch.equal(network(**{**seen, **without}), network(**{**other, **without}))


def test_a_cell_that_nobody_sees_does_not_depend_on_the_images(network: GroundNetwork) -> None:
    places = places_in([None], (8, 16), BAND, HEIGHTS)
    earlier = places_in([None], (8, 16), BAND, EARLIER_HEIGHTS)
    first, second = (network.maps(torch.rand(1, 128, 8), Places(*(each[None] for each in places)),
                                  torch.rand(1, 128, 8), Places(*(each[None] for each in earlier)),
                                  torch.ones(1)) for _ in range(2))
    assert torch.equal(first, second)


def test_images_of_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match='multiples of 4'):
        GroundNetwork(30, 64)

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.heads import save_head
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.encoder import RadarEncoder
from mpnp_ros.modalities.radar.frames import GRID_VERSION, RadarFrame, RadarScan, polar_grid, radial_speed
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.tokens import NO_SOURCE

NEAR = RadarConfig(min_range=0.0)


def turning(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])


def scan(points, compensated=0., rcs=0., dyn_prop=1, **entries):
    points = np.array(points, float)
    fields = [np.broadcast_to(np.array(values, float), (len(points), *shape))
              for values, shape in ((0., (2,)), (compensated, (2,)), (rcs, ()), (dyn_prop, ()))]
    return RadarScan(points, *fields, **entries)


@pytest.fixture
def encoder(tiny_heads):
    return RadarEncoder(RadarConfig(), tiny_heads['radar'])


@pytest.fixture
def frame():
    """Two radars: one ahead, one at the left side that looks left."""
    random = np.random.default_rng(0)

    def some(**entries):
        points = random.uniform(-1, 1, (60, 3)) * [3, 4, 0] + [4, 0, 0]
        return scan(points, random.normal(size=(60, 2)), random.uniform(-10, 20, 60),
                    random.integers(0, 7, 60), **entries)
    return RadarFrame((some(name='front', stamp_ns=9, rotation=np.eye(3)),
                       some(name='left', stamp_ns=7, rotation=turning(np.pi / 2), translation=np.ones(3))))


def test_a_cell_holds_the_statistics_of_its_returns():
    ahead = scan([[3.5, 0.01, 0], [3.6, 0.01, 0], [9.5, 0, 0]], [[-5, 0], [10, 7], [0, 0]], [0, 10, 30],
                 [2, 1, 0])
    grid = polar_grid(RadarFrame((ahead, scan([[0, 5.5, 0]]))), NEAR, 288, 8)
    assert grid.shape == (6, 288, 8) and grid.dtype == np.float32
    assert np.argwhere(grid[0]).tolist() == [[144, 3], [216, 5]]
    count, highest, mean, nearing, leaving, moving = grid[:, 144, 3]
    assert count == pytest.approx(np.log(3) / np.log(11)) and moving == 0.5
    assert [highest, mean] == pytest.approx([0.6, 0.5])
    assert [nearing, leaving] == pytest.approx([0.25, 0.5], abs=2e-3)


def test_speed_counts_along_the_line_of_sight():
    points, velocity = np.array([[3, 4, 1.0], [0, 2, 0], [0, 0, 5]]), np.array([[3, 4.0], [7, 0], [1, 1]])
    assert radial_speed(points, velocity) == pytest.approx([5, 0, 0])


def test_returns_are_placed_in_the_base_frame(frame):
    moved = RadarFrame(tuple(
        replace(own, points=(own.points - [1.0, 0, 0]) @ turning(0.8), rotation=own.rotation @ turning(0.8),
                translation=(0 if own.translation is None else own.translation) + own.rotation @ [1.0, 0, 0])
        for own in frame.scans))
    plain, again = (polar_grid(radars, NEAR, 288, 8)[0] for radars in (frame, moved))
    assert plain.any() and np.abs(plain - again).mean() < 1e-3


def test_there_is_one_token_a_sector(encoder, frame):
    tokens = encoder.encode(frame)
    assert tokens.values.shape == (72, 3) and tokens.values.dtype == np.float32 and tokens.values.min() >= 0
    assert np.degrees(tokens.azimuth) == pytest.approx(-177.5 + 5 * np.arange(72), abs=1e-3)
    assert (tokens.encoder, tokens.stamp_ns, tokens.sources) == (encoder.fingerprint, 7, ('front', 'left'))
    assert tokens.source_stamps_ns == (9, 7)


def test_a_sector_belongs_to_the_radar_that_looks_there(encoder, frame):
    tokens = encoder.encode(frame)
    from_left = np.abs(np.angle(np.exp(1j * (tokens.azimuth - np.pi / 2))))
    from_front = np.abs(tokens.azimuth)
    looked_to = np.minimum(from_left, from_front) < np.radians(75)
    expected = np.where(looked_to, from_left < from_front, NO_SOURCE)
    assert tokens.source_index.tolist() == expected.tolist()
    assert (~looked_to).sum() == 72 - (75 + 90 + 75) // 5
    assert tokens.looked.size == 0 and tokens.sectors_looked_at().tolist() == looked_to.tolist()


def test_tokens_say_what_they_cannot_know(encoder, tiny_heads, knowing, frame):
    tokens = RadarEncoder(RadarConfig(), knowing(tiny_heads['radar'])).encode(frame)
    assert tokens.known.tolist() == [True, False, False] and tokens.max_distance == 20
    tokens = encoder.encode(frame)
    assert tokens.known.size == 0 and tokens.max_distance == 30


def test_turning_the_radars_turns_the_tokens(encoder, frame):
    turn = turning(np.radians(35))
    turned = RadarFrame(tuple(replace(
        own, rotation=turn @ own.rotation, translation=None if own.translation is None else
        turn @ own.translation) for own in frame.scans))
    straight, after = encoder.encode(frame).values, encoder.encode(turned).values
    assert straight.std() > 1e-3
    assert np.abs(np.roll(straight, 7, 0) - after).mean() < 0.05 * straight.std()


def test_radars_that_see_nothing_give_tokens_and_no_radars_do_not(encoder):
    nothing = RadarFrame((scan(np.zeros((0, 3)), stamp_ns=3),))
    tokens = encoder.encode(nothing)
    assert np.isfinite(tokens.values).all() and tokens.stamp_ns == 3
    with pytest.raises(PointCloudError, match='no scan of any radar'):
        encoder.encode(RadarFrame(()))


def test_a_wrong_mounting_is_named(encoder):
    with pytest.raises(PointCloudError, match='askew: its rotation'):
        encoder.encode(RadarFrame((scan([[3, 0, 0]], rotation=2 * np.eye(3), name='askew'),)))


def test_the_registry_builds_it_from_a_folder(tiny_heads, tmp_path, frame, encoder):
    save_head(tmp_path / 'head', tiny_heads['radar'])
    built = create_encoder('radar', {'head': str(tmp_path / 'head')})
    assert np.array_equal(built.encode(frame).values, encoder.encode(frame).values)
    assert built.fingerprint != encoder.fingerprint and built.config.min_range == 2.0


def test_options_of_objects_that_move_leave_the_fingerprint_of_counts(encoder, tiny_heads):
    other = RadarConfig(least_returns=9, max_distance=50.)
    assert RadarEncoder(other, tiny_heads['radar']).fingerprint == encoder.fingerprint
    every = encoder.config.fingerprint('radar', encoder.head.manifest.sha256, GRID_VERSION)
    assert encoder.fingerprint == every, 'with their defaults it is that of the links that robots have'

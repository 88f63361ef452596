from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.errors import PointCloudError
from mpnp_ros.modalities.heads import save_head
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import PolarEncoder, polar_grid
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.tokens import NO_SOURCE

POLAR = LidarConfig(backbone='polar', min_range=0.0)


def turning(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])


@pytest.fixture
def encoder(tiny_heads):
    return PolarEncoder(POLAR, tiny_heads['lidar'])


@pytest.fixture
def frame():
    random = np.random.default_rng(0)
    return LidarFrame(random.normal(size=(4000, 3)) * [6, 6, 2], random.uniform(0, 255, 4000), stamp_ns=7,
                      name='roof', frame_id='base_footprint')


def test_a_cell_holds_the_statistics_of_its_points():
    points = np.array([[3.5, 0.01, 1.0], [3.6, 0.01, 2.0], [0, 5.5, 3.0], [3.5, 0.01, 0.1], [0, 9.5, 1.0]])
    frame = LidarFrame(points, np.array([51.0, 102.0, 255.0, 255.0, 255.0]))
    grid = polar_grid(frame, POLAR, 288, 8)
    assert grid.shape == (6, 288, 8) and grid.dtype == np.float32
    assert np.argwhere(grid[0]).tolist() == [[144, 3], [216, 5]]
    count, highest, lowest, mean, intensity, brightest = grid[:, 144, 3]
    assert count == pytest.approx(np.log(3) / np.log(51))
    assert [highest, lowest, mean] == pytest.approx([2 / 4.5, 1 / 4.5, 1.5 / 4.5])
    assert [intensity, brightest] == pytest.approx([0.3, 0.4])
    assert not grid[:, 0].any()


def test_points_are_placed_in_the_base_frame(frame):
    mounted = replace(frame, points=(frame.points - [1.0, 0, 1.8]) @ turning(0.8), rotation=turning(0.8),
                      translation=np.array([1.0, 0, 1.8]))
    plain, moved = polar_grid(frame, POLAR, 288, 8), polar_grid(mounted, POLAR, 288, 8)
    assert (plain != 0).any() and np.abs(plain - moved).mean() < 1e-3


def test_there_is_one_token_a_sector(encoder, frame):
    tokens = encoder.encode(frame)
    assert tokens.values.shape == (72, 3) and tokens.values.dtype == np.float32 and tokens.values.min() >= 0
    assert np.degrees(tokens.azimuth) == pytest.approx(-177.5 + 5 * np.arange(72), abs=1e-3)
    assert (tokens.encoder, tokens.stamp_ns, tokens.sources) == (encoder.fingerprint, 7, ('roof',))


def test_turning_the_sensor_turns_the_tokens(encoder, frame):
    straight = encoder.encode(frame).values
    turned = encoder.encode(replace(frame, rotation=turning(np.radians(35)))).values
    assert straight.std() > 1e-3
    assert np.abs(np.roll(straight, 7, 0) - turned).mean() < 0.02 * straight.std()


def test_the_head_says_which_points_are_the_robot_itself(encoder):
    assert encoder.config.min_range == 2.0
    with pytest.raises(PointCloudError, match='min_range'):
        encoder.encode(LidarFrame(np.ones((9, 3))))


def test_the_registry_builds_it_from_a_folder(tiny_heads, tmp_path, frame, encoder):
    manifest = save_head(tmp_path / 'head', tiny_heads['lidar'])
    built = create_encoder('lidar', {'backbone': 'polar', 'head': str(tmp_path / 'head')})
    assert np.array_equal(built.encode(frame).values, encoder.encode(frame).values)
    assert built.fingerprint != encoder.fingerprint and manifest.sha256


def test_tokens_say_what_they_cannot_know(encoder, tiny_heads, knowing, frame):
    tokens = PolarEncoder(POLAR, knowing(tiny_heads['lidar'])).encode(frame)
    assert tokens.known.tolist() == [True, False, False] and tokens.max_distance == 20
    tokens = encoder.encode(frame)
    assert tokens.known.size == 0 and tokens.max_distance == 30


@pytest.mark.parametrize('turn', [0.0, 2.0])
def test_a_sweep_that_does_not_go_round_says_so(encoder, frame, turn):
    assert (encoder.encode(frame).source_index == 0).all()
    azimuth = np.degrees(np.arctan2(*frame.points.T[1::-1]))
    kept = np.abs(azimuth) < 60
    ahead = replace(frame, points=frame.points[kept], intensity=frame.intensity[kept], rotation=turning(turn))
    tokens = encoder.encode(ahead)
    apart = np.abs(np.degrees(np.angle(np.exp(1j * (tokens.azimuth - turn)))))
    assert (tokens.source_index[apart < 55] == 0).all()
    assert (tokens.source_index[apart > 65] == NO_SOURCE).all()
    assert tokens.looked.size == 0
    assert tokens.sectors_looked_at().tolist() == (tokens.source_index != NO_SOURCE).tolist()

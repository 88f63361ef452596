"""Objects that move, from returns of a radar that move together."""
from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from mpnp_ros.cli.evaluate_links import with_links
from mpnp_ros.errors import PointCloudError
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.doppler import UNKNOWN, doppler_scan, folded
from mpnp_ros.modalities.radar.frames import RadarFrame, RadarScan
from mpnp_ros.modalities.radar.moving import CELL, GAP, PER_SPEED, REAL, RadarMovingEncoder, grouped
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.questions.vocabulary import ANSWERS, CATEGORIES, CHANNELS
from mpnp_ros.tokens import ModalityTokens

SPAN = 10.3
OWN = 9.


@pytest.fixture
def encoder() -> RadarMovingEncoder:
    return RadarMovingEncoder(RadarConfig(tokens='moving', doppler_span=SPAN))


def seen(*objects: tuple[float, float, float, float, int], name: str = 'front') -> RadarScan:
    """Return a scan of a street and objects (x, y, speed away, size, returns), from a vehicle that drives."""
    rng = np.random.default_rng(0)
    street = np.stack([rng.uniform(3, 50, 200), rng.choice([-1, 1], 200) * rng.uniform(6, 15, 200),
                       rng.uniform(0, 2, 200)], 1)
    parts, speeds = [street], [np.zeros(len(street))]
    for x, y, speed, size, count in objects:
        parts.append(np.array([x, y, .5]) + rng.uniform(-size / 2, size / 2, (count, 3)) * [1, 1, .2])
        speeds.append(np.full(count, speed))
    points, over_ground = np.concatenate(parts), np.concatenate(speeds)
    measured = over_ground - OWN * points[:, 0] / np.linalg.norm(points, axis=1)
    return doppler_scan(points, folded(measured, SPAN), np.zeros(len(points)), SPAN, name=name, stamp_ns=5)


def test_what_moves_is_found_and_what_stands_is_not(encoder: RadarMovingEncoder) -> None:
    scan = seen((20, 2, 4., 3., 30), (12, -2, -1., .5, 12), (15, 4, 0., 3., 30), (25, -3, 4., 1., 3))
    found = encoder.detect(RadarFrame((scan,)))
    assert len(found) == 2
    order = np.argsort(found.distance)
    np.testing.assert_allclose(found.position[order], [[12, -2], [20, 2]], atol=.7)
    likeliest = [CATEGORIES[place] for place in found.categories[order].argmax(1)]
    assert likeliest == ['pedestrian', 'car'] and (found.existence == REAL).all()
    assert found.categories[order[1], CATEGORIES.index('pedestrian')] == 0
    assert found.looked[37] and found.looked.sum() < 12, 'only directions in which something moves'


def test_tokens_know_only_what_moves(encoder: RadarMovingEncoder) -> None:
    tokens = encoder.encode(RadarFrame((seen((20, 2, 4., 3., 30)),)))
    known = {channel for channel, told in zip(CHANNELS, tokens.known, strict=True) if told}
    assert ('car', 'moving') in known and ('car', 'parked') not in known and ('barrier', None) not in known
    assert tokens.encoder == encoder.fingerprint and tokens.values.shape == (1, 24)
    assert tokens.values.sum() == pytest.approx(REAL, abs=.01)
    nothing = encoder.encode(RadarFrame((seen(),)))
    assert nothing.values.sum() == 0 and nothing.stamp_ns == 5 and not nothing.looked.any()


def test_radars_are_seen_together(encoder: RadarMovingEncoder) -> None:
    scan = seen((20, 2, 4., 3., 30))
    turn = np.array([[-1., 0, 0], [0, -1, 0], [0, 0, 1]])
    back = replace(seen((10, 1, 3., 2., 20), name='back'), rotation=turn, translation=np.zeros(3))
    found = encoder.detect(RadarFrame((scan, back)))
    assert sorted(zip(found.position[:, 0].round(), found.source_index.tolist(), strict=True)) == [
        (-10, 1), (20, 0)]
    assert found.sources == ('front', 'back') and found.looked[[0, 37]].any()
    with pytest.raises(PointCloudError, match='no scan of any radar'):
        encoder.detect(RadarFrame(()))


def test_a_radar_that_finds_nothing_leaves_the_camera_its_answer(encoder: RadarMovingEncoder) -> None:
    """What crosses is not found, so it must not say that nothing moves."""
    encoders = [encoder, create_encoder('camera')]
    method = with_links(create_method('mpnp', load_language_model()), None, encoders)
    values = np.zeros((1, 24), np.float32)
    values[0, CHANNELS.index(('car', 'moving'))] = 1
    camera = ModalityTokens('camera', encoders[1].fingerprint, values, np.zeros(1, np.float32),
                            distance=np.full(1, 12, np.float32), looked=np.ones(72, bool))
    radar = encoder.encode(RadarFrame((seen(),)))
    question = method.prepare('Are there any moving cars?', ANSWERS)
    alone, both = (method.answer(question, tokens) for tokens in (
        {'camera': camera}, {'camera': camera, 'radar': radar}))
    assert alone.text == both.text == 'yes' and both.confidence == pytest.approx(alone.confidence, abs=.02)


def test_where_own_motion_is_not_known_nothing_is_looked_at(encoder: RadarMovingEncoder) -> None:
    scan = seen((20, 2, 4., 3., 30))
    state = np.full(len(scan.points), UNKNOWN)
    lost = replace(scan, compensated=np.zeros_like(scan.compensated), dyn_prop=state)
    found = encoder.detect(RadarFrame((lost,)))
    assert not len(found) and not found.looked.any()
    back = replace(scan, name='back')
    said, = encoder.encode(RadarFrame((back, lost))).concerns
    assert said.startswith('front: own motion cannot be told') and 'check encoder.doppler_span' in said
    empty = seen()
    nothing = replace(empty, points=empty.points[:0], velocity=empty.velocity[:0], rcs=empty.rcs[:0],
                      compensated=empty.compensated[:0], dyn_prop=empty.dyn_prop[:0])
    assert not encoder.encode(RadarFrame((nothing,))).concerns


def test_a_radar_on_a_roof_needs_no_mounting_to_find_what_moves(encoder: RadarMovingEncoder) -> None:
    scan = seen((20, 2, 4., 3., 30))
    high = replace(scan, points=scan.points - [0, 0, 2.])
    assert len(encoder.detect(RadarFrame((high,)))) == 1
    for height, found in ((0., 0), (2., 1)):
        mounted = replace(high, rotation=np.eye(3), translation=np.array([0, 0, height]))
        assert len(encoder.detect(RadarFrame((mounted,)))) == found


def test_speeds_at_both_ends_of_the_span_belong_together() -> None:
    places = np.random.default_rng(0).uniform(0, 1, (10, 2))
    speed = np.array([5.1, -5.1] * 5)
    assert [len(group) for group in grouped(places, speed, 2, SPAN)] == [10]
    assert [len(group) for group in grouped(places, speed, 2)] == [5, 5]
    assert grouped(places[:1], speed[:1], 2, SPAN) == []
    assert [group.tolist() for group in grouped(places[:1], speed[:1], 1)] == [[0]]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10 ** 6), st.integers(1, 150), st.sampled_from([1., 4., 12., 40.]),
       st.sampled_from([0., SPAN]))
def test_groups_are_those_of_all_pairs_but_for_the_size_of_a_cell(seed: int, count: int, size: float,
                                                                  span: float) -> None:
    rng = np.random.default_rng(seed)
    places, speed = rng.uniform(-size, size, (count, 2)), rng.normal(0, 1, count)
    turn = speed[:, None] if not span else span / math.tau * np.stack(
        [np.cos(math.tau * speed / span), np.sin(math.tau * speed / span)], 1)
    spots = np.column_stack([places, PER_SPEED * turn])
    apart = np.linalg.norm(spots[:, None] - spots, axis=2)
    together = np.zeros((count, count), bool)
    for group in grouped(places, speed, 1, span):
        together[np.ix_(group, group)] = True
    assert together.diagonal().all()
    corner = 2 * CELL * math.sqrt(spots.shape[1])
    for gap, same in ((GAP - corner, True), (GAP + corner, False)):
        name = connected_components(apart <= gap, directed=False)[1]
        pairs = name[:, None] == name
        assert together[pairs].all() if same else not together[~pairs].any()


def test_dense_returns_do_not_need_all_their_pairs() -> None:
    rng = np.random.default_rng(0)
    places, speed = rng.uniform(0, 2, (6000, 2)), rng.normal(0, .1, 6000)
    tracemalloc.start()
    assert [len(group) for group in grouped(places, speed, 8, SPAN)] == [6000]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40e6, 'the pairs alone are 12 million'


def test_the_option_selects_it() -> None:
    encoder = create_encoder('radar', {'tokens': 'moving', 'max_distance': 50.})
    assert isinstance(encoder, RadarMovingEncoder) and encoder.limits['max_distance'] == 50
    assert encoder.fingerprint != create_encoder('radar', {'tokens': 'moving'}).fingerprint
    assert math.isclose(RadarConfig().max_distance, 30)

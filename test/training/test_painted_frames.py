"""Painted frames: dense, and with probabilities that are true."""
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import SECTORS, sector_of
from mpnp_ros.training.painted_frames import DOUBTS, Painter, observed
from mpnp_ros.training.true_objects import TrueObjects
from mpnp_world.dataset.objects_only import scene_key_frames

SCOPE = Scope(30., 5, anchors=False)


@pytest.fixture(scope='module')
def painter() -> Painter:
    return Painter([frame for seed in range(4) for frame in scene_key_frames(seed, 3, 4.)], SCOPE)


def test_the_same_number_is_the_same_frame(painter):
    one, other = painter.paint(7), Painter(painter.frames, SCOPE).paint(7)
    assert one.frame.objects == other.frame.objects
    assert np.array_equal(one.tokens.values, other.tokens.values)
    assert painter.paint(8).frame.token != one.frame.token


def test_streets_are_dense_or_nearly_empty(painter):
    numbers = np.array([len(painter.paint(index).frame.objects) for index in range(200)])
    assert 10 < numbers.mean() < 40 and numbers.max() > 60
    assert .15 < (numbers < 5).mean() < .4


def test_another_sensor_tells_some_of_the_true_objects_and_no_others(painter):
    true = TrueObjects(SCOPE).encode(painter.paint(3, 'hard', whole=True).frame)
    seen = observed(true, np.random.default_rng(0), .8, .9, .7)
    there = seen.values.sum(1)
    assert set(there.round(5)) == {0, np.float32(.9).round(5)} and .5 < (there > 0).mean() < 1
    own = (seen.values * true.values).sum(1)[there > 0]
    assert set(own.round(3)) <= {np.float32(.63), np.float32(.9)}  # of categories with statuses, and without
    assert np.array_equal(seen.azimuth, true.azimuth)


def test_hard_tokens_are_the_true_objects(painter):
    for index in range(10):
        painted = painter.paint(index, 'hard', whole=True)
        true = TrueObjects(SCOPE).encode(painted.frame)
        assert np.array_equal(painted.tokens.values, true.values)
        np.testing.assert_allclose(painted.tokens.azimuth, true.azimuth, atol=1e-6)


@pytest.mark.parametrize('doubt', DOUBTS)
def test_what_is_said_to_be_expected_is_there_on_average(painter, doubt):
    said, there = np.zeros(len(CHANNELS)), Counter()
    for index in range(300):
        painted = painter.paint(index, doubt, whole=True)
        said += painted.tokens.values.sum(0)
        there.update((item.category, item.attribute) for item in painted.frame.objects)
    true = np.array([there[channel] for channel in CHANNELS], float)
    missed = {'soft': 1.15}.get(doubt, 1.)  # soft tokens miss up to 15 %, which they do not know of
    often = true > 150
    assert often.sum() > 8
    assert np.all(said[often] < 1.15 * true[often]) and np.all(true[often] < 1.15 * missed * said[often])


def test_what_is_not_looked_at_or_not_told_has_no_tokens_but_stays_true(painter):
    limited = [painted for painted in map(painter.paint, range(80))
               if not (painted.tokens.known.all() and painted.tokens.looked.all())]
    assert len(limited) > 20
    hidden = 0
    for painted in limited:
        tokens = painted.tokens
        assert not tokens.values[:, ~tokens.known].any()
        seen = np.isfinite(tokens.azimuth) & (tokens.values.sum(1) > 0)
        assert tokens.looked[sector_of(tokens.azimuth[seen])].all()
        hidden += len(painted.frame.objects) > seen.sum()
    assert hidden > len(limited) / 3


def test_what_is_spread_over_sectors_stays_as_many(painter):
    """Of many frames whose tokens are sums by sector, as many things are there as the tokens expect."""
    frames = [painter.paint(index, 'soft') for index in range(400)]
    sums = [one for one in frames if len(one.tokens.values) == SECTORS and one.tokens.looked.all()
            and one.tokens.known.all()]
    expected = sum(float(one.tokens.values.sum()) for one in sums)
    there = sum(len(one.frame.objects) for one in sums)
    assert len(sums) > 60 and .9 < expected / there < 1.05  # up to 15 % are missed
    assert max(float((one.tokens.values > 0).mean()) for one in sums) > .5  # haze is everywhere

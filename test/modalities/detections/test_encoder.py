"""The encoder of detections and its health check."""
from __future__ import annotations

import numpy as np
import pytest

from mpnp_ros.detection.detections import Detections
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.modalities.registry import create_encoder, create_judge, find_sensor
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS

SECOND = 1_000_000_000


def frame(seconds, *distances, sources=('box',)):
    categories = np.zeros((len(distances), 10))
    categories[:, CATEGORIES.index('car')] = 1
    return Detections(np.array([[far, 1.] for far in distances]).reshape(-1, 2), np.ones(len(distances)),
                      categories, sources=sources, source_index=np.zeros(len(distances), np.uint16),
                      stamp_ns=round(seconds * SECOND))


def test_tokens_count_what_links_to_objects_read():
    encoder = create_encoder('detections')
    tokens = encoder.encode(frame(1, 5, 50))
    assert encoder.channels == CHANNELS and encoder.token_width == tokens.width == 24
    assert (tokens.modality, tokens.encoder, tokens.max_distance) == ('detections', encoder.fingerprint, 30)
    assert tokens.count == 1 and tokens.values.sum() == pytest.approx(1)
    assert find_sensor('detections').reads_like in shipped_links()


def test_the_reach_shapes_tokens_and_the_device_does_not():
    same, other = (create_encoder('detections', given).fingerprint
                   for given in ({'device': 'cpu'}, {'reach': 50.}))
    assert same == create_encoder('detections').fingerprint != other


def test_a_good_detector_has_the_best_quality():
    judge = create_judge('detections')
    assert [judge.judge(frame(time / 5, 5)).quality for time in range(10)] == [1] * 10


def test_one_that_sends_seldom_is_worth_less():
    judge = create_judge('detections')
    health = [judge.judge(frame(time * 10, 5)) for time in range(8)][-1]
    assert health.quality == 0 and health.concerns == ('box sends seldom (0.1 Hz)',)


def test_one_that_finds_nothing_any_more_is_worth_nothing_but_one_that_never_has_is():
    judge, other = create_judge('detections'), create_judge('detections')
    judge.judge(frame(0, 5))
    for time in range(1, 31):
        health, never = judge.judge(frame(time)), other.judge(frame(time))
    assert health.quality == 0 and health.concerns == ('box has found nothing for 30 s',)
    assert never.quality == 1
    assert judge.judge(frame(31, 5)).quality == 1
    assert create_judge('detections', {'empty_after': 0.}).judge(frame(0)).quality == 1


def test_a_detector_of_two_that_is_silent_is_missed_and_time_may_begin_again():
    judge = create_judge('detections')
    judge.judge(frame(0, 5, sources=('box', 'eye')))
    health = judge.judge(frame(3, 5))
    assert health.quality == .5 and health.concerns == ('eye is silent (3.0 s)',)
    assert create_judge('detections').judge(frame(1, 5)).quality == 1
    assert 'box sends seldom' not in str([judge.judge(frame(-time, 5)) for time in range(8)])


def test_limits_are_checked():
    with pytest.raises(ConfigurationError, match='rate'):
        create_judge('detections', {'rate': (1., 1.)})

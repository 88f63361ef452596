"""Influence tells blind sensors from those that see, and grounding names what an answer rests on."""
from __future__ import annotations

import math
import random

import numpy as np
import pytest

from bench.influence.__main__ import two_sensors
from bench.influence.cases import ENCODER, FIRST, SECOND, Case, blinded, named, noisy, sight, without_tokens
from bench.influence.measure import auroc, errors, faithfulness, rests_on_sensor
from mpnp_ros.methods.questions import Reply
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS
from mpnp_ros.questions.wording import Description
from mpnp_ros.tokens import SECTORS, ModalityTokens

LEFT = Meaning('exist', Description('car', None), 'front left')
CARS = [place for place, (category, _) in enumerate(CHANNELS) if category == 'car']


def street(seed: int, cars: int = 8) -> ModalityTokens:
    """Cars and others all around."""
    rng = np.random.default_rng(seed)
    values = np.zeros((cars + 6, len(CHANNELS)), np.float32)
    for row in range(len(values)):
        values[row, rng.choice(CARS) if row < cars else rng.integers(len(CHANNELS))] = 1.
    return ModalityTokens('objects', ENCODER, values, rng.uniform(-3, 3, len(values)).astype(np.float32),
                          distance=rng.uniform(4, NEARBY.max_distance, len(values)).astype(np.float32))


def test_auroc_counts_ties_by_half():
    assert auroc([.1, .2, .3, .4], [False, False, True, True]) == 1
    assert auroc([.1, .3, .3, .4], [False, True, False, True]) == .875
    assert math.isnan(auroc([.1], [True]))


@pytest.mark.parametrize(('kind', 'looked'), [('everything', 0), ('direction', SECTORS - 12),
                                              ('category', SECTORS)])
def test_a_blind_sensor_sees_nothing_of_what_is_asked(kind, looked):
    tokens = street(0)
    blind = blinded(tokens, LEFT, kind)
    assert (sight(tokens, LEFT), sight(blind, LEFT)) == (1., 0.)
    assert blind.sectors_looked_at().sum() == looked
    degrees = np.degrees(tokens.azimuth)
    there = (degrees > 30) & (degrees < 90)
    assert there.any() and not blind.values[there][:, CARS].any()
    if kind != 'everything':
        assert blind.values.any()


def test_removed_tokens_are_gone_and_nobody_looks_there():
    tokens = {FIRST: named(street(0), FIRST), SECOND: named(street(1), SECOND)}
    kept = without_tokens(tokens, [(FIRST, 2), (FIRST, 3)])
    assert kept[SECOND] is tokens[SECOND] and not kept[FIRST].values[2:4].any()
    np.testing.assert_array_equal(kept[FIRST].values[4:], tokens[FIRST].values[4:])
    assert SECTORS - kept[FIRST].sectors_looked_at().sum() in (1, 2)


def test_errors_a_thousand_questions():
    def row(text: str, confidence: float, unknown: bool = False):
        return Case('', 'exist', 'yes', LEFT, {}), Reply(text, confidence, (), (), 0.), unknown

    found = errors([row('yes', .9), row('no', .85), row('no', .55), row('no', .95, True)])
    assert found['everything answered'] == {
        'answered': 1000, 'errors': 750, 'confident errors': 500, 'accuracy': 25.}
    assert found['unknown said']['errors'] == 500
    assert found['refuse_below 0.6'] == {
        'answered': 500, 'errors': 250, 'confident errors': 250, 'accuracy': 50.}


@pytest.mark.weights
def test_with_the_shipped_links_influence_and_grounding_hold_on_held_out_frames():
    method, rng, cases = two_sensors(), random.Random(0), []
    for seed in range(10):
        category, draw = rng.choice(('car', *CATEGORIES[:2])), np.random.default_rng(seed)
        meaning = Meaning('count', Description(category, None), rng.choice(('front', 'back left', None)))
        where = f' to the {meaning.direction} of me' if meaning.direction else ''
        cases.append(Case(f'How many {category}s are there{where}?', 'count', '', meaning, {
            name: noisy(street(seed, 16), draw, name) for name in (FIRST, SECOND)}))
    told = rests_on_sensor(method, cases)
    assert told['one sensor']['all']['influence'] > .95
    assert told['two sensors']['all']['support'] > .95
    for found in faithfulness(method, cases).values():
        for change in (found['1'], found['3']):
            assert change['named'] > 5 * change['others'] and change['more'] >= .6

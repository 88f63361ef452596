"""Damages do what they are called, and the page shows what was measured."""
from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from bench.damaged_sensors import CATEGORY, DAMAGES, DamageRow, write_report
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.true_objects import OBJECTS


@pytest.fixture
def tokens() -> ModalityTokens:
    """Twenty things of every sort."""
    values = np.eye(len(CHANNELS), dtype=np.float32).repeat(20, 0)
    places = np.linspace(-3, 3, len(values), dtype=np.float32)
    return ModalityTokens(OBJECTS, 'e', values, places)


def left(damage: str, tokens: ModalityTokens) -> dict[str, float]:
    """What is counted of each category, to what was there."""
    seen = DAMAGES[damage](tokens, random.Random(0)).values.sum(0)
    return {name: float(seen[name == CATEGORY].sum() / tokens.values[:, name == CATEGORY].sum())
            for name in dict.fromkeys(CATEGORY)}


def test_people_are_missed_and_nothing_else(tokens):
    shares = left('40 % of people missed', tokens)
    assert .4 < shares.pop('pedestrian') < .8 and set(shares.values()) == {1.}


def test_trucks_become_buses(tokens):
    shares = left('trucks taken for buses', tokens)
    assert (shares['truck'], shares['bus'], shares['car']) == (0, 2, 1)


def test_everything_counts_more(tokens):
    assert set(left('everything 1.5 times', tokens).values()) == {1.5}


def test_a_turned_sensor_sees_elsewhere(tokens):
    seen = DAMAGES['turned by 15 degrees'](tokens, random.Random(0))
    apart = (seen.azimuth - tokens.azimuth + math.pi) % math.tau - math.pi
    assert np.degrees(np.abs(apart)) == pytest.approx(15, abs=1e-3)


def test_fog_takes_half_of_all(tokens):
    assert all(.1 < share < .9 for share in left('fog', tokens).values())
    assert np.mean(list(left('fog', tokens).values())) == pytest.approx(.5, abs=.1)


def test_the_page_tells_what_is_given_back(tmp_path):
    row = DamageRow('fog', 99., 60., 61., 78., 76., 80., 30., 1.)
    assert row.given_back(row.labelled) == '90 %'
    assert DamageRow('', 99., 99., 98., 99.1, 99.2, 99.3, 1., 1.).given_back(99.1) == '-'
    write_report(tmp_path / 'page.md', [row], 40.)
    text = (tmp_path / 'page.md').read_text('utf-8')
    assert '| fog | 99.0 | 60.0 | 61.0 | 78.0 | 76.0 | 80.0 | 90 % | 80 % | 30 | 1.0 |' in text
    assert json.loads((tmp_path / 'page.json').read_text())[0]['damage'] == 'fog'
    assert (tmp_path / 'page.png').read_bytes()[:4] == b'\x89PNG'

"""Which directions are seen, and which ones a question asks about."""
from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from mpnp_ros.nuscenes.vocabulary import RELATIONS
from mpnp_ros.nuscenes.wording import TEMPLATES
from mpnp_ros.serving.coverage import directions_asked, ranges, share, unseen
from mpnp_ros.tokens import NO_SOURCE, SECTORS, ModalityTokens


def looking(degrees, index, sources=('one', 'two')) -> ModalityTokens:
    azimuth = np.radians(np.asarray(degrees, np.float32))
    return ModalityTokens('camera', 'e', np.ones((len(azimuth), 2), np.float32), azimuth, sources,
                          np.asarray(index, np.uint16))


SECTOR_CENTRES = np.arange(-177.5, 180, 5)


@pytest.mark.parametrize(('tokens', 'seen'), [
    (looking(SECTOR_CENTRES, np.where(abs(SECTOR_CENTRES) < 33, 0, NO_SOURCE)), 'from -35 to 35 deg'),
    (looking(SECTOR_CENTRES, np.where(abs(SECTOR_CENTRES) > 140, 1, NO_SOURCE)), 'from 140 to 220 deg'),
    (looking(SECTOR_CENTRES, [0] * 72), 'all around'),
    (looking(SECTOR_CENTRES, np.where(SECTOR_CENTRES == 2.5, 0, NO_SOURCE)), 'from 0 to 5 deg'),
    (looking(SECTOR_CENTRES, [NO_SOURCE] * 72), 'nothing'),
    (looking([25, 15, 5, -5, -15, -25], [0] * 6), 'from -30 to 30 deg'),
    (looking([25, 15, 5, -5, -15, -25, -155, -165, -175, 175, 165, 155], [0] * 6 + [1] * 6),
     'from -30 to 30 deg and from 150 to 210 deg'),
    (looking([10, 10], [0, 0]), 'from -50 to 70 deg'), (looking([np.nan, 10], [0, 0]), 'all around'),
    (looking([10], []), 'all around')])
def test_what_is_seen_follows_from_the_tokens_that_have_a_source(tokens, seen):
    assert ranges(tokens.sectors_looked_at()) == seen


@pytest.mark.parametrize(('text', 'directions'), [
    ('Are there any cars behind me?', ('back',)), ('what is BEHIND?', ('back',)),
    ('anything ahead?', ('front',)),
    ('Is a car in front of us?', ('front',)), ('Is the way ahead clear?', ('front',)),
    ('What is on my left?', ('left',)), ('anything on the right-hand side?', ('right',)),
    ('cars to the rear of the ego vehicle', ('back',)), ('to the front-left of me', ('front left',)),
    ('on the left side of me', ('left',)), ('Is it at the rear right?', ('back right',)),
    ('cars behind me or to the left', ('left', 'back')),
    ('Is there something behind the truck?', ()), ('Is a car in front of the bus?', ()),
    ('There is a bus; are there any cars to the back left of it?', ()), ('on the left side of the bus', ()),
    ('Are there cars ahead of the bus?', ()), ('Is a car left?', ()), ('How many cars are there?', ())])
def test_directions_from_the_asker_are_read_and_those_from_other_things_are_not(text, directions):
    assert directions_asked(text) == directions


@pytest.mark.parametrize('relation', RELATIONS)
def test_the_wordings_of_nuscenes_qa_are_read(relation):
    slots = {'things': 'moving cars', 'thing': 'moving car', 'first': 'bus', 'second': 'car',
             'relation': relation, 'relation2': relation, 'anchor': 'truck', 'a_anchor': 'a truck'}
    for template in chain(*TEMPLATES.values()):
        asked = directions_asked(template.format(**slots))
        assert asked == ((relation,) if 'of me' in template else ()), template


def test_what_is_not_seen_is_said_where_it_is_asked_about():
    ahead = np.roll(np.arange(SECTORS) < 14, 29)
    assert ranges(ahead) == 'from -35 to 35 deg'
    assert share(ahead, 'front') == 1 and share(ahead, 'left') == pytest.approx(1 / 24)
    everything = np.ones(SECTORS, bool)
    assert unseen('cars behind me?', {'camera': ahead}) == (
        'no sensor looks to the back: camera sees from -35 to 35 deg; add one that does', '')
    assert unseen('cars to the front left of me?', {'camera': ahead}) == (
        '', 'only 8 % of the front left is seen: camera sees from -35 to 35 deg')
    assert unseen('cars to the front of me?', {'camera': ahead}) == ('', '')
    assert unseen('any cars?', {'camera': ahead})[1].startswith('not all around is seen')
    for question in ('any cars?', 'cars behind me?'):
        assert unseen(question, {'camera': ahead, 'lidar': everything}) == ('', '')

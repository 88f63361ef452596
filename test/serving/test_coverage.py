"""Which directions are seen, and which ones a question asks about."""
from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from mpnp_ros.conversions.messages import from_message, to_message
from mpnp_ros.methods.mpnp.counting import sort_of
from mpnp_ros.methods.questions import Counted
from mpnp_ros.nodes.fusion_messages import answer_to_message
from mpnp_ros.questions.vocabulary import RELATIONS
from mpnp_ros.questions.wording import TEMPLATES
from mpnp_ros.serving.answers import Answer, Status
from mpnp_ros.serving.coverage import direction_of, directions_asked, not_known, ranges, share, unseen
from mpnp_ros.serving.questions import Question
from mpnp_ros.tokens import NO_SOURCE, SECTORS, ModalityTokens

NAMES = ('car: moving', 'car: parked', 'bus: moving', 'bus: parked', 'bicycle: with rider', 'cone')


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


def sectors(first: int, last: int) -> np.ndarray:
    """The sectors between two angles, degrees counter-clockwise from ahead."""
    looked = np.zeros(SECTORS, bool)
    looked[[place % SECTORS for place in range((first + 180) // 5, (last + 180) // 5)]] = True
    return looked


COUNTED = Counted('', sectors(30, 150), 10., 'parked car', 2.4, .1, .9)


@pytest.mark.parametrize(('looked', 'words'), [
    (sectors(-180, 180), ''), (sectors(30, 150), 'left'), (sectors(150, 210), 'back'),
    (sectors(-30, 30), 'front'), (sectors(-35, 35), 'from -35 to 35 deg'), (sectors(0, 0), 'nothing')])
def test_where_was_looked(looked, words):
    assert direction_of(looked) == words


@pytest.mark.parametrize(('chosen', 'words'), [
    (NAMES, 'thing'), (NAMES[:2], 'car'), (NAMES[1:2], 'parked car'), (NAMES[:3:2], 'moving thing'),
    (NAMES[4:5], 'bicycle'), (NAMES[5:], 'cone'), (('car: parked', 'cone'), 'parked car or cone'),
    ((), 'nothing')])
def test_what_was_counted(chosen, words):
    assert sort_of(chosen, NAMES) == words


def test_a_status_with_a_rider_stands_behind():
    assert sort_of(NAMES[4:5], (*NAMES, 'bicycle: without rider')) == 'bicycle with rider'


def test_what_counts_cannot_answer_and_what_no_sensor_tells_is_not_known():
    assert not_known([COUNTED], .99) == ''
    assert not_known([], 1.) == ''
    assert 'nothing that the sensors in use tell answers this' in not_known([COUNTED], .1)
    assert 'no sensor in use can tell a parked car there' in not_known([replace(COUNTED, covered=0.)], .99)


def test_unknown_says_whether_nobody_looks_or_nobody_can_tell():
    ahead, everywhere = sectors(-35, 35), sectors(-180, 180)
    none = replace(COUNTED, covered=0.)  # of parked cars to the left
    assert not_known([none], 1., {'camera': ahead & ~COUNTED.sectors}) == (
        'unknown: no sensor in use looks to the left (camera sees from -35 to 30 deg); add one that does')
    assert not_known([none], 1., {'camera': ahead & ~COUNTED.sectors, 'lidar': everywhere}) == (
        'unknown: no sensor in use can tell a parked car there (lidar looks there); add one that does')
    assert not_known([COUNTED], 1., {'camera': ahead}) == ''
    second = replace(none, sort='traffic cone', sectors=everywhere)
    assert 'can tell a traffic cone (lidar looks all around' in not_known(
        [COUNTED, second], 1., {'lidar': everywhere})
    assert not_known([COUNTED, replace(none, modality='camera')], 1., {'lidar': everywhere}) == ''


def test_what_was_counted_is_in_the_message():
    answer = Answer(Question('How many parked cars are on my left?'), Status.OK, 1, counted=(
        COUNTED, replace(COUNTED, modality='camera', reach=math.inf)))
    both, camera = answer_to_message(answer).counted
    assert (both.modality, both.direction, both.sort, both.reach) == ('', 'left', 'parked car', 10)
    assert (camera.modality, camera.reach) == ('camera', math.inf)
    assert (both.expected, both.none, both.covered) == pytest.approx((2.4, .1, .9))


def test_what_tokens_cannot_know_goes_with_them():
    looked = sectors(-90, 90)
    tokens = ModalityTokens('camera', 'e', np.ones((2, 3), np.float32), np.zeros(2, np.float32),
                            known=np.array([True, False, True]), looked=looked,
                            distance=np.array([3., np.nan], np.float32), max_distance=30.)
    read = from_message(to_message(tokens))
    assert read.known.tolist() == [True, False, True] and (read.looked == looked).all()
    assert (read.distance[0], read.max_distance) == (3, 30) and np.isnan(read.distance[1])
    assert (read.sectors_looked_at() == looked).all()

"""What was counted, in words, and when that means that an answer is not known."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.conversions.tokens import from_message, to_message
from mpnp_ros.methods.mpnp.counting import sort_of
from mpnp_ros.methods.questions import Counted
from mpnp_ros.nodes.fusion_messages import answer_to_message
from mpnp_ros.serving.answers import Answer, Status
from mpnp_ros.serving.coverage import direction_of, not_known
from mpnp_ros.serving.questions import Question
from mpnp_ros.tokens import SECTORS, ModalityTokens

NAMES = ('car: moving', 'car: parked', 'bus: moving', 'bus: parked', 'bicycle: with rider', 'cone')


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
    assert 'does not answer this' in not_known([COUNTED], .1)
    assert 'no sensor in use can tell a parked car there' in not_known([replace(COUNTED, covered=0.)], .99)


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

"""Two methods on the same questions: what a difference is worth."""
from __future__ import annotations

import random

import pytest

from mpnp_ros.training.paired import ALIKE, BETTER, WORSE, PairedDifference


def compared(gains: list[int], each: int = 10) -> PairedDifference:
    """The first method is right about so many questions more of each moment (fewer, if negative)."""
    first, second, moments = [], [], []
    for moment, gain in enumerate(gains):
        for question in range(each):
            first.append(question < gain)
            second.append(question < -gain)
            moments.append(str(moment))
    return PairedDifference.of(first, second, moments)


def test_a_gain_at_every_moment_is_better_if_there_are_enough():
    six, five = compared([2, 1, 3, 1, 2, 1]), compared([2, 1, 3, 1, 2])
    assert (six.verdict, six.chance, six.can_tell) == (BETTER, 2 / 64, True)
    assert (six.n, six.moments, six.value) == (60, 6, pytest.approx(10 / 60))
    assert six.interval[0] > 0
    assert (five.verdict, five.chance, five.can_tell) == (ALIKE, 2 / 32, False)
    assert compared([-2, -1, -3, -1, -2, -1]).verdict == WORSE


def test_one_moment_alone_proves_nothing():
    """All 30 questions of one of 20 moments: alone each is no chance, together they are one observation."""
    lucky = compared([10] + 19 * [0])
    assert lucky.verdict == ALIKE and lucky.chance == 1.


def test_equally_good_methods_are_rarely_called_different():
    rng, called = random.Random(1), 0
    for _ in range(200):
        called += compared([rng.choice((-2, -1, 0, 1, 2)) for _ in range(10)]).verdict != ALIKE
    assert called <= 16  # expected: up to 10


def test_many_moments_are_sampled():
    many = compared([1, 0] * 20)
    assert many.verdict == BETTER and 0 < many.chance < .01
    assert compared([1, -1] * 20).verdict == ALIKE


def test_nothing_to_compare():
    with pytest.raises(ValueError, match='no questions'):
        PairedDifference.of([], [], [])

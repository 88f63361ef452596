from __future__ import annotations

import pytest
import torch

from mpnp_ros.training.head_scores import (
    ChannelScore,
    average_precision,
    by_direction,
    score_sectors,
)

CHANNELS = (('car', 'moving'), ('car', 'parked'), ('barrier', None))


@pytest.fixture
def counts():
    return torch.poisson(torch.full((20, 72, 3), 0.03), generator=torch.Generator().manual_seed(0))


def test_the_truth_scores_best(counts):
    scores = score_sectors(counts, counts, CHANNELS)
    assert set(scores.precision.values()) == {1.0} and scores.mean_precision == 1
    assert (scores.count_error, scores.status) == (0, 1)
    assert scores.explained == pytest.approx(1, abs=1e-4)
    assert scores.constant_count_error > 0.3 and 0.4 < scores.common_status < 0.7


def test_the_mean_explains_nothing(counts):
    mean = counts.mean((0, 1)).expand_as(counts)
    scores = score_sectors(mean, counts, CHANNELS)
    assert scores.explained == pytest.approx(0, abs=1e-5)
    assert scores.status == scores.common_status
    assert scores.to_dict()['explained'] == round(scores.explained, 4) and 'barrier' in scores.table()


def test_what_does_not_occur_has_no_precision(counts):
    counts[..., 2] = 0
    assert set(score_sectors(counts, counts, CHANNELS).precision) == {'car'}


def test_a_channel_is_told_that_is_found_better_than_by_chance(counts):
    rates = counts.clone()
    rates[..., 1] = torch.rand(20, 72, generator=torch.Generator().manual_seed(1))
    counts[..., 2] = 0
    counts[:4, 0, 2] = rates[:4, 0, 2] = 1
    scores = score_sectors(rates, counts, CHANNELS).channels
    moving, parked, barrier = (scores[channel] for channel in CHANNELS)
    assert moving.precision == 1 and moving.known
    assert abs(parked.precision - parked.prevalence) < 0.1 and not parked.known
    assert (barrier.present, barrier.prevalence) == (4, pytest.approx(4 / 120)) and not barrier.known
    assert str(barrier).endswith('in 4 sixths, chance 0.03')


@pytest.mark.parametrize('precision, prevalence, present, told', [
    (0.12, 0.01, 10, True), (0.12, 0.01, 9, False), (0.10, 0.01, 99, False), (0.5, 0.42, 99, True),
    (0.5, 0.46, 99, False), (1.0, 0.9, 99, True)])
def test_better_is_a_tenth_of_the_way_to_perfect(precision, prevalence, present, told):
    assert ChannelScore(precision, prevalence, present).known == told


def test_directions_are_those_of_questions():
    counts = torch.zeros(1, 72, 1)
    counts[0, 30:42] = 1  # -30 to 30 degrees
    assert by_direction(counts)[0, :, 0].tolist() == [0, 0, 12, 0, 0, 0]


def test_average_precision_is_the_mean_precision_at_each_hit():
    scores, truth = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, False, True, False])
    assert average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, torch.zeros(4, dtype=torch.bool)) == 0

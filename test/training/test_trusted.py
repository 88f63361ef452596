"""What a sensor counts is worth what a trusted sensor says that looks at the same place."""
from __future__ import annotations

import math

import pytest
import torch

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.mpnp.counting import Counts, sector_centres
from mpnp_ros.methods.mpnp.link import Worth, in_sectors
from mpnp_ros.tokens import SECTORS
from mpnp_ros.training.trusted import FEWEST, fit_worth

SORTS = 4
NAMES = tuple(f'sort {number}' for number in range(SORTS))


def street(frames: int, seed: int = 0) -> Counts:
    """Some things of four sorts in every frame, one token a sector."""
    drawn = torch.Generator().manual_seed(seed)
    numbers = torch.poisson(torch.full((frames, SECTORS, SORTS), .08), generator=drawn)
    azimuth = sector_centres().expand(frames, -1)
    return Counts(numbers, azimuth, torch.full_like(azimuth, math.nan), torch.ones(frames, SECTORS, SORTS))


def error(worth: Worth, seen: Counts, there: Counts) -> float:
    """Mean difference by sort in windows of 60 degrees."""
    corrected, _ = in_sectors(worth(seen))
    apart = (corrected - in_sectors(there)[0]).unflatten(1, (6, SECTORS // 6)).sum(2)
    return float(apart.abs().mean())


def test_a_perfect_sensor_stays_as_it_is():
    there = street(200)
    worth = fit_worth(Worth(NAMES), there, there)
    assert abs(float(worth.turn)) < .02
    assert torch.allclose(worth.confusion, torch.eye(SORTS), atol=.05)
    assert worth.missed.max().item() < .01


def test_wrong_scale_confusion_and_direction_are_found():
    there, other = street(200), street(100, seed=1)

    def damaged(counts: Counts) -> Counts:
        numbers = counts.numbers * torch.tensor([1., 1.5, 1., 1.])
        numbers = torch.cat([numbers[..., :2], torch.zeros_like(numbers[..., :1]),
                             numbers[..., 2:].sum(-1, keepdim=True)], -1)  # the third is taken for the fourth
        return counts._replace(numbers=numbers, azimuth=counts.azimuth - math.radians(15))

    before = Worth(NAMES)
    worth = fit_worth(Worth(NAMES), damaged(there), there)
    assert math.degrees(float(worth.turn)) == pytest.approx(15, abs=1)
    assert worth.confusion[1, 1].item() == pytest.approx(1 / 1.5, abs=.05)
    assert worth.confusion[2, 3].item() == pytest.approx(.5, abs=.1)
    assert error(worth, damaged(other), other) < .6 * error(before, damaged(other), other)


def test_only_places_where_both_look_are_compared():
    there = street(200)
    half = there.covered.clone()
    half[:, :SECTORS // 2] = 0
    blind = there._replace(numbers=there.numbers * half[..., :1], covered=half)
    worth = fit_worth(Worth(NAMES), blind, there)
    assert torch.allclose(worth.confusion, torch.eye(SORTS), atol=.1)


def test_what_is_missed_at_random_is_made_up_for():
    there = street(300)
    kept = torch.rand(there.numbers.shape, generator=torch.Generator().manual_seed(3)) > .4
    worth = fit_worth(Worth(NAMES), there._replace(numbers=there.numbers * kept), there)
    corrected, _ = in_sectors(worth(there._replace(numbers=there.numbers * kept)))
    assert float(corrected.sum() / there.numbers.sum()) == pytest.approx(1, abs=.05)


def test_too_few_frames_are_told():
    few = street(FEWEST - 1)
    with pytest.raises(TrainingError, match='too few'):
        fit_worth(Worth(NAMES), few, few)

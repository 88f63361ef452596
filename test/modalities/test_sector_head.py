"""Heads know no direction: what turns the input turns the output, whatever the weights."""
from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.modalities.geometry import SECTORS
from mpnp_ros.modalities.heads import (
    CameraSectorHead,
    PolarSectorHead,
    SectorRates,
    covered,
    ring_shares,
    wrapped,
)

CHANNELS = (('car', 'moving'), ('car', 'parked'), ('barrier', None))
SECTOR = math.tau / SECTORS


@pytest.fixture(scope='module')
def camera():
    torch.manual_seed(0)
    return CameraSectorHead(CHANNELS, features=8, rows=2, columns=6, hidden=4, ring=12, depth=2).eval()


@pytest.fixture(scope='module')
def lidar():
    torch.manual_seed(0)
    return PolarSectorHead(CHANNELS, ranges=8, hidden=4, ring=12, depth=2).eval()


@pytest.fixture(scope='module')
def views():
    """Three views of 60 degrees that overlap by 5 degrees: features, slopes, edges."""
    torch.manual_seed(1)
    ahead = torch.tensor([0.0, 1.0, -1.0])[:, None] * (60 - 5) * math.pi / 180
    edges = ahead + torch.linspace(30, -30, 7) * math.pi / 180
    return torch.randn(1, 3, 2, 6, 8), torch.randn(1, 3, 2, 6), edges[None]


@torch.no_grad()
def test_turning_the_cameras_by_whole_sectors_turns_the_rates(camera, views):
    features, slopes, edges = views
    straight, turned = camera(features, slopes, edges), camera(features, slopes, edges + 7 * SECTOR)
    assert straight.shape == (1, SECTORS, 3) and straight.std() > 0.01
    assert torch.allclose(straight.roll(7, 1), turned, atol=1e-4)


@torch.no_grad()
def test_turning_the_cameras_by_half_a_sector_lies_in_between(camera, views):
    features, slopes, edges = views
    before, half = camera(features, slopes, edges).exp(), camera(features, slopes, edges + SECTOR / 2).exp()
    after = before.roll(1, 1)
    assert (half - (before + after) / 2).abs().mean() < (after - before).abs().mean()


@torch.no_grad()
def test_neither_the_order_of_views_nor_a_view_that_is_not_there_matters(camera, views):
    features, slopes, edges = views
    together = camera(features, slopes, edges)
    backwards = camera(features.flip(1), slopes.flip(1), edges.flip(1))
    assert torch.allclose(together, backwards, atol=1e-5)
    gone = edges.clone()
    gone[:, 1] = math.nan
    fewer = camera(features[:, [0, 2]], slopes[:, [0, 2]], edges[:, [0, 2]])
    assert torch.allclose(camera(features, slopes, gone), fewer, atol=1e-5)
    assert not torch.allclose(together, fewer, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize('cells', [4, 40])
def test_turning_the_grid_by_whole_sectors_turns_the_rates(lidar, cells):
    grid = torch.rand(1, 6, 288, 8)
    turned = lidar(grid.roll(cells, 2))
    assert turned.shape == (1, SECTORS, 3)
    assert torch.allclose(lidar(grid).roll(cells // 4, 1), turned, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.floats(-7, 7), st.floats(0.02, 2.0), st.integers(1, 9), st.booleans())
def test_columns_are_spread_over_the_circle_without_loss(ahead, width, columns, clockwise):
    edges = torch.linspace(ahead, ahead - width if clockwise else ahead + width, columns + 1)
    shares = ring_shares(wrapped(edges)[None, None], 144)
    assert shares.min() >= 0 and shares.max() <= 1 + 1e-4
    assert shares.sum().item() * math.tau / 144 == pytest.approx(width, abs=1e-3)


def test_sectors_that_no_view_looks_at_are_not_covered(views):
    seen = covered(views[2])[0]
    assert seen.sum().item() * 5 == 170
    assert not covered(torch.full((1, 2, 7), math.nan)).any()


def test_rates_begin_at_what_is_common():
    torch.manual_seed(0)
    rates = SectorRates(5, CHANNELS)
    rates.start_at(torch.tensor([0.3, 0.1, 0.02]))
    assert rates(torch.zeros(1, 5, SECTORS)).exp()[0, 9].tolist() == pytest.approx([0.3, 0.1, 0.02], rel=1e-4)


def test_a_category_counts_the_same_however_its_statuses_are_shared_out():
    torch.manual_seed(0)
    rates, states = SectorRates(5, CHANNELS), torch.randn(1, 5, SECTORS)
    before = rates(states).exp()
    with torch.no_grad():
        rates.status.bias += torch.tensor([3.0, -1.0, 5.0])
    after = rates(states).exp()
    assert torch.allclose(before[..., :2].sum(-1), after[..., :2].sum(-1), rtol=1e-4)
    assert torch.allclose(before[..., 2], after[..., 2], rtol=1e-4)
    assert (after[..., 0] > before[..., 0]).all()

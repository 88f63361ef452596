"""Grounding: tokens are named by what they add to the counts of a question."""
from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mpnp_ros.methods.mpnp.counting import CountingPooling, Counts, sector_centres
from mpnp_ros.methods.mpnp.grounding import MOST, SensorTokens, grounding_of
from mpnp_ros.methods.mpnp.link import Worth, fuse
from mpnp_ros.tokens import SECTORS

NAMES = ('car: moving', 'car: parked', 'bus: moving', 'bus: parked', 'cone')
FRONT = slice(SECTORS // 2 - 6, SECTORS // 2 + 6)


@pytest.fixture
def pooling() -> CountingPooling:
    """Probes that count cars ahead, whatever the question says."""
    torch.manual_seed(0)
    pooling = CountingPooling(NAMES, 32, 16, 3, 2, 2, 4, 5)
    probes = pooling.probes
    for layer, place in ((probes.category, 0), (probes.status, 2)):
        nn.init.zeros_(layer.weight)
        layer.bias.data = torch.full_like(layer.bias, -50.).index_fill(0, torch.tensor(place), 50.)
    nn.init.zeros_(probes.direction.weight)
    probes.direction.bias.data = torch.zeros_like(probes.direction.bias)
    probes.direction.bias.data[4], probes.direction.bias.data[-1] = 5., -4.  # cos of the azimuth
    return pooling


def counts(numbers: torch.Tensor, covered: float = 1.) -> Counts:
    return Counts(numbers[None], sector_centres()[None], torch.full((1, SECTORS), math.nan),
                  torch.full((1, SECTORS, len(NAMES)), covered))


def of(pooling: CountingPooling, sensors: dict[str, Counts]):
    asked = torch.zeros(1, 5, 16)
    parts = [(seen, Worth(NAMES), torch.tensor(1.)) for seen in sensors.values()]
    with torch.no_grad():
        fused = fuse(parts)
        tally, *alone = pooling.tallies([fused.counts, *sensors.values()], asked)
        return grounding_of(pooling, tally.masks, [
            SensorTokens(name, [SECTORS], own.windows, seen.numbers, seen.azimuth, share)
            for (name, seen), own, share in zip(sensors.items(), alone, fused.shares, strict=True)])[0]


def test_the_tokens_with_what_is_asked_for_are_named_and_no_others_before_them(pooling):
    numbers = torch.zeros(SECTORS, len(NAMES))
    numbers[35, 1], numbers[36, 0], numbers[36, 2], numbers[0, 0], numbers[37, 4] = .9, .4, 1., 1., 1.
    found = of(pooling, {'lidar': counts(numbers)})
    assert [(token.token, token.sort) for token in found[:2]] == [(35, 'car'), (36, 'car')]
    assert [token.expected for token in found[:2]] == pytest.approx([.9, .4])
    assert found[0].weight > 2 * found[1].weight > 10 * found[2].weight
    assert len(found) == MOST and sum(token.weight for token in found) <= 1
    assert all(one.weight >= other.weight for one, other in zip(found, found[1:], strict=False))


def test_nothing_there_rests_on_where_was_looked(pooling):
    found = of(pooling, {'lidar': counts(torch.zeros(SECTORS, len(NAMES)))})
    assert all(FRONT.start <= token.token < FRONT.stop for token in found)
    assert {(token.sort, token.expected) for token in found} == {('car', 0.)}


def test_a_sensor_that_does_not_look_is_not_named(pooling):
    numbers = torch.zeros(SECTORS, len(NAMES))
    numbers[35, 1] = 1.
    found = of(pooling, {'camera': counts(numbers, covered=0.), 'lidar': counts(numbers)})
    assert {token.modality for token in found} == {'lidar'}
    both = of(pooling, {'camera': counts(numbers), 'lidar': counts(numbers)})
    assert {token.modality: token.weight for token in both[:2]} == {
        name: pytest.approx(found[0].weight / 2, rel=.01) for name in ('camera', 'lidar')}


def test_questions_of_one_pass_rest_on_what_each_rests_on_alone(pooling):
    seen = counts(torch.rand(SECTORS, len(NAMES)))
    asked = torch.randn(3, 5, 16)
    with torch.no_grad():
        for layer in (pooling.probes.category, pooling.probes.direction):
            layer.weight.normal_()
        tokens = [SECTORS, 9, 0]
        shares = fuse([(seen, Worth(NAMES), torch.tensor(1.))]).shares[0]

        def of_rows(rows: slice):
            tally = pooling.tallies([seen], asked[rows])[0]
            return grounding_of(pooling, tally.masks, [
                SensorTokens('lidar', tokens[rows], tally.windows, seen.numbers, seen.azimuth, shares)])

        together, alone = of_rows(slice(3)), [of_rows(slice(row, row + 1))[0] for row in range(3)]
    assert [len(own) for own in together] == [MOST, 9, 0]
    assert together[0] != together[1]
    for own, wanted in zip(together, alone, strict=True):
        assert [(token.token, token.sort) for token in own] == [(token.token, token.sort) for token in wanted]
        assert [token.weight for token in own] == pytest.approx([token.weight for token in wanted], abs=1e-5)


def test_parts_of_sensors_add_up_to_one_where_any_looks(pooling):
    seen = counts(torch.rand(SECTORS, len(NAMES)))
    half = seen._replace(covered=seen.covered.clone())
    half.covered[:, :30] = 0
    nowhere = half.covered * 0
    parts = [(seen._replace(covered=nowhere if place else half.covered), Worth(NAMES), torch.tensor(1.))
             for place in range(2)]
    with torch.no_grad():
        total = fuse(parts).shares.sum(0)[0]
    assert not total[:30].any() and total[30:] == pytest.approx(1., abs=1e-5)

"""Counting: sums are linear in the tokens, numbers are as of independent objects, and sensors are fused."""
from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.mpnp.counting import (
    NUMBERS,
    CountingPooling,
    Counts,
    number_probabilities,
    sector_centres,
)
from mpnp_ros.methods.mpnp.link import Worth, fuse, in_sectors
from mpnp_ros.methods.mpnp.method import LatentConnections
from mpnp_ros.tokens import SECTORS

CHANNELS = 6
OPEN = torch.tensor(1.)
NAMES = tuple(f'sort {number}' for number in range(CHANNELS))
COUNTING = {'pooling': 'counting'}


@pytest.fixture
def pooling() -> CountingPooling:
    torch.manual_seed(0)
    return CountingPooling(NAMES, 32, 16, 3, 2, 2, 4, 5)


def counts(numbers: torch.Tensor, azimuth: torch.Tensor, distance: torch.Tensor | None = None) -> Counts:
    """Counts of one frame [P, C] that sees everything."""
    distance = torch.full_like(azimuth, math.nan) if distance is None else distance
    return Counts(numbers[None], azimuth[None], distance[None], torch.ones(1, SECTORS, CHANNELS))


def question(length: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, length, 32, generator=generator), torch.ones(1, length, dtype=torch.bool)


def convolved(numbers: list[float]) -> list[float]:
    """Probabilities of 0, 1, ... as a textbook has them: one object after the other."""
    total = [1.] + 60 * [0.]
    for number in numbers:
        whole, part = int(number), number - int(number)
        total = whole * [0.] + total[:len(total) - whole]
        total = [(1 - part) * now + part * before for now, before in zip(total, [0., *total], strict=False)]
    return [*total[:NUMBERS], sum(total[NUMBERS:])]


@given(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=12))
def test_numbers_have_the_probabilities_of_independent_objects(numbers):
    found = number_probabilities(torch.tensor(numbers))
    assert found.tolist() == pytest.approx(convolved(numbers), abs=3e-4)


@given(st.integers(1, 60))
def test_what_is_certain_is_a_number(count):
    found = number_probabilities(torch.ones(count))
    assert found.argmax() == min(count, NUMBERS) and found.max() > .999


def test_a_probe_counts_what_its_category_and_its_status_let_through():
    names = ('barrier', 'car: moving', 'car: parked', 'bus: moving')
    probes = CountingPooling(names, 32, 16, 3, 2, 2, 4, 5).probes
    for layer in (probes.category, probes.status):
        nn.init.zeros_(layer.weight)
    for category, status, expected in (('car', 'moving', [0, 1, 0, 0]), ('car', None, [0, 1, 1, 0]),
                                       (None, 'moving', [0, 1, 0, 1]), (None, None, [1, 1, 1, 1]),
                                       ('barrier', None, [1, 0, 0, 0])):
        for layer, place in zip((probes.category, probes.status),
                                CountingPooling(names, 32, 16, 3, 2, 2, 4, 5).sort_index(category, status),
                                strict=True):
            layer.bias.data = torch.full_like(layer.bias, -50.).index_fill(0, torch.tensor(place), 50.)
        assert probes.masks(torch.zeros(1, 5, 16))[0, 0].tolist() == pytest.approx(expected)


def test_probabilities_have_gradients_everywhere():
    for numbers in (torch.zeros(5), torch.full((5,), .5), torch.ones(5), torch.full((5,), 2.)):
        each = numbers.requires_grad_()
        number_probabilities(each)[0].backward()
        assert each.grad.isfinite().all()


@settings(deadline=None)
@given(st.integers(1, 8), st.floats(0, 2), st.integers(0, 99))
def test_half_an_object_counts_one_half(count, share, seed):
    torch.manual_seed(0)
    pooling, generator = CountingPooling(NAMES, 32, 16, 3, 2, 2, 4, 5), torch.Generator().manual_seed(seed)
    numbers = torch.rand(count, CHANNELS, generator=generator)
    azimuth = (torch.rand(count, generator=generator) - .5) * 6
    asked = pooling.probes(*question(seed=seed))
    whole, part = (pooling.tally(counts(expected, azimuth), asked) for expected in (numbers, share * numbers))
    torch.testing.assert_close(part.number, share * whole.number, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(part.kinds, share * whole.kinds, rtol=1e-4, atol=1e-5)


def test_objects_added_up_by_sector_count_as_they_do_alone(pooling):
    sectors = torch.tensor([3, 3, 40, 71])
    numbers, azimuth = torch.rand(4, CHANNELS) / 2, sector_centres()[sectors]
    sums = torch.zeros(SECTORS, CHANNELS).index_add(0, sectors, numbers)
    asked = pooling.probes(*question())
    alone, together = pooling.tally(counts(numbers, azimuth), asked), pooling.tally(
        counts(sums, sector_centres()), asked)
    torch.testing.assert_close(alone.number, together.number, rtol=1e-4, atol=1e-5)


def test_what_has_no_direction_is_spread_over_all_directions(pooling):
    asked = pooling.probes(*question())
    everywhere = counts(torch.ones(SECTORS, CHANNELS) / SECTORS, sector_centres())
    nowhere = counts(torch.ones(1, CHANNELS), torch.full((1,), math.nan))
    torch.testing.assert_close(pooling.tally(nowhere, asked).number, pooling.tally(everywhere, asked).number)


def test_more_probes_can_be_supervised():
    torch.manual_seed(0)
    pooling = CountingPooling(NAMES, 32, 16, 3, 2, 2, 4, 5, supervised=4)
    asked = pooling.probes(*question())
    tally = pooling.tally(counts(torch.rand(3, CHANNELS), torch.zeros(3)), asked)
    assert pooling.entries_of(tally, asked).shape == (1, 3, 16)
    assert 1 <= len(pooling.counted(tally, asked, 'microphone')) <= 4
    loss = pooling.supervision(asked, torch.ones(1, 4, SECTORS), torch.ones(1, 4, 20),
                               torch.zeros(1, 4, 2, dtype=torch.long))
    loss.backward()
    assert loss.isfinite()


def test_what_nobody_looks_at_and_nobody_can_tell_is_not_covered(pooling):
    asked = pooling.probes(*question())
    seen = counts(torch.rand(3, CHANNELS), torch.zeros(3))
    assert pooling.tally(seen, asked).covered.tolist()[0] == pytest.approx([1.] * 5, abs=1e-3)
    nowhere = seen._replace(covered=torch.zeros_like(seen.covered))
    assert not pooling.tally(nowhere, asked).covered.any()


def test_a_distance_that_is_not_known_is_within_every_reach(pooling):
    asked = pooling.probes(*question())
    near, far, unknown = (pooling.probes.reaches(asked, torch.tensor([[metres]]))
                          for metres in (2., 45., math.nan))
    assert (unknown == 1).all() and not torch.equal(near, far)


def test_a_new_link_takes_counts_as_they_are_said():
    said = counts(torch.rand(4, CHANNELS), torch.zeros(4))
    with torch.no_grad():
        taken = Worth(NAMES)(said)
    assert torch.equal(taken.numbers[:, :4], said.numbers) and not taken.numbers[:, 4:].any()
    assert torch.equal(taken.azimuth[:, :4], said.azimuth)


def test_answers_move_what_is_alike_together_and_the_rest_not_at_all():
    names = ('car: moving', 'car: parked', 'truck: moving', 'truck: parked', 'cone')
    worth = Worth(names)
    with torch.no_grad():
        worth.confusion[2, 0] = .3
    numbers = torch.rand(1, 3, len(names), generator=torch.Generator().manual_seed(0))
    said = Counts(numbers, torch.zeros(1, 3), torch.full((1, 3), math.nan),
                  torch.ones(1, SECTORS, len(names)))
    taken = worth(said).numbers
    with torch.no_grad():
        assert torch.equal(taken, worth(said).numbers)
    (taken[0, :3] * torch.rand(3, len(names))).sum().backward()
    gradient = worth.confusion.grad
    assert gradient[2, 0] == gradient[3, 1] != 0  # a car taken for a truck of the same status
    assert gradient[0, 1] == gradient[2, 3] != 0  # something parked taken for moving
    assert gradient[0, 0] == gradient[1, 1] != gradient[2, 2]
    assert gradient[3, 0] == gradient[0, 3] == 0
    assert gradient[4, 0] == gradient[4, 1] != gradient[4, 4]


def test_worth_corrects_what_is_mistaken_missed_and_turned():
    worth, said = Worth(NAMES), counts(torch.eye(CHANNELS)[:1], torch.zeros(1))
    with torch.no_grad():
        worth.confusion[1, 0], worth.confusion[0, 0] = .4, .5
        worth.missed[2] = .01
        worth.turn.fill_(math.radians(15))
    corrected = worth(said)
    assert corrected.numbers[0, 0, :2].tolist() == pytest.approx([.5, .4])
    assert corrected.numbers[0, 1:, 2].sum().item() == pytest.approx(.01 * SECTORS)
    assert corrected.azimuth[0, 0].item() == pytest.approx(math.radians(15))


def test_sensors_that_agree_say_together_what_each_says():
    azimuth = sector_centres()[[5, 30]]
    said = counts(torch.rand(2, CHANNELS), azimuth)
    numbers, _ = in_sectors(said)
    together = fuse([(said, Worth(NAMES), OPEN), (said, Worth(NAMES), OPEN)]).counts
    torch.testing.assert_close(together.numbers, numbers)
    assert fuse([(said, Worth(NAMES), OPEN)]).counts is said


def test_distances_of_a_sector_are_a_mean_where_they_are_known_of_most():
    azimuth = sector_centres()[[5, 5, 9]]
    numbers = torch.tensor([1., 3., 1.])[:, None] * torch.eye(CHANNELS)[0]
    _, distance = in_sectors(counts(numbers, azimuth, torch.tensor([10., 20., math.nan])))
    assert distance[0, 5].item() == pytest.approx(17.5)
    assert distance.isfinite().sum() == 1


def test_a_sensor_has_no_say_where_it_does_not_look_or_cannot_tell():
    azimuth = sector_centres()[[5, 30]]
    full, other = counts(torch.ones(2, CHANNELS), azimuth), counts(torch.zeros(2, CHANNELS), azimuth)
    covered = torch.ones(1, SECTORS, CHANNELS)
    covered[0, 30], covered[..., 2] = 0, 0
    together = fuse([(full, Worth(NAMES), OPEN),
                     (other._replace(covered=covered), Worth(NAMES), OPEN)]).counts
    assert together.numbers[0, 5].tolist() == pytest.approx([.5, .5, 1, .5, .5, .5])
    assert together.numbers[0, 30].tolist() == pytest.approx([1] * CHANNELS)


def test_trust_decides_between_sensors():
    azimuth = sector_centres()[[5]]
    parts = [(counts(number * torch.ones(1, CHANNELS), azimuth), Worth(NAMES), OPEN)
             for number in (0., 1.)]
    with torch.no_grad():
        parts[1][1].trust.fill_(math.log(3))
    assert fuse(parts).counts.numbers[0, 5].tolist() == pytest.approx([.75] * CHANNELS)
    with torch.no_grad():
        parts[1][1].presence.fill_(math.log(3))
    assert fuse(parts).counts.numbers[0, 5].tolist() == pytest.approx([.9] * CHANNELS)
    closing = [parts[0], (*parts[1][:2], OPEN / 9)]
    assert fuse(closing).counts.numbers[0, 5].tolist() == pytest.approx([.5] * CHANNELS)


def test_links_that_read_alike_share_one_reader_and_others_speak_for_themselves(tiny_lm, new_link, new_tokens,
                                                                               new_text):
    lm = tiny_lm('llama')
    camera, lidar, other = (new_link(lm, name, seed, **COUNTING)
                            for name, seed in (('camera', 1), ('lidar', 1), ('radar', 2)))
    connections = LatentConnections(lm)
    for link in (camera, lidar, other):
        connections.plug(link)
    assert lidar.pooling is camera.pooling and other.pooling is not camera.pooling
    tokens, states = new_tokens(), new_text(lm).states(2)
    asked = dict.fromkeys(('camera', 'lidar', 'radar'), tokens)
    entries = camera.config.entries
    assert connections.prefix(asked, states)[3].keys.shape[2] == 2 * entries
    assert connections.prefix({'camera': tokens, 'lidar': tokens}, states)[3].keys.shape[2] == entries


def test_a_fused_prefix_is_as_open_as_the_most_open_link(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    camera, lidar = (new_link(lm, name, 1, **COUNTING) for name in ('camera', 'lidar'))
    connections = LatentConnections(lm, {'camera': camera})
    connections.plug(lidar)
    with torch.no_grad():
        camera.gate_weights.copy_(torch.tensor([-1., 2.]))
        lidar.gate_weights.copy_(torch.tensor([1., -2.]))
    tokens, states = new_tokens(), new_text(lm).states(2)
    both = {'camera': tokens, 'lidar': tokens}
    prefix = connections.prefix(both, states)
    opened = [prefix[block].log_gate.exp().max().item() for block in sorted(prefix)]
    assert opened == pytest.approx([torch.sigmoid(torch.tensor(value)).item() for value in (1., 2.)])
    camera.prune(.99)
    alone = connections.prefix({'lidar': tokens}, states)
    pruned = connections.prefix(both, states)
    for block, part in alone.items():
        torch.testing.assert_close(pruned[block].keys, part.keys)
        torch.testing.assert_close(pruned[block].log_gate, part.log_gate)


def test_a_text_whose_frame_lacks_a_sensor_is_answered_by_the_others(tiny_lm, new_link, new_text):
    lm = tiny_lm('llama')
    camera, lidar = (new_link(lm, name, 1, **COUNTING) for name in ('camera', 'lidar'))
    connections = LatentConnections(lm, {'camera': camera})
    connections.plug(lidar)
    azimuth, states = sector_centres()[[4, 9]][None].expand(2, -1), new_text(lm, 2).states(2)
    seen = TokenBatch(torch.rand(2, 2, CHANNELS), azimuth)
    half = TokenBatch(torch.rand(2, 2, CHANNELS), azimuth, torch.tensor([[True, True], [False, False]]),
                      looked=torch.tensor([[True], [False]]).expand(2, SECTORS))
    mixed = connections.prefix({'camera': seen, 'lidar': half}, states)[3]
    alone = connections.prefix({'camera': seen}, states)[3]
    torch.testing.assert_close(mixed.keys[1], alone.keys[1], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(mixed.keys[0], alone.keys[0], atol=1e-3)

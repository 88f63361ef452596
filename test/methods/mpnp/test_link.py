"""One link: directions, shapes, gates and what it refuses."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.tokens import ModalityTokens


@pytest.mark.parametrize('pooling, entries', [('none', 5), ('question', 3), ('counting', 3)])
def test_shapes_fit_grouped_heads(tiny_lm, new_link, new_tokens, new_text, pooling, entries):
    lm = tiny_lm('llama')
    link, text = new_link(lm, pooling=pooling, gate=-6.), new_text(lm, 2)
    prefix = link(new_tokens(2), text.states(2).at(2))
    assert sorted(prefix) == [2, 3] == list(link.open_blocks)
    for part in prefix.values():
        assert part.keys.shape == part.values.shape == (2, lm.kv_heads, entries, lm.head_dim)
        assert part.log_gate.expand(2, lm.kv_heads, entries).shape == part.keys.shape[:3]
        assert part.log_gate.exp().max() < 0.1


def test_gates_are_the_sigmoid_over_the_temperature(tiny_lm, new_link, new_tokens):
    link = new_link(tiny_lm('opt'), temperature=.5, pooling='none')
    part = link(new_tokens())[3]
    torch.testing.assert_close(part.log_gate.exp().squeeze(), torch.sigmoid(link.gate_weights[1] * 2))
    torch.testing.assert_close(part.log_gate.exp().squeeze(), link.gates[1])


def test_direction_is_periodic_and_matters(tiny_lm, new_link, new_tokens):
    link = new_link(tiny_lm('llama'), pooling='none')
    values, azimuth = new_tokens()[:2]
    keys = link(TokenBatch(values, azimuth))[3].keys
    around = link(TokenBatch(values, azimuth + 2 * torch.pi))[3].keys
    torch.testing.assert_close(around, keys, rtol=0, atol=1e-4)
    turned = link(TokenBatch(values, azimuth + .5))[3].keys
    assert torch.equal(turned[:, :, 0], keys[:, :, 0]), 'a token without direction does not turn'
    assert not torch.allclose(turned[:, :, 1:], keys[:, :, 1:], atol=1e-2)


def test_the_order_of_tokens_is_not_read(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    link, (values, azimuth, *_) = new_link(lm, pooling='question'), new_tokens()
    question = new_text(lm).states(2).at(2)
    turned = link(TokenBatch(values.flip(1), azimuth.flip(1)), question)[3].values
    straight = link(TokenBatch(values, azimuth), question)[3].values
    torch.testing.assert_close(turned, straight, rtol=0, atol=1e-5)


def test_pooling_depends_on_the_question_and_counts_tokens(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    link, (values, azimuth, *_) = new_link(lm, pooling='question'), new_tokens()
    first, other = (new_text(lm, seed=seed).states(2).at(2) for seed in (0, 1))
    answers = [link(TokenBatch(values, azimuth), question)[3].values for question in (first, other)]
    assert not torch.allclose(*answers, atol=1e-3)
    twice = link(TokenBatch(values.repeat(1, 2, 1), azimuth.repeat(1, 2)), first)[3].values
    assert not torch.allclose(twice, answers[0], atol=1e-3), 'an average alone cannot tell two cars from one'


def test_padding_is_not_read_even_where_it_is_not_finite(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    values, azimuth = new_tokens()[:2]
    padded = torch.cat([values, torch.full_like(values, torch.nan)], 1)
    valid = torch.arange(10)[None] < 5
    question = new_text(lm).states(2).at(2)
    for pooling in ('none', 'question'):
        link = new_link(lm, pooling=pooling)
        part = link(TokenBatch(padded, torch.cat([azimuth, azimuth], 1), valid), question)[3]
        alone = link(TokenBatch(values, azimuth), question)[3]
        shown = part.log_gate.expand(1, 1, part.keys.shape[2])[0, 0].isfinite()
        torch.testing.assert_close(part.keys[:, :, shown], alone.keys, rtol=0, atol=1e-5)
        assert part.values.isfinite().all()


@pytest.mark.parametrize('pooling', ['none', 'question', 'counting'])
def test_frames_once_and_indexed_equal_frames_repeated(tiny_lm, new_link, new_tokens, new_text, pooling):
    lm = tiny_lm('llama')
    link, tokens, rows = new_link(lm, pooling=pooling), new_tokens(2), torch.tensor([1, 0, 1])
    question = new_text(lm, 3).states(2).at(2)
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    indexed = link(TokenBatch(*tokens[:2], valid, rows), question)[2]
    repeated = link(TokenBatch(tokens.values[rows], tokens.azimuth[rows], valid[rows]), question)[2]
    for name in ('keys', 'values', 'log_gate'):
        torch.testing.assert_close(getattr(indexed, name), getattr(repeated, name), rtol=0, atol=1e-5)


def test_zero_values_start_silent(tiny_lm, new_link, new_tokens):
    part = new_link(tiny_lm('llama'), zero_values=True, pooling='none')(new_tokens())[3]
    assert not part.values.any() and part.keys.any()


def test_one_more_token_among_others_counts(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    link, (values, azimuth, *_) = new_link(lm), new_tokens()
    question = new_text(lm).states(2).at(2)
    more = link(TokenBatch(torch.cat([values, values[:, 2:3]], 1), torch.cat([azimuth, azimuth[:, 2:3]], 1)),
                question)[3].values
    assert not torch.allclose(more, link(TokenBatch(values, azimuth), question)[3].values, atol=1e-3)


def test_pooling_turns_with_the_tokens_but_not_without_directions(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    link, (values, azimuth, *_) = new_link(lm), new_tokens()
    question = new_text(lm).states(2).at(2)

    def entries(angles):
        return link(TokenBatch(values, angles), question)[3].keys

    torch.testing.assert_close(entries(azimuth + 2 * torch.pi), entries(azimuth), rtol=0, atol=1e-4)
    assert not torch.allclose(entries(azimuth + .5), entries(azimuth), atol=1e-3)
    nowhere = torch.full_like(azimuth, torch.nan)
    assert torch.equal(entries(nowhere + .5), entries(nowhere)) and entries(nowhere).isfinite().all()
    assert not torch.allclose(entries(nowhere), entries(torch.zeros_like(azimuth)), atol=1e-3)


def test_a_token_marked_invalid_does_not_count(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    link, (values, azimuth, *_) = new_link(lm), new_tokens(2)
    question, valid = new_text(lm, 2).states(2).at(2), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    part = link(TokenBatch(values, azimuth, valid), question)[3]
    other = link(TokenBatch(values + ~valid[..., None] * 7., azimuth + ~valid * 1., valid), question)[3]
    assert torch.equal(part.keys, other.keys) and torch.equal(part.values, other.values)
    fewer = link(TokenBatch(values[1:, :3], azimuth[1:, :3]), [part[1:] for part in question])[3]
    torch.testing.assert_close(part.values[1:], fewer.values, rtol=0, atol=1e-5)
    everything = link(TokenBatch(values, azimuth), question)[3]
    assert not torch.allclose(everything.values[1], part.values[1], atol=1e-3)


@pytest.mark.parametrize('heads', [1, 2, 3, 10, 12])
def test_any_number_of_heads_that_divides_the_width(tiny_lm, new_link, new_tokens, new_text, heads):
    lm = tiny_lm('llama')
    link = new_link(lm, pooling_heads=heads, pooling_width=20 * heads)
    assert link(new_tokens(), new_text(lm).states(2).at(2))[3].values.isfinite().all()


def test_a_question_of_one_token_is_pooled(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    states, mask = new_text(lm, 2).states(2).at(2)
    mask = torch.tensor([[True] + [False] * 6, [True] * 7])
    link, tokens = new_link(lm), new_tokens(2)
    together = link(tokens, (states, mask))[3].values
    alone = link(TokenBatch(tokens.values[:1], tokens.azimuth[:1]), (states[:1, :1], mask[:1, :1]))[3].values
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)
    first = states.clone()
    first[1, 0] += 9
    changed = link(tokens, (first, mask))[3].values
    assert torch.equal(changed[1], together[1]), 'the first of several positions says nothing'


def test_a_calibrated_link_does_not_see_a_constant_shift_of_the_states(tiny_lm, new_link, new_tokens,
                                                                       new_text):
    lm, tokens = tiny_lm('llama'), new_tokens(4)
    states, mask = new_text(lm, 4).states(2).at(2)
    shift = torch.linspace(-3, 3, lm.width)
    plain, shifted, neither = (new_link(lm) for _ in range(3))
    plain.calibrate([(states, mask)], tokens.values.flatten(0, 1))
    shifted.calibrate([(states + shift, mask)], tokens.values.flatten(0, 1) - 2)
    expected = plain(tokens, (states, mask))[3].values
    after = shifted(TokenBatch(tokens.values - 2, tokens.azimuth), (states + shift, mask))[3].values
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-3)
    uncalibrated = [neither(tokens, (asked, mask))[3].values for asked in (states, states + shift)]
    assert not torch.allclose(*uncalibrated, atol=1e-2)


@pytest.mark.parametrize('pooling', ['none', 'question'])
def test_what_has_been_measured_stays(tiny_lm, new_link, new_tokens, new_text, pooling):
    lm, link = tiny_lm('llama'), new_link(tiny_lm('llama'), pooling=pooling)
    states, mask = new_text(lm, 3).states(2).at(2)
    link.calibrate([(states, mask)], new_tokens(3).values.flatten(0, 1))
    before = {name: tensor.clone() for name, tensor in link.named_buffers()}
    link.calibrate([(states * 2 + 1, mask)], new_tokens(3, seed=1).values.flatten(0, 1) * 9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in link.named_buffers())
    assert link.standard.measured and len(before) == (3 if pooling == 'none' else 7)


def test_what_does_not_fit_is_named(tiny_lm, new_link, new_tokens):
    lm = tiny_lm('llama')
    with pytest.raises(LinksError, match='width 6, .* of width 7'):
        new_link(lm)(TokenBatch(torch.zeros(1, 2, 7), torch.zeros(1, 2)))
    with pytest.raises(LinksError, match='question at block 2'):
        new_link(lm, pooling='question')(new_tokens())


def test_stacking_keeps_each_frame_once():
    def frame(count: int) -> ModalityTokens:
        values = np.full((count, 2), count, np.float16)
        return ModalityTokens('camera', 'e', values, np.zeros(count, np.float32))

    small, large = frame(1), frame(3)
    batch = TokenBatch.stack([small, large, None, small])
    assert batch.values.shape == (3, 3, 2) and batch.rows.tolist() == [0, 1, 2, 0]
    assert batch.valid.sum(1).tolist() == [1, 3, 0]
    alone = TokenBatch.stack([large])
    assert alone.valid is None and alone.rows is None and alone.values.dtype == torch.float32


def test_a_link_starts_from_another_with_all_that_fits(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    link, other = (new_link(lm, name, seed, encoder=16 * f'{seed}') for name, seed in
                   (('camera', 1), ('objects', 2)))
    values, azimuth = new_tokens()[:2]
    question = new_text(lm).states(2).at(2)
    other.calibrate([question], values[0])
    assert link.start_from(other) == ()
    assert link.config.modality == 'camera' and link.config.encoder == 16 * '1'
    found, expected = (each(TokenBatch(values, azimuth), question)[3] for each in (link, other))
    assert all(torch.equal(getattr(found, name), getattr(expected, name))
               for name in ('keys', 'values', 'log_gate'))
    with torch.no_grad():
        other.gate_weights.add_(1)
    assert not torch.equal(link.gate_weights, other.gate_weights), 'a copy, not the same tensor'


def test_what_has_another_shape_stays_as_it_was(tiny_lm, new_link):
    lm = tiny_lm('llama')
    link, blind = new_link(lm), new_link(lm, 'blind', 3, soft_tokens=4, encoder='')
    direction = link.direction.state_dict()
    left = link.start_from(blind)
    assert left and all(name.startswith('direction.') for name in left)
    assert all(torch.equal(tensor, direction[name]) for name, tensor in link.direction.state_dict().items())
    assert torch.equal(link.gate_weights, blind.gate_weights)


@pytest.mark.parametrize('option', [
    {'entries': 2}, {'last': 1}, {'pooling': 'none'}, {'additive': True}, {'hidden': 8}, {'harmonics': 2}])
def test_a_link_of_other_options_is_no_beginning(tiny_lm, new_link, option):
    link, other = new_link(tiny_lm('llama')), new_link(tiny_lm('llama'), 'objects', **option)
    name = 'blocks' if 'last' in option else next(iter(option))
    with pytest.raises(LinksError, match=f'camera link cannot start from the objects link: .*{name}'):
        link.start_from(other)

"""Invariants of links, for models of four kinds, both poolings and reaches."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.mpnp.method import LatentConnections

FAMILIES = st.sampled_from(['llama', 'opt', 'bloom', 'gpt2'])
POOLINGS = st.sampled_from(['none', 'question', 'counting'])
REACHES = st.sampled_from(['answer', 'all'])
SEEDS = st.integers(0, 99)
prove = settings(deadline=None, max_examples=25, derandomize=True)


@prove
@given(FAMILIES, POOLINGS, REACHES, SEEDS, st.integers(1, 3))
def test_all_gates_off_is_the_text_only_model_to_the_bit(
        tiny_lm, new_link, new_tokens, new_text, family, pooling, reach, seed, batch):
    lm = tiny_lm(family)
    text, tokens = new_text(lm, batch, seed=seed), {'camera': new_tokens(batch, seed=seed)}
    link = new_link(lm, seed=seed, pooling=pooling, reach=reach)
    connections = LatentConnections(lm, {'camera': link})
    assert not torch.equal(text.logits(connections, tokens), text.logits())
    with torch.no_grad():
        link.gate_weights.fill_(-torch.inf)
    assert torch.equal(text.logits(connections, tokens), text.logits())


@prove
@given(FAMILIES, POOLINGS, REACHES, SEEDS)
def test_plugging_a_closed_link_changes_nothing_and_unplugging_restores(
        tiny_lm, new_link, new_tokens, new_text, family, pooling, reach, seed):
    lm = tiny_lm(family)
    text = new_text(lm, seed=seed)
    tokens = {'camera': new_tokens(seed=seed), 'lidar': new_tokens(count=4, seed=seed + 1)}
    connections = LatentConnections(lm)
    connections.plug(new_link(lm, pooling=pooling, reach=reach))
    before = text.logits(connections, tokens)
    connections.plug(new_link(lm, 'lidar', seed, pooling=pooling, reach=reach))
    with torch.no_grad():
        open_gates = connections.links['lidar'].gate_weights.clone()
        connections.links['lidar'].gate_weights.fill_(-torch.inf)
        assert torch.equal(text.logits(connections, tokens), before)
        connections.links['lidar'].gate_weights.copy_(open_gates)
    assert not torch.equal(text.logits(connections, tokens), before)
    connections.unplug('lidar')
    assert torch.equal(text.logits(connections, tokens), before)


@prove
@given(FAMILIES, POOLINGS, REACHES, SEEDS, st.booleans())
def test_a_pruned_block_is_as_one_never_linked(
        tiny_lm, new_link, new_tokens, new_text, family, pooling, reach, seed, per_block):
    lm = tiny_lm(family)
    text, tokens = new_text(lm, seed=seed), {'camera': new_tokens(seed=seed)}
    link = new_link(lm, seed=seed, pooling=pooling, reach=reach, per_block=per_block, last=3)
    connections = LatentConnections(lm, {'camera': link})
    prefix = connections.prefix(tokens, text.states(*connections.question_blocks))
    weakest = link.config.blocks[int(link.gates.argmin())]
    assert connections.prune(float(link.gates.detach().min()) + 1e-6) == {'camera': 1}
    pruned = connections.prefix(tokens, text.states(*connections.question_blocks))
    assert set(pruned) == set(prefix) - {weakest}
    for block, part in pruned.items():
        torch.testing.assert_close(part.keys, prefix[block].keys, rtol=0, atol=1e-5)
        torch.testing.assert_close(part.values, prefix[block].values, rtol=0, atol=1e-5)
        assert torch.equal(part.log_gate, prefix[block].log_gate)


def test_a_link_pruned_away_is_as_one_never_plugged(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    text, tokens = new_text(lm), {'camera': new_tokens()}
    connections = LatentConnections(lm, {'camera': new_link(lm, pooling='question')})
    assert connections.prune(1.) == {'camera': 2} and connections.prune(1.) == {'camera': 0}
    assert connections.first_block == lm.blocks and connections.question_blocks == ()
    assert connections.prefix(tokens) == {}
    assert torch.equal(text.logits(connections, tokens), text.logits())


@prove
@given(FAMILIES, POOLINGS, REACHES, SEEDS)
def test_rows_do_not_depend_on_the_rest_of_the_batch(
        tiny_lm, new_link, new_tokens, new_text, family, pooling, reach, seed):
    lm = tiny_lm(family)
    connections = LatentConnections(lm, {'camera': new_link(lm, seed=seed, pooling=pooling, reach=reach)})
    text, tokens = new_text(lm, 3, seed=seed), new_tokens(3, seed=seed)
    together = text.logits(connections, {'camera': tokens})
    for row in range(3):
        layout = TextLayout.causal(text.layout.ids[row:row + 1])
        alone = replace(text, layout=layout, mask=text.mask[row:row + 1])
        own = {'camera': TokenBatch(tokens.values[row:row + 1], tokens.azimuth[row:row + 1])}
        torch.testing.assert_close(alone.logits(connections, own)[0], together[row], rtol=0, atol=1e-4)


@prove
@given(FAMILIES, POOLINGS, REACHES, SEEDS, st.booleans())
def test_padding_on_either_side_changes_nothing(
        tiny_lm, new_link, new_tokens, new_text, family, pooling, reach, seed, left):
    lm = tiny_lm(family)
    connections = LatentConnections(lm, {'camera': new_link(lm, seed=seed, pooling=pooling, reach=reach)})
    text, tokens = new_text(lm, seed=seed), {'camera': new_tokens(seed=seed)}
    sides = (3, 0) if left else (0, 3)
    mask = torch.nn.functional.pad(text.mask, sides)
    ids = torch.nn.functional.pad(text.layout.ids, sides)
    padded = replace(text, layout=TextLayout.causal(ids, mask), mask=mask)
    torch.testing.assert_close(padded.logits(connections, tokens)[mask], text.logits(connections, tokens)[0],
                               rtol=0, atol=1e-4)


@prove
@given(FAMILIES, POOLINGS, REACHES, SEEDS)
def test_a_sample_without_a_modality_is_as_without_the_link(
        tiny_lm, new_link, new_tokens, new_text, family, pooling, reach, seed):
    lm = tiny_lm(family)
    text, camera, lidar = new_text(lm, 2, seed=seed), new_tokens(2, seed=seed), new_tokens(2, seed=seed + 1)
    links = {name: new_link(lm, name, pooling=pooling, reach=reach) for name in ('camera', 'lidar')}
    valid = torch.tensor([[True] * 5, [False] * 5])
    masked = {'camera': camera, 'lidar': lidar._replace(valid=valid)}
    mixed = text.logits(LatentConnections(lm, links), masked)
    both = text.logits(LatentConnections(lm, links), {'camera': camera, 'lidar': lidar})
    only = text.logits(LatentConnections(lm, links), {'camera': camera})
    torch.testing.assert_close(mixed, torch.stack([both[0], only[1]]), rtol=0, atol=1e-4)
    assert mixed.isfinite().all() and not torch.allclose(both[1], only[1], atol=1e-4)


@prove
@given(FAMILIES, POOLINGS, REACHES, st.booleans(), st.booleans())
def test_every_trainable_parameter_learns_and_the_model_stays(
        tiny_lm, new_link, new_tokens, new_text, family, pooling, reach, per_block, blind):
    lm = tiny_lm(family)
    blind = blind and pooling != 'counting'
    constants = {'encoder': '', 'soft_tokens': 4} if blind else {}
    link = new_link(lm, pooling=pooling, reach=reach, per_block=per_block, **constants)
    connections, text = LatentConnections(lm, {'camera': link}), new_text(lm, 2)
    if pooling == 'counting':  # two sensors count, so that there is somebody to be trusted or not
        connections.plug(new_link(lm, 'lidar', pooling=pooling, reach=reach, per_block=per_block))
    frozen = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    before = {name: parameter.detach().clone() for name, parameter in link.named_parameters()}
    optimiser = torch.optim.SGD(link.parameters(), lr=1.)
    seen = {name: batch._replace(distance=batch.azimuth.abs() * 9) for name, batch in
            (('camera', new_tokens(2)), ('lidar', new_tokens(2, seed=1)))}
    text.logits(connections, seen)[:, -1].log_softmax(-1)[:, 5].sum().backward()
    learning = {name: parameter for name, parameter in link.named_parameters()
                if not any(part in name for part in ('answerable', 'doubt', 'worth.turn'))}
    idle = [name for name, parameter in learning.items() if not parameter.grad.abs().sum() > 0]
    assert idle == []
    optimiser.step()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in learning.items())
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in lm.model.state_dict().items())
    assert all(parameter.grad is None for parameter in lm.model.parameters())


@pytest.mark.parametrize('pooling', ['none', 'question', 'counting'])
def test_split_at_the_first_block_equals_the_whole_run(
        tiny_lm, new_link, new_tokens, new_text, family, pooling):
    lm = tiny_lm(family)
    connections = LatentConnections(lm, {'camera': new_link(lm, pooling=pooling, reach='all')})
    text, tokens = new_text(lm), {'camera': new_tokens()}
    lower = text.states(connections.first_block)
    hidden = lower.at(connections.first_block)[0]
    prefix = connections.prefix(tokens, lower)
    assert min(prefix) >= connections.first_block == lm.blocks - 2
    split = lm.logits(lm.run_blocks(hidden, text.layout, connections.first_block, lm.blocks, prefix))
    assert torch.equal(split, text.logits(connections, tokens))

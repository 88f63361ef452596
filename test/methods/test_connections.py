"""Plugging links into one model."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.mpnp.method import LatentConnections


def test_nothing_plugged_costs_nothing(tiny_lm, new_tokens):
    lm = tiny_lm('llama')
    connections = LatentConnections(lm)
    assert connections.prefix({'camera': new_tokens()}) == {}
    assert connections.first_block == lm.blocks and connections.question_blocks == ()


def test_the_order_of_plugging_does_not_matter(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    text, tokens = new_text(lm), {'lidar': new_tokens(seed=1), 'camera': new_tokens()}
    links = [new_link(lm, 'camera', 1), new_link(lm, 'lidar', 2, last=3)]
    answers = []
    for order in (links, links[::-1]):
        connections = LatentConnections(lm)
        for link in order:
            connections.plug(link)
        assert connections.first_block == 1
        answers.append(text.logits(connections, tokens))
    assert torch.equal(*answers)


def test_links_that_do_not_fit_the_model_are_refused(tiny_lm, new_link):
    connections = LatentConnections(tiny_lm('llama'))
    with pytest.raises(LinksError, match='was made for tiny-opt .* not for tiny-llama'):
        connections.plug(new_link(tiny_lm('opt')))
    lm = tiny_lm('llama')
    with pytest.raises(LinksError, match='key/value heads'):
        connections.plug(_changed(new_link(lm), kv_heads=4))
    with pytest.raises(LinksError, match='links block 9'):
        connections.plug(_changed(new_link(lm), blocks=(9,)))
    assert connections.links == {}


def test_plugging_twice_and_unplugging_what_is_not_there(tiny_lm, new_link):
    lm = tiny_lm('llama')
    connections, link, other = LatentConnections(lm), new_link(lm), new_link(lm, seed=1)
    with pytest.raises(LinksError, match='plugged: none'):
        connections.unplug('camera')
    connections.plug(link)
    with pytest.raises(LinksError, match='already plugged'):
        connections.plug(other)
    assert connections.replace(other) is link and connections.unplug('camera') is other


def test_a_snapshot_is_untouched_by_later_plugging(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    text, tokens, connections = new_text(lm), {'camera': new_tokens()}, LatentConnections(lm)
    connections.plug(new_link(lm))
    before, snapshot = text.logits(connections, tokens), connections.snapshot()
    connections.replace(new_link(lm, seed=1))
    assert torch.equal(text.logits(snapshot, tokens), before)
    assert not torch.equal(text.logits(connections, tokens), before)


def test_keys_and_values_are_of_the_models_type(tiny_model, tiny_tokenizer, new_link, new_tokens):
    lm = LanguageModel(tiny_model('llama').bfloat16(), tiny_tokenizer, 'tiny', 'weights')
    connections = LatentConnections(lm, {'camera': new_link(lm, pooling='none')})
    part = connections.prefix({'camera': new_tokens()})[3]
    assert part.keys.dtype == part.values.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in connections.links['camera'].parameters()} == {torch.float32}


@pytest.mark.parametrize('pooling', ['none', 'question'])
def test_the_blind_link_needs_no_tokens(tiny_lm, new_link, new_tokens, new_text, pooling):
    lm = tiny_lm('opt')
    text = new_text(lm, 2)
    connections = LatentConnections(lm, {'blind': new_link(lm, 'blind', encoder='', soft_tokens=3,
                                                           pooling=pooling)})
    assert not torch.equal(text.logits(connections), text.logits())
    assert torch.equal(text.logits(connections), text.logits(connections, {'camera': new_tokens(2)}))
    connections.plug(new_link(lm, pooling='none'))
    prefix = connections.prefix({'camera': new_tokens(2)}, text.states(*connections.question_blocks))
    assert prefix[3].keys.shape[::2] == (2, 3 + 5)


def test_states_at_the_wrong_block_are_refused(tiny_lm, new_link, new_tokens, new_text):
    lm = tiny_lm('llama')
    connections = LatentConnections(lm, {'camera': new_link(lm, pooling='question')})
    with pytest.raises(LinksError, match='at block 2, but states are at hand for \\[1\\]'):
        connections.prefix({'camera': new_tokens()}, new_text(lm).states(1))


def test_links_of_different_reach_are_not_used_together(tiny_lm, new_link):
    lm = tiny_lm('llama')
    connections = LatentConnections(lm)
    assert connections.reach == 'all'
    connections.plug(new_link(lm))
    assert connections.reach == 'answer'
    for put in (connections.plug, connections.replace):
        with pytest.raises(LinksError, match="lidar link reaches 'all', the plugged camera link 'answer'"):
            put(new_link(lm, 'lidar', reach='all'))
    assert connections.modalities == ('camera',)
    connections.replace(new_link(lm, reach='all'))
    assert connections.reach == 'all'


def _changed(link, **values):
    link.config = replace(link.config, **values)
    return link

"""The paper's exact form, against the way its authors inject it."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp_published import PublishedConnections, PublishedLink

WIDTH = 6


def published(lm, modality='camera', seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PublishedLink(LinkConfig.for_model(lm, modality, token_width=WIDTH, hidden=4 * WIDTH,
                                                  **{'encoder': 'e' * 32, 'last': 2, 'pooling': 'none',
                                                     'reach': 'all', **options}))


def authors_logits(model, ids, tokens, link):
    """Prefix through past_key_values, zeros in unlinked blocks, positions counted from the text only."""
    def heads(aligner):
        return aligner.output(torch.nn.functional.gelu(aligner.hidden(tokens))).view(
            len(ids), -1, model.config.num_attention_heads, aligner.head_dim).transpose(1, 2)

    keys, values = heads(link.key_aligner), heads(link.value_aligner)
    alpha = dict(zip(link.config.blocks, torch.sigmoid(link.link_weights), strict=True))
    cache = DynamicCache(config=model.config)
    for block in range(model.config.num_hidden_layers):
        scale = alpha.get(block, torch.tensor(0.))
        cache.update(scale * keys, scale * values, block)
    mask = torch.ones(len(ids), tokens.shape[1] + ids.shape[1], dtype=torch.long)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache).logits


@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 6), st.integers(1, 4))
def test_equals_past_key_values_on_opt(tiny_lm, tiny_model, new_tokens, new_text, seed, batch, count, last):
    lm, model = tiny_lm('opt'), tiny_model('opt')
    link = published(lm, seed=seed, last=last)
    text, tokens = new_text(lm, batch, seed=seed), new_tokens(batch, count, seed)
    with torch.no_grad():
        ours = text.logits(PublishedConnections(lm, {'camera': link}), {'camera': tokens})
        theirs = authors_logits(model, text.layout.ids, tokens.values, link)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert not torch.allclose(ours, text.logits(), atol=1e-3)


def test_every_block_gets_a_prefix_and_zeros_where_unlinked(tiny_lm, new_tokens):
    lm = tiny_lm('llama')
    connections = PublishedConnections(lm, {'camera': published(lm)})
    prefix = connections.prefix({'camera': new_tokens(2)})
    assert sorted(prefix) == [0, 1, 2, 3] and connections.first_block == 0
    assert [bool(prefix[block].keys.any() or prefix[block].values.any()) for block in prefix] == [0, 0, 1, 1]
    assert not any(part.log_gate.any() for part in prefix.values())
    assert connections.prefix({}) == {}


def test_a_zero_alpha_still_takes_attention(tiny_lm, new_tokens, new_text):
    """The known defect of the published form: why this form is kept for comparison only."""
    lm = tiny_lm('opt')
    link, text = published(lm), new_text(lm)
    with torch.no_grad():
        link.link_weights.fill_(-torch.inf)
    silent = text.logits(PublishedConnections(lm, {'camera': link}), {'camera': new_tokens()})
    assert not torch.allclose(silent, text.logits(), atol=1e-3)


def test_modalities_share_the_link_weights_of_the_newest(tiny_lm, new_tokens):
    lm = tiny_lm('opt')
    camera, lidar = published(lm), published(lm, 'lidar', seed=1)
    newest = lidar.link_weights.detach().clone()
    connections = PublishedConnections(lm)
    connections.plug(camera)
    connections.plug(lidar)
    assert camera.link_weights is lidar.link_weights and torch.equal(camera.link_weights, newest)
    both = connections.prefix({'camera': new_tokens(), 'lidar': new_tokens(count=2)})
    assert both[3].keys.shape[2] == 7
    with pytest.raises(LinksError, match='the same blocks for all'):
        connections.plug(published(lm, 'radar', last=3))


def test_what_the_published_form_lacks(tiny_lm):
    lm = tiny_lm('opt')
    for beyond in ({'pooling': 'question'}, {'reach': 'answer'}, {'encoder': '', 'soft_tokens': 2}):
        with pytest.raises(LinksError, match='no question pooling and no soft tokens, and reaches all rows'):
            published(lm, **beyond)
    with pytest.raises(LinksError, match='cannot be pruned'):
        PublishedConnections(lm, {'camera': published(lm)}).prune(.5)


def test_padding_and_frames_by_row(tiny_lm, new_tokens):
    link, tokens, rows = published(tiny_lm('opt')), new_tokens(2), torch.tensor([1, 0, 1])
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    indexed = link(TokenBatch(*tokens[:2], valid, rows))
    repeated = link(TokenBatch(tokens.values[rows], tokens.azimuth[rows], valid[rows]))
    torch.testing.assert_close(indexed.keys, repeated.keys, rtol=1e-6, atol=1e-6)  # batches round differently
    assert torch.equal(indexed.log_gate, repeated.log_gate)
    assert indexed.log_gate[0, 0].tolist() == [0, 0, 0, -torch.inf, -torch.inf]

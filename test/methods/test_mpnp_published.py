"""The published form against the layout of its authors: prefixes as past_key_values, LoRA in the weights."""
from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn.functional import cross_entropy, gelu
from transformers import DynamicCache

from mpnp_ros.errors import ConfigurationError, LinksError, UnsupportedModelError
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.link_files import MANIFEST, load_link, save_link
from mpnp_ros.methods.mpnp_published import (
    WITHOUT_OPTIONS,
    PublishedConfig,
    PublishedConnections,
    PublishedLink,
)
from mpnp_ros.methods.registry import create_method

WIDTH = 6
MATRICES = {
    'opt': ('model.decoder.layers.{}.self_attn.k_proj', 'model.decoder.layers.{}.self_attn.v_proj'),
    'bloom': ('transformer.h.{}.self_attention.query_key_value',)}
"""What the authors change by LoRA, by family."""


def published(lm, modality='camera', seed=0, **options):
    """A link whose LoRA has some spread, so that it changes something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        link = PublishedLink(PublishedConfig.for_model(lm, modality, token_width=WIDTH,
                                                       **{'encoder': 'e' * 32, 'last': 2, **options}))
        if link.lora is not None:
            torch.nn.init.normal_(link.lora.up, std=.1)
    return link


def authors_logits(family, model, ids, frames, links):
    """Logits [B, T, V] of the authors' layout; frames: tokens of each link."""
    first, shared = links[0], links[0].shared

    def heads(link, aligner, tokens):
        read = tokens.values
        if link.direction is not None:
            angles = tokens.azimuth[..., None] * torch.arange(1, 5)
            turned = link.direction.fourier(torch.cat([angles.sin(), angles.cos()], -1).nan_to_num())
            read = read + torch.where(tokens.azimuth.isnan()[..., None], link.direction.none, turned)
        out = aligner.output(gelu(aligner.hidden(read)))
        return out.view(*out.shape[:2], aligner.kv_heads, -1).transpose(1, 2)

    pairs = list(zip(links, frames, strict=True))
    keys = torch.cat([heads(link, link.key_aligner, tokens) for link, tokens in pairs], 2)
    values = torch.cat([heads(link, link.value_aligner, tokens) for link, tokens in pairs], 2)
    alpha = dict(zip(first.config.blocks, torch.sigmoid(shared[0]), strict=True))
    cache = DynamicCache(config=model.config)
    for block in range(model.config.num_hidden_layers):
        scale = alpha.get(block, torch.tensor(0.))
        cache.update(scale * keys, scale * values, block)
    mask = torch.ones(len(ids), keys.shape[2] + ids.shape[1], dtype=torch.long)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    changed, lora = {}, shared[1]
    for place, block in enumerate(first.config.blocks if lora is not None else ()):
        for number, name in enumerate(MATRICES[family]):
            key = name.format(block) + '.weight'
            changed[key] = model.get_parameter(key) + 4 * lora.up[place, number] @ lora.down[place, number]
    options = {'position_ids': positions} if family == 'opt' else {}
    return functional_call(model, changed, (ids,), {
        'attention_mask': mask, 'past_key_values': cache, **options}).logits


@settings(deadline=None, max_examples=12, derandomize=True)
@given(st.sampled_from(['opt', 'bloom']), st.integers(0, 99), st.integers(1, 3), st.integers(1, 6),
       st.integers(1, 4), st.booleans(), st.sampled_from([{}, {'lora': 0, 'directions': False}]))
def test_outputs_and_gradients_are_those_of_past_key_values(
        tiny_lm, tiny_model, new_tokens, new_text, family, seed, batch, count, last, both, options):
    lm, model = tiny_lm(family), tiny_model(family).requires_grad_(False)
    links = [published(lm, seed=seed, last=last, **options)]
    if both:
        links.append(published(lm, 'lidar', seed + 1, last=last, **options))
        links[0].shared = links[1].shared
    frames = [new_tokens(batch, count + place, seed + place) for place in range(len(links))]
    text = new_text(lm, batch, seed=seed)
    connections = PublishedConnections(lm, {link.config.modality: link for link in links})
    prefix = connections.prefix({link.config.modality: tokens
                                 for link, tokens in zip(links, frames, strict=True)})
    hidden = connections.model.run_blocks(lm.embed(text.layout), text.layout, 0, lm.blocks, prefix)
    ours = lm.logits(hidden)
    theirs = authors_logits(family, model, text.layout.ids, frames, links)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert not torch.allclose(ours, text.logits(), atol=1e-3)
    trained = list({id(own): own for link in links for own in link.parameters()}.values())
    target = torch.full((batch,), 7)
    for own, their in zip(*(torch.autograd.grad(cross_entropy(logits[:, -1], target), trained)
                            for logits in (ours, theirs)), strict=True):
        torch.testing.assert_close(own, their, rtol=1e-3, atol=1e-5)


def test_alibi_counts_a_prefix_as_the_text_before_unless_it_shall_be_near(tiny_lm, new_tokens, new_text):
    lm, tokens = tiny_lm('bloom'), {'camera': new_tokens()}
    text = new_text(lm)
    before, near = (text.logits(PublishedConnections(lm, {'camera': published(lm, places=places, lora=0)}),
                                tokens) for places in ('before', 'near'))
    assert not torch.allclose(before, near, atol=1e-2)
    alike = tiny_lm('llama')
    pair = [new_text(alike).logits(PublishedConnections(alike, {'camera': published(alike, places=places)}),
                                   tokens) for places in ('before', 'near')]
    assert torch.equal(*pair)


@pytest.mark.parametrize('family', ['llama', 'gpt2', 'qwen3', 'bloom'])
def test_lora_changes_nothing_before_it_is_trained_and_unplugging_ends_it(tiny_lm, new_text, frame, family):
    lm, text = tiny_lm(family), new_text(tiny_lm(family))
    link = published(lm)
    with torch.no_grad():
        connections = PublishedConnections(lm, {'camera': link})
        changed = connections.model.run_blocks(lm.embed(text.layout), text.layout, 0, lm.blocks)
        stock = lm.run_blocks(lm.embed(text.layout), text.layout, 0, lm.blocks)
        assert not torch.allclose(changed, stock, atol=1e-3)
        link.lora.up.zero_()
        untrained = connections.model.run_blocks(lm.embed(text.layout), text.layout, 0, lm.blocks)
        assert torch.equal(untrained, stock)
    connections.unplug('camera')
    assert connections.model is lm


@pytest.mark.parametrize('family', ['opt', 'bloom'])
def test_a_generated_answer_is_of_the_changed_model(tiny_lm, frame, family):
    method = create_method('mpnp_published', tiny_lm(family))
    link, tokens = method.new_link('camera', 'encoder', WIDTH, last=2), {'camera': frame()}
    torch.nn.init.normal_(link.lora.up)
    method.plug(link)
    asked, ids = method.prepare('what is it?'), method.template.ids(method.lm.tokenizer, 'what is it?')
    connections = method._connections.snapshot()
    prefix = connections.prefix({'camera': TokenBatch.stack([tokens['camera']])})
    for fragment in method.stream(asked, tokens, 4):
        layout = type(asked.prepared.layout).causal(ids[None])
        hidden = connections.model.run_blocks(method.lm.embed(layout), layout, 0, method.lm.blocks, prefix)
        chances = method.lm.logits(hidden[0, -1]).softmax(-1).detach()
        assert float(chances.max()) == pytest.approx(fragment.probability, abs=1e-4)
        ids = torch.cat([ids, chances.argmax()[None]])


def test_every_block_gets_a_prefix_and_zeros_where_unlinked(tiny_lm, new_tokens):
    lm = tiny_lm('llama')
    connections = PublishedConnections(lm, {'camera': published(lm)})
    prefix = connections.prefix({'camera': new_tokens(2)})
    assert sorted(prefix) == [0, 1, 2, 3] and connections.first_block == 0
    assert [bool(prefix[block].keys.any() or prefix[block].values.any()) for block in prefix] == [0, 0, 1, 1]
    assert not any(part.log_gate.any() for part in prefix.values())
    assert prefix[0].places.tolist() == [[-5, -4, -3, -2, -1]] * 2
    assert connections.prefix({}) == {}


def test_a_zero_alpha_still_takes_attention(tiny_lm, new_tokens, new_text):
    """The known defect of the published form: why this form is kept for comparison only."""
    lm = tiny_lm('opt')
    link, text = published(lm), new_text(lm)
    with torch.no_grad():
        link.link_weights.fill_(-torch.inf)
    silent = text.logits(PublishedConnections(lm, {'camera': link}), {'camera': new_tokens()})
    assert not torch.allclose(silent, text.logits(), atol=1e-3)


def test_modalities_share_link_weights_and_lora_of_the_newest(tiny_lm, new_tokens):
    lm = tiny_lm('opt')
    camera, lidar = published(lm), published(lm, 'lidar', seed=1)
    newest = [lidar.link_weights.detach().clone(), lidar.lora.up.detach().clone()]
    connections = PublishedConnections(lm)
    connections.plug(camera)
    connections.plug(lidar)
    assert camera.link_weights is lidar.link_weights and torch.equal(camera.link_weights, newest[0])
    assert camera.lora is lidar.lora and torch.equal(camera.lora.up, newest[1])
    both = connections.prefix({'camera': new_tokens(), 'lidar': new_tokens(count=2)})
    assert both[3].keys.shape[2] == 7
    with pytest.raises(LinksError, match='the same blocks for all'):
        connections.plug(published(lm, 'radar', last=3))
    with pytest.raises(LinksError, match='is not made alike'):
        connections.plug(published(lm, 'radar', lora=4))


def test_a_new_link_takes_over_lora(tiny_lm):
    method = create_method('mpnp_published', tiny_lm())
    camera = method.new_link('camera', 'encoder', WIDTH, last=2)
    torch.nn.init.normal_(camera.lora.up)
    method.plug(camera)
    lidar = method.new_link('lidar', 'encoder', WIDTH, last=2)
    assert torch.equal(lidar.lora.up, camera.lora.up) and torch.equal(lidar.lora.down, camera.lora.down)
    assert lidar.lora is not camera.lora


def test_the_direction_tells_equal_tokens_apart(tiny_lm, new_tokens):
    tokens = new_tokens()
    turned = tokens._replace(azimuth=tokens.azimuth + 1)
    for directions in (True, False):
        link = published(tiny_lm(), directions=directions)
        assert torch.allclose(link(tokens).keys[:, :, 1:], link(turned).keys[:, :, 1:]) is not directions


def test_a_link_saved_before_lora_and_directions_answers_as_before(tiny_lm, new_tokens, new_text, tmp_path):
    """Its files have neither these options nor their tensors."""
    lm, tokens = tiny_lm('bloom'), {'camera': new_tokens()}
    link = published(lm, **{name: value for name, value in WITHOUT_OPTIONS.items() if name != 'fused'})
    save_link(link, tmp_path / 'v1')
    manifest = tmp_path / 'v1' / MANIFEST
    entries = json.loads(manifest.read_bytes())
    for name in WITHOUT_OPTIONS:
        del entries['config'][name]
    manifest.write_text(json.dumps(entries))
    loaded = load_link(tmp_path / 'v1', lm=lm)
    assert loaded.config == link.config and set(loaded.state_dict()) == {
        f'{side}_aligner.{layer}.{name}' for side in ('key', 'value') for layer in ('hidden', 'output')
        for name in ('weight', 'bias')} | {'link_weights'}
    text = new_text(lm)
    pair = [text.logits(PublishedConnections(lm, {'camera': own}), tokens) for own in (link, loaded)]
    assert torch.equal(*pair)
    method = create_method('mpnp_published', lm)
    method.plug(loaded)
    method.plug(method.new_link('lidar', 'encoder', WIDTH, last=2))
    assert method.links()['lidar'].lora is None and method.links()['lidar'].config.directions
    # Equally near to every token: the same scores whatever ALiBi says of the text alone.
    prefix = PublishedConnections(lm, {'camera': loaded}).prefix(tokens)
    assert all(part.places is None for part in prefix.values())


def test_what_the_published_form_lacks(tiny_lm):
    lm = tiny_lm('opt')
    for beyond in ({'pooling': 'question'}, {'reach': 'answer'}):
        with pytest.raises(ConfigurationError, match=f'{next(iter(beyond))} is .*must be one of'):
            published(lm, **beyond)
    with pytest.raises(LinksError, match='no soft tokens'):
        published(lm, encoder='', soft_tokens=2)
    with pytest.raises(LinksError, match='cannot be pruned'):
        PublishedConnections(lm, {'camera': published(lm)}).prune(.5)
    with pytest.raises(UnsupportedModelError, match='or set lora to 0'):
        published(tiny_lm('gemma2'))
    assert published(tiny_lm('gemma2'), lora=0).lora is None


def test_padding_and_frames_by_row(tiny_lm, new_tokens):
    link, tokens, rows = published(tiny_lm('opt')), new_tokens(2), torch.tensor([1, 0, 1])
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    indexed = link(TokenBatch(*tokens[:2], valid, rows))
    repeated = link(TokenBatch(tokens.values[rows], tokens.azimuth[rows], valid[rows]))
    torch.testing.assert_close(indexed.keys, repeated.keys, rtol=1e-6, atol=1e-6)  # batches round differently
    assert torch.equal(indexed.log_gate, repeated.log_gate)
    assert indexed.log_gate[0, 0].tolist() == [0, 0, 0, -torch.inf, -torch.inf]

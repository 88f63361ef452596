"""Latent links beside skipped attentions: what is skipped stays skipped, what is linked stays linked."""
from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.mpnp_eas.stand_ins import (
    DistilConfig,
    SkippingModel,
    StandIns,
    distil,
    driving_questions,
)
from mpnp_ros.methods.registry import create_method

CHOICES = ('one', 'not one', 'car', 'car truck')
QUESTION = 'how many cars are there?'
SMALL = {'hidden': 16, 'last': 2, 'pooling_width': 16, 'pooling_heads': 2, 'entries': 3}
FAMILIES = st.sampled_from(['llama', 'qwen3', 'opt', 'gpt2', 'bloom'])
IDS = torch.tensor([[5, 9, 40, 7, 21, 33, 8, 12], [30, 31, 2, 3, 60, 61, 62, 63]])
prove = settings(deadline=None, max_examples=10, derandomize=True)


def trained_looking(skip, seed=0, width=32):
    """Stand-ins that do something."""
    generator, stand_ins = torch.Generator().manual_seed(seed), StandIns(skip, 4, width)
    for tensor in stand_ins.buffers():
        tensor.copy_(.2 * torch.randn(tensor.shape, generator=generator))
    return stand_ins


@pytest.fixture(scope='session')
def new_skipping(tiny_lm):
    """A method with a link to blocks 2 and 3: (family, skipped blocks, seed, fold, options of the link)."""
    def make(family='llama', skip=(1, 3), seed=0, fold=True, modalities=('camera',), **options):
        lm = SkippingModel(tiny_lm(family), trained_looking(skip, seed))
        method = create_method('mpnp_eas', lm, fold=fold)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for modality in modalities:
                method.plug(method.new_link(modality, 'encoder', 6, **{**SMALL, **options}))
        return method
    return make


def run(lm, layout, cache=None, prefix=None):
    with torch.no_grad():
        return lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, prefix, cache)


def random_prefix(lm, gate=0., blocks=(2, 3)):
    """The same random prefix of three columns for some blocks."""
    shape = 1, lm.kv_heads, 3, lm.head_dim
    both = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    return {block: BlockPrefix(*both, torch.full((3,), gate)) for block in blocks}


def close(states, expected):
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5 * float(expected.abs().max().clamp(min=1)))


@prove
@given(FAMILIES, st.sampled_from(['answer', 'all']), st.sampled_from(['question', 'none']),
       st.integers(0, 50))
def test_folded_and_cached_is_the_long_way(new_skipping, frame, long_way, family, reach, pooling, seed):
    method = new_skipping(family, seed=seed, reach=reach, pooling=pooling)
    slow = new_skipping(family, seed=seed, fold=False, reach=reach, pooling=pooling)
    tokens = {'camera': frame(seed)}
    replies = [each.answer(each.prepare(QUESTION, CHOICES), tokens) for each in (method, slow)]
    prepared = slow.prepare(QUESTION, CHOICES).prepared
    start = prepared.prompt_tokens - 1 if reach == 'answer' else 0
    with torch.no_grad():
        prefix = slow.completion([prepared], [tokens], slow._connections).prefix
        sees = torch.arange(prepared.layout.tokens)[None] >= start
        hidden = long_way(slow.lm, prepared.layout, prefix, sees)
        places = prepared.trie.positions(prepared.prompt_tokens)
        scores = prepared.trie.log_probabilities(slow.lm.logits(hidden[0, places], prepared.trie.vocabulary))
    expected = pytest.approx(scores.exp().tolist(), abs=1e-5)
    assert [reply.probabilities for reply in replies] == [expected] * 2


@prove
@given(FAMILIES)
def test_a_linked_block_that_is_skipped_sees_its_prefix_and_no_text(new_skipping, family):
    method = new_skipping(family, skip=(2,))
    layout, prefix = TextLayout.causal(IDS), random_prefix(method.stock, blocks=(2,))
    closed = random_prefix(method.stock, -math.inf, blocks=(2,))
    hidden, lm = torch.randn(2, 8, 32), method.lm
    with torch.no_grad():
        plain, linked, shut = (lm.run_blocks(hidden, layout, 2, 3, seen) for seen in ({}, prefix, closed))
        alone = lm.run_blocks(hidden[:, 4:5], TextLayout.causal(IDS[:, 4:5]), 2, 3, prefix)
    assert torch.equal(plain, shut) and not torch.allclose(plain, linked, atol=1e-3)
    close(linked[:, 4:5], alone)


@prove
@given(FAMILIES, st.booleans())
def test_frames_reach_the_answer_through_skipped_blocks_alone(new_skipping, frame, family, folding):
    method = new_skipping(family, skip=(1, 2, 3), fold=folding)
    asked = method.prepare(QUESTION, CHOICES)
    camera, other, none = (method.answer(asked, tokens).probabilities
                        for tokens in ({'camera': frame(1)}, {'camera': frame(2)}, {}))
    assert camera != pytest.approx(other, abs=1e-5) and camera != pytest.approx(none, abs=1e-5)


@pytest.mark.parametrize('family', ['llama', 'opt', 'gpt2', 'bloom'])
def test_decoding_with_gaps_in_the_cache_is_reading_again(new_skipping, family):
    method, cache = new_skipping(family), TextCache()
    whole, prefix = TextLayout.causal(IDS), random_prefix(method.stock)
    layout, steps = whole.head(5), []
    steps.append(run(method.lm, layout, cache, prefix))
    for place in range(5, 8):
        layout = layout.next(IDS[:, place:place + 1])
        steps.append(run(method.lm, layout, cache, prefix))
    close(torch.cat(steps, 1), run(method.lm, whole, None, prefix))
    assert [cache.length(block) for block in range(4)] == [8, 0, 8, 0]


def test_gradients_reach_the_links_and_leave_what_stands_in_as_it_is(new_skipping, frame):
    method = new_skipping(modalities=('camera', 'lidar'))
    fixed = {name: tensor.clone() for name, tensor in method.stand_ins.state_dict().items()}
    parameters = list(method.trainable_parameters())
    examples = [method.prepare_answer(QUESTION, answer, CHOICES) for answer in CHOICES]
    tokens = [{'camera': frame(1)}, {'lidar': frame(2, 3, 'lidar')}] * 2
    optimiser = torch.optim.AdamW(parameters)
    method.answer_losses(examples, tokens).mean().backward()
    optimiser.step()
    assert all(bool(parameter.grad.any()) for parameter in parameters)
    assert all(torch.equal(tensor, fixed[name]) for name, tensor in method.stand_ins.state_dict().items())
    assert all(link.shared is method.stand_ins for link in method.links().values())


def test_links_bring_the_model_that_they_were_trained_on(new_skipping, tiny_lm, frame, tmp_path):
    method = new_skipping()
    save_link(method.links()['camera'], tmp_path / 'camera')
    again = create_method('mpnp_eas', tiny_lm())
    again.plug(load_link(tmp_path / 'camera', lm=tiny_lm()))
    assert again.lm.identity == method.lm.identity != tiny_lm().identity
    pair = [each.answer(each.prepare(QUESTION, CHOICES), {'camera': frame()}) for each in (method, again)]
    assert pair[0].probabilities == pair[1].probabilities


def test_links_of_another_model_are_refused(new_skipping, tiny_lm):
    method, other = new_skipping(), new_skipping(seed=1, modalities=('camera', 'lidar'))
    with pytest.raises(LinksError, match='skips other attentions'):
        method.plug(other.links()['lidar'])
    with pytest.raises(LinksError, match='skips other attentions'):
        method.new_link('lidar', 'encoder', 6, **SMALL).start_from(other.links()['camera'])
    with pytest.raises(LinksError, match='mpnp_eas'):
        create_method('mpnp', tiny_lm()).plug(other.links()['lidar'])
    foreign, fresh = new_skipping(family='opt').links()['camera'], create_method('mpnp_eas', tiny_lm())
    with pytest.raises(LinksError, match='was made for tiny-opt'):
        fresh.plug(foreign)
    fresh.plug(method.unplug('camera'))


def test_questions_on_disk_hold_no_columns_of_skipped_blocks(new_skipping, frame, tmp_path):
    method = new_skipping(reach='answer')
    pairs = [(QUESTION, 'one'), ('what is it?', 'car')]
    losses = []
    for _ in range(2):
        examples = method.prepare_answers(pairs, CHOICES, QuestionFiles(tmp_path))
        losses.append(method.answer_losses(examples, [{'camera': frame()}] * 2))
        cache = examples[0].question.prepared.rows.cache
        assert [cache.length(block) > 0 for block in range(4)] == [0, 0, 1, 0]
    assert torch.equal(*losses)


def test_stand_ins_learn_what_attention_said(tiny_lm):
    lm = tiny_lm()
    texts = [torch.randint(2, 200, (count,), generator=torch.Generator().manual_seed(count))
             for count in (6, 8, 9)]
    config = DistilConfig(2, 2, rank=8, steps=60, batch=3, learning_rate=1e-2)
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    learned = distil(lm, texts, config)
    layout = TextLayout.causal(texts[2][None])
    whole = run(lm, layout)

    def off(stand_ins):
        return float((run(SkippingModel(lm, stand_ins), layout) - whole).square().mean())

    assert len(learned.skip) == 2 and 0 not in learned.skip and not any(
        tensor.requires_grad for tensor in learned.buffers())
    assert off(learned) < .5 * off(StandIns(learned.skip, 8, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.model.state_dict().items())


@pytest.mark.parametrize(('among', 'blocks'), [('lower', {1, 2}), ('upper', {3}), ('all', {1, 2, 3})])
def test_only_some_blocks_may_be_skipped(tiny_lm, among, blocks):
    config = DistilConfig(len(blocks), 3, among=among, rank=4, steps=1, batch=1)
    assert set(distil(tiny_lm(), [IDS[0]], config).skip) == blocks
    with pytest.raises(ConfigurationError, match=f'at most {len(blocks)}'):
        distil(tiny_lm(), [IDS[0]], replace(config, skipped=len(blocks) + 1))


def test_the_first_link_distils_and_the_next_method_finds_it(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path))
    config = DistilConfig(1, 2, rank=4, steps=3, texts=6, batch=2)
    first, second = (create_method('mpnp_eas', tiny_lm(), distilling=config) for _ in range(2))
    link = first.new_link('camera', 'encoder', 6, **SMALL)
    kept = list(tmp_path.glob('stand_ins/*.safetensors'))
    assert len(kept) == 1 and link.config.stand_ins == first.stand_ins.fingerprint
    monkeypatch.setattr('mpnp_ros.methods.mpnp_eas.stand_ins.distil', None)
    assert second.new_link('camera', 'encoder', 6, **SMALL).config.stand_ins == link.config.stand_ins
    kept[0].write_bytes(b'damaged')
    with pytest.raises(TypeError):
        create_method('mpnp_eas', tiny_lm(), distilling=config).new_link('camera', 'encoder', 6, **SMALL)


def test_questions_to_distil_on_are_plain_text():
    texts = driving_questions(20, 0)
    assert texts == driving_questions(20, 0) != driving_questions(20, 1)
    assert all(text.endswith('?') and '{' not in text and '  ' not in text for text in texts)


@pytest.mark.parametrize('wrong', [{'rank': 0}, {'skipped': -1}, {'learning_rate': 0.}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        DistilConfig(**{'skipped': 1, 'first': 1, **wrong})


def test_more_than_all_blocks_but_the_first_cannot_be_skipped(tiny_lm):
    with pytest.raises(ConfigurationError, match='at most 3'):
        distil(tiny_lm(), [IDS[0]], DistilConfig(4, 2))


def test_folding_may_be_switched_while_links_are_plugged(new_skipping, frame):
    method = new_skipping()
    forms = []
    for folded in (True, False):
        method.fold = folded
        forms.append({form.folded is not None for form in method.lm.forms.values()})
        reply = method.answer(method.prepare(QUESTION, CHOICES), {'camera': frame()})
        forms.append(reply.probabilities)
    assert (forms[0], forms[2]) == ({True}, {False})
    assert forms[1] == pytest.approx(forms[3], abs=1e-5)

"""Answers of the default method and of the published form."""
from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError, LinksError, QuestionError
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prepared import choice_log_probabilities, prepare
from mpnp_ros.methods.link import QuestionStates, TokenBatch
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.mpnp.method import LatentConnections
from mpnp_ros.methods.registry import create_method, methods

QUESTION = 'how many cars are there?'
CHOICES = ('one', 'not one', 'car', 'car truck')
NAMES = st.sampled_from(['mpnp', 'mpnp_published'])
FAMILIES = st.sampled_from(['llama', 'opt', 'bloom', 'gpt2'])
POOLINGS = st.sampled_from(['none', 'question'])
REACHES = st.sampled_from(['answer', 'all'])
prove = settings(deadline=None, max_examples=15, derandomize=True)


def close(reply, other):
    return reply.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_methods_are_known_by_name(tiny_lm):
    assert {'mpnp', 'mpnp_published', 'mpnp_eas', 'prompt_fuse', 'ep_alm', 'full_llm', 'mma',
            'eas'} <= methods().keys()
    assert [create_method(name, tiny_lm('opt')).name for name in methods()] == list(methods())
    with pytest.raises(ConfigurationError, match="'magic' is unknown; there are .*mpnp, mpnp_eas, mpnp_pub"):
        create_method('magic', tiny_lm('opt'))


def test_the_documentation_has_every_method():
    table = (Path(__file__).parents[2] / 'docs/guide/methods.md').read_text()
    for spec in methods().values():
        if spec.method.__module__.startswith('mpnp_ros.'):
            assert f'| `{spec.name}`' in table and f'| {spec.summary} |' in table


@pytest.mark.parametrize('name', ['mpnp', 'mpnp_published'])
def test_without_links_the_answer_is_the_text_only_models(tiny_lm, frame, name):
    lm = tiny_lm('llama')
    method = create_method(name, lm)
    reply = method.answer(method.prepare(QUESTION, CHOICES), {'camera': frame()})
    alone = choice_log_probabilities(lm, prepare(lm, method.template, QUESTION, CHOICES, 0)).exp()
    assert reply.probabilities == pytest.approx(alone.tolist(), abs=1e-5)
    assert sum(reply.probabilities) == pytest.approx(1, abs=1e-5) and reply.used == ()
    assert reply.text == CHOICES[int(alone.argmax())] and reply.confidence == max(reply.probabilities)


@pytest.mark.parametrize('name', ['mpnp', 'mpnp_published'])
def test_the_answer_rests_on_the_tokens_of_linked_modalities(new_method, frame, name):
    method = new_method(name=name)
    asked = method.prepare(QUESTION, CHOICES)
    blank = method.answer(asked, {})
    seen = method.answer(asked, {'camera': frame(), 'lidar': frame(1)})
    assert seen.used == ('camera',) and blank.used == ()
    assert not close(seen, blank) and close(seen, method.answer(asked, {'camera': frame()}))
    assert not close(seen, method.answer(asked, {'camera': frame(1)}))


@prove
@given(NAMES, FAMILIES, POOLINGS, REACHES, st.integers(0, 50))
def test_a_batch_answers_as_one_by_one(new_method, frame, name, family, pooling, reach, seed):
    pooling, reach = ('none', 'all') if name == 'mpnp_published' else (pooling, reach)
    method = new_method(family, name, seed=seed, pooling=pooling, reach=reach)
    asked = [method.prepare(*question) for question in ((QUESTION, CHOICES), ('what is it?', ('car', 'bus')),
                                              ('is the truck moving?', CHOICES), (QUESTION, CHOICES))]
    same = frame(seed)
    tokens = [{'camera': same}, {'camera': frame(seed + 1, 3)}, {}, {'camera': same}]
    together = method.answer_batch(asked, tokens)
    for question, tokens_of_one, reply in zip(asked, tokens, together, strict=True):
        alone = method.answer(question, tokens_of_one)
        assert close(reply, alone) and (reply.text, reply.used) == (alone.text, alone.used)


@prove
@given(FAMILIES, POOLINGS, REACHES, st.integers(0, 50))
def test_split_execution_equals_the_whole_run(new_method, frame, long_way, family, pooling, reach, seed):
    method = new_method(family, seed=seed, pooling=pooling, reach=reach)
    lm, camera = method.lm, frame(seed)
    asked = TextLayout.causal(method.template.ids(lm.tokenizer, QUESTION)[None])
    lower = lm.run_blocks(lm.embed(asked), asked, 0, 2)
    states = QuestionStates({2: lower}, torch.ones(1, asked.tokens, dtype=torch.bool))
    prefix = LatentConnections(lm, method.links()).prefix({'camera': TokenBatch.stack([camera])}, states)
    whole = prepare(lm, method.template, QUESTION, CHOICES, 0)
    sees = torch.arange(whole.layout.tokens)[None] >= (asked.tokens - 1 if reach == 'answer' else 0)
    deciding = long_way(lm, whole.layout, prefix, sees)[0, whole.trie.positions(asked.tokens)]
    whole = whole.trie.log_probabilities(lm.logits(deciding, whole.trie.vocabulary)).exp()
    reply = method.answer(method.prepare(QUESTION, CHOICES), {'camera': camera})
    assert reply.probabilities == pytest.approx(whole.tolist(), abs=1e-5)


@prove
@given(FAMILIES, POOLINGS, REACHES, st.integers(0, 50))
def test_the_question_cache_changes_nothing(tiny_lm, new_method, frame, family, pooling, reach, seed):
    method = new_method(family, seed=seed, pooling=pooling, reach=reach)
    tokens = {'camera': frame(seed)}
    asked = method.prepare(QUESTION, CHOICES)
    replies = [method.answer(asked, tokens), method.answer(method.prepare(QUESTION, CHOICES), tokens)]
    assert method.cache.hits >= 1 and asked.prepared.first == 2
    uncached = create_method('mpnp', tiny_lm(family), question_cache_bytes=0)
    uncached.plug(method.links()['camera'])
    replies.append(uncached.answer(uncached.prepare(QUESTION, CHOICES), tokens))
    assert len(uncached.cache) == 0 and close(replies[0], replies[1]) and close(replies[0], replies[2])


@prove
@given(FAMILIES, POOLINGS, REACHES, st.integers(0, 50))
def test_plugging_lower_and_unplugging_serve_questions_asked_before(
        new_method, plug, frame, family, pooling, reach, seed):
    method = new_method(family, pooling=pooling, reach=reach)
    asked, tokens = method.prepare(QUESTION, CHOICES), {'camera': frame(), 'lidar': frame(1)}
    before = method.answer(asked, tokens)
    plug(method, 'lidar', seed, last=3, pooling=pooling, reach=reach)
    both = method.answer(asked, tokens)
    assert both.used == ('camera', 'lidar') and not close(both, before)
    assert close(both, method.answer(method.prepare(QUESTION, CHOICES), tokens))
    assert close(method.answer(asked, {'camera': tokens['camera']}), before)
    method.unplug('lidar')
    assert method.answer(asked, tokens).probabilities == before.probabilities


def test_pruning_raises_the_first_block_and_a_closed_link_is_not_used(new_method, frame):
    method = new_method()
    asked, tokens = method.prepare(QUESTION, CHOICES), {'camera': frame()}
    assert method.prune(1.) == {'camera': 2}
    reply = method.answer(asked, tokens)
    assert reply.used == () and close(reply, method.answer(asked, {}))
    assert method.prepare(QUESTION, CHOICES).prepared.first == 4


@pytest.mark.parametrize('reach', ['answer', 'all'])
@pytest.mark.parametrize('pooling', ['none', 'question'])
def test_generation_streams_and_joins_to_the_answer(new_method, frame, family, pooling, reach):
    method = new_method(family, pooling=pooling, reach=reach)
    asked, tokens = method.prepare(QUESTION), {'camera': frame()}
    fragments = list(method.stream(asked, tokens, 6))
    assert 0 < len(fragments) <= 6 and all(0 < fragment.probability <= 1 for fragment in fragments)
    reply = method.answer(asked, tokens)
    assert reply.text.startswith(''.join(fragment.text for fragment in fragments).strip())
    assert reply.probabilities == () and 0 < reply.confidence <= 1 and reply.used == ('camera',)
    assert fragments == list(method.stream(method.prepare(QUESTION), tokens, 6))


def test_generation_ends_when_cancelled_and_keeps_the_links_it_began_with(new_method, frame):
    method, stop = new_method(), threading.Event()
    asked, tokens = method.prepare(QUESTION), {'camera': frame()}
    whole = list(method.stream(asked, tokens, 6))
    running = method.stream(asked, tokens, 6, stop.is_set)
    begun = [next(running)]
    method.unplug('camera')
    begun.append(next(running))
    assert begun == whole[:2]
    stop.set()
    assert list(running) == []


def test_choices_and_open_questions_are_not_mixed_up(new_method, frame):
    method = new_method()
    with pytest.raises(QuestionError, match='prepared with choices'):
        list(method.stream(method.prepare(QUESTION, CHOICES), {}))
    with pytest.raises(QuestionError, match='with choices are answered in a batch'):
        method.answer_batch([method.prepare(QUESTION)], [{}])


def test_tokens_of_another_encoder_are_refused(new_method, frame):
    method = new_method()
    with pytest.raises(LinksError, match='trained on encoder encoder, but the tokens are of other'):
        method.answer(method.prepare(QUESTION, CHOICES), {'camera': replace(frame(), encoder='other')})


def test_links_of_another_kind_are_refused(new_method, tiny_lm):
    published = create_method('mpnp_published', tiny_lm('llama'))
    with pytest.raises(LinksError, match="of kind 'latent', but the method mpnp_published takes 'published'"):
        published.plug(new_method().links()['camera'])


def test_a_new_published_link_starts_from_the_link_weights_in_use(new_method):
    method = new_method(name='mpnp_published')
    link = method.new_link('lidar', 'encoder', 6, last=2)
    assert link.config.hidden == 24
    assert torch.equal(link.link_weights, method.links()['camera'].link_weights)
    assert link.link_weights is not method.links()['camera'].link_weights


def test_saved_links_answer_the_same(new_method, tiny_lm, frame, tmp_path):
    for name in methods():
        method = new_method(name=name)
        save_link(method.links()['camera'], tmp_path / name)
        other = create_method(name, tiny_lm('llama'))
        other.plug(load_link(tmp_path / name, lm=other.lm, encoder='encoder'))
        replies = [each.answer(each.prepare(QUESTION, CHOICES), {'camera': frame()})
                   for each in (method, other)]
        assert replies[0].probabilities == replies[1].probabilities


@pytest.mark.parametrize('reach', ['answer', 'all'])
@pytest.mark.parametrize('pooling', ['none', 'question'])
def test_the_blind_link_answers_without_tokens(tiny_lm, frame, pooling, reach):
    method = create_method('mpnp', tiny_lm('llama'))
    asked = method.prepare(QUESTION, CHOICES)
    before = method.answer(asked, {})
    method.plug(LatentLink(LinkConfig.blind(method.lm, 6, 4, last=2, pooling=pooling, reach=reach)))
    blind = method.answer(asked, {'camera': frame()})
    assert not close(blind, before) and blind.used == () and close(blind, method.answer(asked, {}))
    together = method.answer_batch([asked, method.prepare('what is it?', CHOICES)], [{}, {'camera': frame()}])
    assert close(together[0], blind)


def test_links_are_swapped_between_two_answers_while_others_ask(new_method, plug, frame):
    method, other = new_method(), new_method(seed=1)
    links = [method.links()['camera'], other.links()['camera']]
    asked, tokens = method.prepare(QUESTION, CHOICES), {'camera': frame()}
    right = [each.answer(asked, tokens).probabilities for each in (method, other)]
    seen, stop = set(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.add(method.answer(asked, tokens).probabilities)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        assert method.replace(links[(turn + 1) % 2]) is links[turn % 2]
        threading.Event().wait(.002)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen and all(any(answer == pytest.approx(shares, abs=1e-6) for shares in right) for answer in seen)


@prove
@given(FAMILIES, POOLINGS, REACHES, st.integers(0, 50))
def test_closed_gates_pruning_and_unplugging(new_method, plug, frame, family, pooling, reach, seed):
    """Closed gates, unplugged and pruned links change nothing, on whole answers."""
    method = new_method(family, seed=seed, pooling=pooling, reach=reach)
    asked, tokens = method.prepare(QUESTION, CHOICES), {'camera': frame(), 'lidar': frame(1)}
    blank, camera = method.answer(asked, {}).probabilities, method.answer(asked, tokens).probabilities
    plug(method, 'lidar', seed + 1, pooling=pooling, reach=reach)
    gates = method.links()['lidar'].gate_weights
    with torch.no_grad():
        gates.fill_(-torch.inf)
    assert method.answer(asked, tokens).probabilities == camera
    method.prune(1e-30)
    assert method.links()['lidar'].open_blocks == () and method.answer(asked, tokens).probabilities == camera
    method.unplug('lidar')
    assert method.answer(asked, tokens).probabilities == camera
    with torch.no_grad():
        method.links()['camera'].gate_weights.fill_(-torch.inf)
    assert method.answer(asked, tokens).probabilities == blank


@prove
@given(FAMILIES, POOLINGS, REACHES, st.integers(0, 50))
def test_generation_is_full_refeeding(new_method, frame, long_way, family, pooling, reach, seed):
    """Cached decoding equals feeding the whole text again."""
    method = new_method(family, seed=seed, pooling=pooling, reach=reach)
    lm, tokens = method.lm, {'camera': frame(seed)}
    ids = method.template.ids(lm.tokenizer, QUESTION)
    prompt = TextLayout.causal(ids[None])
    lower = lm.run_blocks(lm.embed(prompt), prompt, 0, 2)
    states = QuestionStates({2: lower}, torch.ones(1, len(ids), dtype=torch.bool))
    prefix = LatentConnections(lm, method.links()).prefix(
        {'camera': TokenBatch.stack([tokens['camera']])}, states)
    with torch.no_grad():
        for fragment in method.stream(method.prepare(QUESTION), tokens, 5):
            sees = torch.arange(len(ids))[None] >= (prompt.tokens - 1 if reach == 'answer' else 0)
            shares = lm.logits(long_way(lm, TextLayout.causal(ids[None]), prefix, sees))[0, -1].softmax(-1)
            assert fragment.probability == pytest.approx(float(shares.max()), abs=1e-5)
            ids = torch.cat([ids, shares.argmax()[None]])
    assert len(ids) > prompt.tokens


def test_switching_to_links_of_another_reach_reads_questions_again(new_method, frame):
    method, other = new_method(), new_method(seed=1, reach='all')
    everywhere, tokens = other.links()['camera'], {'camera': frame()}
    asked, opened = method.prepare(QUESTION, CHOICES), method.prepare(QUESTION)
    assert asked.prepared.rows.layout.tokens < asked.prepared.layout.tokens
    before, said = method.answer(asked, tokens), list(method.stream(opened, tokens, 4))
    answer = method.replace(everywhere)
    assert close(method.answer(asked, tokens), other.answer(other.prepare(QUESTION, CHOICES), tokens))
    again = method.prepare(QUESTION, CHOICES).prepared
    assert again.rows.reach == 'all' and again.rows.layout.tokens == again.layout.tokens
    assert list(method.stream(opened, tokens, 4)) == list(other.stream(other.prepare(QUESTION), tokens, 4))
    method.replace(answer)
    assert method.answer(asked, tokens).probabilities == before.probabilities
    assert list(method.stream(opened, tokens, 4)) == said


def test_links_of_different_reach_are_refused_and_change_nothing(new_method, plug, frame):
    method = new_method()
    asked, tokens = method.prepare(QUESTION, CHOICES), {'camera': frame(), 'lidar': frame(1)}
    before = method.answer(asked, tokens)
    with pytest.raises(LinksError, match="lidar link reaches 'all', the plugged camera link 'answer'"):
        plug(method, 'lidar', reach='all')
    assert method.answer(asked, tokens).probabilities == before.probabilities


def test_a_frame_costs_the_rows_that_decide_only(new_method, frame, monkeypatch):
    method, rows = new_method(), []
    asked, run = method.prepare(QUESTION, CHOICES), method.lm.family.run_block
    monkeypatch.setattr(method.lm.family, 'run_block',
                        lambda index, hidden, *rest: (rows.append((index, hidden.shape[1])),
                                                      run(index, hidden, *rest))[1])
    method.answer(asked, {'camera': frame()})
    nodes = len(asked.prepared.trie.layout_with_branches(torch.tensor([0])).ids[0])
    assert rows == [(2, nodes), (3, nodes)] and nodes < 5

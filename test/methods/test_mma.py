"""Adapters routed by the set of modalities: folded and unfolded, causal, and independent of the batch."""
from __future__ import annotations

from types import MappingProxyType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.links.files import load_link, save_link
from mpnp_ros.links.mma import MmaConfig
from mpnp_ros.llm.altered_model import AlteredModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.base import build_method

CHOICES = ('one', 'not one', 'car', 'car truck')
QUESTIONS = ('how many cars are there?', 'what is it?', 'is it a truck?')
FAMILIES = st.sampled_from(['llama', 'qwen3', 'opt', 'gpt2', 'bloom'])
IDS = torch.tensor([[5, 9, 40, 7, 21, 33, 8, 12], [30, 31, 2, 3, 60, 61, 62, 63]])
prove = settings(deadline=None, max_examples=10, derandomize=True)


def shaken(method, seed=0, size=.3):
    """All that is trained moved away from where it begins, where adapters do nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in method.trainable_parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return method


@pytest.fixture(scope='session')
def new_mma(tiny_lm, plug):
    """A method with trained-looking links: (family, modalities, link: its options, and options of the method)."""
    def make(family='llama', modalities=('camera', 'lidar'), seed=0, name='mma', link=MappingProxyType({}), **options):
        method = build_method(name, tiny_lm(family), **options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for modality in modalities:
                method.plug(method.new_link(modality, 'encoder', 6, hidden=8, **link))
        return shaken(method, seed)
    return make


def sets_of(frame, seed=0):
    """A frame of each set of the two modalities."""
    camera, lidar = frame(seed), frame(seed + 1, 3, 'lidar')
    return [{}, {'camera': camera}, {'lidar': lidar}, {'camera': camera, 'lidar': lidar}]


def model_of(method, *seen):
    return method.model_for(method._connections.snapshot(), [frozenset(one) for one in seen])


def run(lm, layout, cache=None):
    return lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, cache=cache)


@prove
@given(FAMILIES, st.integers(0, 99))
def test_folded_is_unfolded_for_every_set_and_in_mixed_batches(new_mma, frame, family, seed):
    folded, unfolded = new_mma(family, seed=seed), new_mma(family, seed=seed, fold=False)
    unfolded._connections = folded._connections
    frames = sets_of(frame, seed)
    asked = [folded.prepare(QUESTIONS[row % 3], CHOICES) for row in range(4)]
    mixed = [method.answer_batch(asked, frames) for method in (folded, unfolded)]
    alone = [[method.answer(*each) for each in zip(asked, frames, strict=True)]
             for method in (folded, unfolded)]
    expected = [pytest.approx(one.probabilities, abs=1e-5) for one in alone[1]]
    for replies in (*mixed, *alone):
        assert [reply.probabilities for reply in replies] == expected


@pytest.mark.parametrize('family', ['llama', 'opt', 'gpt2', 'bloom'])
def test_folded_states_are_unfolded_states(new_mma, family):
    method, layout = new_mma(family), TextLayout.causal(IDS)
    sets = ((), ('camera',)), (('camera', 'lidar'), ('camera',)), (('lidar',), ('lidar',))
    for seen in sets:
        with torch.no_grad():
            folded, stock = run(model_of(method, *seen), layout), run(method.lm, layout)
        torch.testing.assert_close(folded, run(model_of(method, *seen), layout), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(folded, stock, atol=1e-2)


def test_routing_is_by_the_states_of_a_token_that_only_sees_itself(new_mma):
    """As published: the token stands before the text, which does not see it, in every block."""
    method = new_mma(fold=False)
    links, lm = method.links(), method.lm
    shared, key = links['camera'].shared, links['camera'].key + links['lidar'].key
    visible = torch.ones(9, 9).tril().bool()
    visible[1:, 0] = False
    positions = torch.tensor([[0, *range(8)]])
    layout = TextLayout(torch.zeros(1, 9, dtype=torch.long), positions, positions, visible[None])
    text = TextLayout.causal(IDS[:1])
    hidden = torch.cat([(shared.token + key)[None, None], lm.embed(text)], 1)

    def adapted(parts, hidden, *rest):
        normed = parts.attention_norm(hidden)
        adapter = shared.adapter(parts.index)
        weights = torch.softmax((adapter.router.weight @ normed[0, 0] + adapter.router.bias) / 10, 0)
        low = adapter.down(normed)
        for weight, up, shift in zip(weights, adapter.up, adapter.shift, strict=True):
            normed = normed + weight * (low @ torch.block_diag(*up).T + shift)
        hidden = hidden + parts.attend(normed, *rest)
        return hidden + parts.feed_forward(parts.feed_forward_norm(hidden))

    published = AlteredModel(lm, dict.fromkeys(range(lm.blocks), adapted))
    expected = published.run_blocks(hidden, layout, 0, lm.blocks)[:, 1:]
    ours = run(model_of(method, ('camera', 'lidar')), text)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_untrained_adapters_change_nothing_and_a_plugged_modality_no_routing(tiny_lm, new_mma, plug):
    method, layout = build_method('mma', tiny_lm()), TextLayout.causal(IDS)
    plug(method)
    with torch.no_grad():
        torch.testing.assert_close(run(model_of(method, ('camera',), ()), layout), run(method.lm, layout))
    trained = new_mma(modalities=('camera',))
    before = run(model_of(trained, ('camera',), ()), layout)
    trained.plug(trained.new_link('lidar', 'encoder', 6, hidden=8))
    for seen in (('camera',), ()), (('camera', 'lidar'), ('lidar',)):
        torch.testing.assert_close(run(model_of(trained, *seen), layout), before)


@prove
@given(FAMILIES, st.integers(1, 7), st.booleans())
def test_a_token_changes_nothing_before_it(new_mma, family, place, folding):
    method = new_mma(family, fold=folding)
    other = IDS.clone()
    other[:, place:] = (other[:, place:] + 5) % 200
    with torch.no_grad():
        model = model_of(method, ('camera',), ('lidar',))
        left, right = run(model, TextLayout.causal(IDS)), run(model, TextLayout.causal(other))
    assert torch.equal(left[:, :place], right[:, :place]) and not torch.equal(left, right)


@pytest.mark.parametrize('family', ['llama', 'opt', 'gpt2', 'bloom'])
def test_decoding_with_a_cache_is_reading_again(new_mma, family):
    method, whole, cache = new_mma(family), TextLayout.causal(IDS), TextCache()
    with torch.no_grad():
        model = model_of(method, ('camera',), ())
        expected, layout = run(model, whole), whole.head(5)
        steps = [run(model, layout, cache)]
        for place in range(5, 8):
            layout = layout.next(IDS[:, place:place + 1])
            steps.append(run(model, layout, cache))
    torch.testing.assert_close(torch.cat(steps, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('side', ['left', 'right'])
def test_padding_and_company_change_nothing(new_mma, side):
    method, pad = new_mma(), [0, 0, 0]
    short = IDS[1, :5].tolist()
    ids = torch.tensor([IDS[0].tolist(), short + pad if side == 'right' else pad + short])
    valid = torch.tensor([[1] * 8, [1] * 5 + [0] * 3 if side == 'right' else [0] * 3 + [1] * 5]).bool()
    with torch.no_grad():
        alone = run(model_of(method, ('lidar',)), TextLayout.causal(IDS[1:, :5]))
        together = run(model_of(method, ('camera',), ('lidar',)), TextLayout.causal(ids, valid))
    torch.testing.assert_close(together[1][valid[1]], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('optimiser', [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize('family', ['llama', 'gpt2'])
def test_training_reaches_every_parameter_and_answers_follow(new_mma, frame, family, optimiser):
    method = new_mma(family)
    frozen = {key: tensor.clone() for key, tensor in method.lm.model.state_dict().items()}
    frames, parameters = sets_of(frame), list(method.trainable_parameters())
    assert len({id(one) for one in parameters}) == len(parameters)
    examples = [method.prepare_answer(QUESTIONS[row % 3], CHOICES[row], CHOICES) for row in range(4)]
    asked = [example.question for example in examples]
    before = method.answer_batch(asked, frames)
    steps = optimiser(parameters, lr=.1)
    method.answer_losses(examples, frames).mean().backward()
    assert all(bool(one.grad.any()) for one in parameters)
    steps.step()
    after = method.answer_batch(asked, frames)
    method.fold = False
    unfolded = method.answer_batch(asked, frames)
    assert [one.probabilities for one in after] == [
        pytest.approx(one.probabilities, abs=1e-5) for one in unfolded]
    assert after[1].probabilities != pytest.approx(before[1].probabilities, abs=1e-3)
    assert all(torch.equal(tensor, frozen[key]) for key, tensor in method.lm.model.state_dict().items())


def test_what_links_know_decides_the_answer_and_can_be_learned(new_mma, frame):
    method = new_mma(modalities=('camera',))
    frames = [{'camera': frame(seed)} for seed in range(4)]
    examples = [method.prepare_answer('what is it?', answer, CHOICES) for answer in CHOICES]
    optimiser = torch.optim.Adam(method.trainable_parameters(), lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        method.answer_losses(examples, frames).mean().backward()
        optimiser.step()
    replies = method.answer_batch([example.question for example in examples], frames)
    assert [reply.text for reply in replies] == list(CHOICES)


def test_adapters_may_be_in_the_upper_blocks_only(new_mma, frame):
    method = new_mma(link={'blocks': (2, 3)})
    asked = method.prepare(QUESTIONS[0], CHOICES)
    assert asked.prepared.first == 2 and set(model_of(method, ('camera',)).forms) == {2, 3}
    assert sum(method.answer(asked, {'camera': frame()}).probabilities) == pytest.approx(1)


def test_links_are_kept_and_the_newest_adapters_serve_all(new_mma, tiny_lm, frame, tmp_path):
    method = new_mma()
    for name, link in method.links().items():
        save_link(link, tmp_path / name)
    again = build_method('mma', tiny_lm())
    for name in ('camera', 'lidar'):
        again.plug(load_link(tmp_path / name, lm=again.lm))
    assert len({id(link.shared) for link in again.links().values()}) == 1
    for tokens in sets_of(frame):
        pair = [one.answer(one.prepare(QUESTIONS[0], CHOICES), tokens) for one in (method, again)]
        assert pair[0].probabilities == pair[1].probabilities


def test_streams_as_the_unfolded_model_does(new_mma, frame):
    method = new_mma()
    texts = []
    for fold in (True, False):
        method.fold = fold
        texts.append([fragment.text for fragment in method.stream(
            method.prepare(QUESTIONS[1]), {'camera': frame()}, 6)])
    assert texts[0] == texts[1] != []


@pytest.mark.parametrize('wrong', [{'rank': 3}, {'groups': 5}, {'experts': 0}, {'prompts': 2},
                                   {'router_temperature': 0.}])
def test_wrong_sizes_are_refused(tiny_lm, wrong):
    with pytest.raises(ConfigurationError, match='camera'):
        MmaConfig.for_model(tiny_lm(), 'camera', 'encoder', 6, **wrong)


def test_other_links_are_refused(tiny_lm):
    with pytest.raises(LinksError, match='mma'):
        build_method('mma', tiny_lm()).plug(build_method('mpnp', tiny_lm()).new_link('camera', 'encoder', 6))

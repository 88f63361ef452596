"""LaVIN's adapters: as published where that is right, an identity to begin with, in any blocks."""
from __future__ import annotations

import pytest
import torch

from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.llm.language_model import AlteredModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.mma import MmaConfig
from mpnp_ros.methods.registry import create_method

CHOICES = ('one', 'not one')
IDS = torch.tensor([[5, 9, 40, 7, 21, 33, 8, 12]])


def run(lm, layout):
    return lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks)


def test_routing_is_by_the_states_of_a_token_that_only_sees_itself(new_altered, model_of):
    """As published: the token stands before the text, which does not see it, in every block."""
    method = new_altered()
    links, lm = method.links(), method.lm
    shared, key = links['camera'].shared, links['camera'].key + links['lidar'].key
    visible = torch.ones(9, 9).tril().bool()
    visible[1:, 0] = False
    positions = torch.tensor([[0, *range(8)]])
    layout = TextLayout(torch.zeros(1, 9, dtype=torch.long), positions, positions, visible[None])
    text = TextLayout.causal(IDS)

    def adapted(parts, hidden, *rest):
        normed, adapter = parts.attention_norm(hidden), shared.adapter(parts.index)
        weights = torch.softmax((adapter.router.weight @ normed[0, 0] + adapter.router.bias) / 10, 0)
        low = adapter.down(normed)
        for weight, up, shift in zip(weights, adapter.up, adapter.shift, strict=True):
            normed = normed + weight * (low @ torch.block_diag(*up).T + shift)
        hidden = hidden + parts.attend(normed, *rest)
        return hidden + parts.feed_forward(parts.feed_forward_norm(hidden))

    with torch.no_grad():
        hidden = torch.cat([(shared.token + key)[None, None], lm.embed(text)], 1)
        published = AlteredModel(lm, dict.fromkeys(range(lm.blocks), adapted))
        expected = published.run_blocks(hidden, layout, 0, lm.blocks)[:, 1:]
        ours = run(model_of(method, ('camera', 'lidar')), text)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_untrained_adapters_change_nothing(tiny_lm, plug, model_of):
    method, layout = create_method('mma', tiny_lm()), TextLayout.causal(IDS)
    plug(method)
    with torch.no_grad():
        torch.testing.assert_close(run(model_of(method, ('camera',)), layout), run(method.lm, layout))


def test_adapters_may_be_in_the_upper_blocks_only(new_altered, model_of, frame):
    method = new_altered(link={'blocks': (2, 3)})
    asked = method.prepare('what is it?', CHOICES)
    assert asked.prepared.first == 2 and set(model_of(method, ('camera',)).forms) == {2, 3}
    assert sum(method.answer(asked, {'camera': frame()}).probabilities) == pytest.approx(1)


def test_folds_are_made_once_for_a_set_and_state_of_the_links(new_altered, model_of):
    method = new_altered()
    with torch.no_grad():
        first, again = (model_of(method, ('camera',)).forms[0].parts for _ in range(2))
        assert first is again
        method.links()['lidar'].key.add_(1)
        assert model_of(method, ('camera',)).forms[0].parts is first
        method.links()['camera'].key.add_(1)
        assert model_of(method, ('camera',)).forms[0].parts is not first


@pytest.mark.parametrize('wrong', [{'rank': 3}, {'groups': 5}, {'experts': 0}, {'router_temperature': 0.}])
def test_wrong_sizes_are_refused(tiny_lm, wrong):
    with pytest.raises(ConfigurationError, match='camera'):
        MmaConfig.for_model(tiny_lm(), 'camera', 'encoder', 6, **wrong)


def test_other_links_are_refused(tiny_lm):
    with pytest.raises(LinksError, match='mma'):
        link = create_method('mpnp', tiny_lm()).new_link('camera', 'encoder', 6)
        create_method('mma', tiny_lm()).plug(link)


@pytest.mark.parametrize('name', ['mma', 'eas'])
def test_what_was_trained_is_folded_anew_even_where_the_optimiser_leaves_no_trace(tiny_lm, frame, name):
    method = create_method(name, tiny_lm())
    method.plug(method.new_link('camera', 'encoder', 6))
    tokens = {'camera': frame()}
    question = method.prepare_answer('what is it?', 'car', ('car', 'bus'))
    optimiser = torch.optim.AdamW(method.trainable_parameters(), lr=1e-2, fused=True)
    for _ in range(3):
        folded = method.answer(question.question, tokens).probabilities[0]
        assert folded == pytest.approx(float((-method.answer_losses([question], [tokens])).exp()), abs=1e-5)
        optimiser.zero_grad()
        method.answer_losses([question], [tokens]).mean().backward()
        optimiser.step()

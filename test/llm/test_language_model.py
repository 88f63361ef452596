"""Invariants of the frozen language model and its prefix attention, for every family."""
from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import CancelledError, LinksError
from mpnp_ros.llm.attention import BlockPrefix, gated_attention, open_columns, unrotate
from mpnp_ros.llm.language_model import LanguageModel, interruptible
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache

FIRST = 2
IDS = torch.tensor([[5, 9, 40, 7, 21, 33, 8, 12], [30, 31, 2, 3, 60, 61, 62, 63]])
VALID = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0, 0]]).bool()


def forward(lm: LanguageModel, layout: TextLayout,
            prefix: dict[int, BlockPrefix] | None = None) -> torch.Tensor:
    """Logits of a whole forward pass."""
    return lm.logits(lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, prefix))


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-4, atol=2e-5)


@pytest.fixture
def lm(tiny_lm: Callable[[str], LanguageModel], family: str) -> LanguageModel:
    return tiny_lm(family)


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.no_grad():
        yield


def test_without_prefix_it_is_the_stock_model(lm: LanguageModel, tiny_model: Callable, family: str) -> None:
    assert torch.equal(forward(lm, TextLayout.causal(IDS)), tiny_model(family)(IDS).logits)


@pytest.mark.parametrize('side', ['left', 'right'])
def test_padded_it_is_the_stock_model(lm: LanguageModel, tiny_model: Callable, family: str,
                                      side: str) -> None:
    ids, valid = (IDS, VALID) if side == 'right' else (IDS.flip(1), VALID.flip(1))
    layout = TextLayout.causal(ids, valid)
    stock = tiny_model(family)
    known = {} if family == 'bloom' else {'position_ids': layout.positions}
    expected = stock(ids, attention_mask=valid.long(), **known).logits
    assert torch.equal(forward(lm, layout)[valid], expected[valid])


def test_closed_gate_changes_nothing(lm: LanguageModel, make_prefix: Callable) -> None:
    layout = TextLayout.causal(IDS, VALID)
    plain = forward(lm, layout)
    assert torch.equal(forward(lm, layout, make_prefix(lm, -math.inf)), plain)
    assert torch.equal(forward(lm, layout, make_prefix(lm, columns=0)), plain)
    assert not torch.allclose(forward(lm, layout, make_prefix(lm)), plain, atol=1e-3)


def test_plugging_a_closed_modality_beside_an_open_one_changes_nothing(lm: LanguageModel,
                                                                       make_prefix: Callable) -> None:
    layout = TextLayout.causal(IDS)
    camera, lidar = make_prefix(lm), make_prefix(lm, -math.inf, columns=2, seed=2)
    both = {block: BlockPrefix(*(torch.cat([getattr(camera[block], name), getattr(lidar[block], name)], axis)
                                 for name, axis in (('keys', 2), ('values', 2), ('log_gate', 0))))
            for block in camera}
    assert torch.equal(forward(lm, layout, both), forward(lm, layout, camera))


def test_gate_closed_for_one_row_is_absent_for_that_row(lm: LanguageModel, make_prefix: Callable) -> None:
    layout = TextLayout.causal(IDS)
    prefix = make_prefix(lm)
    for block in prefix.values():
        block.log_gate = torch.tensor([0., -math.inf]).reshape(2, 1, 1)
    logits = forward(lm, layout, prefix)
    close(logits[1], forward(lm, layout)[1])
    close(logits[0], forward(lm, layout, make_prefix(lm))[0])


def test_lower_blocks_once_is_the_whole_run(lm: LanguageModel, make_prefix: Callable) -> None:
    layout, prefix = TextLayout.causal(IDS, VALID), make_prefix(lm)
    lower = lm.run_blocks(lm.embed(layout), layout, 0, FIRST)
    for _frame in range(2):
        split = lm.logits(lm.run_blocks(lower, layout, FIRST, lm.blocks, prefix))
        assert torch.equal(split, forward(lm, layout, prefix))


def test_result_does_not_depend_on_batch_and_padding_side(lm: LanguageModel, make_prefix: Callable) -> None:
    prefix, length = make_prefix(lm), int(VALID[1].sum())
    alone = forward(lm, TextLayout.causal(IDS[1:, :length]), prefix)[0]
    right = forward(lm, TextLayout.causal(IDS, VALID), prefix)[1, :length]
    left = TextLayout.causal(torch.stack([IDS[0], IDS[1].roll(-length)]),
                             torch.stack([VALID[0], VALID[1].flip(0)]))
    stacked = TextLayout.stack([TextLayout.causal(IDS[:1]), TextLayout.causal(IDS[1:, :length])])
    close(right, alone)
    close(forward(lm, left, prefix)[1, -length:], alone)
    close(forward(lm, stacked, prefix)[1, :length], alone)


def test_a_later_token_does_not_change_earlier_logits(lm: LanguageModel, make_prefix: Callable) -> None:
    changed = IDS.clone()
    changed[:, 5] = 17
    prefix = make_prefix(lm)
    before, after = (forward(lm, TextLayout.causal(ids), prefix) for ids in (IDS, changed))
    close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-3)


@pytest.mark.parametrize('padded', [False, True])
def test_cached_decoding_is_the_full_refeed(lm: LanguageModel, padded: bool, make_prefix: Callable) -> None:
    prefix, split = make_prefix(lm), 5
    valid = VALID.flip(1) if padded else torch.ones_like(VALID)
    expected = forward(lm, TextLayout.causal(IDS, valid), prefix)
    layout, cache = TextLayout.causal(IDS[:, :split], valid[:, :split]), TextCache()
    logits = [lm.logits(lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, prefix, cache))]
    for step in range(split, IDS.shape[1]):
        layout = layout.next(IDS[:, step:step + 1])
        logits.append(lm.logits(lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, prefix, cache)))
    close(torch.cat(logits, 1)[valid], expected[valid])


def test_tree_of_continuations_is_each_continuation_alone(lm: LanguageModel, make_prefix: Callable) -> None:
    prompt, prefix = IDS[0], make_prefix(lm)
    layout = TextLayout.tree(prompt, tokens=[4, 5, 6, 7], parents=[-1, 0, -1, 2])
    logits = forward(lm, layout, prefix)[0, len(prompt):]
    alone = (TextLayout.causal(torch.cat([prompt, torch.tensor(path)])[None]) for path in ([4, 5], [6, 7]))
    first, second = (forward(lm, path, prefix)[0, -2:] for path in alone)
    close(logits, torch.cat([first, second]))


def test_prefix_does_not_see_positions(lm: LanguageModel, family: str, make_prefix: Callable) -> None:
    if family in ('opt', 'gpt2'):
        pytest.skip('learned positions are part of the hidden state')
    layout, prefix = TextLayout.causal(IDS), make_prefix(lm)
    shifted = TextLayout(IDS, layout.positions + 37, layout.column_positions + 37)
    before, after = forward(lm, layout, prefix), forward(lm, shifted, prefix)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_prefix_of_one_row_is_shared_by_the_batch(lm: LanguageModel, make_prefix: Callable) -> None:
    layout = TextLayout.causal(IDS)
    shared = make_prefix(lm)
    repeated = {block: BlockPrefix(p.keys.repeat(2, 1, 1, 1), p.values.repeat(2, 1, 1, 1), p.log_gate)
                for block, p in shared.items()}
    close(forward(lm, layout, shared), forward(lm, layout, repeated))


def test_gradients_reach_keys_values_and_gates_and_nothing_else(lm: LanguageModel,
                                                                make_prefix: Callable) -> None:
    layout, prefix = TextLayout.causal(IDS), make_prefix(lm, -1.)
    leaves = [getattr(block, name).requires_grad_() for block in prefix.values()
              for name in ('keys', 'values', 'log_gate')]
    with torch.enable_grad():
        forward(lm, layout, prefix).logsumexp(-1).sum().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().max() > 0 for leaf in leaves)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in lm.model.parameters())


def test_vocabulary_picks_rows_of_the_head(lm: LanguageModel) -> None:
    hidden = torch.randn(2, 3, lm.width)
    close(lm.logits(hidden, torch.tensor([7, 3])), lm.logits(hidden)[..., [7, 3]])


def test_a_prefix_of_another_model_is_refused(lm: LanguageModel, make_prefix: Callable) -> None:
    layout = TextLayout.causal(IDS)
    wrong = make_prefix(lm)
    wrong[2].keys = wrong[2].keys[..., :-1]
    with pytest.raises(LinksError, match='do not fit'):
        forward(lm, layout, wrong)
    with pytest.raises(LinksError, match='block 9'):
        forward(lm, layout, make_prefix(lm, blocks=(9,)))
    with pytest.raises(LinksError, match='do not fit'):
        forward(lm, layout, make_prefix(lm, batch=3))


def test_fingerprint_is_of_the_weights(tiny_lm: Callable, tiny_model: Callable,
                                       tiny_tokenizer: object) -> None:
    again = LanguageModel(tiny_model('llama'), tiny_tokenizer, 'other name')
    changed = tiny_model('llama')
    changed.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    assert again.fingerprint == tiny_lm('llama').fingerprint
    assert LanguageModel(changed, tiny_tokenizer, 'x').fingerprint != again.fingerprint


def test_blocks_out_of_range_are_refused(tiny_lm: Callable) -> None:
    layout = TextLayout.causal(IDS)
    with pytest.raises(ValueError, match='not within'):
        tiny_lm().run_blocks(tiny_lm().embed(layout), layout, 0, 5)


def test_gated_attention_is_its_formula() -> None:
    """Query by query: (sum_text e^s v + sum_prefix g e^s v) / (sum_text e^s + sum_prefix g e^s)."""
    torch.manual_seed(0)
    query, neutral = torch.randn(2, 1, 4, 3, 8)
    key, value = torch.randn(2, 1, 2, 3, 8)
    prefix = BlockPrefix(torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5))
    out = gated_attention(query, key, value, prefix, scaling=.3, neutral_query=neutral)
    for head in range(4):
        group = head // 2
        for t in range(3):
            text = (key[0, group, :t + 1] @ query[0, head, t] * .3).exp()
            gates = prefix.log_gate[0, group].exp()
            linked = gates * (prefix.keys[0, group] @ neutral[0, head, t] * .3).exp()
            expected = text @ value[0, group, :t + 1] + linked @ prefix.values[0, group]
            expected = expected / (text.sum() + linked.sum())
            torch.testing.assert_close(out[0, t, head], expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=6), st.sampled_from([(), (2,), (3, 2)]))
def test_open_columns_drops_exactly_the_closed(closed: list[bool], lead: tuple[int, ...]) -> None:
    columns = len(closed)
    gate = torch.zeros(*lead, columns).masked_fill(torch.tensor(closed), -math.inf)
    keys = torch.arange(columns).float().reshape(1, 1, columns, 1).expand(3, 2, columns, 4)
    kept = open_columns(BlockPrefix(keys, keys, gate))
    expected = [float(i) for i in range(columns) if not closed[i]]
    assert (kept is None) == (not expected)
    assert kept is None or kept.keys[0, 0, :, 0].tolist() == expected


def test_unrotate_undoes_the_models_rotation(tiny_lm: Callable) -> None:
    rotary = tiny_lm('llama').model.model.rotary_emb
    query = torch.randn(2, 4, 6, 8)
    cos, sin = rotary(query, torch.arange(6).expand(2, 6) * 11)
    first, second = query.chunk(2, -1)
    rotated = query * cos[:, None] + torch.cat([-second, first], -1) * sin[:, None]
    torch.testing.assert_close(unrotate(rotated, (cos, sin)), query, rtol=1e-5, atol=1e-5)


def test_reading_stops_before_the_next_block_and_only_within(tiny_lm):
    lm, asked = tiny_lm(), []
    layout = TextLayout.causal(torch.tensor([[1, 2, 3]]))

    def cancelled() -> bool:
        asked.append(len(asked))
        return len(asked) == 2

    with interruptible(cancelled), pytest.raises(CancelledError):
        lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks)
    assert len(asked) == 2
    lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks)
    assert len(asked) == 2


@pytest.mark.parametrize('choices', [(), ('yes', 'no')])
@pytest.mark.parametrize('name', ['mpnp', 'full_llm'])
def test_every_stage_of_an_answer_can_be_given_up(tiny_lm, name, choices):
    from mpnp_ros.methods.registry import create_method

    method = create_method(name, tiny_lm())
    for allowed in range(3):
        left = [allowed]

        def cancelled(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        with interruptible(cancelled), pytest.raises(CancelledError):
            asked = method.prepare('is there a car?', choices)
            method.answer(asked, {}) if choices else list(method.stream(asked, {}, 5))
        method.cache.clear()

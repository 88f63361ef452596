"""Blocks run part by part, and affine maps folded into their matrices."""
from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from mpnp_ros.errors import UnsupportedModelError
from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.block_parts import AffineMap, BlockParts
from mpnp_ros.llm.language_model import AlteredModel, LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache

PRE_NORM = ('llama', 'mistral', 'qwen2', 'qwen3', 'gemma', 'opt', 'gpt2', 'bloom')
IDS = torch.tensor([[5, 9, 40, 7, 21, 33, 8, 12], [30, 31, 2, 3, 60, 61, 62, 63]])
VALID = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0, 0]]).bool()


def by_parts(parts, hidden, context, prefix, cache):
    return parts.run(hidden, context, prefix, cache)


def run(lm: LanguageModel, layout: TextLayout, prefix=None, cache=None) -> torch.Tensor:
    return lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, prefix, cache)


def random_map(width: int, seed: int, rank: int = 3) -> AffineMap:
    generator = torch.Generator().manual_seed(seed)
    shapes = (width,), (width, rank), (rank, width), (width,)
    scale, up, down, shift = (torch.randn(*shape, generator=generator) for shape in shapes)
    return AffineMap(1 + .1 * scale, .3 * up, .3 * down, .3 * shift)


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.fixture(params=PRE_NORM)
def lm(request: pytest.FixtureRequest, tiny_lm: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_lm(request.param)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize('linked', [False, True])
def test_the_parts_make_up_the_block_to_the_last_bit(lm, make_prefix, linked):
    altered = AlteredModel(lm, dict.fromkeys(range(lm.blocks), by_parts))
    layout, prefix = TextLayout.causal(IDS, VALID), make_prefix(lm) if linked else None
    assert torch.equal(run(altered, layout, prefix), run(lm, layout, prefix))


def test_parts_append_to_the_cache_as_the_block_does(lm, make_prefix):
    altered, prefix = AlteredModel(lm, dict.fromkeys(range(lm.blocks), by_parts)), make_prefix(lm)
    whole = TextLayout.causal(IDS)
    outputs = []
    for model in (lm, altered):
        cache = TextCache()
        run(model, whole.head(5), prefix, cache)
        outputs.append(run(model, whole.tail(5), prefix, cache))
        assert [cache.length(block) for block in range(lm.blocks)] == [8] * lm.blocks
    assert torch.equal(*outputs)


def test_the_scale_and_shift_are_those_of_the_feed_forward_norm(lm):
    parts = lm.parts(1)
    standard = torch.randn(4, lm.width)
    standard = standard - standard.mean(-1, keepdim=True)
    standard = standard / standard.square().mean(-1, keepdim=True).sqrt()
    close(parts.feed_forward_norm(standard), parts.scale * standard + parts.shift)


def test_a_map_folded_into_the_matrices_is_the_map_before_them(lm, make_prefix):
    layout, prefix = TextLayout.causal(IDS, VALID), make_prefix(lm)[2]
    hidden, parts, change = torch.randn(2, 8, lm.width), lm.parts(2), random_map(lm.width, 1)
    context = lm.family.context(hidden, layout)
    for seen in (None, prefix):
        close(parts.attending_after(change).attend(hidden, context, seen),
              parts.attend(change(hidden), context, seen))
    close(parts.opening_after(change).feed_forward(hidden), parts.feed_forward(change(hidden)))


def test_each_row_goes_through_the_matrices_chosen_for_it(lm):
    layout = TextLayout.causal(IDS.repeat(2, 1))
    hidden, parts = torch.randn(4, 8, lm.width), lm.parts(0)
    folds = [parts.attending_after(random_map(lm.width, seed)).opening_after(random_map(lm.width, seed + 9))
             for seed in range(2)]
    context, choice = lm.family.context(hidden, layout), torch.tensor([1, 0, 0, 1])
    mixed = BlockParts.of_rows(folds, choice).run(hidden, context)
    each = [fold.run(hidden, context) for fold in folds]
    for row, chosen in enumerate(choice):
        close(mixed[row], each[chosen][row])


def test_folding_changes_nothing_of_the_model_even_while_it_runs(lm):
    layout = TextLayout.causal(IDS)
    before = {key: tensor.clone() for key, tensor in lm.model.state_dict().items()}
    expected, folded_outputs, stock_outputs = run(lm, layout), [], []
    folded = [lm.parts(block).attending_after(random_map(lm.width, block)) for block in range(lm.blocks)]
    altered = AlteredModel(lm, {parts.index: lambda _, *rest, parts=parts: parts.run(*rest)
                                for parts in folded})

    def work(model: LanguageModel, outputs: list[torch.Tensor]) -> None:
        with torch.no_grad():
            outputs.extend(run(model, layout) for _ in range(5))

    threads = [threading.Thread(target=work, args=each)
               for each in ((lm, stock_outputs), (altered, folded_outputs)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stock_outputs) == len(folded_outputs) == 10
    assert all(torch.equal(output, expected) for output in stock_outputs)
    assert all(torch.equal(output, folded_outputs[0]) for output in folded_outputs)
    assert not torch.allclose(folded_outputs[0], expected, atol=1e-3)
    assert all(torch.equal(tensor, before[key]) for key, tensor in lm.model.state_dict().items())


def test_attention_over_the_prefix_alone(lm, make_prefix):
    parts, hidden, prefix = lm.parts(2), torch.randn(2, 5, lm.width), make_prefix(lm)[2]
    closed = BlockPrefix(prefix.keys, prefix.values, torch.full_like(prefix.log_gate, -math.inf))
    seen = parts.attend_prefix(hidden, prefix)
    assert not parts.attend_prefix(hidden, closed).any() and seen.abs().max() > 1e-3
    close(parts.attend_prefix(hidden[:, 3:], prefix), seen[:, 3:])
    open_wide = BlockPrefix(prefix.keys * 0, prefix.values, prefix.log_gate + 30.)
    none = parts.attend_prefix(hidden, BlockPrefix(prefix.keys * 0, prefix.values * 0, prefix.log_gate))
    assert none.abs().max() < 1e-6
    mean = prefix.values.mean(2).repeat_interleave(lm.heads // lm.kv_heads, 1).flatten(1)
    close(parts.attend_prefix(hidden, open_wide)[0, 0], (parts._output(mean) - parts._output(mean * 0))[0])


def test_models_that_are_not_pre_norm_are_refused(tiny_lm, tiny_tokenizer):
    config = OPTConfig(vocab_size=len(tiny_tokenizer), hidden_size=32, num_hidden_layers=1, ffn_dim=32,
                       num_attention_heads=4, word_embed_proj_dim=32, do_layer_norm_before=False)
    small = LanguageModel(OPTForCausalLM(config), tiny_tokenizer, 'opt-350m')
    for lm in (tiny_lm('gemma2'), small):
        with pytest.raises(UnsupportedModelError, match='llama'):
            lm.parts(0)

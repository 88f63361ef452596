"""Keys and values of text: grown, forked, merged and stacked."""
from __future__ import annotations

import pytest
import torch

from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache


def filled(columns: int, *blocks: int, seed: int = 0) -> TextCache:
    """A cache of one text with random keys and values."""
    generator, cache = torch.Generator().manual_seed(seed), TextCache()
    for block in blocks:
        cache.update(*torch.randn(2, 1, 2, columns, 3, generator=generator), block)
    return cache


def held(cache: TextCache, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a cache holds for a block."""
    nothing = torch.zeros(len(cache._blocks[block][0]), 2, 0, 3)
    return cache.fork().update(nothing, nothing, block)


def test_a_fork_grows_apart() -> None:
    cache = filled(2, 0)
    before, fork = held(cache, 0), cache.fork()
    fork.update(*torch.ones(2, 1, 2, 1, 3), 0)
    assert (cache.length(0), fork.length(0), fork.length(1)) == (2, 3, 0)
    assert all(torch.equal(old, new) for old, new in zip(before, held(cache, 0), strict=True))


def test_merged_holds_the_blocks_of_both_and_changes_neither() -> None:
    lower, upper = filled(4, 0, 1), filled(3, 2, seed=1)
    merged = lower.merged(upper)
    assert [merged.length(block) for block in range(4)] == [4, 4, 3, 0]
    assert merged.nbytes == lower.nbytes + upper.nbytes
    merged.update(*torch.ones(2, 1, 2, 1, 3), 2)
    assert (merged.length(2), upper.length(2), lower.length(2)) == (4, 3, 0)


def test_stacked_caches_are_padded_with_zeros_on_the_right() -> None:
    caches = [filled(3, 1, 2), TextCache(), filled(2, 1, 2, seed=1)]
    stacked = TextCache.stack(caches, 3)
    for block in (1, 2):
        for side, tensor in enumerate(held(stacked, block)):
            assert tensor.shape == (3, 2, 3, 3) and not tensor[1].any() and not tensor[2, :, 2:].any()
            assert torch.equal(tensor[0], held(caches[0], block)[side][0])
            assert torch.equal(tensor[2, :, :2], held(caches[2], block)[side][0])
    assert stacked.length(0) == 0


def test_texts_taken_from_a_batch_hold_their_columns_and_stack_again() -> None:
    batch = TextCache.stack([filled(2, 3, 4), filled(5, 3, 4, seed=1)], 5)
    short, long = batch.text(0, 2), batch.text(1, 5)
    assert (short.length(3), long.length(4), short.nbytes) == (2, 5, filled(2, 3, 4).nbytes)
    for block in (3, 4):
        for side, same in zip(held(short, block), held(filled(2, 3, 4), block), strict=True):
            assert torch.equal(side, same)
        stacked = TextCache.stack([short, long], 5)
        for side, same in zip(held(stacked, block), held(batch, block), strict=True):
            assert torch.equal(side, same)
    mixed = TextCache.stack([short, filled(5, 3, 4, seed=1)], 5)
    assert all(torch.equal(*sides) for sides in zip(held(mixed, 4), held(batch, 4), strict=True))
    short.update(*torch.ones(2, 1, 2, 1, 3), 3)
    assert short.whole is None


@pytest.mark.parametrize('count', [1, 2])
def test_nothing_stacked_is_nothing(count: int) -> None:
    assert TextCache.stack([TextCache()] * count, 0).nbytes == 0


def test_one_stacked_cache_grows_apart_from_it() -> None:
    cache = filled(2, 0)
    TextCache.stack([cache], 2).update(*torch.ones(2, 1, 2, 1, 3), 0)
    assert cache.length(0) == 2


def test_texts_read_in_two_parts_and_stacked_equal_each_text_whole(tiny_lm: object, family: str) -> None:
    lm = tiny_lm(family)
    texts = [TextLayout.tree(torch.arange(5, 5 + length), [7, 8, 9], [-1, 0, -1]) for length in (6, 1, 3)]
    tails, caches = [], []
    with torch.no_grad():
        for text, start in zip(texts, (5, 0, 2), strict=True):
            caches.append(TextCache())
            if start:
                lm.run_blocks(lm.embed(text.head(start)), text.head(start), 0, lm.blocks, cache=caches[-1])
            tails.append(text.tail(start))
        layout = TextLayout.stack(tails)
        cache = TextCache.stack(caches, layout.cached)
        together = lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks, cache=cache)
        for text, tail, row in zip(texts, tails, together, strict=True):
            whole = lm.run_blocks(lm.embed(text), text, 0, lm.blocks)[0, -tail.tokens:]
            torch.testing.assert_close(row[:tail.tokens], whole, rtol=1e-4, atol=2e-5)


def test_blocks_that_keep_nothing_are_left_out_when_texts_are_taken_and_stacked() -> None:
    batch = TextCache.stack([filled(2, 0, 1, 4), filled(5, 0, 1, 4, seed=1)], 5)
    stacked = TextCache.stack([batch.text(0, 2), batch.text(1, 5)], 5)
    assert [stacked.length(block) for block in range(5)] == [5, 5, 0, 0, 5]
    for block in (0, 1, 4):
        assert all(map(torch.equal, held(stacked, block), held(batch, block)))

"""The closed formula against torch's own counter, for every family."""
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mpnp_ros.llm.cost import head_macs, macs
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache


def counted(run: Callable[[], object]) -> int:
    """MACs by torch's counter, which sees into attention only where it is written out in products."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize('first, last, columns', [(0, 4, {}), (2, 4, {2: 5, 3: 3}), (1, 3, {2: 4, 3: 9})])
def test_blocks(tiny_lm: Callable, family: str, make_prefix: Callable, first: int, last: int,
                columns: dict[int, int]) -> None:
    lm = tiny_lm(family)
    layout = TextLayout.causal(torch.arange(14).reshape(2, 7), torch.arange(7).expand(2, 7) < 6)
    hidden = torch.randn(2, 7, lm.width)
    prefix = {block: make_prefix(lm, columns=count, blocks=(block,))[block]
              for block, count in columns.items()}
    assert counted(lambda: lm.run_blocks(hidden, layout, first, last, prefix)) \
        == 2 * macs(lm.shape, first, last, 7, columns)


def test_decoding(tiny_lm: Callable, family: str, make_prefix: Callable) -> None:
    lm, cache = tiny_lm(family), TextCache()
    layout = TextLayout.causal(torch.arange(7)[None], torch.arange(7)[None] > 0)
    lm.run_blocks(torch.randn(1, 7, lm.width), layout, 0, 4, cache=cache)
    step, prefix = layout.next(torch.tensor([[3]])), make_prefix(lm)
    assert counted(lambda: lm.run_blocks(torch.randn(1, 1, lm.width), step, 0, 4, prefix, cache)) \
        == macs(lm.shape, 0, 4, 1, {2: 3, 3: 3}, past=7)


def test_head(tiny_lm: Callable, family: str) -> None:
    lm = tiny_lm(family)
    hidden = torch.randn(3, lm.width)
    assert counted(lambda: lm.logits(hidden)) == head_macs(lm.shape, 3)
    assert counted(lambda: lm.logits(hidden, torch.tensor([4, 1]))) == head_macs(lm.shape, 3, vocabulary=2)

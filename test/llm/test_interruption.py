"""A model stops between two blocks when its result is not wanted any more."""
from __future__ import annotations

import pytest
import torch

from mpnp_ros.errors import CancelledError
from mpnp_ros.llm.language_model import interruptible
from mpnp_ros.llm.layout import TextLayout


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

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.llm.layout import TextLayout


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 100), max_size=8).map(
    lambda picks: [pick % (node + 1) - 1 for node, pick in enumerate(picks)]), st.integers(1, 4))
def test_a_tree_row_sees_the_prompt_its_ancestors_and_itself(parents: list[int], prompt: int) -> None:
    layout = TextLayout.tree(torch.arange(prompt), list(range(len(parents))), parents)
    visible = layout.full_visible()[0]
    for node in range(len(parents)):
        path, above = {prompt + node}, parents[node]
        while above >= 0:
            path.add(prompt + above)
            above = parents[above]
        assert set(visible[prompt + node].nonzero().flatten().tolist()) == path | set(range(prompt))
        assert layout.positions[0, prompt + node] == prompt + len(path) - 1
    assert torch.equal(visible[:prompt, :prompt], torch.ones(prompt, prompt).tril().bool())


def test_positions_are_counted_from_the_first_real_token() -> None:
    valid = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]).bool()
    layout = TextLayout.causal(torch.zeros(2, 4, dtype=torch.long), valid)
    assert layout.positions.tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]
    assert layout.visible[0, 3].tolist() == [False, False, True, True]
    assert layout.visible[0, 0].tolist() == [True, False, False, False]


def test_without_padding_there_is_no_mask() -> None:
    layout = TextLayout.causal(torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4).bool())
    assert layout.mask() is None
    assert layout.next(torch.zeros(2, 1, dtype=torch.long)).mask() is None
    assert layout.next(torch.zeros(2, 1, dtype=torch.long)).columns == 5


def test_a_window_hides_what_is_further_back() -> None:
    layout = TextLayout.causal(torch.zeros(1, 5, dtype=torch.long))
    assert layout.mask(2)[0, 0, 4].tolist() == [False, False, False, True, True]
    assert layout.mask(5) is None


def test_stacked_layouts_keep_what_their_rows_see() -> None:
    tree = TextLayout.tree(torch.arange(3), [7, 8], [-1, -1])
    plain = TextLayout.causal(torch.arange(2)[None])
    stacked = TextLayout.stack([tree, plain])
    assert stacked.ids.tolist() == [[0, 1, 2, 7, 8], [0, 1, 0, 0, 0]]
    assert torch.equal(stacked.visible[0], tree.visible[0])
    assert torch.equal(stacked.visible[1, :2, :2], plain.full_visible()[0])
    assert not stacked.visible[1, :2, 2:].any()
    assert stacked.visible[1].diagonal().all()

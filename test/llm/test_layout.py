from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.llm.layout import TextLayout

PARENTS = st.lists(st.integers(0, 100), max_size=8).map(
    lambda picks: [pick % (node + 1) - 1 for node, pick in enumerate(picks)])


@settings(max_examples=50, deadline=None)
@given(PARENTS, st.integers(1, 4))
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


@settings(max_examples=50, deadline=None)
@given(PARENTS, st.integers(1, 4), st.data())
def test_head_and_tail_are_rows_of_the_whole(parents: list[int], prompt: int, data: st.DataObject) -> None:
    layout = TextLayout.tree(torch.arange(prompt), list(range(len(parents))), parents)
    start = data.draw(st.integers(0, layout.tokens - 1))
    head, tail, visible = layout.head(start), layout.tail(start), layout.full_visible()
    assert torch.equal(head.full_visible(), visible[:, :start, :start])
    assert torch.equal(tail.full_visible(), visible[:, start:])
    assert (tail.tokens, tail.cached, tail.columns) == (layout.tokens - start, start, layout.tokens)
    assert (head.tokens, head.cached) == (start, 0)
    for name in ('ids', 'positions'):
        assert torch.equal(torch.cat([getattr(head, name), getattr(tail, name)], 1), getattr(layout, name))
    assert torch.equal(tail.column_positions, layout.column_positions)


def test_the_window_of_a_tail_is_that_of_the_whole() -> None:
    layout = TextLayout.tree(torch.arange(5), [7, 8, 9], [-1, 0, -1])
    assert torch.equal(layout.tail(4).mask(3), layout.mask(3)[:, :, 4:])
    assert layout.tail(4).mask(3)[0, 0, 0].tolist() == [False, False, True, True, True, False, False, False]


def test_one_more_token_behind_a_tail_sees_all_columns() -> None:
    layout = TextLayout.causal(torch.arange(5)[None]).tail(4)
    further = layout.next(torch.tensor([[9]]))
    assert (further.cached, further.positions.item()) == (5, 5)
    assert further.full_visible().all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(PARENTS, st.integers(1, 4), st.booleans()), min_size=1, max_size=4))
def test_stacked_tails_see_their_own_cached_columns_and_tokens(
        texts: list[tuple[list[int], int, bool]]) -> None:
    layouts = [TextLayout.tree(torch.arange(prompt), list(range(len(parents))), parents).tail(
        prompt - 1 if split else 0) for parents, prompt, split in texts]
    stacked = TextLayout.stack(layouts)
    visible = stacked.full_visible()
    assert stacked.cached == max(layout.cached for layout in layouts)
    for row, layout in enumerate(layouts):
        past, own = visible[row, :layout.tokens].split([stacked.cached, stacked.tokens], 1)
        expected = layout.full_visible()[0].split([layout.cached, layout.tokens], 1)
        assert torch.equal(past[:, :layout.cached], expected[0]) and not past[:, layout.cached:].any()
        assert torch.equal(own[:, :layout.tokens], expected[1]) and not own[:, layout.tokens:].any()
        columns = stacked.column_positions[row].split([stacked.cached, stacked.tokens])
        wanted = layout.column_positions[0].split([layout.cached, layout.tokens])
        assert all(torch.equal(got[:len(own)], own) for got, own in zip(columns, wanted, strict=True))
    assert visible.any(2).all(), 'no softmax is over nothing'

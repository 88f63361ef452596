"""Layout of text tokens in a batch: positions and visibility."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad


@dataclass(frozen=True, eq=False)
class TextLayout:
    """T new tokens of B texts, seen against S = (tokens already in the K/V cache) + T columns.

    ids: [B, T] token ids.
    positions: [B, T], counted from 0 at the first real token of each row; 0 on padding.
    column_positions: [B, S], the positions of all columns that attention reads.
    visible: [B, T, S] bool, True where row t may attend to column s; None for plain causal text
        without padding (T == S, or T == 1 and everything visible), which lets the fused kernels run.

    Every row sees itself, padding too, so that no softmax is over nothing.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    column_positions: torch.Tensor
    visible: torch.Tensor | None = None

    @classmethod
    def causal(cls, ids: torch.Tensor, valid: torch.Tensor | None = None) -> TextLayout:
        """Return the layout of plain texts.

        ids: [B, T].  valid: [B, T] bool, False on padding, which may be on either side.
        """
        if valid is None or bool(valid.all()):
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
            return cls(ids, positions, positions)
        valid = valid.to(ids.device, torch.bool)
        positions = (valid.cumsum(1) - 1).clamp(min=0)
        visible = _triangle(ids.shape[1], ids.device) & valid[:, None, :]
        return cls(ids, positions, positions, visible | _diagonal(ids.shape[1], ids.device))

    @classmethod
    def tree(cls, prompt: torch.Tensor, tokens: Sequence[int], parents: Sequence[int]) -> TextLayout:
        """Return one prompt and a tree of continuations behind it, each seeing only its own path.

        prompt: [T] ids.  tokens: ids of the tree's nodes, parents first.  parents: for each node the
        index of its parent among the nodes, -1 for the end of the prompt.  Gives [1, T + nodes].
        """
        if not tokens:
            return cls.causal(prompt[None])
        start, total = len(prompt), len(prompt) + len(tokens)
        positions = torch.arange(total)
        visible = _triangle(total, torch.device('cpu')).clone()
        for node, parent in enumerate(parents):
            row, above = start + node, start + parent
            visible[row] = visible[above]
            visible[row, row] = True
            positions[row] = positions[above] + 1
        ids = torch.cat([prompt, prompt.new_tensor(tokens)])[None]
        positions = positions[None].to(prompt.device)
        return cls(ids, positions, positions, visible[None].to(prompt.device))

    @classmethod
    def stack(cls, layouts: Sequence[TextLayout]) -> TextLayout:
        """Return several layouts as one batch; cached columns and tokens are each padded on the right."""
        if len(layouts) == 1:
            return layouts[0]
        length, cached = (max(getattr(layout, name) for layout in layouts) for name in ('tokens', 'cached'))
        visible = None
        if any(layout.visible is not None or (layout.tokens, layout.cached) != (length, cached)
               for layout in layouts):
            each = []
            for layout in layouts:
                past, own = layout.full_visible().split([layout.cached, layout.tokens], 2)
                extra = length - layout.tokens
                own = pad(own, (0, extra, 0, extra)) | _diagonal(length, own.device)
                each.append(torch.cat([pad(past, (0, cached - layout.cached, 0, extra)), own], 2))
            visible = torch.cat(each)
        ids, positions = (
            torch.cat([pad(getattr(layout, name), (0, length - layout.tokens)) for layout in layouts])
            for name in ('ids', 'positions')
        )
        past = torch.cat([pad(layout.column_positions[:, :layout.cached], (0, cached - layout.cached))
                          for layout in layouts])
        return cls(ids, positions, torch.cat([past, positions], 1), visible)

    def head(self, count: int) -> TextLayout:
        """Return the first `count` new tokens behind the cached columns; none of them sees a later one."""
        columns = self.cached + count
        visible = self.full_visible() if self.cached else self.visible
        return TextLayout(self.ids[:, :count], self.positions[:, :count], self.column_positions[:, :columns],
                          None if visible is None else visible[:, :count, :columns])

    def tail(self, start: int) -> TextLayout:
        """Return the tokens from `start` on, against all columns; those before are in the K/V cache."""
        if start == 0:
            return self
        return TextLayout(self.ids[:, start:], self.positions[:, start:], self.column_positions,
                          self.full_visible()[:, start:])

    def behind(self, seen: torch.Tensor, counted: bool = True, ahead: int = 0) -> TextLayout:
        """Return the same texts behind C further columns, which are in the K/V cache.

        seen: [B, C] bool, False on columns that no row sees.  counted: those that are seen have positions,
        and the texts begin behind them; else they are all at position 0, where the texts begin too.
        ahead: so many of the first tokens of each text stand before the columns and do not see them; only
        for a layout without cached columns.
        """
        counts = seen.long() if counted else torch.zeros_like(seen, dtype=torch.long)
        after = torch.arange(self.tokens, device=seen.device) >= ahead
        places, moved = counts.cumsum(1), counts.sum(1, keepdim=True) * (after if ahead else 1)
        positions = torch.cat([(places - 1).clamp(min=0) + ahead, self.column_positions + moved], 1)
        shown = seen[:, None] & after[:, None]
        return TextLayout(self.ids, self.positions + moved, positions,
                          torch.cat([shown, self.full_visible()], 2))

    def without(self, count: int) -> TextLayout:
        """Return the same tokens without the first `count` cached columns; positions stay."""
        return TextLayout(self.ids, self.positions, self.column_positions[:, count:],
                          None if self.visible is None else self.visible[:, :, count:])

    @property
    def batch(self) -> int:
        """B, the number of texts."""
        return self.ids.shape[0]

    @property
    def tokens(self) -> int:
        """T, the number of new tokens of each text."""
        return self.ids.shape[1]

    @property
    def columns(self) -> int:
        """S, the number of columns that attention reads."""
        return self.column_positions.shape[1]

    @property
    def cached(self) -> int:
        """Number of columns that are in the K/V cache already."""
        return self.columns - self.tokens

    def next(self, ids: torch.Tensor) -> TextLayout:
        """Return one further token per text, behind everything that the last row of this layout sees.

        ids: [B, 1].  For causal layouts whose last column is real (no padding or padding on the left);
        the columns of this layout are then those in the K/V cache.
        """
        position = self.positions[:, -1:] + 1
        columns = torch.cat([self.column_positions, position], 1)
        visible = None
        if self.visible is not None:
            visible = pad(self.visible[:, -1:], (0, 1), value=True)
        return TextLayout(ids, position, columns, visible)

    def to(self, device: torch.device | str) -> TextLayout:
        """Return the same layout on another device."""
        visible = None if self.visible is None else self.visible.to(device)
        return TextLayout(self.ids.to(device), self.positions.to(device),
                          self.column_positions.to(device), visible)

    def mask(self, window: int | None = None) -> torch.Tensor | None:
        """Return [B, 1, T, S] bool, or None for plain causal attention.

        window: columns further back than this are hidden (sliding-window attention).
        """
        if window is None or window >= self.columns:
            return None if self.visible is None else self.visible[:, None]
        near = self.column_positions[:, None, :] > self.positions[:, :, None] - window
        return (self.full_visible() & near)[:, None]

    def full_visible(self) -> torch.Tensor:
        """Return [B, T, S] bool, also for plain causal text."""
        if self.visible is not None:
            return self.visible
        return self.column_positions[:, None, :] <= self.positions[:, :, None]


def _triangle(size: int, device: torch.device) -> torch.Tensor:
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()


def _diagonal(size: int, device: torch.device) -> torch.Tensor:
    return torch.eye(size, dtype=torch.bool, device=device)

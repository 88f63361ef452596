"""The K/V cache of text that has been run, per block."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import pad


class TextCache:
    """The K/V cache that the blocks of a language model append to.

    It never holds prefix columns, so a prefix may change between two tokens.  Appending makes new
    tensors, so :meth:`fork` is cheap and leaves the original untouched.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._whole: torch.Tensor | None = None

    @classmethod
    def of(cls, whole: torch.Tensor, blocks: Sequence[int]) -> TextCache:
        """Return a cache of one text: keys and values [n, 2, H_kv, T, d_h] of n blocks, ascending."""
        cache = cls()
        cache._whole = whole
        cache._blocks = {block: (pair[None, 0], pair[None, 1])
                         for block, pair in zip(blocks, whole, strict=True)}
        return cache

    @property
    def whole(self) -> torch.Tensor | None:
        """Keys and values as one tensor, as given to :meth:`of`; None for a cache that has grown."""
        return self._whole

    def update(self, keys: torch.Tensor, values: torch.Tensor, block: int,
               *_unused: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [B, H_kv, T, d_h] keys and values to a block and return all of its columns.

        This is the call that transformers' attention modules make.
        """
        if block in self._blocks:
            past_keys, past_values = self._blocks[block]
            keys, values = torch.cat([past_keys, keys], 2), torch.cat([past_values, values], 2)
        self._blocks[block] = keys, values
        self._whole = None
        return keys, values

    def fork(self) -> TextCache:
        """Return a copy that grows independently."""
        other = TextCache()
        other._blocks = dict(self._blocks)
        return other

    def merged(self, other: TextCache) -> TextCache:
        """Return a cache of the blocks of both; each block is held by one of them only."""
        merged = self.fork()
        merged._blocks.update(other._blocks)
        return merged

    @classmethod
    def stack(cls, caches: Sequence[TextCache], columns: int) -> TextCache:
        """Return caches of single texts as one batch, each padded on the right to `columns`."""
        if len(caches) == 1:
            return caches[0].fork()
        stacked = cls()
        blocks = caches[0]._blocks.keys()
        wholes = [cache._whole for cache in caches
                  if cache._whole is not None and cache._blocks.keys() == blocks]
        if len(wholes) == len(caches):  # each text is copied once
            count, sides, heads, _, width = wholes[0].shape
            batch = wholes[0].new_zeros(len(wholes), count, sides, heads, columns, width)
            for text, whole in zip(batch, wholes, strict=True):
                text[:, :, :, :whole.shape[3]] = whole
            stacked._blocks = {block: (batch[:, place, 0], batch[:, place, 1])
                               for place, block in enumerate(blocks)}
            return stacked
        for block in sorted({block for cache in caches for block in cache._blocks}):
            pairs = [cache._blocks.get(block) for cache in caches]
            like = next(pair for pair in pairs if pair is not None)
            stacked._blocks[block] = tuple(
                torch.cat([_padded(pair, side, like, columns) for pair in pairs]) for side in (0, 1))
        return stacked

    def rows(self, rows: torch.Tensor) -> TextCache:
        """Return a cache of some rows [n] of this batch, in that order; a batch of 1 serves all of them."""
        chosen = TextCache()
        chosen._blocks = {block: tuple(side.expand(len(rows), -1, -1, -1) if len(side) == 1 else side[rows]
                                       for side in pair) for block, pair in self._blocks.items()}
        return chosen

    def text(self, row: int, columns: int) -> TextCache:
        """Return the first columns of one text of a batch, in memory of their own."""
        blocks = sorted(self._blocks)
        pairs = [torch.stack([side[row, :, :columns] for side in self._blocks[block]]) for block in blocks]
        return TextCache.of(torch.stack(pairs), blocks) if pairs else TextCache()

    def without(self, count: int) -> TextCache:
        """Return a cache without the first `count` columns of each text."""
        rest = TextCache()
        rest._blocks = {block: (keys[:, :, count:], values[:, :, count:])
                        for block, (keys, values) in self._blocks.items()}
        return rest

    def head(self, count: int) -> TextCache:
        """Return a cache of the first `count` columns of each text."""
        first = TextCache()
        first._blocks = {block: (keys[:, :, :count], values[:, :, :count])
                         for block, (keys, values) in self._blocks.items()}
        return first

    def columns(self, block: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of a block that is held, [B, H_kv, T, d_h] each."""
        return self._blocks[block]

    def length(self, block: int) -> int:
        """Number of columns held for a block."""
        return self._blocks[block][0].shape[2] if block in self._blocks else 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for pair in self._blocks.values() for tensor in pair)


def _padded(pair: tuple[torch.Tensor, torch.Tensor] | None, side: int,
            like: tuple[torch.Tensor, torch.Tensor], columns: int) -> torch.Tensor:
    """Return keys (side 0) or values (1) of one text, [1, H_kv, columns, d_h]; zeros where it has none."""
    if pair is None:
        return torch.zeros_like(like[side][:, :, :1]).expand(-1, -1, columns, -1)
    return pad(pair[side], (0, 0, 0, columns - pair[side].shape[2]))

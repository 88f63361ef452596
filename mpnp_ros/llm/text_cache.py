"""Keys and values of text already read, per block."""
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

    def update(self, keys: torch.Tensor, values: torch.Tensor, block: int,
               *_unused: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [B, H_kv, T, d_h] keys and values to a block and return all of its columns.

        This is the call that transformers' attention modules make.
        """
        if block in self._blocks:
            past_keys, past_values = self._blocks[block]
            keys, values = torch.cat([past_keys, keys], 2), torch.cat([past_values, values], 2)
        self._blocks[block] = keys, values
        return keys, values

    def fork(self) -> TextCache:
        """A cache that begins with what this one holds and grows apart from it."""
        other = TextCache()
        other._blocks = dict(self._blocks)
        return other

    def merged(self, other: TextCache) -> TextCache:
        """A cache of the blocks of both; a block is held by one of them only."""
        merged = self.fork()
        merged._blocks.update(other._blocks)
        return merged

    @classmethod
    def stack(cls, caches: Sequence[TextCache], columns: int) -> TextCache:
        """Caches of single texts as one batch, padded on the right to so many columns."""
        if len(caches) == 1:
            return caches[0].fork()
        stacked = cls()
        for block in sorted({block for cache in caches for block in cache._blocks}):
            pairs = [cache._blocks.get(block) for cache in caches]
            like = next(pair for pair in pairs if pair is not None)
            stacked._blocks[block] = tuple(
                torch.cat([_padded(pair, side, like, columns) for pair in pairs]) for side in (0, 1))
        return stacked

    def text(self, row: int, columns: int) -> TextCache:
        """The first columns of one text of a batch, in memory of their own."""
        one = TextCache()
        one._blocks = {block: tuple(side[row:row + 1, :, :columns].clone() for side in pair)
                       for block, pair in self._blocks.items()}
        return one

    def length(self, block: int) -> int:
        """Number of columns held for a block."""
        return self._blocks[block][0].shape[2] if block in self._blocks else 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for pair in self._blocks.values() for tensor in pair)


def _padded(pair: tuple[torch.Tensor, torch.Tensor] | None, side: int,
            like: tuple[torch.Tensor, torch.Tensor], columns: int) -> torch.Tensor:
    """Keys (side 0) or values (1) of one text, [1, H_kv, columns, d_h]; zeros where there are none."""
    if pair is None:
        return torch.zeros_like(like[side][:, :, :1]).expand(-1, -1, columns, -1)
    return pad(pair[side], (0, 0, 0, columns - pair[side].shape[2]))

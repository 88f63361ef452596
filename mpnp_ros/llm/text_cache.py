"""Keys and values of text already read, per block."""
from __future__ import annotations

import torch


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

    def length(self, block: int) -> int:
        """Number of columns held for a block."""
        return self._blocks[block][0].shape[2] if block in self._blocks else 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for pair in self._blocks.values() for tensor in pair)

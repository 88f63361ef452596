"""Output of a link for the blocks of the language model: a gated K/V prefix."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass
class BlockPrefix:
    """The K/V prefix that one linked block attends to besides its text.

    keys, values: [B, H_kv, P, d_h]; keys carry no positional encoding.
    log_gate: broadcastable to [B, H_kv, P]; it is added to the attention logits of the prefix columns.  0 is
    an open gate, -inf is exactly "not linked".

    B may be 1 and is then shared by the whole text batch.
    """

    keys: torch.Tensor
    values: torch.Tensor
    log_gate: torch.Tensor

    def of_texts(self, texts: torch.Tensor) -> BlockPrefix:
        """Return the prefix of some texts [n] of the batch; shared parts stay shared."""
        return BlockPrefix(*(part if len(part) == 1 else part[texts]
                             for part in (self.keys, self.values, self.log_gate)))


#: Linked block index -> its prefix.  A block that is not a key runs its stock attention.
Prefix = Mapping[int, BlockPrefix]

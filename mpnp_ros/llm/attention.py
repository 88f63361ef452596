"""Attention over a text and a gated K/V prefix, with one softmax over both.

    out = softmax([q~ K_p / sqrt(d_h) + log g | q k / sqrt(d_h) + mask]) [V_p ; v]

The method of arXiv:2312.07886 with two corrections: the log-gate, and prefix keys without position.  q~ is
the query before its rotation (RoPE), so that a prefix looks the same from every position.  A block without
open prefix columns runs the model's own attention, so its output equals that of the text-only model bit for
bit.
"""
from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import is_fake

from mpnp_ros.errors import LinksError

SDPA = 'mpnp_sdpa'
EAGER = 'mpnp_eager'

#: Tables (cos, sin), [B, T, d_h] each.
Rotation = tuple[torch.Tensor, torch.Tensor]
#: Result of transformers' attention functions: output [B, T, H, d_h] and weights.
Attended = tuple[torch.Tensor, torch.Tensor | None]


@dataclass
class BlockPrefix:
    """The K/V prefix that one linked block attends to besides its text.

    keys, values: [B, H_kv, P, d_h]; keys carry no positional encoding.
    log_gate: broadcastable to [B, H_kv, P]; it is added to the attention logits of the prefix columns.  0 is
    an open gate, -inf is exactly "not linked".
    places: [B, P] positions of the columns, counted from the first token of the text, so they are negative;
    models with ALiBi (BLOOM) read them, others ignore them.  None: equally near to every token.

    B may be 1 and is then shared by the whole text batch.
    """

    keys: torch.Tensor
    values: torch.Tensor
    log_gate: torch.Tensor
    places: torch.Tensor | None = None

    def of_texts(self, texts: torch.Tensor) -> BlockPrefix:
        """Return the prefix of some texts [n] of the batch, rising; shared parts stay shared."""
        return BlockPrefix(*(part if part is None or len(part) in (1, len(texts)) else part[texts]
                             for part in (self.keys, self.values, self.log_gate, self.places)))


#: Linked block index -> its prefix.  A block that is not a key runs its stock attention.
Prefix = Mapping[int, BlockPrefix]


def open_columns(prefix: BlockPrefix | None) -> BlockPrefix | None:
    """Return the prefix without columns closed (-inf) for every row and head; None if none is left."""
    if prefix is None or prefix.keys.shape[2] == 0:
        return None
    gate = prefix.log_gate
    if is_fake(gate):  # a size without numbers, as bench/paper_scale counts with: not known to be closed
        return prefix
    gate = gate.expand(*gate.shape[:-1], prefix.keys.shape[2])
    closed = torch.isneginf(gate.detach()).reshape(-1, gate.shape[-1]).all(0)
    if not bool(closed.any()):
        return prefix
    if bool(closed.all()):
        return None
    keep = ~closed
    places = None if prefix.places is None else prefix.places[:, keep]
    return BlockPrefix(prefix.keys[:, :, keep], prefix.values[:, :, keep], gate[..., keep], places)


def gated_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, prefix: BlockPrefix, *,
                    scaling: float, mask: torch.Tensor | None = None, bias: torch.Tensor | None = None,
                    prefix_bias: torch.Tensor | None = None, neutral_query: torch.Tensor | None = None,
                    softcap: float | None = None) -> torch.Tensor:
    """Return the attention of T text queries over P prefix columns and S text columns, [B, T, H, d_h].

    query: [B, H, T, d_h].  key, value: [B, H_kv, S, d_h].  neutral_query: as query, scores the prefix
    (default: query).  mask: [B, 1, T, S], bool (True: visible) or additive; None: causal.
    bias: [B, H, T, S] additive on the text columns.  prefix_bias: [B, H, T, P] on the prefix.  softcap: tanh
    bound on logits before the gate.
    """
    batch, heads, tokens, width = query.shape
    kv_heads = key.shape[1]
    made = list(prefix.keys.shape)
    fits = len(made) == 4 and made[0] in (1, batch) and [made[1], made[3]] == [kv_heads, width]
    if not fits or list(prefix.values.shape) != made:
        raise LinksError(f'prefix keys {made} and values {list(prefix.values.shape)} do not fit the model: '
                         f'expected [1 or {batch}, {kv_heads}, P, {width}]; use links made for this model, '
                         'one prefix row per text')
    group = heads // kv_heads
    grouped = batch, kv_heads, group * tokens, width

    def scores(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        product = (queries.reshape(grouped) @ keys.to(query.dtype).mT).float() * scaling
        product = product if softcap is None else softcap * torch.tanh(product / softcap)
        return product.view(batch, heads, tokens, -1)

    on_text = scores(query, key)
    if mask is None and tokens > 1:
        mask = torch.ones(on_text.shape[2:], dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        on_text = on_text.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else on_text + mask
    on_text = on_text if bias is None else on_text + bias

    on_prefix = scores(query if neutral_query is None else neutral_query, prefix.keys)
    gate = prefix.log_gate.float()
    gate = gate.expand(gate.shape[0] if gate.ndim == 3 else 1, *prefix.keys.shape[1:3])
    on_prefix = on_prefix + gate.repeat_interleave(group, 1).unsqueeze(2)
    on_prefix = on_prefix if prefix_bias is None else on_prefix + prefix_bias

    columns = on_prefix.shape[-1]
    weights = torch.cat([on_prefix, on_text], -1).softmax(-1).to(query.dtype)
    weights = weights.view(batch, kv_heads, -1, weights.shape[-1])
    out = weights[..., :columns] @ prefix.values.to(query.dtype) + weights[..., columns:] @ value
    return out.view(batch, heads, tokens, width).transpose(1, 2).contiguous()


def unrotate(rotated: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Undo a rotary position embedding: [B, H, T, d_h], rotation (cos, sin) of [B, T, d_h] each.

    Divides by cos^2 + sin^2, so that low-precision or scaled tables are undone as they were applied.
    """
    cos, sin = (table.unsqueeze(1).float() for table in rotation)
    wide = rotated.float()
    first, second = wide.chunk(2, -1)
    turned = torch.cat([second, -first], -1)
    return ((wide * cos + turned * sin) / (cos.square() + sin.square())).to(rotated.dtype)


@cache
def register_attention() -> None:
    """Add :data:`SDPA` and :data:`EAGER` to the attention functions of transformers.

    Its import takes seconds; nodes without a language model do without it.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import eager_mask, sdpa_mask

    AttentionInterface.register(SDPA, _prefix_attention(sdpa_attention_forward))
    AttentionInterface.register(EAGER, _prefix_attention(_own_eager))
    AttentionMaskInterface.register(SDPA, sdpa_mask)
    AttentionMaskInterface.register(EAGER, eager_mask)


def _prefix_attention(stock: Callable[..., Attended]) -> Callable[..., Attended]:
    """Return an attention function for transformers that equals `stock` without a prefix."""

    def forward(module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                attention_mask: torch.Tensor | None, *, prefix: BlockPrefix | None = None,
                rotation: Rotation | None = None, **options: Any) -> Attended:
        if prefix is None:
            return stock(module, query, key, value, attention_mask, **options)
        neutral = query if rotation is None else unrotate(query, rotation)
        out = gated_attention(query, key, value, prefix, scaling=options['scaling'], mask=attention_mask,
                              neutral_query=neutral, softcap=options.get('softcap'))
        return out, None

    return forward


def _own_eager(module: nn.Module, *arguments: object, **options: object) -> Attended:
    """Return the eager attention of the model's own file."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *arguments, **options)

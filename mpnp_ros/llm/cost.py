"""Exact costs of running blocks, in multiply-accumulates (MACs).

The accounting of arXiv:2312.07886, with the true cost of grouped K/V heads and gated feed-forwards.  Like a
profiler, it counts matrix products only, and attention over all columns whether masked or not.
"""
from __future__ import annotations

from collections.abc import Mapping

from mpnp_ros.llm.families import ModelShape


def macs(shape: ModelShape, first: int, last: int, tokens: int,
         prefix_columns: Mapping[int, int] | None = None, past: int = 0,
         positions: int = 0, vocabulary: int | None = None) -> int:
    """Return the MACs of blocks first..last-1 on T `tokens` and of the head on `positions` of them.

    prefix_columns: linked block -> P.  past: columns already in the K/V cache.  vocabulary: number of
    token ids scored, default all.
    """
    columns = prefix_columns or {}
    blocks = (block_macs(shape, tokens, columns.get(index, 0), past) for index in range(first, last))
    return sum(blocks) + head_macs(shape, positions, vocabulary)


def block_macs(shape: ModelShape, tokens: int, prefix_columns: int = 0, past: int = 0) -> int:
    """MACs of one block: T (2 d H d_h + 2 d H_kv d_h + (2 or 3) d d_ff) + 2 T (past + T + P) H d_h."""
    attention = 2 * (past + tokens + prefix_columns) * shape.heads * shape.head_dim
    return tokens * (block_weights(shape) + attention)


def block_weights(shape: ModelShape) -> int:
    """Return the entries of one block's matrices, which are its MACs per token outside attention."""
    width, feedforward = shape.width, (3 if shape.gated else 2) * shape.width * shape.feedforward
    return 2 * width * shape.head_dim * (shape.heads + shape.kv_heads) + feedforward


def head_macs(shape: ModelShape, positions: int, vocabulary: int | None = None) -> int:
    """MACs of the head on n positions: n V d, and a projection before it where the model has one."""
    rows = shape.vocabulary if vocabulary is None else vocabulary
    projection = 0 if shape.embedding_width == shape.width else shape.width * shape.embedding_width
    return positions * (rows * shape.embedding_width + projection)

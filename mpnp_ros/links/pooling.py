"""Question-conditioned pooling: the question picks from many tokens what a few prefix entries carry.

A plain aligner hands every token to the language model and most of what the encoder knows is lost on
the way; a small network that reads the question's cached lower-block states and matches them with the
tokens lost much less (learning.md).  Matches are both averaged (softmax: which object, what status) and
summed (sigmoid: how many, is there any).
"""
from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

#: sigmoid(score - 2): at the start a token matches with 0.12, so that sums over many stay small.
MATCH_OFFSET = 2.


def _split(states: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, S, heads w] -> [B, heads, S, w]."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(states: torch.Tensor) -> torch.Tensor:
    """[B, heads, S, w] -> [B, S, heads w]."""
    return states.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention among the entries and the question's positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(width, 3 * width, bias=False)
        self.write = nn.Linear(width, width)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """states: [B, S, w].  mask: [B, S] bool, True where real."""
        query, key, value = (_split(part, self.heads) for part in self.read(states).chunk(3, -1))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return self.write(_join(mixed))


class MatchPooling(nn.Module):
    """What the tokens hold for each state: half of the heads average, half of them sum."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = 2 * heads
        self.query = nn.Linear(width, 2 * width, bias=False)
        self.key = nn.Linear(width, 2 * width, bias=False)
        self.value = nn.Linear(width, 2 * width)
        self.write = nn.Linear(2 * width, width)

    def forward(self, states: torch.Tensor, tokens: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """states: [B, S, w].  tokens: [B, P, w].  valid: [B, P] bool; a row may have none."""
        query, key, value = (_split(part, self.heads) for part in (
            self.query(states), self.key(tokens), self.value(tokens)))
        scores = query @ key.mT * query.shape[-1] ** -0.5
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None, :], torch.finfo(scores.dtype).min)
        averaging, summing = scores.chunk(2, 1)
        weights = torch.cat([averaging.softmax(-1), torch.sigmoid(summing - MATCH_OFFSET)], 1)
        return self.write(_join(weights @ value))


class PoolingLayer(nn.Module):
    """Mix among the states, read from the tokens, think."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mix = SelfAttention(width, heads)
        self.match = MatchPooling(width, heads)
        self.think = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(),
                                   nn.Linear(4 * width, width))

    def forward(self, states: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor,
                valid: torch.Tensor | None) -> torch.Tensor:
        """The states [B, S, w], their mask [B, S]; tokens [B, P, w], their mask; gives [B, S, w]."""
        states = states + self.mix(self.norms[0](states), mask)
        states = states + self.match(self.norms[1](states), tokens, valid)
        return states + self.think(states)


class QuestionPooling(nn.Module):
    """M learned entries that travel with the question's states through the pooling layers."""

    def __init__(self, token_width: int, text_width: int, width: int, entries: int, layers: int,
                 heads: int) -> None:
        super().__init__()
        self.read_tokens = nn.Sequential(nn.Linear(token_width, width), nn.GELU(), nn.Linear(width, width),
                                         nn.LayerNorm(width))
        self.read_question = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width))
        self.entries = nn.Parameter(torch.randn(entries, width))
        self.layers = nn.ModuleList(PoolingLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, valid: torch.Tensor | None,
                question: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Pool tokens for each question.

        tokens: [B, P, w], what `read_tokens` made of them.  valid: [B, P] or None.  question: states
        [B, T, d] and mask [B, T].  Gives [B, M, w].
        """
        states, mask = question
        entries = self.entries.expand(len(states), -1, -1)
        states = torch.cat([entries, self.read_question(states.float())], 1)
        mask = torch.cat([mask.new_ones(entries.shape[:2]), mask], 1)
        for layer in self.layers:
            states = layer(states, mask, tokens, valid)
        return self.norm(states[:, :len(self.entries)])

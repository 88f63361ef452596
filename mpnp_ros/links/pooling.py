"""Question-conditioned pooling: the question picks from many tokens what a few prefix entries carry.

A plain aligner hands every token to the language model and most of what the encoder knows is lost on
the way (learning.md).  Here a small network reads the question's states, which depend on its text only,
chooses directions to look in, sums what the tokens hold there, and hands on a few entries.  Sums, not
averages, so that counts survive; weights that are linear in the direction's Fourier features, so that
there is a slope to learn from before anything is known.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mpnp_ros.links.aligner import HARMONICS, fourier
from mpnp_ros.links.standardise import Standardise

#: What entries start from and sums begin with; any value that keeps both near 1 serves.
ENTRY_SPREAD, SUM_SCALE = 0.3, 1 / 3
#: Sums of a smaller variance keep their size when they are normalised: few tokens differ from many.
SUM_FLOOR = 0.1


def _split(states: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, S, heads w] -> [B, heads, S, w]."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(states: torch.Tensor) -> torch.Tensor:
    """[B, heads, S, w] -> [B, S, heads w]."""
    return states.transpose(1, 2).flatten(2)


class Reading(nn.Module):
    """What each entry takes from the question: attention over its positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.write = nn.Linear(width, width)

    def forward(self, entries: torch.Tensor, question: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """entries: [B, M, w].  question: [B, T, w].  mask: [B, T] bool, at least one True in each row."""
        query = _split(self.query(entries), self.heads)
        key, value = (_split(part, self.heads) for part in self.key_value(question).chunk(2, -1))
        return self.write(_join(scaled_dot_product_attention(query, key, value, mask[:, None, None, :])))


class Looking(nn.Module):
    """What each entry sees: per head a sum over the tokens, weighted by their direction."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = nn.Linear(width, heads * (2 * HARMONICS + 1))
        self.value = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=SUM_FLOOR)

    def forward(self, entries: torch.Tensor, tokens: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """entries: [B, M, w].  tokens: [B, P, w].  directions: [B, P, 2 HARMONICS + 1].  Gives [B, M, w]."""
        weights = _split(self.window(entries), self.heads) @ directions[:, None].mT
        return self.norm(_join(SUM_SCALE * weights @ _split(self.value(tokens), self.heads)))


class PoolingLayer(nn.Module):
    """Read the question, look, and combine both by products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.reading = Reading(width, heads // 3 if heads % 3 == 0 else heads)
        self.looking = Looking(width, heads)
        self.interest, self.write = nn.Linear(width, width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(2 * width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, entries: torch.Tensor, question: torch.Tensor, mask: torch.Tensor,
                tokens: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Entries [B, M, w] after one look; the other arguments as in Reading and Looking."""
        entries = entries + self.reading(self.norms[0](entries), question, mask)
        asking = self.norms[1](entries)
        seen = self.looking(asking, tokens, directions)
        entries = entries + self.write(seen * self.interest(asking))
        return entries + self.think(torch.cat([self.norms[2](entries), seen], -1))


class QuestionPooling(nn.Module):
    """M entries that start from the question's last state and look at the tokens in a few rounds."""

    def __init__(self, token_width: int, text_width: int, width: int, entries: int, layers: int,
                 heads: int) -> None:
        super().__init__()
        self.standard_question, self.standard_end = Standardise(text_width), Standardise(text_width)
        self.read_tokens = nn.Sequential(nn.Linear(token_width, width), nn.GELU(), nn.Linear(width, width),
                                         nn.LayerNorm(width))
        self.read_question = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width))
        self.read_end = nn.Linear(text_width, width)
        self.entries = nn.Parameter(torch.randn(entries, width) * ENTRY_SPREAD)
        self.layers = nn.ModuleList(PoolingLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def measure(self, questions: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Measure what question states are standardised by, from pairs of states and masks."""
        self.standard_question.measure(torch.cat([states[_inner(mask)] for states, mask in questions]))
        self.standard_end.measure(torch.cat([_end(states, mask) for states, mask in questions]))

    def forward(self, tokens: torch.Tensor, directions: torch.Tensor, valid: torch.Tensor | None,
                question: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Pool tokens for each question.

        tokens: [B, P, w], what `read_tokens` made of them.  directions: [B, P, 2 HARMONICS + 1].  valid:
        [B, P] or None.  question: states [B, T, d] and mask [B, T], padded on either side.  Gives [B, M, w].
        """
        states, mask = question
        if valid is not None:
            directions = directions.masked_fill(~valid[..., None], 0.)
        entries = self.entries + self.read_end(self.standard_end(_end(states, mask)))[:, None]
        asked = self.read_question(self.standard_question(states))
        for layer in self.layers:
            entries = layer(entries, asked, _inner(mask), tokens, directions)
        return self.norm(entries)


def directions_of(azimuth: torch.Tensor) -> torch.Tensor:
    """[..., P] radians, NaN: none -> [..., P, 2 HARMONICS + 1] Fourier features and a constant 1."""
    features = fourier(azimuth)
    return torch.cat([features, torch.ones_like(features[..., :1])], -1)


def _end(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The state of each question's last position, [B, d]."""
    return states[torch.arange(len(states), device=states.device), mask.cumsum(1).argmax(1)]


def _inner(mask: torch.Tensor) -> torch.Tensor:
    """[B, T]: without the first position, where language models park attention: its state says nothing.

    A question of a single position keeps it.
    """
    place = mask.cumsum(1)
    return mask & ((place > 1) | (place[:, -1:] == 1))

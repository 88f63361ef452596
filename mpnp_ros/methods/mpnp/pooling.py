"""Question-conditioned pooling: the question picks from many tokens the content of a few prefix entries.

A plain aligner hands every token to the language model, and most of the encoder's knowledge is lost
(docs/lab/experiments.md).  Here a small network reads the question's states, which depend on text only,
chooses directions to look in, sums the tokens there, and passes on a few entries.  It takes sums, not
averages, so that counts survive.  Weights are linear in the direction's Fourier features and in the content,
so that there is a gradient to learn from at the start.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mpnp_ros.methods.link import Standardise, fourier

#: Spread of initial entries and scale of sums; any values that keep both near 1 serve.
ENTRY_SPREAD, SUM_SCALE = 0.3, 1 / 3
#: Channels in which the content of a token is matched, unless it is a list of counts.
CONTENTS = 24


def _split(states: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, S, heads w] -> [B, heads, S, w]."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(states: torch.Tensor) -> torch.Tensor:
    """[B, heads, S, w] -> [B, S, heads w]."""
    return states.transpose(1, 2).flatten(2)


class Seen(NamedTuple):
    """Tokens in the form that pooling reads.

    tokens: [B, P, w] values to sum.  contents: [B, P, c + 1] to match.  directions: [B, P, 2 H + 1] Fourier
    features of the azimuth, 0 for a token without direction.  Both end in a constant 1.
    """

    tokens: torch.Tensor
    contents: torch.Tensor
    directions: torch.Tensor

    def of_rows(self, rows: torch.Tensor | None, valid: torch.Tensor | None) -> Seen:
        """Return the frames in rows [B], None: one each; invalid tokens [F, P] lose their directions."""
        directions = self.directions if valid is None else self.directions.masked_fill(~valid[..., None], 0.)
        seen = Seen(self.tokens, self.contents, directions)
        return seen if rows is None else Seen(*(part[rows] for part in seen))


class QuestionAttention(nn.Module):
    """Attention of each entry over the positions of the question."""

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


class TokenAttention(nn.Module):
    """Sums over the tokens for each entry and head, weighted by direction and by content.

    A head's weight of a token is the product of a window, linear in the Fourier features of the token's
    direction, and a match, linear in its content; initially a match is the constant 1.
    """

    def __init__(self, width: int, heads: int, directions: int, contents: int, additive: bool) -> None:
        super().__init__()
        self.heads = heads
        self.window = nn.Linear(width, heads * directions)
        self.match = nn.Linear(width, heads * (contents + 1))
        self.value = nn.Linear(width, width, bias=not additive)
        self.gain, self.offset = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        with torch.no_grad():
            self.match.bias.view(heads, -1)[:, -1] = 1.

    def forward(self, entries: torch.Tensor, seen: Seen) -> torch.Tensor:
        """entries: [B, M, w].  Gives [B, M, w]."""
        weights = _split(self.window(entries), self.heads) @ seen.directions[:, None].mT
        weights = weights * (_split(self.match(entries), self.heads) @ seen.contents[:, None].mT)
        sums = SUM_SCALE * _join(weights @ _split(self.value(seen.tokens), self.heads))
        return self.gain * sums.asinh() + self.offset


class PoolingLayer(nn.Module):
    """Read the question, look, and combine both by products."""

    def __init__(self, width: int, heads: int, directions: int, contents: int, additive: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.reading = QuestionAttention(width, heads // 3 if heads % 3 == 0 else heads)
        self.looking = TokenAttention(width, heads, directions, contents, additive)
        self.interest, self.write = nn.Linear(width, width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(2 * width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, entries: torch.Tensor, question: torch.Tensor, mask: torch.Tensor,
                seen: Seen) -> torch.Tensor:
        """Entries [B, M, w] after one look; other arguments as in QuestionAttention and TokenAttention."""
        entries = entries + self.reading(self.norms[0](entries), question, mask)
        asking = self.norms[1](entries)
        found = self.looking(asking, seen)
        entries = entries + self.write(found * self.interest(asking))
        return entries + self.think(torch.cat([self.norms[2](entries), found], -1))


class QuestionPooling(nn.Module):
    """M entries that start from the question's last state and look at the tokens in several layers.

    additive: token values are counts; they are read linearly, so that a sum over tokens is a count, and
    matched as they are.
    """

    def __init__(self, token_width: int, text_width: int, width: int, entries: int, layers: int, heads: int,
                 harmonics: int, additive: bool) -> None:
        super().__init__()
        self.harmonics, self.additive = harmonics, additive
        self.standard_question, self.standard_end = Standardise(text_width), Standardise(text_width)
        self.read_tokens = nn.Linear(token_width, width, bias=False) if additive else nn.Sequential(
            nn.Linear(token_width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width))
        contents = token_width if additive else CONTENTS
        self.read_contents = nn.Identity() if additive else nn.Linear(width, contents)
        self.read_question = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width))
        self.read_end = nn.Linear(text_width, width)
        self.entries = nn.Parameter(torch.randn(entries, width) * ENTRY_SPREAD)
        self.layers = nn.ModuleList(PoolingLayer(width, heads, 2 * harmonics + 1, contents, additive)
                                    for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def measure(self, questions: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Measure mean and deviation of question states, from pairs of states and masks."""
        self.standard_question.measure(torch.cat([states[without_first(mask)] for states, mask in questions]))
        self.standard_end.measure(torch.cat([end_state(states, mask) for states, mask in questions]))

    @property
    def measured(self) -> bool:
        """Whether :meth:`measure` has been called."""
        return self.standard_end.measured

    def see(self, tokens: torch.Tensor, azimuth: torch.Tensor | None) -> Seen:
        """Return tokens to pool.  tokens: [F, P, D].  azimuth: [F, P] radians, NaN: none; None: all NaN."""
        read = self.read_tokens(tokens)
        contents = self.read_contents(tokens if self.additive else read)
        if azimuth is None:
            azimuth = tokens.new_full(tokens.shape[:2], torch.nan)
        return Seen(read, with_one(contents), with_one(fourier(azimuth.float(), self.harmonics)))

    def forward(self, seen: Seen, question: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Pool what is seen for each question.

        question: states [B, T, d] and mask [B, T], padded on either side.  Gives [B, M, w].
        """
        states, mask = question
        entries = self.entries + self.read_end(self.standard_end(end_state(states, mask)))[:, None]
        asked = self.read_question(self.standard_question(states))
        for layer in self.layers:
            entries = layer(entries, asked, without_first(mask), seen)
        return self.norm(entries)


def with_one(features: torch.Tensor) -> torch.Tensor:
    """[..., n] -> [..., n + 1]: a constant 1 is appended."""
    return torch.cat([features, torch.ones_like(features[..., :1])], -1)


def end_state(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the state of each question's last position, [B, d]."""
    return states[torch.arange(len(states), device=states.device), mask.cumsum(1).argmax(1)]


def without_first(mask: torch.Tensor) -> torch.Tensor:
    """Return the mask [B, T] without the first position of each question.

    Language models park attention there, so its state says nothing.  A question of one position keeps it.
    """
    place = mask.cumsum(1)
    return mask & ((place > 1) | (place[:, -1:] == 1))

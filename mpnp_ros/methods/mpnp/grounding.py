"""Grounding: which tokens the counts of a question rest on, from the windows and masks of its probes.

A token has the weight of what it adds to the counts, and a little for lying where a probe looks.  So "none
there" rests on the directions that were seen to be empty.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from mpnp_ros.methods.mpnp.counting import CountingPooling, sort_groups, sort_of, sorts_of
from mpnp_ros.methods.questions import Grounding
from mpnp_ros.tokens import SECTORS

MOST = 12
"""Tokens that are named."""
LOOKED = 0.02
"""Weight of an empty token in the middle of a window, beside 1 for a certain object there."""
SOME = 0.05
"""Expected number from which a token is said to hold objects of one category."""
CHOSEN = 0.5
"""Weight in a mask from which a channel is asked for."""


class SensorTokens(NamedTuple):
    """The tokens of one sensor as B questions count them; parts that all have in common may be there once.

    tokens: for each question, how many tokens its frame has.  windows: [B, K, P], numbers: [B or 1, P, C],
    azimuth: [B or 1, P], of which the first are of those tokens and the others of what the sensor misses.
    part: [B or 1, SECTORS, C] in 0..1, its share of the counts of all sensors together.
    """

    modality: str
    tokens: Sequence[int]
    windows: torch.Tensor
    numbers: torch.Tensor
    azimuth: torch.Tensor
    part: torch.Tensor


@torch.no_grad()
def grounding_of(pooling: CountingPooling, masks: torch.Tensor,
                 sensors: Sequence[SensorTokens]) -> list[list[Grounding]]:
    """Return the heaviest tokens behind the counts of B questions, at most MOST each, the heaviest first.

    masks: [B, K, C], of their probes.  The weights of all tokens of a question, named or not, add up to 1.
    """
    masks = masks[:, :pooling.supervised]
    weighed, contents, owners = [], [], []
    for sensor in sensors:
        longest = max(sensor.tokens)
        counts = torch.tensor(sensor.tokens, device=masks.device)[:, None]
        there = torch.arange(longest, device=masks.device) < counts
        numbers = sensor.numbers[:, :longest]
        trusted = _of_tokens(sensor.part, sensor.azimuth[:, :longest])
        added = masks @ (numbers * trusted).mT
        looked = LOOKED * masks @ trusted.mT / masks.sum(2, keepdim=True).clamp(min=1e-6)
        windows = sensor.windows[:, :pooling.supervised, :longest]
        weighed.append(windows * (added + looked) * there[:, None])
        contents.append(numbers.expand(len(masks), -1, -1))
        owners += [(sensor.modality, token) for token in range(longest)]
    weights = torch.cat(weighed, 2)  # [questions, probes, tokens of all sensors]
    heaviest = weights.sum(1).topk(min(MOST, len(owners)))
    probes = weights.argmax(1).gather(1, heaviest.indices)
    width, chosen = masks.shape[2], masks > CHOSEN
    numbers = torch.cat(contents, 1).gather(1, heaviest.indices[..., None].expand(-1, -1, width))
    numbers = numbers * chosen.gather(1, probes[..., None].expand(-1, -1, width))
    sorts = _sorts(numbers, pooling.channels)
    asked = [[tuple(itertools.compress(range(width), row)) for row in own] for own in chosen.tolist()]
    found: list[list[Grounding]] = []
    for total, own, *each in zip(weights.sum((1, 2)).tolist(), asked, heaviest.values.tolist(),
                                 heaviest.indices.tolist(), probes.tolist(), *sorts, strict=True):
        total = total if math.isfinite(total) and total > 0 else math.inf
        found.append([])
        for weight, place, probe, category, expected in zip(*each, strict=True):
            if weight / total > 0:
                (modality, token), sort = owners[place], _name(own[probe], category, pooling.channels)
                found[-1].append(Grounding(modality, token, sort, expected, weight / total))
    return found


def _of_tokens(part: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
    """Return the part [n, SECTORS, C] of a sensor at the direction of each token [n, P]; NaN: the mean."""
    turns = azimuth.nan_to_num() / math.tau + 0.5
    sector = ((turns - turns.floor()) * SECTORS).long().clamp(0, SECTORS - 1)
    questions = torch.arange(max(len(part), len(sector)), device=part.device)[:, None]
    found = part.expand(len(questions), -1, -1)[questions, sector]
    return torch.where(azimuth.isnan()[..., None], part.mean(1, keepdim=True), found)


def _sorts(numbers: torch.Tensor, names: tuple[str, ...]) -> tuple[list[list[int]], list[list[float]]]:
    """Return the category that is most in each of tokens [B, n, C], and its number.

    Where there is hardly any of it: -1, and the number of all together.
    """
    groups = torch.from_numpy(sort_groups(names)[:, :len(sorts_of(names)[0])]).to(numbers)
    most = groups.argmax(1)[numbers.argmax(2)]
    own = (numbers @ groups).gather(2, most[..., None])[..., 0]
    some = own >= SOME
    return torch.where(some, most, -1).tolist(), torch.where(some, own, numbers.sum(2)).tolist()


@lru_cache(4096)
def _name(chosen: tuple[int, ...], category: int, names: tuple[str, ...]) -> str:
    """Return the sort of the channels that a probe chooses, of one category or, for -1, of all."""
    if not chosen:
        return 'nothing'
    wanted = sorts_of(names)[0][category]
    return sort_of([names[channel] for channel in chosen
                    if category < 0 or names[channel].partition(': ')[0] == wanted], names)

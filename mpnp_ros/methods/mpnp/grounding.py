"""Grounding: which tokens the counts of a question rest on, from the windows and masks of its probes.

A token has the weight of what it adds to the counts, and a little for lying where a probe looks.  So "none
there" rests on the directions that were seen to be empty.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from mpnp_ros.methods.mpnp.counting import CountingPooling, sort_of
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
    """The tokens of one sensor as a question counts them.

    windows: [K, P], numbers: [P, C], azimuth: [P], of which the first `tokens` are of its tokens and the
    others of what it misses.  part: [SECTORS, C] in 0..1, its share of the counts of all sensors together.
    """

    modality: str
    tokens: int
    windows: torch.Tensor
    numbers: torch.Tensor
    azimuth: torch.Tensor
    part: torch.Tensor


@torch.no_grad()
def grounding_of(pooling: CountingPooling, masks: torch.Tensor,
                 sensors: Sequence[SensorTokens]) -> list[Grounding]:
    """Return the heaviest tokens behind the counts of one question, at most MOST, the heaviest first.

    masks: [K, C], of its probes.  The weights of all tokens, named or not, add up to 1.
    """
    masks = masks[:pooling.supervised]
    parts = []
    for sensor in sensors:
        trusted = _of_tokens(sensor.part, sensor.azimuth[:sensor.tokens])
        added = masks @ (sensor.numbers[:sensor.tokens] * trusted).mT
        looked = LOOKED * masks @ trusted.mT / masks.sum(1, keepdim=True).clamp(min=1e-6)
        parts.append(sensor.windows[:pooling.supervised, :sensor.tokens] * (added + looked))
    weights = torch.cat(parts, 1)  # [probes, tokens of all sensors]
    total = float(weights.sum())
    if not (math.isfinite(total) and total > 0):
        return []
    places = [(number, token) for number, sensor in enumerate(sensors) for token in range(sensor.tokens)]
    heaviest = weights.sum(0).topk(min(MOST, len(places)))
    probes = weights.argmax(0)
    found = []
    for weight, place in zip(heaviest.values.tolist(), heaviest.indices.tolist(), strict=True):
        number, token = places[place]
        sort, expected = _content(sensors[number].numbers[token], masks[probes[place]], pooling.channels)
        found.append(Grounding(sensors[number].modality, token, sort, expected, weight / total))
    return [grounding for grounding in found if grounding.weight > 0]


def _of_tokens(part: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
    """Return the part [SECTORS, C] of a sensor at the direction of each token [P], [P, C]; NaN: the mean."""
    turns = azimuth.nan_to_num() / math.tau + 0.5
    sector = ((turns - turns.floor()) * SECTORS).long().clamp(0, SECTORS - 1)
    return torch.where(azimuth.isnan()[:, None], part.mean(0), part[sector])


def _content(numbers: torch.Tensor, mask: torch.Tensor, names: Sequence[str]) -> tuple[str, float]:
    """Return what a token [C] holds of what a probe asks for: the sort that is most, and its number."""
    chosen = [channel for channel, weight in enumerate(mask.tolist()) if weight > CHOSEN]
    if not chosen:
        return 'nothing', 0.
    most = max(chosen, key=numbers.tolist().__getitem__)
    category = names[most].partition(': ')[0]
    alike = [channel for channel in chosen if names[channel].partition(': ')[0] == category]
    if float(numbers[alike].sum()) < SOME:
        alike = chosen
    return sort_of([names[channel] for channel in alike], names), float(numbers[alike].sum())

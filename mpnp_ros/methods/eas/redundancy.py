"""The choice of attentions that a model can do without: by measurement, or by the search of arXiv:2403.15226.

Both ask for numbers only, and know nothing of how blocks are skipped.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from mpnp_ros.options import Options, option

#: The harm of skipping some blocks, 0 for none of them.
SkipHarm = Callable[[frozenset[int]], float]
#: The loss on a calibration batch with some blocks skipped.
SkipLoss = Callable[[frozenset[int]], float]
#: The probability of the true answer to each of at least two questions, [N], with some blocks skipped.
SkipAnswers = Callable[[frozenset[int]], torch.Tensor]

TRIES = 100


@dataclass(frozen=True)
class SkipProfile:
    """The harm of skipping more and more blocks.

    order: blocks as they were chosen, one by one.  harm: with the first, the first two, ... of them skipped.
    """

    order: tuple[int, ...]
    harm: tuple[float, ...]

    def first(self, count: int) -> frozenset[int]:
        """Return the `count` blocks to skip first."""
        return frozenset(self.order[:count])


def recommended_count(truth: SkipAnswers, profile: SkipProfile, tolerance: float = .01) -> int:
    """Return the largest count up to which the truth becomes less probable by at most `tolerance`.

    truth: of other questions than the blocks were chosen by, as the best of many choices was lucky.  One
    standard error of the difference counts as lost, so few questions recommend little.
    """
    whole = truth(frozenset())

    def lost(count: int) -> float:
        loss = whole - truth(profile.first(count))
        return float(loss.mean() + loss.std() / len(loss) ** .5)

    return max(takewhile(lambda count: lost(count) <= tolerance, range(1, len(profile.order) + 1)), default=0)


def measure_skips(harm: SkipHarm, candidates: Sequence[int], count: int, breadth: int = 4) -> SkipProfile:
    """Choose blocks one by one, each the least harmful beside those before.

    breadth: candidates measured for each choice, those with least harm when they were measured last.  The
    number of all candidates makes it the whole greedy search.
    """
    known = {block: harm(frozenset({block})) for block in candidates}
    order: list[int] = []
    done: list[float] = []
    while len(order) < count:
        before = done[-1] if done else 0.
        nearest = sorted(known, key=lambda block: (known[block], block))[:breadth if order else 1]
        for block in nearest:
            known[block] = harm(frozenset({*order, block})) - before if order else known[block]
        best = min(nearest, key=lambda block: (known[block], block))
        done.append(before + known.pop(best))
        order.append(best)
    return SkipProfile(tuple(order), tuple(done))


@dataclass(frozen=True)
class SearchConfig(Options):
    """The search as published.  Raises OptionError for values out of range."""

    steps: int = option(1000, 'training steps', low=1)
    warm_up: int = option(500, 'steps before scores change', low=0)
    turn: int = option(10, 'steps between two evaluations of sets', low=1)
    subsets: int = option(3, 'sets that are evaluated, n in the paper', low=1)
    eta: float = option(2., 'how much a reward changes a score', low=1e-30)
    sharpness: float = option(10., 'of the softmax by which sets are drawn', low=0)
    seed: int = option(0, 'random seed')


def search_skips(loss: SkipLoss, train: Callable[[frozenset[int]], None], candidates: Sequence[int],
                 count: int, config: SearchConfig) -> frozenset[int]:
    """Choose `count` blocks by a bandit's scores while all forms are trained.

    train: one step with some blocks skipped.  As published for LaVIN (arXiv:2403.15226): a set's reward is
    exp(-loss), compared with the mean of its evaluation.
    """
    generator = torch.Generator().manual_seed(config.seed)
    scores = torch.zeros(len(candidates))

    def draw() -> list[int]:
        return torch.multinomial((config.sharpness * scores).softmax(0), count, generator=generator).tolist()

    for step in range(config.steps):
        train(frozenset(candidates[place] for place in draw()))
        if step < config.warm_up or (step + 1) % config.turn:
            continue
        sets: dict[frozenset[int], list[int]] = {}
        for _ in range(TRIES):  # there may be fewer different sets than wanted
            drawn = draw()
            sets.setdefault(frozenset(drawn), drawn)
            if len(sets) == config.subsets:
                break
        rewards = [math.exp(-loss(frozenset(candidates[place] for place in places)))
                   for places in sets.values()]
        shares, mean = (config.sharpness * scores).softmax(0), sum(rewards) / len(rewards)
        for places, reward in zip(sets.values(), rewards, strict=True):
            scores[places] += config.eta * (reward - mean) * shares[places] * (1 - shares[places])
    return frozenset(candidates[place] for place in scores.topk(count).indices.tolist())

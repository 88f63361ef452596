"""What a reader says that it can answer, trained anew while all that it counts stays as it is.

A reader learns beside its own questions which ones its counts cannot answer.  When a new subject comes, the
readers of the others have not seen its questions.  Only the small network that tells answerable questions
apart is trained here, on probes that are computed once; so answers do not change.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.counting import CountingPooling
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.options import Options, option
from mpnp_ros.training.text_states import padded_states, text_states

MARGIN = 0.01
"""Logit of the question at the border, once that has moved."""
READING = 128
"""Texts that the language model reads at once."""


@dataclass(frozen=True)
class AnswerableConfig(Options):
    """Options of the training."""

    steps: int = option(1500, 'training steps', low=1)
    batch: int = option(256, 'texts per step', low=2)
    share: float = option(
        0.95, 'share of answerable texts in a step; a high one refuses fewer questions wrongly', low=.01,
        high=.99)
    rate: float = option(1e-3, 'learning rate at the beginning; it falls to zero', low=1e-30)
    dropout: float = option(0.3, 'dropout on the probes', low=0, high=.999)
    weight_decay: float = option(0.01, 'weight decay', low=0)
    seed: int = option(0, 'random seed')


@torch.no_grad()
def probes_of(method: Method, modalities: Sequence[str], texts: Sequence[str],
              progress: Callable[[int, int], None] = lambda done, of: None) -> dict[str, torch.Tensor]:
    """Return the probes [n, K, width] of texts by the readers of plugged links.

    All links read at the same block.  progress: called with the number of texts that are read, and of all.
    Raises TrainingError for a link that does not count.
    """
    readers = {name: reader_of(method.links()[name]) for name in modalities}
    block, = {method.links()[name].config.question_block for name in modalities}
    found: dict[str, dict[str, torch.Tensor]] = {name: {} for name in modalities}
    for part in text_states(method, texts, block, READING):
        states, mask = padded_states([states for _, states in part])
        for name, reader in readers.items():
            found[name].update(zip((text for text, _ in part), reader.probes(states, mask), strict=True))
        progress(len(found[modalities[0]]), len(texts))
    return {name: torch.stack([probes[text] for text in texts]) for name, probes in found.items()}


def fit_answerable(pooling: CountingPooling, can: torch.Tensor, cannot: torch.Tensor,
                   config: AnswerableConfig | None = None) -> float:
    """Train which questions a reader says that it can answer; return the mean loss of the last 100 steps.

    can, cannot: probes [n, K, width] of questions that it can answer, and of others.  Nothing else of the
    reader changes.
    """
    config = config or AnswerableConfig()
    parameters = list(pooling.answerable.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=config.rate, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(config.seed)
    sizes = [max(1, round(part * config.batch)) for part in (config.share, 1 - config.share)]
    target = (torch.arange(sum(sizes), device=can.device) < sizes[0]).float()
    losses = []
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group['lr'] = config.rate * (1 - step / config.steps)
        asked = torch.cat([part[torch.randint(len(part), (size,), generator=generator).to(part.device)]
                           for part, size in zip((can, cannot), sizes, strict=True)])
        kept = torch.rand(asked.shape, generator=generator).to(asked.device) >= config.dropout
        loss = binary_cross_entropy_with_logits(
            pooling.can_answer(asked * kept / (1 - config.dropout)), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return sum(losses[-100:]) / len(losses[-100:])


@torch.no_grad()
def claim(pooling: CountingPooling, can: torch.Tensor) -> None:
    """Move the border of a reader so that it claims all of some questions that it can answer.

    can: probes [n, K, width] of questions in words that training never uses.  People's words are further from
    those of training than any others, and a question refused wrongly costs more than one claimed wrongly.  A
    border that claims them already stays.
    """
    lowest = pooling.can_answer(can).min()
    last = pooling.answerable[-1]
    assert isinstance(last, nn.Linear)
    last.bias -= (lowest - MARGIN).clamp(max=0.)


def reader_of(link: object) -> CountingPooling:
    """Return the reader of a link; raises TrainingError for one that does not count."""
    if not (isinstance(link, LatentLink) and isinstance(link.pooling, CountingPooling)):
        raise TrainingError('only links that count say what they can answer; make one with pooling: counting')
    return link.pooling

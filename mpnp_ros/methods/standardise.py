"""Channels brought to mean 0 and deviation 1 by what was measured before training."""
from __future__ import annotations

import torch
from torch import nn

#: Standardised values beyond this many deviations are cut off: some channels have heavy tails.
BOUND = 5.
#: Relative to a channel's mean, the least deviation that is no rounding of bfloat16.
ROUNDING = 2 ** -8


class Standardise(nn.Module):
    """(x - mean) / deviation per channel, cut off at +-5; until it has been measured only cut off.

    The hidden states of a language model have a large mean that hardly depends on the question and a few
    channels a hundred times stronger than the others.  A layer norm keeps both and leaves a learner
    next to nothing of the question; on a real key frame links without this did not learn at all
    (docs/lab/experiments.md).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(width))
        self.register_buffer('scale', torch.ones(width))

    @property
    def measured(self) -> bool:
        """Whether :meth:`measure` has been called."""
        return bool((self.mean != 0).any())

    def measure(self, samples: torch.Tensor) -> None:
        """Take mean and deviation of [n, width] samples; a channel that does not vary keeps its scale."""
        deviation, mean = torch.std_mean(samples.float(), 0, correction=0)
        scale = 1 / (deviation + 1e-3 * deviation.mean() + 1e-6)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > ROUNDING * mean.abs(), scale, 1.))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[..., width] -> [..., width], float32."""
        return ((values.float() - self.mean) * self.scale).clamp(-BOUND, BOUND)

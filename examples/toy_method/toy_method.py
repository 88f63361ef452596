"""A method in one module: the mean of a modality's tokens becomes a few keys and values of each linked block.

It is small on purpose.  A mean over all tokens keeps little of where things are, so expect answers such as
"is there a car?" to become better than without a sensor, and "what is to the left?" not to.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import gelu

from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.methods.connections import Connections, join
from mpnp_ros.methods.link import Direction, Link, Standardise, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.method import Method, PrefixCompletion
from mpnp_ros.methods.questions import Evidence, Tokens
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.options import option


@dataclass(frozen=True)
class MeanConfig(LinkConfig):
    """Options of a link: those that any link has, and one of its own."""

    spread: float = option(.1, 'deviation of the keys and values that an untrained link makes')


class MeanLink(Link):
    """Tokens of one modality -> keys and values for every linked block."""

    kind = 'mean_prefix'
    config_type = MeanConfig

    def __init__(self, config: MeanConfig) -> None:
        super().__init__(config)
        self.standard = Standardise(config.token_width)
        self.direction = None if config.soft_tokens else Direction(config.token_width)
        self.hidden = nn.Linear(config.token_width, config.hidden)
        self.shape = 2, len(config.blocks), config.kv_heads, config.entries, config.head_dim
        self.output = nn.Linear(config.hidden, torch.Size(self.shape).numel())
        nn.init.normal_(self.output.weight, std=config.spread / config.hidden ** .5)

    def calibrate(self, questions: Sequence[object], values: torch.Tensor | None) -> None:
        """Measure the mean and deviation of each channel on tokens of the training set."""
        if values is not None and not self.standard.measured:
            self.standard.measure(values.to(self.standard.mean.device))

    def forward(self, tokens: TokenBatch | None = None) -> dict[int, BlockPrefix]:
        """The prefix of B texts; a link on learned constants takes no tokens and serves any number."""
        if tokens is None:
            mean, there = self.soft_tokens.mean(0, keepdim=True), torch.ones(1, dtype=torch.bool)
        else:
            read = self.direction(self.standard(tokens.values), tokens.azimuth.float())
            real = torch.ones_like(read[..., 0]) if tokens.valid is None else tokens.valid.float()
            mean = (read * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
            there = real.any(1)
            if tokens.rows is not None:  # several texts about one frame
                mean, there = mean[tokens.rows], there[tokens.rows]
        keys, values = self.output(gelu(self.hidden(mean))).unflatten(-1, self.shape).movedim(1, 0)
        closed = torch.zeros(len(mean), 1, 1, device=mean.device).masked_fill(
            ~there.to(mean.device)[:, None, None], -torch.inf)
        return {block: BlockPrefix(keys[:, place], values[:, place], closed)
                for place, block in enumerate(self.config.blocks)}


class MeanPrefix(Method):
    """Linked blocks attend to what the links of all modalities make, side by side."""

    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: Connections, evidence: Evidence | None = None) -> PrefixCompletion:
        """See Method."""
        frames, parts = self.frames(tokens, connections), defaultdict(list)
        for name, link in connections.links.items():
            blind = link.soft_tokens is not None
            if blind or name in frames:
                for block, part in link(None if blind else frames[name]).items():
                    parts[block].append(part)
        return PrefixCompletion(self.lm, {block: join(part, self.lm.dtype) for block, part in parts.items()})


SPEC = MethodSpec('mean_prefix', "the mean of a modality's tokens as a prefix of the upper blocks",
                  MeanPrefix, MeanLink, any_depth=True)

"""Learned columns that stand in front of all questions, beside those of modalities: soft prompts."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mpnp_ros.links.columns import ColumnConfig, ColumnLink
from mpnp_ros.options import option


@dataclass(frozen=True)
class PromptedConfig(ColumnConfig):
    """What a link is made for that shares learned columns with all others."""

    prompts: int = option(10, 'learned columns beside those of modalities, shared by all of these', low=0)


class Prompts(nn.Module):
    """Learned columns [n, d] that stand in front of all questions."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.states = nn.Parameter(.02 * torch.randn(count, width))


class PromptedLink(ColumnLink):
    """Tokens of one modality -> columns; learned columns are shared."""

    config_type = PromptedConfig
    config: PromptedConfig

    def new_shared(self) -> Prompts:
        """Untrained prompts."""
        return Prompts(self.config.prompts, self.config.text_width)

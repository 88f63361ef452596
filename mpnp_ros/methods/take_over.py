"""What a link takes over from another that it starts from."""
from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def take_over(link: nn.Module, other: nn.Module) -> tuple[str, ...]:
    """Copy everything of equal name and shape, statistics too; gives the names of what was not taken over."""
    own, others = link.state_dict(), other.state_dict()
    left = tuple(name for name, tensor in own.items()
                 if name not in others or others[name].shape != tensor.shape)
    for name in own.keys() - set(left):
        own[name].copy_(others[name])
    return left

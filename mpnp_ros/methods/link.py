"""The base class of links: what carries one modality into the language model."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link_options import LinkConfig


class Link(nn.Module):
    """One modality's connection to one language model; all its parameters are float32 and are trained.

    A subclass sets `kind`, a word that link files carry, and adds the parameters that it needs; what
    it is called with is between it and its method.

    config: what it was made for.  version: of the file it came from; '' for a link never saved.
    soft_tokens: learned constants in place of a sensor, where the configuration asks for them.
    """

    kind: ClassVar[str]
    config_type: ClassVar[type[LinkConfig]] = LinkConfig

    def __init__(self, config: LinkConfig) -> None:
        super().__init__()
        self.config = config
        self.version = ''
        constants = torch.randn(config.soft_tokens, config.token_width)
        self.soft_tokens = nn.Parameter(constants) if config.soft_tokens else None

    @classmethod
    def empty(cls, config: LinkConfig, shapes: Mapping[str, Sequence[int]]) -> Link:
        """A link to load tensors into, whose names and shapes are those of the file."""
        return cls(config)

    @property
    def open_blocks(self) -> tuple[int, ...]:
        """The linked blocks in which this link has a say: all, where none can be closed."""
        return self.config.blocks

    @property
    def gates(self) -> torch.Tensor:
        """How far each linked block is open, [N] in [0, 1]: 1, where a link has no gates."""
        return torch.ones(len(self.config.blocks))

    @property
    def first_block(self) -> int | None:
        """The lowest block whose input this link needs or changes; None where it has no say."""
        return self.config.blocks[0]

    def calibrate(self, questions: Sequence[object], values: torch.Tensor | None) -> None:
        """Measure what is standardised, once, before training; nothing by default.

        questions: states of questions, see Connections.question_blocks.  values: [n, D] tokens of the
        training set; None without a sensor.
        """

    def start_from(self, other: Link) -> tuple[str, ...]:
        """Take over all of equal name and shape that another link of this kind has learned.

        Gives the names of what was not taken over.  Raises LinksError for another kind, model or blocks.
        """
        own, its = self.config, other.config
        if (self.kind, own.base_model, own.blocks) != (other.kind, its.base_model, its.blocks):
            raise LinksError(f'a {own.modality} link of kind {self.kind!r} cannot start from the '
                             f'{its.modality} link of kind {other.kind!r}: kind, model and blocks must be '
                             'the same')
        return take_over(self, other)

    def reads_like(self, other: Link) -> bool:
        """Whether both read tokens by parts that are the same in every number and can be shared."""
        return False

    def prune(self, threshold: float) -> int:
        """Close gates below the threshold for good; gives how many.  Raises LinksError without gates."""
        raise LinksError(f'links of kind {self.kind!r} cannot be pruned, they have no gates')


@torch.no_grad()
def take_over(link: nn.Module, other: nn.Module) -> tuple[str, ...]:
    """Copy everything of equal name and shape, statistics too; gives the names of what was not taken over."""
    own, others = link.state_dict(), other.state_dict()
    left = tuple(name for name, tensor in own.items()
                 if name not in others or others[name].shape != tensor.shape)
    for name in own.keys() - set(left):
        own[name].copy_(others[name])
    return left

"""Latent links to a language model of which some blocks go without attention.

What stands in for their attention was made to say what the whole model says (see distillation.py) and is
never trained with a link, so blocks below the links still depend on the question alone.  It travels with
every link that was trained on it.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import nn

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.block_parts import AffineMap
from mpnp_ros.llm.language_model import AlteredModel, BlockForm, LanguageModel
from mpnp_ros.methods.eas.link import SkippedBlock
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.options import option


@dataclass(frozen=True)
class SkippingConfig(LinkConfig):
    """A latent connection to a model with skipped attentions; base_model is the model as it was."""

    skip: tuple[int, ...] = option((), 'blocks of the language model without attention, never block 0')
    stand_in_rank: int = option(32, 'r of what stands in for their attention', low=1)
    stand_ins: str = option('', 'fingerprint of what stands in for their attention')

    def _requirements(self) -> list[tuple[bool, str]]:
        return [*super()._requirements(),
                (list(self.skip) == sorted(set(self.skip)) and min(self.skip, default=1) >= 1,
                 f'skipped blocks {list(self.skip)} must be ascending and never block 0')]


class StandIns(nn.Module):
    """What stands in for the attention of some blocks: u -> u + up (down u) + shift of each, fixed.

    The adapter of methods/eas/link.py with one expert; all that does not depend on u is in its shift.
    down: [k, r, d].  up: [k, d, r].  shift: [k, d].
    """

    def __init__(self, skip: tuple[int, ...], rank: int, width: int) -> None:
        super().__init__()
        self.skip = skip
        self.register_buffer('down', torch.randn(len(skip), rank, width) * width ** -.5)
        self.register_buffer('up', torch.zeros(len(skip), width, rank))
        self.register_buffer('shift', torch.zeros(len(skip), width))

    @property
    def fingerprint(self) -> str:
        """32 hex digits, the same for the same blocks and numbers."""
        digest = hashlib.sha256(str(self.skip).encode())
        for tensor in (self.down, self.up, self.shift):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    def change(self, block: int) -> AffineMap:
        """What stands in for the attention of a block."""
        place = self.skip.index(block)
        shift = self.shift[place]
        return AffineMap(torch.ones_like(shift), self.up[place], self.down[place], shift)


class SkippingModel(AlteredModel):
    """A language model of which some blocks go without attention; its identity is one of its own.

    stand_ins: what stands in for it.  fold: it is in the model's matrices.
    """

    def __init__(self, lm: LanguageModel, stand_ins: StandIns, fold: bool = True) -> None:
        """lm: the model as it was."""
        identity = hashlib.sha256(f'{lm.fingerprint} {stand_ins.fingerprint}'.encode()).hexdigest()[:32]
        self.stand_ins = stand_ins
        super().__init__(lm, {block: _form(lm, stand_ins.change(block), block, fold)
                              for block in stand_ins.skip}, identity)


class SkippingLink(LatentLink):
    """A latent link that brings what stands in for skipped attentions; none of that is trained with it."""

    kind = 'mpnp_eas'
    config_type = SkippingConfig

    def __init__(self, config: SkippingConfig) -> None:
        super().__init__(config)
        self.shared = StandIns(config.skip, config.stand_in_rank, config.text_width)

    def start_from(self, other: LatentLink) -> tuple[str, ...]:
        """See LatentLink; both are of a model with the same stand-ins."""
        if getattr(other.config, 'stand_ins', None) != self.config.stand_ins:
            raise LinksError(f'the {other.config.modality} link was trained on a model that skips other '
                             f'attentions than that of the {self.config.modality} link; train it anew')
        return super().start_from(other)


def _form(lm: LanguageModel, change: AffineMap, block: int, fold: bool) -> BlockForm:
    if not fold or block < lm.first_block:
        return SkippedBlock(change)
    parts = lm.parts(block)
    return SkippedBlock(folded=parts.opening_after(change.then(parts.scale, parts.shift)))

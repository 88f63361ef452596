"""Latent links to a language model with skipped attentions (arXiv:2403.15226).

The stand-ins for these attentions (stand_ins.py) travel with every link that was trained on them.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.connections import check_fit
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.cost import LATENT_COST
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.mpnp.method import LATENT_GROUPS, Mpnp
from mpnp_ros.methods.mpnp_eas.stand_ins import (
    DistilConfig,
    SkippingModel,
    StandIns,
    distil,
    driving_questions,
    kept_stand_ins,
)
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.options import option


@dataclass(frozen=True)
class SkippingConfig(LinkConfig):
    """Options of a latent link to a model with skipped attentions; base_model is the unaltered model."""

    skip: tuple[int, ...] = option((), 'blocks of the language model without attention, never block 0')
    stand_in_rank: int = option(32, 'rank of the stand-ins for their attention', low=1)
    stand_ins: str = option('', 'fingerprint of the stand-ins for their attention')

    def check(self) -> Iterator[str]:
        """Skipped blocks must be ascending."""
        yield from super().check()
        if list(self.skip) != sorted(set(self.skip)) or min(self.skip, default=1) < 1:
            yield f'skipped blocks {list(self.skip)} must be ascending and never block 0'


class SkippingLink(LatentLink):
    """A latent link that brings the stand-ins for skipped attentions, which are not trained with it."""

    kind = 'mpnp_eas'
    config_type = SkippingConfig
    config: SkippingConfig

    def __init__(self, config: SkippingConfig) -> None:
        super().__init__(config)
        self.shared = StandIns(config.skip, config.stand_in_rank, config.text_width)

    def start_from(self, other: LatentLink) -> tuple[str, ...]:
        """See LatentLink; both are of a model with the same stand-ins."""
        if getattr(other.config, 'stand_ins', None) != self.config.stand_ins:
            raise LinksError(f'the {other.config.modality} link was trained on a model that skips other '
                             f'attentions than that of the {self.config.modality} link; train it anew')
        return super().start_from(other)


class MpnpEas(Mpnp):
    """As mpnp, on a model that goes without the attention of some blocks.

    Stand-ins for it are distilled when the first link is made (once for a model: the cache keeps them) and
    fixed from then on.  Every link brings those that it was trained on; links with others are refused.  A
    skipped block that is linked keeps attention over its prefix alone.
    """

    tells_influence = False  # a skipped block attends to its prefix alone, which may not be closed

    def __init__(self, lm: LanguageModel, *, skipped: int | None = None, fold: bool = True,
                 distilling: DistilConfig | None = None, **options: Any) -> None:
        """skipped: number of attentions, by default one of eight; distilling: all options, instead of it."""
        super().__init__(lm.stock if isinstance(lm, SkippingModel) else lm, **options)
        self.stock, self._fold = self.lm, fold
        self.distilling = distilling or DistilConfig(
            max(1, self.stock.blocks // 8) if skipped is None else skipped, self.stock.blocks // 2)
        self.stand_ins: StandIns | None = None
        if isinstance(lm, SkippingModel):
            self._adopt(lm.stand_ins)

    @property
    def fold(self) -> bool:
        """Whether stand-ins are folded into the model's matrices; it may be set at any time."""
        return self._fold

    @fold.setter
    def fold(self, folded: bool) -> None:
        self._fold = folded
        if self.stand_ins is not None:
            self._adopt(self.stand_ins)

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> SkippingLink:
        """Return an untrained link; the first one may take minutes, in which stand-ins are learned."""
        config = SkippingConfig.for_model(self.stock, modality, encoder, token_width, **options)
        own = self.stand_ins
        if own is None:
            own = self._adopt(kept_stand_ins(self.stock, self._texts(), self.distilling))
        link = SkippingLink(replace(config, skip=own.skip, stand_in_rank=own.down.shape[1],
                                    stand_ins=own.fingerprint))
        link.shared = own
        return link

    def distil(self) -> StandIns:
        """Return stand-ins that are learned anew, whatever is in the cache."""
        return distil(self.stock, self._texts(), self.distilling)

    def _texts(self) -> list[torch.Tensor]:
        return [self.template.ids(self.stock.tokenizer, question)
                for question in driving_questions(self.distilling.texts, self.distilling.seed)]

    def accept(self, link: Any) -> Link:
        """See Method; all links must have the same stand-ins, and the first one brings them."""
        super().accept(link)
        check_fit(link.config, self.stock)
        if self.stand_ins is None and link.shared.fingerprint == link.config.stand_ins:
            self._adopt(link.shared)
        if self.stand_ins is None or self.stand_ins.fingerprint != link.config.stand_ins:
            raise LinksError(f'the {link.config.modality} link was trained on a model that skips other '
                             'attentions than the one in use; start anew with it, or train one with the '
                             'others')
        link.shared = self.stand_ins
        return link

    def _adopt(self, stand_ins: StandIns) -> StandIns:
        own: StandIns = stand_ins.to(self.stock.device)
        self.stand_ins, self.lm = own, SkippingModel(self.stock, own, self._fold)
        return own


SPEC = MethodSpec(
    'mpnp_eas', 'as `mpnp`, on a model without attention in some blocks', MpnpEas, SkippingLink,
    any_depth=True, cost=LATENT_COST, parameter_groups=LATENT_GROUPS)

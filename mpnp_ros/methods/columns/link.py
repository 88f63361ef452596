"""Links that hand a modality to the language model as columns of its text: the base of several methods.

Columns are soft tokens in front of the text, from some block on.  They are causal, so they do not depend on
the text: a frame's columns are run once, whatever is asked about it.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import nn

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.connections import SharingConnections
from mpnp_ros.methods.link import Direction, Link, Standardise, TokenBatch
from mpnp_ros.methods.link_options import POOLINGS, REACHES, LinkConfig
from mpnp_ros.options import option

if TYPE_CHECKING:
    from typing_extensions import Self

#: Options of LinkConfig that links of columns read, beside those that follow from the model.
READ = frozenset({'modality', 'encoder', 'token_width', 'blocks', 'hidden', 'soft_tokens'})


BOS = ('before', 'behind')


@dataclass(frozen=True)
class ColumnConfig(LinkConfig):
    """Options of a link that makes columns of the text; of LinkConfig it reads only READ.

    Raises ConfigurationError for values out of range.
    """

    alike: ClassVar[tuple[str, ...]] = ('bos',)

    pooling: str = option('none', 'none: nothing pools by the question', choices=POOLINGS)
    reach: str = option('all', 'all: every row of the text sees columns in front of it', choices=REACHES)
    columns: int = option(
        0, 'columns per frame, each a mean over neighbouring tokens; 0: one per token',
        low=0)
    bos: str = option(
        'before', 'where the token stands that some tokenizers put before every text (BOS): before the '
                  'columns (as published), or behind them', choices=BOS)

    @classmethod
    def for_model(cls, lm: LanguageModel, modality: str, encoder: str, token_width: int, *,
                  last: int | None = None, **options: Any) -> Self:
        """Return options of a link whose columns stand before the first of the blocks, by default block 0.

        last: ignored; it is an option of latent links, and a method of columns decides its own depth.
        """
        return super().for_model(lm, modality, encoder, token_width,
                                 **{'blocks': range(lm.blocks), **cls.own(options)})

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """See LinkConfig; links saved without the option `bos` have their columns before the whole text."""
        return super().from_dict({'bos': 'behind', **entries})

    @classmethod
    def own(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options without those that any link has and links of columns do not read."""
        common = {entry.name for entry in fields(LinkConfig)} - READ
        return {name: value for name, value in options.items() if name not in common}

    def check(self) -> Iterator[str]:
        """Columns know no question and are seen by all rows."""
        yield from super().check()
        if (self.pooling, self.reach) != ('none', 'all'):
            yield 'columns are not pooled by the question and reach all rows'


class ModalityColumns(NamedTuple):
    """The columns of F frames of one modality in front of a text.

    states: block -> [F, C, d], the columns at the input of the first block and of each later block at which
    they are overwritten.  seen: [F, C] bool, False on padding.
    """

    states: Mapping[int, torch.Tensor]
    seen: torch.Tensor

    def of_rows(self, rows: torch.Tensor | None) -> ModalityColumns:
        """Return the columns of the frames in rows [B]; None: as they are."""
        if rows is None:
            return self
        chosen = {block: states[rows] for block, states in self.states.items()}
        return ModalityColumns(chosen, self.seen[rows])


class ColumnLink(Link):
    """Tokens of one modality -> columns of the text.

    projections: tokens -> columns, for each block at which columns are put in.  shared: the module that links
    of a method have in common while they are plugged together; None: there is none.
    Parameters are float32 and all of them are trained.
    """

    config_type = ColumnConfig
    config: ColumnConfig

    def __init__(self, config: ColumnConfig) -> None:
        super().__init__(config)
        self.standard = Standardise(config.token_width)
        self.direction = None if config.soft_tokens else Direction(config.token_width)
        self.projections = nn.ModuleDict({str(block): self.new_projection() for block in self.entering})
        self.shared = self.new_shared()

    @property
    def entering(self) -> Sequence[int]:
        """The blocks at whose input columns are put in, ascending; the first one is that of the link."""
        return self.config.blocks[:1]

    def new_projection(self) -> nn.Module:
        """Return an untrained module from tokens [F, C, D] to columns [F, C, d]."""
        return nn.Linear(self.config.token_width, self.config.text_width)

    def new_shared(self) -> nn.Module | None:
        """Return the untrained module that links have in common; None unless a method overrides this."""
        return None

    def forward(self, tokens: TokenBatch | None = None) -> ModalityColumns:
        """Return the columns of texts; a link on soft tokens takes no tokens.

        Raises LinksError for tokens of another width.
        """
        read, seen = self.averaged(self.read(tokens), None if tokens is None else tokens.valid)
        states = {int(block): projection(read) for block, projection in self.projections.items()}
        return ModalityColumns(states, seen).of_rows(None if tokens is None else tokens.rows)

    @property
    def together(self) -> object:
        """Equal for links that may be plugged together: where columns stand, shapes of the shared module."""
        parts = {} if self.shared is None else self.shared.state_dict()
        return self.config.bos, {name: tensor.shape for name, tensor in parts.items()}

    @torch.no_grad()
    def calibrate(self, questions: Sequence[object], values: torch.Tensor | None) -> None:
        """Measure mean and deviation of tokens [n, D] of the training set, once."""
        if values is not None and not self.standard.measured:
            self.standard.measure(values.to(self.standard.mean.device))

    def read(self, tokens: TokenBatch | None) -> torch.Tensor:
        """Return standardised tokens with their direction, [F, P, D].  Raises LinksError."""
        if self.soft_tokens is not None:
            return self.soft_tokens[None]
        if tokens is None or tokens.values.shape[-1] != self.config.token_width:
            raise LinksError(f'the {self.config.modality} link reads tokens of width '
                             f'{self.config.token_width} with azimuths; use the encoder it was trained with')
        values = tokens.values
        if tokens.valid is not None:
            values = values.masked_fill(~tokens.valid[..., None], 0.)
        assert self.direction is not None  # only a link on soft tokens has none
        return self.direction(self.standard(values), tokens.azimuth.float())

    def averaged(self, tokens: torch.Tensor,
                 valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means [F, C, D] over neighbouring tokens, and which of them are real, bool [F, C].

        C is the option `columns`; 0 keeps the tokens as they are.  A frame of fewer tokens keeps its own.
        """
        seen = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if valid is None else valid
        wanted = self.config.columns
        if self.soft_tokens is not None or not wanted:
            return tokens, seen
        column = (seen.cumsum(1) - 1) * wanted // seen.sum(1, keepdim=True).clamp(min=wanted)
        shares = (column[..., None] == torch.arange(wanted, device=column.device)) & seen[..., None]
        counts = shares.sum(1)
        return shares.to(tokens.dtype).mT @ tokens / counts.clamp(min=1)[..., None], counts > 0


@dataclass(frozen=True)
class PromptedConfig(ColumnConfig):
    """Options of a link that shares learned columns with all others."""

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
        """Return untrained prompts."""
        return Prompts(self.config.prompts, self.config.text_width)


class ColumnConnections(SharingConnections):
    """Links of one kind whose columns stand in front of the text of one model.

    All of them refer to one shared module: that of the link plugged last.
    """

    shared_name = 'shared'

"""eP-ALM: columns that are overwritten block by block in the upper part of the model (arXiv:2303.11403)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.columns.link import ModalityColumns, PromptedConfig, PromptedLink
from mpnp_ros.methods.columns.method import ColumnMethod
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.options import option

if TYPE_CHECKING:
    from typing_extensions import Self

LINKED_SHARE = .4
PROMPT_PLACES = ('link', 'input')


@dataclass(frozen=True)
class EpAlmConfig(PromptedConfig):
    """The last 40 % of the blocks, of which all but the last get columns of their own."""

    bos: str = option('behind', 'behind: columns stand before the whole text (as published)',
                      choices=('behind',))
    connectors: int = option(6, 'linear maps, of which each serves as many blocks in a row', low=1)
    depths: int = option(
        1,
        'depths of the encoder that a frame has tokens of, side by side for each view; connector i reads '
        'the tokens of one depth.  1: all connectors read all tokens', low=1)
    prompt_at: str = option(
        'link',
        'where learned prompts stand: link, before the first linked block; input, before block 0 (as '
        'published), so that gradients go down through all blocks', choices=PROMPT_PLACES)

    @classmethod
    def for_model(cls, lm: LanguageModel, modality: str, encoder: str, token_width: int, *,
                  last: int | None = None, **options: Any) -> Self:
        """Return options of a link to the last blocks of a model, by default to the last 40 %."""
        first = min(lm.blocks - 1, int((1 - LINKED_SHARE) * lm.blocks))
        return super().for_model(lm, modality, encoder, token_width,
                                 **{'blocks': range(first, lm.blocks), **options})

    @property
    def injected(self) -> tuple[int, ...]:
        """Blocks that get columns of their own: all that are linked but the last, if there are more."""
        return self.blocks[:-1] or self.blocks

    def connector(self, block: int) -> int:
        """Return which of the maps serves a block: min((l - s) // max(1, K // M), M - 1)."""
        step = max(1, len(self.injected) // self.connectors)
        return min((block - self.injected[0]) // step, self.connectors - 1)


class EpAlmLink(PromptedLink):
    """Per-depth linear maps of tokens; each linked block gets the columns of its depth."""

    kind = 'ep_alm'
    config_type = EpAlmConfig
    config: EpAlmConfig

    @property
    def first_block(self) -> int:
        """The lowest block that sees columns: that of the learned prompts, where they stand at the input."""
        return 0 if self.config.prompt_at == 'input' else self.config.blocks[0]

    @property
    def entering(self) -> Sequence[int]:
        """The first block that each connector serves."""
        served: dict[int, int] = {}
        for block in self.config.injected:
            served.setdefault(self.config.connector(block), block)
        return sorted(served.values())

    def forward(self, tokens: TokenBatch | None = None) -> ModalityColumns:
        """Return the columns of every injected block; a link on soft tokens takes no tokens."""
        read, depths = self.read(tokens), self.config.depths
        valid, rows = (None, None) if tokens is None else (tokens.valid, tokens.rows)
        if read.shape[1] % depths:
            raise LinksError(f'{read.shape[1]} {self.config.modality} tokens are not those of {depths} '
                             'depths of the encoder; set depths to how many there are of each view')
        own = [self.averaged(read[:, depth::depths], None if valid is None else valid[:, depth::depths])
               for depth in range(depths)]
        states = {}
        for block in self.config.injected:
            number = self.config.connector(block)
            depth = number * depths // self.config.connectors
            states[block] = self.projections[str(self.entering[number])](own[depth][0])
        return ModalityColumns(states, own[0][1]).of_rows(rows)


class EpAlm(ColumnMethod):
    """Tokens enter at the first linked block and again, from a deeper connector, at each one above.

    Corrected (docs/guide/methods.md): columns see themselves and earlier columns, never the text, so the
    model stays causal.  Learned prompts stand at the first linked block, so blocks below it see the text only
    and are cached, as with latent links.  Only the answer is learned.  ``prompt_at='input'`` puts the prompts
    where they are published.  Columns and prompts are all at position 0.
    """

    counted = False


SPEC = MethodSpec(
    'ep_alm', 'eP-ALM (arXiv:2303.11403): tokens in front of the text from the first linked block on, '
    'overwritten at each block by its own connector', EpAlm, EpAlmLink)

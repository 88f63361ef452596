"""The method as published in arXiv:2312.07886, for comparison: no gate, no cached lower blocks.

One alpha_j per linked block for all modalities multiplies keys and values, and every other block gets a
zero prefix of the same length.  Known defects: alpha = 0 is not "not linked", zero prefixes take attention
from the text, and plugging one modality changes the effect of another.

On OPT and BLOOM it is the form of the authors' code.  The paper has no model with RoPE.  There the prefix is
scored with the query before its rotation, so that it is equally near to every token, as it is on OPT.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from mpnp_ros.errors import LinksError, UnsupportedModelError
from mpnp_ros.llm.attention import BlockPrefix, Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.methods.connections import SharingConnections, join
from mpnp_ros.methods.link import Aligner, Direction, Link, QuestionStates, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.lora import Lora
from mpnp_ros.methods.method import Method, PrefixCompletion
from mpnp_ros.methods.questions import Evidence, Tokens
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.options import option

if TYPE_CHECKING:
    from typing_extensions import Self

PLACES = ('before', 'near')
#: Values of the options that links lack which were saved without them.
WITHOUT_OPTIONS: Mapping[str, Any] = {
    'lora': 0, 'lora_alpha': 32., 'fused': False, 'directions': False, 'places': 'near'}


@dataclass(frozen=True)
class PublishedConfig(LinkConfig):
    """Options of a published link; of LinkConfig it reads the sizes, `blocks`, `hidden` and `temperature`."""

    alike: ClassVar[tuple[str, ...]] = ('places', 'lora', 'lora_alpha')

    pooling: str = option('none', 'none: nothing pools by the question', choices=('none',))
    reach: str = option('all', 'all: every row of the text sees the prefix', choices=('all',))
    directions: bool = option(
        True, 'add the direction to each token, as all other methods do; false: as published')
    lora: int = option(
        8, 'rank of LoRA on keys and values of the linked blocks, as in the runtime scripts of the authors; '
           '0: none', low=0)
    lora_alpha: float = option(32., 'alpha of LoRA: its change is scaled by alpha / rank')
    fused: bool = option(
        False, 'the language model has one matrix for queries, keys and values (BLOOM, GPT-2), so LoRA '
               'changes all of it; follows from the model')
    places: str = option(
        'before', 'where models with ALiBi (BLOOM) see the prefix: before, as tokens before the text (as '
                  'published); near, equally near to every token', choices=PLACES)

    @classmethod
    def for_model(cls, lm: LanguageModel, modality: str, encoder: str, token_width: int,
                  **options: Any) -> Self:
        """Return options of a link to the last blocks of a model; `hidden` is by default 4 token_width.

        Raises UnsupportedModelError for a model that LoRA cannot be added to.
        """
        config = super().for_model(lm, modality, encoder, token_width, **{
            'hidden': 4 * token_width, **options})
        if not config.lora:
            return config
        try:
            parts = lm.parts(lm.blocks - 1)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f'{error}; or set lora to 0') from None
        return replace(config, fused=len(parts.key_value_projections) == 1)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """See LinkConfig; links saved before these options were there have none of what they add."""
        return super().from_dict({**WITHOUT_OPTIONS, **entries})

    def new_lora(self) -> Lora | None:
        """Return untrained LoRA for the linked blocks; None for rank 0."""
        if not self.lora:
            return None
        keys = self.kv_heads * self.head_dim
        matrices, outputs = (1, 3 * keys) if self.fused else (2, keys)
        return Lora(self.blocks, matrices, self.lora, self.text_width, outputs, self.lora_alpha)


class PublishedLink(Link):
    """Key and Value Aligner of one modality, and what all modalities share: the weights w_j, and LoRA.

    w_j starts from U(-1, 1).
    """

    kind = 'published'
    config_type = PublishedConfig
    config: PublishedConfig

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__(config)
        if config.soft_tokens:
            raise LinksError(f'the {config.modality} link: the published form has no soft tokens; use the '
                             'method mpnp for them')
        sizes = config.token_width, config.hidden, 1, config.kv_heads, config.head_dim
        self.key_aligner, self.value_aligner = Aligner(*sizes), Aligner(*sizes)
        self.link_weights = nn.Parameter(torch.empty(len(config.blocks)).uniform_(-1., 1.))
        self.direction = Direction(config.token_width) if config.directions else None
        self.lora = config.new_lora()

    @property
    def shared(self) -> tuple[nn.Parameter, Lora | None]:
        """The parts that all modalities share: link weights and LoRA."""
        return self.link_weights, self.lora

    @shared.setter
    def shared(self, parts: tuple[nn.Parameter, Lora | None]) -> None:
        self.link_weights, self.lora = parts

    def forward(self, tokens: TokenBatch) -> BlockPrefix:
        """Return keys and values before alpha."""
        valid, rows = tokens.valid, tokens.rows
        read = tokens.values.float()
        read = read if self.direction is None else self.direction(read, tokens.azimuth.float())
        keys, values = self.key_aligner(read)[0], self.value_aligner(read)[0]
        gate = keys.new_zeros(1, 1, 1)
        if valid is not None:
            gate = torch.where(valid[:, None, :], gate, -torch.inf)
        if rows is not None:
            keys, values, gate = keys[rows], values[rows], gate if valid is None else gate[rows]
        return BlockPrefix(keys, values, gate)

    @property
    def together(self) -> object:
        """Equal for links that may be plugged together."""
        return tuple(getattr(self.config, name) for name in self.config.alike)

    @property
    def gates(self) -> torch.Tensor:
        """Alpha, the factor of keys and values of each linked block, [N] in [0, 1]."""
        return self.gates_of(self.link_weights)

    def gates_of(self, link_weights: torch.Tensor) -> torch.Tensor:
        """Return alpha by link weights [N], which may be another link's."""
        return torch.sigmoid(link_weights / self.config.temperature)


class PublishedConnections(SharingConnections):
    """The paper's links plugged into one model.

    All link the same blocks and share link weights and LoRA: those of the link plugged last.  None can be
    pruned: alpha = 0 still takes attention.
    """

    shared_name = 'shared'

    @property
    def first_block(self) -> int:
        """Zero prefixes reach every block, so none can be cached once a modality is plugged."""
        return 0 if self._links else self.lm.blocks

    @property
    def model(self) -> LanguageModel:
        """The language model with LoRA, whatever modalities a frame has; as it is without links."""
        lora = self.shared[1] if self._links else None
        return self.lm if lora is None else lora.altered(self.lm)

    def prefix(self, tokens: Mapping[str, TokenBatch | tuple[torch.Tensor, ...]],
               question: QuestionStates | None = None) -> Prefix:
        """Return a prefix for every block: (alpha K, alpha V) where linked, zeros elsewhere."""
        present: list[Any] = [link for name, link in self._links.items() if name in tokens]
        if not present:
            return {}
        both = join([link(TokenBatch(*tokens[link.config.modality])) for link in present], torch.float32)
        places = None
        if present[0].config.places == 'before':
            real = ~torch.isneginf(both.log_gate[:, 0])
            places = real.cumsum(1) - 1 - real.sum(1, keepdim=True)
        zeros = torch.zeros_like(both.keys, dtype=self.lm.dtype)
        prefix = dict.fromkeys(range(self.lm.blocks), BlockPrefix(zeros, zeros, both.log_gate, places))
        for block, alpha in zip(present[0].config.blocks, present[0].gates_of(self.shared[0]), strict=True):
            keys, values = ((alpha * part).to(self.lm.dtype) for part in (both.keys, both.values))
            prefix[block] = BlockPrefix(keys, values, both.log_gate, places)
        return prefix


class MpnpPublished(Method):
    """One alpha per linked block times K and V, zero prefixes in all other blocks.

    A question is scored and cached as by the default method, but from block 0 on as soon as a modality is
    plugged, because zero prefixes change every block.
    """

    connections_type = PublishedConnections

    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: PublishedConnections, evidence: Evidence | None = None) -> PrefixCompletion:
        """See Method."""
        return PrefixCompletion(connections.model, connections.prefix(self.frames(tokens, connections)))

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> PublishedLink:
        """Return an untrained link, with the link weights (A.3) and the LoRA in use."""
        link: Any = super().new_link(modality, encoder, token_width, **{
            **options, 'pooling': 'none', 'reach': 'all', 'channels': ()})
        connections: Any = self._connections.snapshot()
        for other in connections.links.values():
            if (other.config.blocks, other.together) == (link.config.blocks, link.together):
                weights, lora = connections.shared
                with torch.no_grad():
                    link.link_weights.copy_(weights)
                if lora is not None:
                    link.lora.load_state_dict(lora.state_dict())
        return link


SPEC = MethodSpec(
    'mpnp_published', 'mPnP-LLM as published (arXiv:2312.07886): one alpha a block on keys and values, zero '
    'prefixes below',
    MpnpPublished, PublishedLink, any_depth=True,
    parameter_groups={'gates': ('link_weights',), 'lora': ('lora.*',),
                      'aligners': ('*_aligner.*', 'direction.*')})

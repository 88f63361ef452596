"""The method exactly as published in arXiv:2312.07886, for comparison: no gate, no cached lower blocks.

One alpha_j per linked block for all modalities multiplies keys and values, and every other block gets a
zero prefix of the same length.  Known defects: alpha = 0 is not "not linked", zero prefixes take attention
from the text, and plugging one modality changes the effect of another.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.attention import BlockPrefix, Prefix
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.methods.connections import SharingConnections, join
from mpnp_ros.methods.link import Aligner, Link, QuestionStates, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.method import Method, PrefixCompletion
from mpnp_ros.methods.questions import Evidence, Tokens
from mpnp_ros.methods.registry import MethodSpec


class PublishedLink(Link):
    """Key and Value Aligner of one modality, and the weights w_j that all modalities share.

    Of the configuration it reads the sizes, `blocks` and `temperature`; the paper's `hidden` is
    4 token_width.  w_j starts from U(-1, 1).
    """

    kind = 'published'

    def __init__(self, config: LinkConfig) -> None:
        super().__init__(config)
        if (config.pooling, config.reach, config.soft_tokens) != ('none', 'all', 0):
            raise LinksError(f'the {config.modality} link: the published form has no question pooling and no '
                             'soft tokens, and reaches all rows; use the method mpnp for anything else')
        sizes = config.token_width, config.hidden, 1, config.kv_heads, config.head_dim
        self.key_aligner, self.value_aligner = Aligner(*sizes), Aligner(*sizes)
        self.link_weights = nn.Parameter(torch.empty(len(config.blocks)).uniform_(-1., 1.))

    def forward(self, tokens: TokenBatch) -> BlockPrefix:
        """Return keys and values before alpha; the azimuth is not read."""
        valid, rows = tokens.valid, tokens.rows
        read = tokens.values.float()
        keys, values = self.key_aligner(read)[0], self.value_aligner(read)[0]
        gate = keys.new_zeros(1, 1, 1)
        if valid is not None:
            gate = torch.where(valid[:, None, :], gate, -torch.inf)
        if rows is not None:
            keys, values, gate = keys[rows], values[rows], gate if valid is None else gate[rows]
        return BlockPrefix(keys, values, gate)

    @property
    def together(self) -> object:
        """Equal for all links to the same blocks: link weights are one for each of these."""
        return ()

    @property
    def gates(self) -> torch.Tensor:
        """Alpha, the factor of keys and values of each linked block, [N] in [0, 1]."""
        return self.gates_of(self.link_weights)

    def gates_of(self, link_weights: torch.Tensor) -> torch.Tensor:
        """Return alpha by link weights [N], which may be another link's."""
        return torch.sigmoid(link_weights / self.config.temperature)


class PublishedConnections(SharingConnections):
    """The paper's links plugged into one model.

    All link the same blocks and share one set of link weights: those of the link plugged last.  None can be
    pruned: alpha = 0 still takes attention.
    """

    shared_name = 'link_weights'

    @property
    def first_block(self) -> int:
        """Zero prefixes reach every block, so none can be cached once a modality is plugged."""
        return 0 if self._links else self.lm.blocks

    def prefix(self, tokens: Mapping[str, TokenBatch | tuple[torch.Tensor, ...]],
               question: QuestionStates | None = None) -> Prefix:
        """Return a prefix for every block: (alpha K, alpha V) where linked, zeros elsewhere."""
        present: list[Any] = [link for name, link in self._links.items() if name in tokens]
        if not present:
            return {}
        both = join([link(TokenBatch(*tokens[link.config.modality])) for link in present], torch.float32)
        zeros = torch.zeros_like(both.keys, dtype=self.lm.dtype)
        prefix = dict.fromkeys(range(self.lm.blocks), BlockPrefix(zeros, zeros, both.log_gate))
        for block, alpha in zip(present[0].config.blocks, present[0].gates_of(self.shared), strict=True):
            keys, values = ((alpha * part).to(self.lm.dtype) for part in (both.keys, both.values))
            prefix[block] = BlockPrefix(keys, values, both.log_gate)
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
        return PrefixCompletion(self.lm, connections.prefix(self.frames(tokens, connections)))

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> PublishedLink:
        """Return an untrained link of the paper's hidden width, with the link weights in use (A.3)."""
        link: Any = super().new_link(modality, encoder, token_width, **{
            'hidden': 4 * token_width, **options, 'pooling': 'none', 'reach': 'all', 'channels': ()})
        others: Mapping[str, Any] = self.links()
        for other in others.values():
            if other.config.blocks == link.config.blocks:
                with torch.no_grad():
                    link.link_weights.copy_(other.link_weights)
        return link


SPEC = MethodSpec(
    'mpnp_published', 'mPnP-LLM as published (arXiv:2312.07886): one alpha a block on keys and values, zero '
    'prefixes below',
    MpnpPublished, PublishedLink, any_depth=True,
    parameter_groups={'gates': ('link_weights',), 'aligners': ('*_aligner.*',)})

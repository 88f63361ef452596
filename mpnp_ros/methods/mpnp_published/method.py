"""The method exactly as published, to compare with (papers.md A.1): no gate, no cached lower blocks."""
from __future__ import annotations

from typing import Any

import torch

from mpnp_ros.methods.method import Mpnp
from mpnp_ros.methods.mpnp_published.link import PublishedConnections, PublishedLink
from mpnp_ros.methods.registry import register_method


@register_method('mpnp_published')
class MpnpPublished(Mpnp):
    """One alpha per linked block times K and V, zero prefixes in all other blocks.

    A question is scored and cached as by :class:`Mpnp`, but from block 0 on as soon as a modality is
    plugged, because zero prefixes change every block.
    """

    link_type = PublishedLink
    connections_type = PublishedConnections
    cost_is_foreseen = False

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> PublishedLink:
        """An untrained link with the paper's hidden width; it starts from the link weights in use (A.3)."""
        link = super().new_link(modality, encoder, token_width, **{
            'hidden': 4 * token_width, **options, 'pooling': 'none', 'reach': 'all', 'channels': ()})
        for other in self.links().values():
            if other.config.blocks == link.config.blocks:
                with torch.no_grad():
                    link.link_weights.copy_(other.link_weights)
        return link

"""eP-ALM: columns that are overwritten block by block in the upper part of the model (papers.md B)."""
from __future__ import annotations

from mpnp_ros.methods.columns.method import ColumnMethod
from mpnp_ros.methods.ep_alm.link import EpAlmLink
from mpnp_ros.methods.registry import register_method


@register_method('ep_alm')
class EpAlm(ColumnMethod):
    """Tokens enter at the first linked block and again, from a deeper connector, at each one above.

    Corrected (papers.md B.4): columns see themselves and what is before them, never the text, so that the
    model stays causal; learned prompts stand at the first linked block, so that blocks below it see the text
    only and are cached, as with latent links; only the answer is learned.  ``prompt_at='input'`` puts the
    prompts where they are published.  Columns and prompts are all at position 0.
    """

    link_type = EpAlmLink
    counted = False

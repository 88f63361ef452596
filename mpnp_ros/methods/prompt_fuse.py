"""PromptFuse: tokens of modalities at the input of the frozen model, as in arXiv:2312.07886."""
from __future__ import annotations

from mpnp_ros.methods.columns.link import PromptedLink
from mpnp_ros.methods.columns.method import ColumnMethod
from mpnp_ros.methods.registry import MethodSpec


class PromptFuseLink(PromptedLink):
    """One projection of tokens to the width of the model; the learned prompts are shared."""

    kind = 'prompt_fuse'


class PromptFuse(ColumnMethod):
    """Learned prompts and projected tokens in front of the text, at block 0.

    The model stays frozen and only prompts and projections are trained, but gradients go down through all
    blocks.  (The original is described for a visual encoder of its own; how the paper sized it is not known.)
    """


SPEC = MethodSpec('prompt_fuse', 'PromptFuse: tokens and learned prompts in front of the text',
                  PromptFuse, PromptFuseLink)

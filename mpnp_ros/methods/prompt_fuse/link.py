"""Links of the method prompt_fuse."""
from __future__ import annotations

from mpnp_ros.methods.columns.prompts import PromptedLink


class PromptFuseLink(PromptedLink):
    """One projection of tokens to the width of the model; the learned prompts are shared."""

    kind = 'prompt_fuse'

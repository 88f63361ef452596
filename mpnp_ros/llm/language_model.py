"""The frozen language model, run block by block, and views of it with some blocks replaced."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

import torch

from mpnp_ros.errors import CancelledError, LinksError
from mpnp_ros.llm.attention import BlockPrefix, Prefix, open_columns
from mpnp_ros.llm.block_parts import BlockParts, block_parts
from mpnp_ros.llm.families import BlockContext, ModelShape, family_of, not_in_memory
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_cancelled: ContextVar[Callable[[], bool] | None] = ContextVar('cancelled', default=None)


@contextmanager
def interruptible(cancelled: Callable[[], bool]) -> Iterator[None]:
    """Stop the model on this thread before its next block once ``cancelled()`` is true.

    It stops with CancelledError.  cancelled: called for every block, so it must be quick.
    """
    token = _cancelled.set(cancelled)
    try:
        yield
    finally:
        _cancelled.reset(token)


def check_interruption() -> None:
    """Raise CancelledError if the current computation is cancelled."""
    cancelled = _cancelled.get()
    if cancelled is not None and cancelled():
        raise CancelledError('the computation was cancelled')


class LanguageModel:
    """A decoder language model that is never trained: eval mode, no parameter requires a gradient.

    Its blocks are run in any range, so that what no prefix reaches is computed once per question:

        lower = lm.run_blocks(lm.embed(layout), layout, 0, first)            # once
        z = lm.logits(lm.run_blocks(lower, layout, first, lm.blocks, prefix))   # for every frame

    Gradients flow through it to a prefix or to hidden states; callers that need none say so with
    torch.no_grad() or torch.inference_mode().

    name: for messages and manifests.  fingerprint: 32 hex digits, the same for the same weights,
    whatever device and dtype they run in.  identity: the same for the same hidden states; the fingerprint,
    except where blocks run in another form (:class:`AlteredModel`).  blocks (L), width (d), heads, kv_heads,
    head_dim: sizes.
    first_block: the lowest block in memory.  reads_text: whether token embeddings are in memory.  They are
    0 and True except for :func:`mpnp_ros.llm.upper_blocks.load_upper_blocks`.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str,
                 weights_identity: str | None = None) -> None:
        """weights_identity: a hash of the files the weights came from; default: of the weights themselves."""
        self.family = family_of(model, name)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.shape: ModelShape = self.family.shape
        self.blocks, self.width = self.shape.blocks, self.shape.width
        self.heads, self.kv_heads, self.head_dim = self.shape.heads, self.shape.kv_heads, self.shape.head_dim
        self.first_block, self.reads_text = self.family.first_block, self.family.reads_text
        if not weights_identity:
            digest = hashlib.sha256()
            for key, tensor in sorted(model.state_dict().items()):
                digest.update(key.encode())
                digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
            weights_identity = digest.hexdigest()
        facts = [model.config.model_type, asdict(self.shape), weights_identity]
        self.fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        self.identity = self.fingerprint

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and hidden states."""
        return self.model.dtype

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which float32 parameters are trained with this model in its number format."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @property
    def max_tokens(self) -> int | None:
        """Maximum number of text positions of the model; None without a limit (ALiBi)."""
        return getattr(self.model.config, 'max_position_embeddings', None)

    @property
    def first_token(self) -> int | None:
        """The token id that the tokenizer puts before every text (BOS); None where it puts none."""
        if self.tokenizer is None or self.tokenizer.bos_token_id is None:
            return None
        first = self.tokenizer('a').input_ids[0]
        return first if first == self.tokenizer.bos_token_id else None

    @property
    def end_tokens(self) -> frozenset[int]:
        """Token ids that end a text."""
        ends = getattr(self.model.generation_config, 'eos_token_id', None)
        ends = ends if isinstance(ends, Iterable) else [ends]
        return frozenset(token for token in (self.tokenizer.eos_token_id, *ends) if token is not None)

    def embed(self, layout: TextLayout) -> torch.Tensor:
        """Return the input of block 0, [B, T, d].  Raises WeightsError if token embeddings are not loaded."""
        return self.family.embed(layout)

    def run_blocks(self, hidden: torch.Tensor, layout: TextLayout, first: int, last: int,
                   prefix: Prefix | None = None, cache: TextCache | None = None) -> torch.Tensor:
        """Run blocks first..last-1.

        hidden: [B, T, d], the input of block `first`.  prefix: gated K/V prefixes of linked blocks;
        blocks outside first..last-1 are not touched.  cache: keys and values of earlier columns of
        `layout`; grows.  Gives the input of block `last`, [B, T, d].
        Raises LinksError for a prefix that does not fit the model or the batch, WeightsError for blocks
        that are not in memory, CancelledError as :func:`mpnp_ros.llm.language_model.interruptible` says.
        """
        if not 0 <= first <= last <= self.blocks:
            raise ValueError(f'blocks {first}..{last} are not within 0..{self.blocks} of {self.name}')
        if first < min(last, self.first_block):
            raise not_in_memory(f'block {first}')
        prefix = prefix or {}
        strays = [index for index in prefix if not 0 <= index < self.blocks]
        if strays:
            raise LinksError(f'a prefix links block {strays[0]}, but {self.name} has blocks '
                             f'0..{self.blocks - 1}; use links made for this model')
        context = self.family.context(hidden, layout)
        for index in range(first, last):
            check_interruption()
            hidden = self.run_block(index, hidden, context, open_columns(prefix.get(index)), cache)
        return hidden

    def run_block(self, index: int, hidden: torch.Tensor, context: BlockContext, prefix: BlockPrefix | None,
                  cache: TextCache | None) -> torch.Tensor:
        """Run one block for :meth:`run_blocks`, with only the open columns of its prefix."""
        return self.family.run_block(index, hidden, context, prefix, cache)

    def caching_blocks(self, first: int) -> Sequence[int]:
        """Return the blocks from `first` on that append to a cache: all of them."""
        return range(first, self.blocks)

    def parts(self, index: int) -> BlockParts:
        """Return the parts of a block, for methods that put something between them.

        Raises UnsupportedModelError for a model that is not pre-norm.
        """
        return block_parts(self.family, index)

    def logits(self, hidden: torch.Tensor, vocabulary: torch.Tensor | None = None) -> torch.Tensor:
        """Apply the final norm and the head.

        hidden: [..., d], the output of the last block.  vocabulary: [V'] token ids; only their rows of
        the head are multiplied.  Gives [..., V] or [..., V'].
        """
        return self.family.logits(hidden, vocabulary)


class BlockForm(Protocol):
    """The replacement of a block."""

    @property
    def caches(self) -> bool:
        """Whether it appends to the cache as the block does; one without attention over the text does not."""

    def __call__(self, parts: BlockParts, hidden: torch.Tensor, context: BlockContext,
                 prefix: BlockPrefix | None, cache: TextCache | None, /) -> torch.Tensor:
        """Return the block's output [B, T, d]; parts: of the stock block; the rest as in run_block."""


class AlteredModel(LanguageModel):
    """A language model that shares all weights with another one and replaces some blocks.

    Creating it is cheap and does not change the other one.
    """

    def __init__(self, lm: LanguageModel, forms: Mapping[int, BlockForm],
                 identity: str | None = None) -> None:
        """identity: key of prepared questions on disk; default: that of `lm`."""
        self.__dict__.update(lm.__dict__)
        self.stock, self.forms = lm, dict(forms)
        self.identity = identity or lm.identity

    def caching_blocks(self, first: int) -> Sequence[int]:
        """Return the blocks from `first` on that append to a cache."""
        return [block for block in self.stock.caching_blocks(first)
                if block not in self.forms or self.forms[block].caches]

    def run_block(self, index: int, hidden: torch.Tensor, context: BlockContext, prefix: BlockPrefix | None,
                  cache: TextCache | None) -> torch.Tensor:
        """Run one block in its replaced form."""
        form = self.forms.get(index)
        if form is None:
            return self.stock.run_block(index, hidden, context, prefix, cache)
        return form(self.parts(index), hidden, context, prefix, cache)

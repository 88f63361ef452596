"""Adapters of language model families: they run the embedding, the blocks and the head of a model.

Supported are decoder models of transformers whose blocks can be run one by one; attention itself is in
:mod:`mpnp_ros.llm.attention`.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import linear

from mpnp_ros.errors import UnsupportedModelError, WeightsError
from mpnp_ros.llm.attention import (
    EAGER,
    SDPA,
    BlockPrefix,
    Rotation,
    gated_attention,
    register_attention,
)
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class Absent(nn.Module):
    """A part that is not loaded; running it raises WeightsError.

    name: of the part, for the message.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *_: object, **__: object) -> torch.Tensor:
        """Raise WeightsError."""
        raise not_in_memory(self.name)


class AnswerHead(nn.Module):
    """The rows of a head that score some tokens.

    weight: [V', width of the head's input].  ids: [V'] the tokens, ascending.
    """

    def __init__(self, ids: torch.Tensor, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.ids = nn.Buffer(ids, persistent=False)

    def rows(self, vocabulary: torch.Tensor) -> torch.Tensor:
        """Return the rows of some token ids; WeightsError if one is not loaded."""
        places = torch.searchsorted(self.ids, vocabulary).clamp(max=len(self.ids) - 1)
        absent = vocabulary[self.ids[places] != vocabulary].tolist()
        if absent:
            raise WeightsError(f'of the head only {len(self.ids)} rows are in memory, and that of token '
                               f'{absent[0]} is not; load the upper blocks with all choices that are used')
        return self.weight[places]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Raise WeightsError: the other rows are not loaded."""
        raise WeightsError(f'of the head only the {len(self.ids)} rows of answers are in memory; load the '
                           'upper blocks without naming choices')


def not_in_memory(part: str) -> WeightsError:
    """Return the error for running a part that is not loaded."""
    return WeightsError(f'{part} of the language model is not in memory, only upper blocks are: read '
                        'questions with the whole model (load_language_model) and keep them in QuestionFiles')


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a language model.

    blocks, width (d), heads (H), kv_heads (H_kv), head_dim (d_h), feedforward (d_ff), gated (the
    feed-forward has a gate matrix: 3 d d_ff instead of 2 d d_ff), embedding_width (that of the token
    table; equal to width but in OPT-350M), vocabulary (V).
    """

    blocks: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    feedforward: int
    gated: bool
    embedding_width: int
    vocabulary: int


@dataclass(frozen=True)
class BlockContext:
    """Shared inputs of all blocks of one run: layout, attention masks [B, 1, T, S] and the rotation."""

    layout: TextLayout
    mask: torch.Tensor | None
    window_mask: torch.Tensor | None = None
    rotation: Rotation | None = None


class LlamaFamily:
    """Llama-like models: RoPE, RMS norm, gated feed-forward (Llama, SmolLM2, Mistral, Qwen, Gemma).

    inputs: the parts of the body that only :meth:`embed` needs.
    """

    inputs: tuple[str, ...] = ('embed_tokens',)

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.body = model.base_model
        self.config: PretrainedConfig = model.config
        self.eager = not model._supports_sdpa
        self.softcap: float | None = getattr(self.config, 'final_logit_softcapping', None)
        register_attention()
        model.set_attn_implementation(EAGER if self.eager else SDPA)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        return self.body.layers

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        config = self.config
        return ModelShape(
            blocks=config.num_hidden_layers, width=config.hidden_size, heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads, head_dim=self.blocks[-1].self_attn.head_dim,
            feedforward=config.intermediate_size, gated=True, embedding_width=config.hidden_size,
            vocabulary=config.vocab_size)

    @property
    def first_block(self) -> int:
        """The lowest block in memory."""
        return sum(isinstance(block, Absent) for block in self.blocks)

    @property
    def reads_text(self) -> bool:
        """Whether token embeddings are in memory."""
        return not isinstance(getattr(self.body, self.inputs[0]), Absent)

    def leave_out(self, first: int) -> None:
        """Remove the parts of a model without weights that block `first` and those above do not need.

        Computed buffers are created here.
        """
        for index in range(first):
            self.blocks[index] = Absent(f'block {index}')
        for name in self.inputs:
            setattr(self.body, name, Absent('the table of token embeddings'))
        rotary = getattr(self.body, 'rotary_emb', None)
        if rotary is not None:
            self.body.rotary_emb = type(rotary)(self.config)

    def embed(self, layout: TextLayout) -> torch.Tensor:
        """Return the input of block 0, [B, T, d]."""
        return self.body.embed_tokens(layout.ids)

    def context(self, hidden: torch.Tensor, layout: TextLayout) -> BlockContext:
        """Return masks and rotation for a run of blocks on [B, T, d] hidden states."""
        window = getattr(self.config, 'sliding_window', None)
        masks = self._mask(layout, hidden.dtype), self._mask(layout, hidden.dtype, window)
        return BlockContext(layout, *masks, self.body.rotary_emb(hidden, layout.positions))

    def run_block(self, index: int, hidden: torch.Tensor, context: BlockContext, prefix: BlockPrefix | None,
                  cache: TextCache | None) -> torch.Tensor:
        """Return the output [B, T, d] of one block; `prefix` has only open columns."""
        return self.blocks[index](hidden, position_ids=context.layout.positions, past_key_values=cache,
                                  **self._attention_options(index, context, prefix))

    def attend(self, index: int, attention: nn.Module, normed: torch.Tensor, context: BlockContext,
               prefix: BlockPrefix | None, cache: TextCache | None) -> torch.Tensor:
        """Return the output of a block's attention branch, [B, T, d].

        attention: the block's own module, or a replacement.  The rest as in run_block.
        """
        return attention(hidden_states=normed, past_key_values=cache,
                         **self._attention_options(index, context, prefix))[0]

    def window(self, index: int) -> int | None:
        """Return how many columns back the rows of a block see; None: all."""
        kinds = getattr(self.config, 'layer_types', None)
        slides = kinds is None or kinds[index] == 'sliding_attention'
        return getattr(self.config, 'sliding_window', None) if slides else None

    def final(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the input of the head: the final norm of the last block's output."""
        return self.body.norm(hidden)

    def logits(self, hidden: torch.Tensor, vocabulary: torch.Tensor | None = None) -> torch.Tensor:
        """Return scores [..., V], or of some token ids only, from the last block's output [..., d]."""
        head, read = self.model.get_output_embeddings(), self.final(hidden)
        if vocabulary is None:
            logits = head(read)
        else:
            rows = head.rows(vocabulary) if isinstance(head, AnswerHead) else head.weight[vocabulary]
            logits = linear(read, rows)
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap

    def _attention_options(self, index: int, context: BlockContext,
                           prefix: BlockPrefix | None) -> dict[str, Any]:
        """Return the arguments of a block's attention module beside states and cache."""
        mask = context.mask if self.window(index) is None else context.window_mask
        options = {} if prefix is None else {'prefix': prefix, 'rotation': context.rotation}
        return {'attention_mask': mask, 'position_embeddings': context.rotation, **options}

    def _mask(self, layout: TextLayout, dtype: torch.dtype, window: int | None = None) -> torch.Tensor | None:
        """Return the layout's mask for the model's own attention: bool (SDPA) or additive (eager)."""
        mask = layout.mask(window)
        if not self.eager:
            return mask
        shown = layout.full_visible()[:, None] if mask is None else mask
        return torch.zeros(shown.shape, dtype=dtype, device=shown.device).masked_fill_(
            ~shown, torch.finfo(dtype).min)


class OptFamily(LlamaFamily):
    """OPT: learned positions, plain feed-forward."""

    inputs: tuple[str, ...] = ('embed_tokens', 'embed_positions', 'project_in')

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.body = model.model.decoder

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        config = self.config
        return ModelShape(
            blocks=config.num_hidden_layers, width=config.hidden_size, heads=config.num_attention_heads,
            kv_heads=config.num_attention_heads, head_dim=config.hidden_size // config.num_attention_heads,
            feedforward=config.ffn_dim, gated=False, embedding_width=config.word_embed_proj_dim,
            vocabulary=config.vocab_size)

    def embed(self, layout: TextLayout) -> torch.Tensor:
        """Return the input of block 0, [B, T, d]."""
        words = self.body.embed_tokens(layout.ids)
        words = words if self.body.project_in is None else self.body.project_in(words)
        return words + self.body.embed_positions(None, position_ids=layout.positions)

    def context(self, hidden: torch.Tensor, layout: TextLayout) -> BlockContext:
        """Return the mask for a run of blocks."""
        return BlockContext(layout, self._mask(layout, hidden.dtype))

    def run_block(self, index: int, hidden: torch.Tensor, context: BlockContext, prefix: BlockPrefix | None,
                  cache: TextCache | None) -> torch.Tensor:
        """Return the output [B, T, d] of one block; `prefix` has only open columns."""
        return self.blocks[index](hidden, past_key_values=cache,
                                  **self._attention_options(index, context, prefix))

    def final(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the input of the head."""
        norm, project = self.body.final_layer_norm, self.body.project_out
        hidden = hidden if norm is None else norm(hidden)
        return hidden if project is None else project(hidden)

    def _attention_options(self, index: int, context: BlockContext,
                           prefix: BlockPrefix | None) -> dict[str, Any]:
        return {'attention_mask': context.mask, **({} if prefix is None else {'prefix': prefix})}


class Gpt2Family(OptFamily):
    """GPT-2: learned positions, plain feed-forward, fused projections."""

    inputs = ('wte', 'wpe')

    def __init__(self, model: PreTrainedModel) -> None:
        LlamaFamily.__init__(self, model)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        return self.body.h

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        config = self.config
        return ModelShape(
            blocks=config.n_layer, width=config.n_embd, heads=config.n_head, kv_heads=config.n_head,
            head_dim=config.n_embd // config.n_head, feedforward=config.n_inner or 4 * config.n_embd,
            gated=False, embedding_width=config.n_embd, vocabulary=config.vocab_size)

    def embed(self, layout: TextLayout) -> torch.Tensor:
        """Return the input of block 0, [B, T, d]."""
        return self.body.wte(layout.ids) + self.body.wpe(layout.positions)

    def final(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the input of the head."""
        return self.body.ln_f(hidden)


class BloomFamily(Gpt2Family):
    """BLOOM: ALiBi, and an attention module that transformers' attention interface does not reach.

    A linked block is therefore spelled out here, with its attention replaced.  There, ALiBi is counted
    from each query (0 on its own column).  So a prefix without places, which has no bias, is equally near
    to every position; one with places is as far away as these say.  The model's own form differs by a
    constant per query, which its softmax ignores.
    """

    inputs = ('word_embeddings', 'word_embeddings_layernorm')

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.body, self.config = model, model.base_model, model.config
        self.eager, self.softcap = True, None
        probe = torch.ones(1, 2, device=model.device)
        self.slopes = self.body.build_alibi_tensor(probe, self.config.n_head, torch.float32)[:, 0, 1]

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        config = self.config
        return ModelShape(
            blocks=config.n_layer, width=config.hidden_size, heads=config.n_head, kv_heads=config.n_head,
            head_dim=config.hidden_size // config.n_head, feedforward=4 * config.hidden_size, gated=False,
            embedding_width=config.hidden_size, vocabulary=config.vocab_size)

    def embed(self, layout: TextLayout) -> torch.Tensor:
        """Return the input of block 0, [B, T, d]."""
        return self.body.word_embeddings_layernorm(self.body.word_embeddings(layout.ids))

    def run_block(self, index: int, hidden: torch.Tensor, context: BlockContext, prefix: BlockPrefix | None,
                  cache: TextCache | None) -> torch.Tensor:
        """Return the output [B, T, d] of one block; `prefix` has only open columns."""
        block = self.blocks[index]
        if prefix is None:
            return block(hidden, alibi=self._alibi(hidden, context), layer_past=cache,
                         attention_mask=context.mask)[0]
        after_norm = self.config.apply_residual_connection_post_layernorm
        normed = block.input_layernorm(hidden)
        residual = normed if after_norm else hidden
        hidden = residual + self._attend_linked(index, block.self_attention, normed, context, prefix, cache)
        normed = block.post_attention_layernorm(hidden)
        return block.mlp(normed, normed if after_norm else hidden)

    def attend(self, index: int, attention: nn.Module, normed: torch.Tensor, context: BlockContext,
               prefix: BlockPrefix | None, cache: TextCache | None) -> torch.Tensor:
        """See LlamaFamily."""
        if prefix is not None:
            return self._attend_linked(index, attention, normed, context, prefix, cache)
        return attention(normed, torch.zeros_like(normed), self._alibi(normed, context), context.mask,
                         layer_past=cache)[0]

    def _alibi(self, hidden: torch.Tensor, context: BlockContext) -> torch.Tensor:
        alibi = self.slopes[:, None, None] * context.layout.column_positions[:, None, None, :]
        return alibi.flatten(0, 1).to(hidden.dtype)

    def _attend_linked(self, index: int, attention: nn.Module, normed: torch.Tensor, context: BlockContext,
                       prefix: BlockPrefix, cache: TextCache | None) -> torch.Tensor:
        layout = context.layout
        query, key, value = attention._reshape(attention.query_key_value(normed))
        if cache is not None:
            key, value = cache.update(key, value, index)

        def alibi(columns: torch.Tensor) -> torch.Tensor:
            back = columns[:, None, :] - layout.positions[:, :, None]
            return self.slopes[:, None, None] * back[:, None]

        out = gated_attention(query, key, value, prefix, scaling=attention.inv_norm_factor, mask=context.mask,
                              bias=alibi(layout.column_positions),
                              prefix_bias=None if prefix.places is None else alibi(prefix.places))
        return attention.dense(out.flatten(2))


FAMILIES: dict[str, type[LlamaFamily]] = {
    **dict.fromkeys(('llama', 'mistral', 'qwen2', 'qwen3', 'gemma', 'gemma2'), LlamaFamily),
    'opt': OptFamily, 'gpt2': Gpt2Family, 'bloom': BloomFamily}


def check_family(model_type: str, name: str) -> None:
    """Raise UnsupportedModelError with the supported families unless `model_type` is one of them."""
    if model_type not in FAMILIES:
        raise UnsupportedModelError(
            f'{name} is of family {model_type!r}, which cannot be run block by block; '
            f'supported families: {", ".join(sorted(FAMILIES))}')


def family_of(model: PreTrainedModel, name: str) -> LlamaFamily:
    """Return the adapter for a model; UnsupportedModelError if there is none."""
    check_family(model.config.model_type, name)
    return FAMILIES[model.config.model_type](model)

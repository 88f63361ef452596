"""The parts of one block, for methods that put something between them.

    hidden = hidden + parts.attend(parts.attention_norm(hidden), context, prefix, cache)
    hidden = hidden + parts.closed(*parts.opened(parts.feed_forward_norm(hidden)))

is the stock block of every pre-norm family.  An affine map between a norm and the matrices behind it can be
folded into those matrices: :meth:`BlockParts.attending_after` and :meth:`BlockParts.opening_after` give parts
with new matrices that share all else, so that the original and any number of folded forms run at once, in any
threads.
"""
from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import torch
from torch import nn

from mpnp_ros.errors import UnsupportedModelError
from mpnp_ros.llm.attention import BlockPrefix, gated_attention
from mpnp_ros.llm.families import Absent, BlockContext, LlamaFamily, not_in_memory
from mpnp_ros.llm.text_cache import TextCache

if TYPE_CHECKING:
    from transformers.pytorch_utils import Conv1D

Matrix: TypeAlias = 'nn.Linear | Conv1D'


@dataclass(frozen=True)
class AffineMap:
    """x -> scale * x + up (down x) + shift, of vectors [d].

    scale, shift: [d].  up: [d, r].  down: [r, d].  All float32.
    """

    scale: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor
    shift: torch.Tensor

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """[..., d] -> [..., d], float32."""
        wide = vectors.float()
        return self.scale * wide + (wide @ self.down.T) @ self.up.T + self.shift

    def then(self, scale: torch.Tensor, shift: torch.Tensor) -> AffineMap:
        """Return this map followed by y -> scale * y + shift; both [d]."""
        return AffineMap(scale * self.scale, scale[:, None] * self.up, self.down, scale * self.shift + shift)

    def before(self, matrix: Matrix) -> Matrix:
        """Return a matrix that reads x as `matrix` reads the map of x: W' = W M, b' = b + W c.

        It shares nothing with `matrix`, has its type and always a bias.
        """
        turned = not isinstance(matrix, nn.Linear)  # Conv1D of transformers
        weight = (matrix.weight.T if turned else matrix.weight).detach().float()
        bias = weight @ self.shift
        if matrix.bias is not None:
            bias = bias + matrix.bias.detach().float()
        folded = weight * self.scale + (weight @ self.up) @ self.down
        other = copy.copy(matrix)
        other._parameters = {
            name: nn.Parameter(tensor.to(matrix.weight.dtype).contiguous(), requires_grad=False)
            for name, tensor in (('weight', folded.T if turned else folded), ('bias', bias))}
        return other


class RowMatrices(nn.Module):
    """Several matrices for one batch: each row goes through the one chosen for it."""

    def __init__(self, matrices: Iterable[Matrix], choice: torch.Tensor) -> None:
        """choice: [B] indices of the matrices."""
        super().__init__()
        self.matrices = nn.ModuleList(matrices)
        self.choice = choice

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[B, T, d] -> [B, T, D]."""
        out: torch.Tensor | None = None
        for index, matrix in enumerate(self.matrices):
            rows = (self.choice == index).nonzero()[:, 0]
            part = matrix(inputs[rows])
            out = part.new_empty(*inputs.shape[:-1], part.shape[-1]) if out is None else out
            out[rows] = part
        return out


class BlockParts:
    """One pre-norm block in parts; made by :meth:`LanguageModel.parts`.

    scale, shift: of the feed-forward norm, [d] float32: it is (standardised x) * scale + shift.
    """

    norms: ClassVar[tuple[str, str]]
    attention_name: ClassVar[str]
    projections: ClassVar[tuple[str, ...]]
    feed_forward_name: ClassVar[str]
    first_matrices: ClassVar[tuple[str, ...]]

    def __init__(self, family: LlamaFamily, index: int) -> None:
        self.family, self.index, block = family, index, family.blocks[index]
        self.attention_norm, self.feed_forward_norm = (getattr(block, name) for name in self.norms)
        self.attention: nn.Module = getattr(block, self.attention_name)
        self.feed_forward_module = getattr(block, self.feed_forward_name) if self.feed_forward_name else block
        self.openers = tuple(getattr(self.feed_forward_module, name) for name in self.first_matrices)

    @property
    def scale(self) -> torch.Tensor:
        """Factor of the feed-forward norm, [d]."""
        weight = self.feed_forward_norm.weight.detach().float()
        return 1 + weight if self.family.config.model_type == 'gemma' else weight

    @property
    def shift(self) -> torch.Tensor:
        """Offset of the feed-forward norm, [d]."""
        bias = getattr(self.feed_forward_norm, 'bias', None)
        return torch.zeros_like(self.scale) if bias is None else bias.detach().float()

    def attend(self, normed: torch.Tensor, context: BlockContext, prefix: BlockPrefix | None = None,
               cache: TextCache | None = None) -> torch.Tensor:
        """Return the attention branch [B, T, d] without residual; arguments as in the family's run_block."""
        return self.family.attend(self.index, self.attention, normed, context, prefix, cache)

    def attend_prefix(self, normed: torch.Tensor, prefix: BlockPrefix) -> torch.Tensor:
        """Return the attention branch [B, T, d] over the prefix alone: no text is seen and none is cached.

        One column of logit 0 and value 0 takes the place of the text in the softmax.  So a gate still sets
        how much of the prefix is seen, and a closed gate gives exactly 0.
        """
        query = self._queries(normed)
        none = query.new_zeros(len(query), prefix.keys.shape[1], 1, query.shape[-1])
        shown = torch.ones(1, 1, query.shape[2], 1, dtype=torch.bool, device=query.device)
        out = gated_attention(query, none, none, prefix, scaling=self._scaling, mask=shown)
        return self._output(out.flatten(2)) - self._output(torch.zeros_like(out[:1, :1]).flatten(2))

    def opened(self, normed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs of the first feed-forward matrices on [B, T, d]: (gate, up) or (up,)."""
        return tuple(matrix(normed) for matrix in self.openers)

    def closed(self, *opened: torch.Tensor) -> torch.Tensor:
        """Return the feed-forward branch [B, T, d] without residual, from the result of :meth:`opened`."""
        raise NotImplementedError

    def feed_forward(self, normed: torch.Tensor) -> torch.Tensor:
        """Return the feed-forward branch [B, T, d] without residual."""
        return self.closed(*self.opened(normed))

    def run(self, hidden: torch.Tensor, context: BlockContext, prefix: BlockPrefix | None = None,
            cache: TextCache | None = None) -> torch.Tensor:
        """Run the whole block: [B, T, d] -> [B, T, d]."""
        hidden = hidden + self.attend(self.attention_norm(hidden), context, prefix, cache)
        return hidden + self.feed_forward(self.feed_forward_norm(hidden))

    @property
    def key_value_projections(self) -> tuple[str, ...]:
        """Names of the matrices of keys and values: (keys, values), or one for queries, keys and values."""
        return self.projections[-2:]

    def with_projections(self, modules: Mapping[str, nn.Module]) -> BlockParts:
        """Return parts with other modules in place of some matrices of their attention, by name."""
        return self._with(attention=modules)

    def attending_after(self, change: AffineMap) -> BlockParts:
        """Return parts that attend to a normed state as these attend to the map of it."""
        return self._with(attention={name: change.before(getattr(self.attention, name))
                                     for name in self.projections})

    def opening_after(self, change: AffineMap) -> BlockParts:
        """Return parts whose feed-forward reads a state as that of these reads the map of it."""
        return self._with(openers=[change.before(matrix) for matrix in self.openers])

    @staticmethod
    def of_rows(choices: Sequence[BlockParts], choice: torch.Tensor) -> BlockParts:
        """Return parts of one block that run each row of a batch by the parts chosen for it.

        choice: [B] indices.  No gradients flow through them.
        """
        first, *others = choices
        if not others:
            return first
        return first._with(
            attention={name: _of_rows([getattr(parts.attention, name) for parts in choices], choice)
                       for name in first.projections},
            openers=[_of_rows(matrices, choice)
                     for matrices in zip(*(parts.openers for parts in choices), strict=True)])

    def _with(self, attention: Mapping[str, nn.Module] | None = None,
              openers: Iterable[nn.Module] | None = None) -> BlockParts:
        """Return these parts with other modules in them; all else is shared."""
        other = copy.copy(self)
        if attention is not None:
            other.attention = copy.copy(self.attention)
            other.attention._modules = {**self.attention._modules, **attention}
        if openers is not None:
            other.openers = tuple(openers)
        return other

    def _queries(self, normed: torch.Tensor) -> torch.Tensor:
        """[B, H, T, d_h], without a rotation."""
        raise NotImplementedError

    @property
    def _output(self) -> nn.Module:
        """The last matrix of the attention branch."""
        raise NotImplementedError

    @property
    def _scaling(self) -> float:
        """Factor of the products of queries and keys."""
        return self.attention.scaling


class LlamaParts(BlockParts):
    """Parts of Llama, Mistral, Qwen and Gemma."""

    norms = 'input_layernorm', 'post_attention_layernorm'
    attention_name, feed_forward_name = 'self_attn', 'mlp'
    projections = 'q_proj', 'k_proj', 'v_proj'
    first_matrices = 'gate_proj', 'up_proj'

    def closed(self, *opened: torch.Tensor) -> torch.Tensor:
        """See BlockParts."""
        gate, up = opened
        return self.feed_forward_module.down_proj(self.feed_forward_module.act_fn(gate) * up)

    def _queries(self, normed: torch.Tensor) -> torch.Tensor:
        queries = self.attention.q_proj(normed).unflatten(-1, (-1, self.attention.head_dim))
        norm = getattr(self.attention, 'q_norm', None)
        return (queries if norm is None else norm(queries)).transpose(1, 2)

    @property
    def _output(self) -> nn.Module:
        return self.attention.o_proj


class OptParts(BlockParts):
    """Parts of OPT, except the 350M model, whose norms come after its branches."""

    norms = 'self_attn_layer_norm', 'final_layer_norm'
    attention_name, feed_forward_name = 'self_attn', ''
    projections = 'q_proj', 'k_proj', 'v_proj'
    first_matrices = ('fc1',)

    def closed(self, *opened: torch.Tensor) -> torch.Tensor:
        """See BlockParts."""
        return self.feed_forward_module.fc2(self.feed_forward_module.activation_fn(*opened))

    def _queries(self, normed: torch.Tensor) -> torch.Tensor:
        return self.attention.q_proj(normed).unflatten(-1, (-1, self.attention.head_dim)).transpose(1, 2)

    @property
    def _output(self) -> nn.Module:
        return self.attention.out_proj


class Gpt2Parts(BlockParts):
    """Parts of GPT-2."""

    norms = 'ln_1', 'ln_2'
    attention_name, feed_forward_name = 'attn', 'mlp'
    projections = ('c_attn',)
    first_matrices = ('c_fc',)

    def closed(self, *opened: torch.Tensor) -> torch.Tensor:
        """See BlockParts."""
        return self.feed_forward_module.c_proj(self.feed_forward_module.act(*opened))

    def _queries(self, normed: torch.Tensor) -> torch.Tensor:
        queries = self.attention.c_attn(normed.contiguous())[..., :self.attention.embed_dim]
        return queries.unflatten(-1, (-1, self.attention.head_dim)).transpose(1, 2)

    @property
    def _output(self) -> nn.Module:
        return self.attention.c_proj


class BloomParts(BlockParts):
    """Parts of BLOOM."""

    norms = 'input_layernorm', 'post_attention_layernorm'
    attention_name, feed_forward_name = 'self_attention', 'mlp'
    projections = ('query_key_value',)
    first_matrices = ('dense_h_to_4h',)

    def closed(self, *opened: torch.Tensor) -> torch.Tensor:
        """See BlockParts."""
        return self.feed_forward_module.dense_4h_to_h(self.feed_forward_module.gelu_impl(*opened))

    def _queries(self, normed: torch.Tensor) -> torch.Tensor:
        return self.attention._reshape(self.attention.query_key_value(normed))[0]

    @property
    def _output(self) -> nn.Module:
        return self.attention.dense

    @property
    def _scaling(self) -> float:
        return self.attention.inv_norm_factor


PARTS: dict[str, type[BlockParts]] = {
    **dict.fromkeys(('llama', 'mistral', 'qwen2', 'qwen3', 'gemma'), LlamaParts),
    'opt': OptParts, 'gpt2': Gpt2Parts, 'bloom': BloomParts}


def block_parts(family: LlamaFamily, index: int) -> BlockParts:
    """Return the parts of a block.

    Raises UnsupportedModelError for a model that is not pre-norm, WeightsError for a block not in memory.
    """
    config = family.config
    kind = PARTS.get(config.model_type)
    if (kind is None or not getattr(config, 'do_layer_norm_before', True)
            or getattr(config, 'apply_residual_connection_post_layernorm', False)):
        raise UnsupportedModelError(
            f'the blocks of this {config.model_type} model do not have one norm before each branch and '
            'nothing behind it, so they cannot be altered; use the method mpnp with it, or a model of '
            f'another family: {", ".join(sorted(PARTS))} (of opt, not the 350m model)')
    if isinstance(family.blocks[index], Absent):
        raise not_in_memory(f'block {index}')
    return kind(family, index)


def _of_rows(matrices: Sequence[Matrix], choice: torch.Tensor) -> nn.Module:
    """Return one matrix for all rows where all are the same, else RowMatrices."""
    same = all(matrix is matrices[0] for matrix in matrices)
    return matrices[0] if same else RowMatrices(matrices, choice)

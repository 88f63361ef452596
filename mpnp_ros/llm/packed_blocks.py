"""The upper blocks in the form in which they answer a standing question fastest on the CPU.

:meth:`LanguageModel.run_blocks` is the reference.  This is the same computation with fewer operators and less
memory read: matrices that read the same input are one, weights are laid out once for the kernels
(:mod:`mpnp_ros.llm.packed_matrix`), and the keys and values of the texts are laid out once for all frames.
Nothing is compiled, and nothing depends on links: any prefix, any set of open gates and any number of texts
runs at once.
"""
from __future__ import annotations

import logging
import threading
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.functional import silu

from mpnp_ros.device import choose_dtype
from mpnp_ros.errors import UnsupportedModelError
from mpnp_ros.llm.attention import BlockPrefix, Prefix
from mpnp_ros.llm.families import Absent, LlamaFamily
from mpnp_ros.llm.language_model import AlteredModel, LanguageModel, check_interruption
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.packed_matrix import PackedMatrix
from mpnp_ros.llm.text_cache import TextCache

FAMILIES = ('llama', 'mistral', 'qwen2')
"""Model types whose blocks are an RMS norm, rotary attention, an RMS norm and a gated SiLU feed-forward."""

LOG = logging.getLogger(__name__)


class RootMeanSquare:
    """The norm x / sqrt(mean x^2 + epsilon) * weight in few operators, float32."""

    def __init__(self, norm: nn.Module) -> None:
        self.weight = norm.weight.float()
        self.epsilon = torch.tensor(norm.variance_epsilon)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """[rows, d] -> [rows, d]."""
        length = torch.linalg.vector_norm(states, 2, -1, True)
        factor = torch.addcmul(self.epsilon, length, length, value=1 / states.shape[-1]).rsqrt_()
        return (states * factor).mul_(self.weight)


class PackedBlock:
    """One block; its weights are those of the model, in a layout of their own."""

    def __init__(self, block: nn.Module, four_bit: bool, rounded: bool) -> None:
        """four_bit, rounded: as of PackedMatrix."""
        attention, feed_forward = block.self_attn, block.mlp
        self.attention_norm, self.feed_forward_norm = map(
            RootMeanSquare, (block.input_layernorm, block.post_attention_layernorm))
        self.scaling = attention.scaling

        def packed(*matrices: nn.Linear) -> PackedMatrix:
            biases = [torch.zeros(len(matrix.weight)) if matrix.bias is None else matrix.bias
                      for matrix in matrices]
            bias = None if all(matrix.bias is None for matrix in matrices) else torch.cat(biases)
            weights = [matrix.weight for matrix in matrices]
            weight = weights[0] if len(weights) == 1 else torch.cat(weights)
            return PackedMatrix(weight, bias, four_bit, rounded)

        self.attend = packed(attention.q_proj, attention.k_proj, attention.v_proj)
        self.output = packed(attention.o_proj)
        self.open = packed(feed_forward.gate_proj, feed_forward.up_proj)
        self.close = packed(feed_forward.down_proj)

    @property
    def matrices(self) -> tuple[PackedMatrix, ...]:
        """Its four matrices."""
        return self.attend, self.output, self.open, self.close


class TextColumns(NamedTuple):
    """Keys and values of B texts in one block, float32.

    shown: [B H_kv, G R, S], 0 or -inf.  keys: [B H_kv, d_h, S].  values: [B H_kv, S, d_h].
    own_keys, own_values: [B, H_kv, R, d_h], the parts of both for the open rows, which each run writes.
    """

    shown: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    own_keys: torch.Tensor
    own_values: torch.Tensor


class OpenTexts(Protocol):
    """B texts that are prepared up to block `first`, with R open rows each."""

    @property
    def first(self) -> int:
        """The lowest block to run."""

    @property
    def hidden(self) -> torch.Tensor:
        """Its input, [B, R, d]."""

    @property
    def layout(self) -> TextLayout:
        """The open rows."""

    @property
    def cache(self) -> TextCache:
        """The columns before them."""


class PackedTexts:
    """B texts at the input of block `first`, laid out for any number of frames; R open rows each.

    hidden: [B R, d] float32.  turns: cosine and sine [B, 1, R, d_h], the sine with the sign of its half.
    columns: block -> the keys and values of the texts.
    """

    def __init__(self, lm: LanguageModel, texts: OpenTexts) -> None:
        hidden, layout, cache, first = texts.hidden, texts.layout, texts.cache, texts.first
        batch, rows, _ = hidden.shape
        self.batch, self.rows = batch, rows
        rotation = lm.family.context(hidden, layout).rotation
        assert rotation is not None  # the families that are packed rotate
        cosine, sine = (table.float().expand(batch, -1, -1)[:, None] for table in rotation)
        half = sine.shape[-1] // 2
        self.turns = cosine, torch.cat([-sine[..., :half], sine[..., half:]], -1)
        self.hidden = hidden.float().reshape(batch * rows, -1)
        groups = lm.heads // lm.kv_heads
        self.columns, shown = {}, {}
        for block in range(first, lm.blocks):
            if (window := lm.family.window(block)) not in shown:
                mask = layout.mask(window)
                mask = layout.full_visible() if mask is None else mask[:, 0]
                mask = mask.expand(batch, -1, -1)[:, None, None].expand(-1, lm.kv_heads, groups, -1, -1)
                shown[window] = torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf).view(
                    batch * lm.kv_heads, groups * rows, -1)
            keys, values = torch.zeros(2, batch, lm.kv_heads, layout.columns, lm.head_dim)
            if layout.cached:
                keys[:, :, :layout.cached], values[:, :, :layout.cached] = cache.columns(block)
            self.columns[block] = TextColumns(shown[window], keys.flatten(0, 1).mT, values.flatten(0, 1),
                                              keys[:, :, -rows:], values[:, :, -rows:])

    def turned(self, heads: torch.Tensor) -> torch.Tensor:
        """Return queries or keys [B, H, R, d_h] with their rotation."""
        cosine, sine = self.turns
        return torch.addcmul(heads * cosine, heads.roll(heads.shape[-1] // 2, -1), sine)


class PackedBlocks:
    """The upper blocks of a language model, packed beside the answers, and the texts that they run again.

    Thread-safe: runs wait for each other, because each writes the columns of its texts.

    four_bit: whether weights that lie on a 4-bit grid are read in 4 bits, or for many rows in bfloat16 where
    this machine multiplies that faster, with inputs rounded to bfloat16.
    """

    def __init__(self, lm: LanguageModel, four_bit: bool = True) -> None:
        """Raises UnsupportedModelError with the reason for a model or a device that cannot be packed."""
        config, family = lm.model.config, lm.family
        if lm.device.type != 'cpu':
            raise UnsupportedModelError(f'blocks are packed for the CPU, and {lm.name} is on {lm.device}')
        if isinstance(lm, AlteredModel):
            raise UnsupportedModelError(f'some blocks of {lm.name} are replaced, which packed ones are not')
        if config.model_type not in FAMILIES or type(family) is not LlamaFamily:
            raise UnsupportedModelError(f'blocks of {config.model_type} models are not packed, only those of '
                                        f'{", ".join(FAMILIES)}')
        if config.hidden_act != 'silu' or lm.dtype not in (torch.float32, torch.bfloat16):
            raise UnsupportedModelError(f'{lm.name} has the activation {config.hidden_act} in {lm.dtype}; '
                                        'packed are silu in float32 and bfloat16')
        self.lm, self.four_bit = lm, four_bit
        self._blocks: dict[int, PackedBlock] = {}
        self._texts: WeakKeyDictionary[OpenTexts, PackedTexts] = WeakKeyDictionary()
        self._packing, self._running = threading.Lock(), threading.Lock()
        self._failed = False

    def ready(self, first: int) -> bool:
        """Whether block `first` and those above are packed; if not, they are from now on, on a thread."""
        if all(block in self._blocks for block in range(first, self.lm.blocks)):
            return True
        if not self._failed and not self._packing.locked():
            threading.Thread(target=self.prepare, args=(first,), name='packing', daemon=True).start()
        return False

    @torch.no_grad()
    def prepare(self, first: int) -> None:
        """Pack block `first` and those above.  If that fails, the reason is logged once."""
        with self._packing:
            rounded = choose_dtype('auto', self.lm.device, self.lm.width) == torch.bfloat16
            try:
                for index in reversed(range(first, self.lm.blocks)):
                    block = self.lm.family.blocks[index]
                    if index not in self._blocks and not isinstance(block, Absent):
                        self._blocks[index] = PackedBlock(block, self.four_bit, rounded)
            except Exception as error:
                self._failed = True
                LOG.warning('the upper blocks of %s could not be packed and run as they are: %s: %s',
                            self.lm.name, type(error).__name__, error)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that it reads."""
        return sum(matrix.nbytes for block in self._blocks.values() for matrix in block.matrices)

    @torch.inference_mode()
    def run(self, texts: OpenTexts, prefix: Prefix) -> torch.Tensor:
        """Return the output [B, R, d] of the last block, as :meth:`LanguageModel.run_blocks` does.

        texts: laid out once and kept while they are referred to.  prefix: as for `run_blocks`.  Raises
        CancelledError as it does.
        """
        with self._running:
            laid_out = self._texts.get(texts)
            if laid_out is None:
                self._texts[texts] = laid_out = PackedTexts(self.lm, texts)
            states = laid_out.hidden
            for index in range(texts.first, self.lm.blocks):
                check_interruption()
                states = self._run_block(self._blocks[index], states, laid_out, laid_out.columns[index],
                                         prefix.get(index))
        return states.view(laid_out.batch, laid_out.rows, -1).to(self.lm.dtype)

    def _run_block(self, block: PackedBlock, states: torch.Tensor, texts: PackedTexts, text: TextColumns,
                   prefix: BlockPrefix | None) -> torch.Tensor:
        """Return the output of a block, [B R, d] float32; states: its input.  Attention runs in float32."""
        batch, rows = texts.batch, texts.rows
        heads, kv_heads, size = self.lm.heads, self.lm.kv_heads, self.lm.head_dim
        made = block.attend(block.attention_norm(states))
        # One copy to float32 puts heads before rows: [B, H + 2 H_kv, R, d_h].
        plain = torch.empty(batch, heads + 2 * kv_heads, rows, size)
        plain.copy_(made.view(batch, rows, -1, size).transpose(1, 2))
        neutral, own_keys, own_values = plain.split((heads, kv_heads, kv_heads), 1)
        text.own_keys.copy_(texts.turned(own_keys))
        text.own_values.copy_(own_values)
        grouped = batch * kv_heads, -1, size
        scores = torch.baddbmm(text.shown, texts.turned(neutral).view(grouped), text.keys,
                               alpha=block.scaling)
        if prefix is None:
            found = torch.bmm(scores.softmax(-1), text.values)
        else:
            count = prefix.keys.shape[2]
            keys, values = (_each(part, batch).reshape(-1, count, size)
                            for part in (prefix.keys, prefix.values))
            gates = prefix.log_gate.float().expand(batch, kv_heads, count).reshape(-1, 1, count)
            seen = torch.baddbmm(gates, neutral.reshape(grouped), keys.mT, alpha=block.scaling)
            weights = torch.cat([seen, scores], -1).softmax(-1)
            on_prefix, on_text = weights.split((count, scores.shape[-1]), -1)
            found = torch.baddbmm(torch.bmm(on_prefix, values), on_text, text.values)
        found = found.view(batch, heads, rows, size).transpose(1, 2).reshape(batch * rows, -1)
        states = states + block.output(found)
        gate, up = block.open(block.feed_forward_norm(states)).chunk(2, -1)
        return states + block.close(silu(gate).mul_(up))


def _each(part: torch.Tensor, batch: int) -> torch.Tensor:
    """Return the keys or values of a prefix in float32, one for each text."""
    part = part.float()
    return part if len(part) == batch else part.expand(batch, *part.shape[1:])

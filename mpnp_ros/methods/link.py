"""The base class of links, their inputs, and the layers they have in common."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import gelu, linear

from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.tokens import SECTORS, ModalityTokens

#: Standardised values beyond this many deviations are cut off: some channels have heavy tails.
BOUND = 5.
#: Relative to a channel's mean, the least deviation that is no rounding of bfloat16.
ROUNDING = 2 ** -8

HARMONICS = 4


class TokenBatch(NamedTuple):
    """Tokens of one modality for B texts, each distinct frame once.

    values: [F, P, D] float.  azimuth: [F, P] radians, NaN: no direction.  valid: [F, P] bool, False on
    padding and for a frame without this modality; None: all real.  rows: [B] the frame of each text;
    None: text b has frame b.  distance: [F, P] metres, NaN: unknown.  looked: [F, SECTORS] bool,
    in which sectors a source looks; known: [F, D] bool, which channels the encoder can tell.  None: no
    distance is known, all is looked at and told.
    """

    values: torch.Tensor
    azimuth: torch.Tensor
    valid: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    distance: torch.Tensor | None = None
    looked: torch.Tensor | None = None
    known: torch.Tensor | None = None

    def tokens_of(self, text: int) -> int:
        """Return the number of tokens of the frame of a text."""
        if self.valid is None:
            return self.values.shape[1]
        return int(self.valid[text if self.rows is None else self.rows[text]].sum())

    @classmethod
    def stack(cls, frames: Sequence[ModalityTokens | None], device: torch.device | str = 'cpu') -> TokenBatch:
        """Return a batch with one entry per text; None where the text's frame lacks the modality.

        Entries that are the same object are stacked once.  At least one entry must not be None.
        """
        distinct = list({id(frame): frame for frame in frames}.values())
        index = {id(frame): row for row, frame in enumerate(distinct)}
        shape = len(distinct), max(frame.count for frame in distinct if frame is not None)
        width = next(frame.width for frame in distinct if frame is not None)
        values, azimuth = np.zeros((*shape, width), np.float32), np.zeros(shape, np.float32)
        valid, distance = np.zeros(shape, bool), np.full(shape, np.nan, np.float32)
        looked, known = np.zeros((len(distinct), SECTORS), bool), np.zeros((len(distinct), width), bool)
        for row, frame in enumerate(distinct):
            if frame is not None:
                values[row, :frame.count], azimuth[row, :frame.count] = frame.values, frame.azimuth
                valid[row, :frame.count] = True
                looked[row], known[row] = frame.sectors_looked_at(), frame.known if len(frame.known) else True
                if len(frame.distance):
                    distance[row, :frame.count] = frame.distance
        rows = None
        if len(distinct) < len(frames):
            rows = torch.tensor([index[id(frame)] for frame in frames], device=device)
        return cls(torch.from_numpy(values).to(device), torch.from_numpy(azimuth).to(device),
                   None if valid.all() else torch.from_numpy(valid).to(device), rows,
                   *(torch.from_numpy(part).to(device) for part in (distance, looked, known)))


@dataclass(frozen=True, eq=False)
class QuestionStates:
    """Hidden states of the questions alone, after the lower blocks.

    states: block -> its input [B, T, d], computed without any prefix.  mask: [B, T] bool, True on the
    question, False on padding and on everything behind the question (no answer leaks into a link).
    beside: bytes of what is held together with them.
    """

    states: Mapping[int, torch.Tensor]
    mask: torch.Tensor
    beside: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.beside + self.mask.nbytes + sum(state.nbytes for state in self.states.values())

    def at(self, block: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return states [B, T, d] at the input of a block, and the mask [B, T]."""
        if block not in self.states:
            raise LinksError(f'a link pools by the question at block {block}, but states are at hand for '
                             f'{sorted(self.states)}; prepare the question after plugging the link')
        return self.states[block], self.mask


class Standardise(nn.Module):
    """(x - mean) / deviation per channel, clamped to +-5; only clamped until it has been measured.

    The hidden states of a language model have a large mean that hardly depends on the question and a few
    channels a hundred times stronger than the others.  A layer norm keeps both, and little of the question is
    left to learn from: on a real key frame links without this did not learn (docs/lab/experiments.md).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(width))
        self.register_buffer('scale', torch.ones(width))

    @property
    def measured(self) -> bool:
        """Whether :meth:`measure` has been called."""
        return bool((self.mean != 0).any())

    def measure(self, samples: torch.Tensor) -> None:
        """Take mean and deviation of [n, width] samples; a channel that does not vary keeps its scale."""
        deviation, mean = torch.std_mean(samples.float(), 0, correction=0)
        scale = 1 / (deviation + 1e-3 * deviation.mean() + 1e-6)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > ROUNDING * mean.abs(), scale, 1.))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[..., width] -> [..., width], float32."""
        return ((values.float() - self.mean) * self.scale).clamp(-BOUND, BOUND)


class Aligner(nn.Module):
    """Key or Value Aligner: GELU(x W1 + b1) W2 + b2 (arXiv:2312.07886), W2 as wide as H_kv d_h.

    outputs: number of output projections over the one hidden layer: 1, shared by all linked blocks as
        in the paper, or one for each of them.
    """

    def __init__(self, width: int, hidden: int, outputs: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.outputs, self.kv_heads, self.head_dim = outputs, kv_heads, head_dim
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, outputs * kv_heads * head_dim)

    def forward(self, tokens: torch.Tensor, keep: Sequence[int] | None = None) -> torch.Tensor:
        """[B, P, D] -> [n, B, H_kv, P, d_h]; n: outputs, or those in `keep` (None: all)."""
        weight, bias = self.output.weight, self.output.bias
        if keep is not None and len(keep) < self.outputs:
            weight = weight.unflatten(0, (self.outputs, -1))[list(keep)].flatten(0, 1)
            bias = bias.unflatten(0, (self.outputs, -1))[list(keep)].flatten()
        aligned = linear(gelu(self.hidden(tokens)), weight, bias)
        return aligned.unflatten(-1, (-1, self.kv_heads, self.head_dim)).permute(2, 0, 3, 1, 4)


class Direction(nn.Module):
    """Adds its direction to a token: sin and cos of 1..4 times the azimuth, or 'no direction'.

    Any number of views in any mounting reads the same, and a turned rig changes azimuths only.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fourier = nn.Linear(2 * HARMONICS, width, bias=False)
        self.none = nn.Parameter(torch.randn(width) * 0.4)

    def forward(self, tokens: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
        """tokens: [B, P, D].  azimuth: [B, P] radians, NaN where there is no direction."""
        unknown = azimuth.isnan()[..., None]
        return tokens + torch.where(unknown, self.none, self.fourier(fourier(azimuth)))


def fourier(azimuth: torch.Tensor, harmonics: int = HARMONICS) -> torch.Tensor:
    """[..., P] radians -> [..., P, 2 harmonics]: sin and cos of 1..harmonics times each; zeros for NaN."""
    angles = azimuth.nan_to_num()[..., None] * torch.arange(1, harmonics + 1, device=azimuth.device)
    return torch.cat([angles.sin(), angles.cos()], -1) * ~azimuth.isnan()[..., None]


class Link(nn.Module):
    """One modality's connection to one language model; all its parameters are float32 and are trained.

    A subclass sets `kind`, a word that link files carry, and adds the parameters that it needs.  Its method
    decides the arguments of `forward`.

    config: its options.  version: of the file it came from; '' for a link never saved.
    soft_tokens: learned constants in place of a sensor, where the configuration asks for them.
    """

    kind: ClassVar[str]
    config_type: ClassVar[type[LinkConfig]] = LinkConfig

    def __init__(self, config: LinkConfig) -> None:
        super().__init__()
        self.config = config
        self.version = ''
        constants = torch.randn(config.soft_tokens, config.token_width)
        self.soft_tokens = nn.Parameter(constants) if config.soft_tokens else None

    @classmethod
    def empty(cls, config: LinkConfig, shapes: Mapping[str, Sequence[int]]) -> Link:
        """Return a link to load tensors into; shapes: names and shapes of the tensors in the file."""
        return cls(config)

    @property
    def open_blocks(self) -> tuple[int, ...]:
        """The linked blocks that are not closed: all, where none can be closed."""
        return self.config.blocks

    @property
    def gates(self) -> torch.Tensor:
        """Gate of each linked block, [N] in [0, 1]: 1 where a link has no gates."""
        return torch.ones(len(self.config.blocks))

    @property
    def first_block(self) -> int | None:
        """The lowest block whose input this link reads or changes; None where it is closed."""
        return self.config.blocks[0]

    def calibrate(self, questions: Sequence[object], values: torch.Tensor | None) -> None:
        """Measure statistics of the inputs, once, before training; does nothing by default.

        questions: states of questions, see Connections.question_blocks.  values: [n, D] tokens of the
        training set; None without a sensor.
        """

    def start_from(self, other: Link) -> tuple[str, ...]:
        """Copy the learned tensors of equal name and shape from another link of this kind.

        Returns the names of those not copied.  Raises LinksError for another kind, model or blocks.
        """
        own, its = self.config, other.config
        if (self.kind, own.base_model, own.blocks) != (other.kind, its.base_model, its.blocks):
            raise LinksError(f'a {own.modality} link of kind {self.kind!r} cannot start from the '
                             f'{its.modality} link of kind {other.kind!r}: kind, model and blocks must be '
                             'the same')
        return take_over(self, other)

    def reads_like(self, other: Link) -> bool:
        """Whether both read tokens by parts that are equal in every number and can be shared."""
        return False

    def prune(self, threshold: float) -> int:
        """Close gates below the threshold for good; return how many.  Raises LinksError without gates."""
        raise LinksError(f'links of kind {self.kind!r} cannot be pruned, they have no gates')


@torch.no_grad()
def take_over(link: nn.Module, other: nn.Module) -> tuple[str, ...]:
    """Copy all tensors of equal name and shape, statistics too; return the names of those not copied."""
    own, others = link.state_dict(), other.state_dict()
    left = tuple(name for name, tensor in own.items()
                 if name not in others or others[name].shape != tensor.shape)
    for name in own.keys() - set(left):
        own[name].copy_(others[name])
    return left

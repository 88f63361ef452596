"""Matrices of a frozen model, laid out once for products with few or with many rows on the CPU.

A product with a few rows costs the time of reading its weights.  Weights that were stored in 4 bits (a scale
and an offset for every 32 of a row, as in GGUF's Q4_1) are read in 4 bits again: the grid is found in the
weights themselves, so the numbers are the same but for the rounding of scales and offsets to bfloat16.
"""
from __future__ import annotations

import torch
from torch.nn.functional import linear

GROUP = 32
"""Weights of a row that share a scale and an offset."""
LEVELS = 15
"""The largest number in 4 bits."""
ON_GRID = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Distance from the grid, in steps, up to which a weight lies on it; bfloat16 rounds to some 0.03 steps."""
FEW_ROWS = 10
"""Rows up to which a product in 4 bits is faster than one in bfloat16, see docs/results/latency.md."""
ROUNDING = 0.02
"""Error relative to the largest output, above which a kernel of this processor is not used."""


def to_grid(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Return 4-bit numbers, scales and offsets of a weight [n, m] that lies on such a grid, else None.

    weight = scale * number + offset.  numbers: [n, m] int32, 0..15.  scales, offsets: [n, m / GROUP].
    """
    rows, width = weight.shape
    if width % GROUP or rows % GROUP:
        return None
    groups = weight.float().view(rows, -1, GROUP)
    low = groups.amin(-1, keepdim=True)
    steps = (groups - low) / ((groups.amax(-1, keepdim=True) - low) / LEVELS).clamp(min=1e-12)
    numbers = steps.round()
    if float((steps - numbers).abs().max()) > ON_GRID[weight.dtype]:
        return None
    # The line through all weights of a group has less of their rounding than one through two of them.
    middle, around = groups.mean(-1, keepdim=True), numbers - numbers.mean(-1, keepdim=True)
    scale = (around * (groups - middle)).sum(-1) / around.square().sum(-1).clamp(min=1e-12)
    offset = middle[..., 0] - scale * numbers.mean(-1)
    return numbers.to(torch.int32).view(rows, width), scale, offset


class PackedMatrix:
    """x -> x W^T + b for x [rows, m]; the type of the result is that of the kernel used.

    four_bit: whether products with up to FEW_ROWS rows read 4-bit weights.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, four_bit: bool = True,
                 rounded: bool = False) -> None:
        """weight: [n, m] float32 or bfloat16 on the CPU.  bias: [n].

        four_bit: whether to read it in 4 bits where it lies on a grid.  rounded: whether a float32 weight
        that does is read in bfloat16 for more rows.
        """
        self.bias, self._four, self._packed = bias, None, None
        trial = torch.linspace(-1, 1, 2 * weight.shape[1]).view(2, -1)
        wanted = linear(trial, weight.float())
        if four_bit and (found := to_grid(weight)) is not None:
            numbers, scale, offset = found
            table = torch.stack([scale, offset + (LEVELS + 1) / 2 * scale], -1)
            self._four = (torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1),
                          table.transpose(0, 1).contiguous().bfloat16())
            self._four = self._four if _agree(self._few(trial.bfloat16()), wanted) else None
        rounded = weight.dtype == torch.bfloat16 or (self.four_bit and rounded)
        if rounded and torch.backends.mkldnn.is_available():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), None)
            self._packed = self._packed if _agree(self._many(trial.bfloat16()), wanted) else None
        self._weight = weight if self._packed is None else None

    @property
    def four_bit(self) -> bool:
        """Whether products with few rows read 4-bit weights."""
        return self._four is not None

    @property
    def nbytes(self) -> int:
        """Bytes of all layouts in which the weight is held."""
        wide = self._packed if self._weight is None else self._weight
        assert wide is not None
        return (wide.numel() * wide.element_size()
                + (0 if self._four is None else sum(part.nbytes for part in self._four)))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, m] -> [rows, n]."""
        if self._four is not None and len(x) <= FEW_ROWS:
            out = self._few(x.bfloat16())
        elif self._packed is not None:
            out = self._many(x.bfloat16())
        else:
            assert self._weight is not None
            return linear(x.to(self._weight.dtype), self._weight, self.bias)
        return out if self.bias is None else out + self.bias

    def _few(self, x: torch.Tensor) -> torch.Tensor:
        assert self._four is not None
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self._four[0], GROUP, self._four[1])

    def _many(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, None, 'none', [], '')


def _agree(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found.float() - wanted).abs().max() <= ROUNDING * wanted.abs().max())

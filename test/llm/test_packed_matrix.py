"""Packed matrices: 4-bit grids are found in weights, and products agree with those of torch."""
from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from mpnp_ros.llm import packed_matrix
from mpnp_ros.llm.packed_matrix import FEW_ROWS, GROUP, PackedMatrix, to_grid


def on_grid(rows: int = 64, width: int = 96, seed: int = 0) -> torch.Tensor:
    """A weight as GGUF's Q4_1 stores it: 4-bit numbers with a scale and an offset for every 32."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, 16, (rows, width // GROUP, GROUP), generator=generator).float()
    numbers[..., :2] = torch.tensor([0., 15.])
    scale = torch.rand(rows, width // GROUP, 1, generator=generator) * 0.02 + 0.005
    return (numbers * scale - 8 * scale + 0.01).view(rows, width)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_grid_is_found_again_and_numbers_off_the_grid_are_not_taken_for_one(dtype):
    weight = on_grid()
    numbers, scale, offset = to_grid(weight.to(dtype))
    found = numbers.view(64, -1, GROUP) * scale[..., None] + offset[..., None]
    tolerance = 1e-6 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(found.view_as(weight), weight, rtol=0, atol=tolerance)
    assert to_grid(torch.randn(64, 96).to(dtype)) is None
    assert to_grid(weight[:, :80].to(dtype)) is None, 'no whole groups'


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('rows', [1, 3, FEW_ROWS, FEW_ROWS + 1, 48])
def test_products_are_those_of_the_weight(dtype, rows):
    weight, bias, x = on_grid().to(dtype), torch.randn(64), torch.randn(rows, 96)
    wanted = linear(x, weight.float(), bias)
    matrix = PackedMatrix(weight, bias)
    assert matrix.four_bit
    torch.testing.assert_close(matrix(x).float(), wanted, rtol=0.02, atol=0.02)
    exact = PackedMatrix(on_grid(), bias, four_bit=False)
    assert not exact.four_bit and exact.nbytes == on_grid().nbytes < 4 * matrix.nbytes
    torch.testing.assert_close(exact(x), linear(x, on_grid(), bias))


def test_a_kernel_that_errs_is_not_used(monkeypatch):
    monkeypatch.setattr(packed_matrix, '_agree', lambda found, wanted: False)
    matrix, x = PackedMatrix(on_grid()), torch.randn(3, 96)
    assert not matrix.four_bit
    torch.testing.assert_close(matrix(x), linear(x, on_grid()))

"""MACs of a step against counting by hand, and peak memory."""
from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from mpnp_ros.adaptation.budget import measure_macs, peak_memory


@pytest.mark.parametrize(('states', 'weights', 'products'), [
    (False, True, 2), (True, False, 2), (True, True, 3)])
def test_a_linear_layer_costs_its_products(states, weights, products):
    rows = torch.ones(4, 8, requires_grad=states)
    weight = torch.ones(16, 8, requires_grad=weights)
    assert measure_macs(lambda: linear(rows, weight).sum().backward()) == products * 4 * 8 * 16


def test_fused_attention_is_counted():
    query, key = torch.ones(1, 2, 3, 16), torch.ones(1, 2, 5, 16)
    assert measure_macs(lambda: scaled_dot_product_attention(query, key, key)) == 2 * (2 * 3 * 5 * 16)


def test_peak_memory_sees_what_was_allocated():
    before = peak_memory(torch.device('cpu'))
    block = torch.ones((before + 64_000_000) // 4)
    assert peak_memory(torch.device('cpu')) > before + 32_000_000
    del block


def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it():
    block = torch.ones(160_000_000)
    script = 'import torch; from mpnp_ros.adaptation.budget import peak_memory as peak; ' \
             'print(peak(torch.device("cpu")))'
    started = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert 0 < int(started.stdout) < block.nbytes

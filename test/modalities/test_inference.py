"""Networks as they run in encoders."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from mpnp_ros.modalities.camera.ground_network import ImageNetwork
from mpnp_ros.modalities.detection_network import DetectionNetwork
from mpnp_ros.modalities.inference import for_inference


@pytest.mark.parametrize(('network', 'shape'), [
    (ImageNetwork(8), (2, 3, 32, 64)), (DetectionNetwork(6, 16, 8, hidden=4), (1, 6, 16, 8))])
def test_it_gives_the_same_without_batch_norms(network: nn.Module, shape: tuple[int, ...]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.train()(torch.randn(shape))  # statistics that are not 0 and 1
        cells = torch.randn(shape)
    network.eval().requires_grad_(False)
    fast = for_inference(network)
    torch.testing.assert_close(fast(cells), network(cells), rtol=1e-4, atol=1e-4)
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fast.modules())

"""The network that finds objects in a polar grid."""
from __future__ import annotations

import pytest
import torch

from mpnp_ros.modalities.detection_network import CENTRE, TURN, DetectionNetwork


@torch.no_grad()
def test_turning_the_grid_turns_the_output() -> None:
    torch.manual_seed(0)
    network = DetectionNetwork(15, hidden=4).eval()
    torch.nn.init.normal_(network.distance)
    grid = torch.rand(1, 15, 288, 72)
    plain = network(grid)
    assert plain.shape == (1, 37, 288, 72) and plain.std() > 1e-3
    for turn in (TURN, 11 * TURN):
        assert torch.allclose(network(grid.roll(turn, 2)), plain.roll(turn, 2), atol=1e-5)


@torch.no_grad()
def test_it_begins_with_few_objects_everywhere() -> None:
    torch.manual_seed(0)
    network = DetectionNetwork(15, hidden=4)
    network.start_at(.001)
    assert torch.sigmoid(network(torch.rand(2, 15, 288, 72))[:, CENTRE]).mean() == pytest.approx(.001, rel=.3)


@pytest.mark.parametrize('shape', [{'azimuths': 290}, {'ranges': 70}])
def test_a_grid_that_cannot_be_halved_is_refused(shape: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='multiples of 8'):
        DetectionNetwork(15, **shape)

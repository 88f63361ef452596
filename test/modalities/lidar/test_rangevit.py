from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.lidar.convert import convert_rangevit, main
from mpnp_ros.modalities.lidar.rangevit import RangeVitEncoder, load_rangevit, rangevit_view
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.modalities.registry import create_encoder

LEFT = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def published_shapes():
    """Names and shapes of the encoder in valeoai/rangevit: config_nusc.yaml, models/stems.py, rangevit.py."""
    shapes = {'cls_token': (1, 1, 384), 'pos_embed': (1, 1 + 16 * 48, 384)} | norm('norm', 384)
    for number, inputs in enumerate((5, 32, 32)):
        block = f'patch_embed.conv_block.{number}'
        shapes |= convolution(f'{block}.conv1', inputs, 32, 1)
        shapes |= convolution(f'{block}.conv2', 32, 32, 3) | batch_norm(f'{block}.bn1', 32)
        shapes |= convolution(f'{block}.conv3', 32, 32, 3) | batch_norm(f'{block}.bn2', 32)
    block = 'patch_embed.conv_block.3'
    shapes |= convolution(f'{block}.conv1', 32, 256, 1)
    shapes |= convolution(f'{block}.conv2', 32, 256, 3) | batch_norm(f'{block}.bn1', 256)
    shapes |= convolution(f'{block}.conv3', 256, 256, 3) | batch_norm(f'{block}.bn2', 256)
    shapes |= convolution(f'{block}.conv4', 256, 256, 2) | batch_norm(f'{block}.bn3', 256)
    shapes |= convolution(f'{block}.conv5', 768, 256, 1) | batch_norm(f'{block}.bn4', 256)
    shapes |= convolution('patch_embed.proj_block.1', 256, 384, 1)
    for number in range(12):
        block = f'blocks.{number}'
        shapes |= norm(f'{block}.norm1', 384) | norm(f'{block}.norm2', 384)
        shapes |= linear(f'{block}.attn.qkv', 384, 1152) | linear(f'{block}.attn.proj', 384, 384)
        shapes |= linear(f'{block}.mlp.fc1', 384, 1536) | linear(f'{block}.mlp.fc2', 1536, 384)
    return shapes


def norm(name, width):
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def linear(name, inputs, outputs):
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}


def convolution(name, inputs, outputs, size):
    return {f'{name}.weight': (outputs, inputs, size, size), f'{name}.bias': (outputs,)}


def batch_norm(name, width):
    statistics = {f'{name}.running_mean': (width,), f'{name}.running_var': (width,)}
    return norm(name, width) | statistics | {f'{name}.num_batches_tracked': ()}


def random_value(name, shape, generator):
    if name.endswith('num_batches_tracked'):
        return torch.tensor(9)
    value = 0.05 * torch.randn(shape, generator=generator)
    return value + 1 if name.endswith(('running_var', 'norm.weight', 'norm1.weight')) else value


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Random weights under the published names beside those of a decoder, as the training saves them."""
    generator = torch.Generator().manual_seed(0)
    state = {f'rangevit.encoder.{name}': random_value(name, shape, generator)
             for name, shape in published_shapes().items()}
    state['rangevit.decoder.up_conv.weight'] = torch.zeros(3)
    path = tmp_path_factory.mktemp('rangevit') / 'model.pth'
    torch.save({'model': state, 'epoch': 3}, path)
    return path


@pytest.fixture(scope='module')
def folder(checkpoint):
    return convert_rangevit(checkpoint, checkpoint.parent / 'converted')


@pytest.fixture
def frame():
    """A cloud all around."""
    random = np.random.default_rng(0)
    return LidarFrame(random.normal(size=(3000, 3)) * [30, 30, 3], random.uniform(0, 255, 3000))


def test_a_converted_checkpoint_encodes_a_sweep(folder, frame, monkeypatch):
    monkeypatch.setattr('mpnp_ros.modalities.lidar.rangevit.COLUMNS', 256)
    encoder = create_encoder('lidar', {'backbone': str(folder), 'sectors': 8, 'dtype': 'float32'})
    tokens = encoder.encode(frame)
    assert isinstance(encoder, RangeVitEncoder)
    assert tokens.values.shape == (8, 768) and np.isfinite(tokens.values).all()
    assert len(np.unique(tokens.values.round(4), axis=0)) == 8
    assert np.degrees(tokens.azimuth[:2]) == pytest.approx([157.5, 112.5])
    turned = encoder.encode(LidarFrame(frame.points, frame.intensity, LEFT))
    assert np.array_equal(turned.values, tokens.values)
    assert np.degrees(turned.azimuth[:2]) == pytest.approx([-112.5, -157.5])


def test_a_sensor_upside_down_is_seen_as_a_level_one(folder, frame, monkeypatch):
    monkeypatch.setattr('mpnp_ros.modalities.lidar.rangevit.COLUMNS', 256)
    encoder = create_encoder('lidar', {'backbone': str(folder), 'sectors': 8, 'dtype': 'float32'})
    over = np.diag([1., -1, -1])
    level, hanging = encoder.encode(frame), encoder.encode(
        LidarFrame(frame.points @ over, frame.intensity, over))
    assert np.array_equal(level.values, hanging.values)
    assert hanging.azimuth == pytest.approx(level.azimuth)


def test_the_stem_makes_one_patch_of_two_by_eight_pixels(folder):
    network = load_rangevit(str(folder), 'cpu', 'float32').network
    with torch.inference_mode():
        assert network.patch_embed(torch.zeros(1, 5, 32, 384)).shape == (1, 384, 16, 48)
        assert network(torch.zeros(1, 5, 8, 64), (1,)).patches.shape == (1, 1, 4, 8, 384)


def test_the_view_holds_raw_values_in_the_sensor_frame():
    points = np.array([[10.0, 0.01, 0.0], [0, 20, -1], [0, 40, -2]])
    view, filled = rangevit_view(LidarFrame(points, np.array([5, 6, 7]), LEFT), 1.0)
    assert view.shape == (5, 32, 2048) and filled.sum() == 2
    (row, column), = np.argwhere(view[4] == 5)
    assert (row, column) == (8, 1023)
    assert view[:, row, column] == pytest.approx([10, 10, 0.01, 0, 5], abs=1e-4)
    (row, column), = np.argwhere(view[4] == 6)
    assert column == 512 and view[0, row, column] == pytest.approx(np.hypot(20, 1))


def test_converting_again_changes_nothing(checkpoint, folder):
    before = (folder / 'model.safetensors').stat().st_mtime_ns
    assert main([str(checkpoint), str(folder)]) == 0
    assert (folder / 'model.safetensors').stat().st_mtime_ns == before


def test_changed_weights_are_refused(checkpoint, tmp_path):
    folder = convert_rangevit(checkpoint, tmp_path / 'converted')
    weights = folder / 'model.safetensors'
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(WeightsError, match='changed or is damaged; convert'):
        load_rangevit(str(folder))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path):
    torch.save({'model': Trap(str(tmp_path / 'sprung'))}, tmp_path / 'trap.pth')
    with pytest.raises(WeightsError, match='trap.pth is damaged or holds more than tensors'):
        convert_rangevit(tmp_path / 'trap.pth', tmp_path / 'out')
    assert not (tmp_path / 'sprung').exists() and not (tmp_path / 'out').exists()


def test_other_checkpoints_are_refused(checkpoint, tmp_path, capsys):
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(checkpoint.read_bytes()[:5000])
    other, small = tmp_path / 'other.pth', tmp_path / 'small.pth'
    torch.save({'weight': torch.zeros(2)}, other)
    torch.save({'encoder.cls_token': torch.zeros(1, 1, 192)}, small)
    for path, message in ((cut, 'damaged'), (other, 'not a RangeViT'), (small, 'not a RangeViT ViT-S'),
                          (tmp_path / 'none.pth', 'missing')):
        with pytest.raises(SystemExit, match='1'):
            main([str(path), str(tmp_path / 'out')])
        assert message in capsys.readouterr().err

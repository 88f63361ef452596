from __future__ import annotations

import json

import pytest
import torch

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.heads import load_head, save_head


@pytest.fixture
def folder(tiny_heads, tmp_path):
    save_head(tmp_path / 'head', tiny_heads['lidar'], licence='Apache-2.0', accuracy={'explained': 0.5})
    return tmp_path / 'head'


def test_what_is_saved_is_loaded(tiny_heads, folder):
    head = load_head(folder, 'lidar')
    assert head.manifest.channels == tiny_heads['lidar'].manifest.channels
    assert (head.manifest.licence, head.manifest.accuracy) == ('Apache-2.0', {'explained': 0.5})
    assert len(head.manifest.sha256) == 64
    grid = torch.rand(1, 6, 288, 8)
    assert torch.equal(head.network(grid), tiny_heads['lidar'].network(grid))
    assert not any(one.requires_grad for one in head.network.parameters())


def test_a_head_of_another_kind_is_refused(folder):
    with pytest.raises(WeightsError, match='for the lidar, not the camera'):
        load_head(folder, 'camera')


def test_a_head_for_another_backbone_is_refused(tiny_heads, tmp_path):
    save_head(tmp_path / 'camera', tiny_heads['camera'])
    with pytest.raises(WeightsError, match='features of other weights'):
        load_head(tmp_path / 'camera', 'camera', 'f' * 64)


def test_a_head_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"'unheard-of' is neither.*mpnp pretrain"):
        load_head('unheard-of', 'lidar')


def test_damaged_weights_are_refused(folder):
    data = bytearray((folder / 'head.safetensors').read_bytes())
    data[-1] ^= 1
    (folder / 'head.safetensors').write_bytes(data)
    with pytest.raises(WeightsError, match='not the file that its manifest names'):
        load_head(folder, 'lidar')


@pytest.mark.parametrize('change, message', [
    ({'schema': 9}, 'schema 9'), ({'kind': 'sonar'}, "kind 'sonar'"), ({'sectors': 8}, '8 sectors'),
    ({'colour': 'red'}, 'no readable manifest'), ({'shape': {'ring': 7}}, 'do not fit its manifest'),
    ({'channels': [['car', 'moving']]}, 'do not fit its manifest')])
def test_a_manifest_that_does_not_fit_is_refused(folder, change, message):
    path = folder / 'manifest.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsError, match=message):
        load_head(folder, 'lidar')

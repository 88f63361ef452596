from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.object_encoder import CameraObjectEncoder
from mpnp_ros.modalities.heads import load_head, save_head
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.polar_encoder import PolarEncoder
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.encoder import RadarEncoder
from mpnp_ros.modalities.registry import find_sensor


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


def test_a_head_says_what_its_tokens_cannot_know(tiny_heads, tmp_path):
    told = (('car', 'parked'),)
    save_head(tmp_path / 'head', tiny_heads['lidar'], known=told)
    head = load_head(tmp_path / 'head', 'lidar')
    assert head.manifest.known == told
    assert head.limits['known'].tolist() == [False, True, False] and head.limits['max_distance'] == 30
    save_head(tmp_path / 'nothing', tiny_heads['lidar'], known=())
    assert load_head(tmp_path / 'nothing', 'lidar').limits['known'].tolist() == [False] * 3


def test_a_manifest_that_does_not_say_what_is_known_knows_all(folder):
    path = folder / 'manifest.json'
    content = json.loads(path.read_text())
    assert content.pop('known') is None
    path.write_text(json.dumps(content))
    head = load_head(folder, 'lidar')
    assert head.manifest.known is None and head.limits['known'].size == 0


@pytest.mark.parametrize('kind', ['camera', 'lidar', 'radar'])
def test_what_is_known_is_no_part_of_the_fingerprint(tiny_backbone, tiny_heads, kind):
    head = tiny_heads[kind]
    less = replace(head, manifest=replace(head.manifest, known=()))
    names = {{'camera': lambda one: CameraObjectEncoder(CameraConfig(tokens='objects'), tiny_backbone, one),
              'lidar': lambda one: PolarEncoder(LidarConfig(backbone='polar'), one),
              'radar': lambda one: RadarEncoder(RadarConfig(), one)}[kind](one).fingerprint
             for one in (head, less)}
    assert len(names) == 1


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
    ({'colour': 'red'}, 'unknown keys colour'), ({'shape': {'ring': 7}}, 'do not fit its manifest'),
    ({'channels': [['car', 'moving']]}, 'do not fit its manifest'),
    ({'input': None}, r'manifest\.json: input is None, expected an object'),
    ({'input': ['blocks']}, 'input is .*expected an object'), ({'shape': None}, 'shape is None'),
    ({'shape': {'ring': 'wide'}}, 'do not fit its manifest'), ({'shape': {'ranges': 0}}, 'do not fit'),
    ({'shape': {'depth': -1}}, 'do not fit its manifest'), ({'channels': []}, 'channels is .*list of pairs'),
    ({'channels': [['car']]}, 'expected a list of pairs'), ({'channels': {'car': None}}, 'list of pairs'),
    ({'channels': [['car', 7]]}, 'expected a list of pairs'), ({'kind': 7}, 'kind is 7, expected text'),
    ({'max_distance': 'far'}, 'max_distance is .far., expected a number'), ({'min_points': -1}, 'min_points'),
    ({'max_distance': float('nan')}, 'max_distance is nan'), ({'accuracy': {'all': 'good'}}, 'accuracy is'),
    ({'sectors': None}, 'sectors is None, expected a whole number'), ({'sha256': None}, 'sha256 is None'),
    ({'known': [['tram', 'parked'], ['car', 'parked']]},
     r'manifest\.json: known names what is not among its channels: tram: parked; take it out, or fetch'),
    ({'known': [['car', None]]}, r'known names what is not among its channels: car;'),
    ({'known': 'car'}, r'known is .car., expected a list of pairs \[category, status or null\], or null')])
def test_a_manifest_that_does_not_fit_is_refused(folder, change, message):
    path = folder / 'manifest.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsError, match=message):
        load_head(folder, 'lidar')


@pytest.mark.parametrize('content, message', [
    (b'[]', 'is not an object'), (b'{', 'is not valid JSON'), (b'', 'is empty'),
    (b'\xff\xfe\xfd', 'is not valid JSON'),
    (b'{}', 'lacks kind'), (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'git lfs pull')])
def test_another_manifest_is_refused_by_name(folder, content, message):
    (folder / 'manifest.json').write_bytes(content)
    with pytest.raises(WeightsError, match=rf'manifest\.json .*{message}'):
        load_head(folder, 'lidar')


@pytest.mark.parametrize('modality, options, message', [
    ('lidar', {'colour': 'red'}, 'options that the encoder of the lidar does not have: colour'),
    ('lidar', {'device': 'cuda'}, 'does not have: device'),
    ('lidar', {'min_range': 'near'}, 'min_range must be a float'),
    ('radar', {'min_range': -1.0}, 'min_range is -1; it must be 0 to 100 m'),
    ('camera', {'blocks': None}, 'blocks has no value')])
def test_input_that_the_encoder_does_not_take_is_refused(tiny_heads, tmp_path, modality, options, message):
    config = find_sensor(modality).encoder_options()
    folder = tmp_path / 'head'
    save_head(folder, tiny_heads[modality], input=options)
    head = load_head(folder, modality, tiny_heads[modality].manifest.backbone)
    with pytest.raises(WeightsError, match=rf'head {folder}: input of its manifest\.json .*{message}'):
        head.configure(config)


def test_a_pointer_in_place_of_weights_is_told_apart_from_damage(folder):
    pointer = b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'
    (folder / 'head.safetensors').write_bytes(pointer)
    with pytest.raises(WeightsError, match=r'head\.safetensors is a Git LFS pointer, .*`git lfs pull`'):
        load_head(folder, 'lidar')


def test_weights_that_are_no_numbers_are_refused(tiny_heads, tmp_path):
    broken = copy.deepcopy(tiny_heads['lidar'].network)
    broken.distance.data[0] = float('nan')
    save_head(tmp_path / 'head', replace(tiny_heads['lidar'], network=broken))
    with pytest.raises(WeightsError, match='holds NaN or Inf in distance'):
        load_head(tmp_path / 'head', 'lidar')

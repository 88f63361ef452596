from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.calibration import facing
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.encoder import CameraObjectEncoder
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.modalities.heads import save_head
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.modalities.vision_weights import load_backbone
from mpnp_ros.tokens import NO_SOURCE

OBJECTS = CameraConfig(tokens='objects')
SECTOR = np.radians(5)


@pytest.fixture
def encoder(tiny_backbone, tiny_heads):
    return CameraObjectEncoder(OBJECTS, tiny_backbone, tiny_heads['camera'])


def rig(picture, turn=0.0):
    yaws = {'ahead': 0.0, 'left': 1.0, 'behind': 3.0}
    return CameraFrame(tuple(
        CameraView(name, np.roll(picture, 40 * place, axis=1), rotation=facing(yaw + turn),
                   stamp_ns=9 - place)
        for place, (name, yaw) in enumerate(yaws.items())), 'base_footprint')


def test_there_is_one_token_a_sector_of_numbers_of_objects(encoder, picture):
    tokens = encoder.encode(rig(picture))
    assert tokens.values.shape == (72, 3) and encoder.token_width == 3 and tokens.values.min() >= 0
    assert np.degrees(tokens.azimuth) == pytest.approx(-177.5 + 5 * np.arange(72), abs=1e-3)
    assert encoder.channels == (('car', 'moving'), ('car', 'parked'), ('barrier', None))
    assert (tokens.encoder, tokens.stamp_ns, tokens.frame_id) == (encoder.fingerprint, 7, 'base_footprint')
    assert tokens.source_index[[36, 48, 71]].tolist() == [0, 1, 2]


def test_a_sector_that_no_camera_looks_to_has_no_source(encoder, picture):
    index = encoder.encode(CameraFrame(rig(picture).views[:1])).source_index
    degrees = -177.5 + 5 * np.arange(72)
    half = np.abs(degrees[index == 0]).max()
    assert 25 < half < 60
    assert index.tolist() == np.where(np.abs(degrees) <= half, 0, NO_SOURCE).tolist()


def test_tokens_say_what_they_cannot_know(encoder, tiny_backbone, tiny_heads, knowing, picture):
    tokens = CameraObjectEncoder(OBJECTS, tiny_backbone, knowing(tiny_heads['camera'])).encode(rig(picture))
    assert tokens.known.tolist() == [True, False, False] and tokens.max_distance == 20
    tokens = encoder.encode(rig(picture))
    assert tokens.known.size == 0 and tokens.max_distance == 30


@pytest.mark.parametrize('degrees', [60, 4])
def test_a_frame_of_one_view_looks_where_that_looks(encoder, picture, degrees):
    focal = picture.shape[1] / 2 / np.tan(np.radians(degrees) / 2)
    intrinsics = np.array([[focal, 0, picture.shape[1] / 2], [0, focal, picture.shape[0] / 2], [0, 0, 1]])
    view = CameraView('left', picture, intrinsics, facing(np.radians(92.5)))
    tokens = encoder.encode(CameraFrame((view,)))
    apart = np.abs(-177.5 + 5 * np.arange(72) - 92.5)
    assert tokens.sectors_looked_at().tolist() == (apart < degrees / 2 + 2.5).tolist()
    assert tokens.looked.size == 0


def test_turning_the_rig_turns_the_tokens(encoder, picture):
    straight = encoder.encode(rig(picture)).values
    assert np.allclose(np.roll(straight, 9, 0), encoder.encode(rig(picture, 9 * SECTOR)).values, atol=1e-5)
    between = encoder.encode(rig(picture, SECTOR / 2)).values
    step = np.abs(np.roll(straight, 1, 0) - straight).mean()
    assert 0 < np.abs(between - straight).mean() < step


def test_a_missing_view_changes_what_it_saw_most(encoder, picture):
    whole = rig(picture)
    fewer = replace(whole, views=whole.views[:2])
    change = np.abs(encoder.encode(whole).values - encoder.encode(fewer).values).mean(1)
    behind, ahead = change[[0, 1, 70, 71]], change[34:38]
    assert behind.min() > 3 * ahead.max()
    with pytest.raises(ImageError, match='no views'):
        encoder.encode(CameraFrame(()))


def test_sky_and_bonnet_are_not_seen(encoder, picture):
    painted = picture.copy()
    painted[:20] = painted[70:] = 0
    seen = picture.copy()
    seen[40:50] = 0
    plain, blind, changed = (encoder.encode(CameraFrame((CameraView('front', image),))).values
                             for image in (picture, painted, seen))
    assert np.allclose(plain, blind, atol=1e-6)
    assert not np.allclose(plain, changed, atol=1e-6)


def test_fingerprints_follow_the_head_and_not_options_that_it_sets(tiny_backbone, tiny_heads):
    head = tiny_heads['camera']
    other = replace(head, manifest=replace(head.manifest, sha256='other'))
    names = [CameraObjectEncoder(config, tiny_backbone, head).fingerprint for config, head in (
        (OBJECTS, head), (replace(OBJECTS, height=280, head='elsewhere'), head), (OBJECTS, other))]
    assert names[0] == names[1] != names[2]


def test_the_registry_builds_it_from_a_folder(tmp_path, picture, tiny_heads):
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
                       image_size=56, patch_size=14)).save_pretrained(tmp_path / 'vit')
    weights = load_backbone(str(tmp_path / 'vit'), 'cpu', 'float32').sha256
    save_head(tmp_path / 'head', tiny_heads['camera'], backbone=weights)
    encoder = create_encoder('camera', {'backbone': str(tmp_path / 'vit'), 'tokens': 'objects',
                                        'head': str(tmp_path / 'head'), 'device': 'cpu', 'dtype': 'float32'})
    assert encoder.encode(rig(picture)).values.shape == (72, 3)

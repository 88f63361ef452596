from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTModel

from mpnp_ros.errors import ConfigurationError, ImageError
from mpnp_ros.modalities.camera.calibration import facing
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.encoder import CameraEncoder
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.modalities.registry import create_encoder

SMALL = CameraConfig(tokens='columns', height=28, width=112, blocks=(2, 3))


def views(picture, *names):
    return tuple(CameraView(name, np.roll(picture, 31 * place, axis=1), stamp_ns=1000 - place)
                 for place, name in enumerate(names))


@pytest.fixture
def frame(picture):
    return CameraFrame(views(picture, 'cam_front', 'cam_back', 'cam_front_left'), 'base_footprint')


@pytest.fixture
def encoder(tiny_backbone):
    return CameraEncoder(SMALL, tiny_backbone)


def test_tokens_say_where_they_come_from(encoder, frame):
    tokens = encoder.encode(frame)
    assert tokens.values.shape == (12, encoder.token_width) == (12, 48)
    assert tokens.values.dtype == np.float32
    assert tokens.sources == ('cam_front', 'cam_back', 'cam_front_left')
    assert tokens.source_index.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert tokens.source_stamps_ns == (1000, 999, 998) and tokens.stamp_ns == 998
    assert (tokens.modality, tokens.encoder) == ('camera', encoder.fingerprint)
    assert tokens.frame_id == 'base_footprint'


def test_a_view_has_the_same_tokens_alone_in_company_and_in_any_order(encoder, frame):
    together = encoder.encode(frame)
    backwards = encoder.encode(CameraFrame(frame.views[::-1]))
    for place, view in enumerate(frame.views):
        alone = encoder.encode(CameraFrame((view,)))
        for company, index in ((together, place), (backwards, 2 - place)):
            rows = company.source_index == index
            assert np.allclose(company.values[rows], alone.values, atol=1e-5)
            assert np.array_equal(company.azimuth[rows], alone.azimuth)


def test_encoding_twice_gives_the_same_bits(encoder, frame):
    assert np.array_equal(encoder.encode(frame).values, encoder.encode(frame).values)


def test_turning_the_rig_changes_the_azimuths_only(encoder, picture):
    def mounted(turn):
        return CameraFrame(tuple(CameraView(name, picture, rotation=facing(yaw + turn))
                                 for name, yaw in (('a', 0.0), ('b', 2.0))))
    straight, turned = encoder.encode(mounted(0.0)), encoder.encode(mounted(1.3))
    assert np.array_equal(straight.values, turned.values)
    assert np.abs(np.exp(1j * turned.azimuth) - np.exp(1j * (straight.azimuth + 1.3))).max() < 1e-5


def test_an_object_shows_in_its_own_column(encoder, picture):
    changed = picture.copy()
    changed[40:60, 130:150] = 255
    before, after = (encoder.encode(CameraFrame((CameraView('front', image),))).values
                     for image in (picture, changed))
    assert np.abs(after - before).mean(axis=1).argmax() == 3


def test_one_more_token_a_view_stands_for_the_whole_image(tiny_backbone, frame):
    plain = CameraEncoder(SMALL, tiny_backbone).encode(frame)
    more = CameraEncoder(replace(SMALL, tokens='columns+cls'), tiny_backbone).encode(frame)
    assert more.values.shape == (15, 48)
    assert np.array_equal(more.values.reshape(3, 5, 48)[:, :4], plain.values.reshape(3, 4, 48))
    assert np.degrees(more.azimuth[[4, 9, 14]]) == pytest.approx([0, 180, 55])


def test_a_frame_without_views_is_refused(encoder):
    with pytest.raises(ImageError, match='no views'):
        encoder.encode(CameraFrame(()))


def test_the_view_at_fault_is_named(encoder, frame):
    broken = replace(frame.views[1], image=b'no image')
    with pytest.raises(ImageError, match="'cam_back'"):
        encoder.encode(CameraFrame((frame.views[0], broken)))


@pytest.mark.parametrize('options, message', [
    ({'columns': 9}, 'columns is 9.*8 columns of patches'), ({'height': 30}, 'multiple of 14'),
    ({'blocks': (4,)}, 'blocks 1 to 3')])
def test_options_that_do_not_fit_the_backbone_are_refused(tiny_backbone, options, message):
    with pytest.raises(ConfigurationError, match=message):
        CameraEncoder(replace(SMALL, **options), tiny_backbone)


def test_the_fingerprint_follows_the_weights(tiny_backbone, other_backbone):
    names = {CameraEncoder(SMALL, weights).fingerprint for weights in (tiny_backbone, other_backbone)}
    assert len(names) == 2


def test_the_papers_tokens_are_the_cls_states_of_the_last_blocks(tmp_path, frame):
    torch.manual_seed(0)
    stock = ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=5, num_attention_heads=2,
                               intermediate_size=64, image_size=32, patch_size=8)).eval()
    stock.save_pretrained(tmp_path)
    encoder = create_encoder('camera', {'backbone': str(tmp_path), 'tokens': 'cls', 'blocks': [2, 3, 4, 5],
                                        'height': 32, 'width': 32, 'dtype': 'float32', 'device': 'cpu'})
    tokens = encoder.encode(frame)
    assert tokens.values.shape == (12, 32) and encoder.token_width == 32
    assert np.degrees(tokens.azimuth) == pytest.approx([0] * 4 + [180] * 4 + [55] * 4)
    pixels = np.asarray(Image.fromarray(frame.views[1].image).resize((32, 32), Image.Resampling.BILINEAR,
                                                                     reducing_gap=2.0))
    images = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        states = stock(images, output_hidden_states=True).hidden_states[-4:]
    assert np.allclose(tokens.values[4:8], torch.stack(states)[:, 0, 0], atol=1e-4)


@pytest.mark.weights
def test_a_real_key_frame(real_backbone, key_frame, camera_frame):
    encoder = CameraEncoder(CameraConfig(tokens='columns'), real_backbone)
    frame = camera_frame(key_frame)
    tokens = encoder.encode(frame)
    assert tokens.values.shape == (24, 768) and np.isfinite(tokens.azimuth).all()
    columns = dict(zip(tokens.sources, np.degrees(tokens.azimuth).reshape(6, 4), strict=True))
    assert np.abs(columns['cam_front']).max() < 35 and np.abs(columns['cam_back']).min() > 130
    for azimuth in columns.values():
        assert (np.diff(np.unwrap(azimuth, period=360)) < 0).all()
    around = sorted(columns, key=lambda name: (columns[name][3] + 30) % 360)
    assert around == ['cam_front', 'cam_front_left', 'cam_back_left', 'cam_back', 'cam_back_right',
                      'cam_front_right']
    turned = encoder.encode(camera_frame(key_frame.turned(0.7)))
    assert np.array_equal(turned.values, tokens.values)
    assert np.abs(np.exp(1j * turned.azimuth) - np.exp(1j * (tokens.azimuth - 0.7))).max() < 1e-5


@pytest.mark.weights
def test_compressed_and_raw_images_have_nearly_the_same_tokens(real_backbone, key_frame, camera_frame):
    encoder = CameraEncoder(CameraConfig(tokens='columns'), real_backbone)
    compressed = camera_frame(key_frame)
    raw = CameraFrame(tuple(replace(view, image=np.asarray(Image.open(BytesIO(view.image))))
                            for view in compressed.views))
    first, second = (encoder.encode(frame).values for frame in (compressed, raw))
    likeness = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert likeness.min() > 0.99
    unlike = np.corrcoef(first - first.mean(0))
    assert unlike[~np.eye(24, dtype=bool)].max() < 0.95


@pytest.mark.weights
def test_rounding_to_bfloat16_keeps_the_tokens(real_backbone, key_frame, camera_frame):
    frame = camera_frame(key_frame)
    exact = CameraEncoder(CameraConfig(tokens='columns'), real_backbone)
    rounded = create_encoder('camera', {'tokens': 'columns', 'dtype': 'bfloat16', 'device': 'cpu'})
    assert rounded.fingerprint == exact.fingerprint
    first, second = exact.encode(frame).values, rounded.encode(frame).values
    assert np.abs(first - second).mean() < 0.03 * np.abs(first).mean()

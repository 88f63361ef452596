from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mpnp_ros.errors import ConfigurationError, ImageError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.frames import CameraView
from mpnp_ros.modalities.camera.images import load_view

CONFIG = CameraConfig(height=28, width=56)


def encoded(picture, kind='JPEG', mode='RGB'):
    stream = BytesIO()
    Image.fromarray(picture).convert(mode).save(stream, kind)
    return stream.getvalue()


def png_header(width, height):
    """A PNG that claims a size and has nothing to show for it."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(b'\0' * 99)) + chunk(b'IEND', b'')


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_bytes_and_arrays_give_the_same_picture(picture, mode):
    grey = mode == 'L'
    expected = np.asarray(Image.fromarray(picture).convert('L').convert('RGB')) if grey else picture
    plain, size = load_view(CameraView('front', expected), CONFIG)
    kind = 'JPEG' if mode == 'CMYK' else 'PNG'
    found, found_size = load_view(CameraView('front', encoded(picture, kind, mode)), CONFIG)
    assert plain.shape == (28, 56, 3) and plain.dtype == np.uint8
    assert size == found_size == (160, 90)
    assert np.abs(plain.astype(int) - found).mean() < 2


def test_a_large_jpeg_decoded_at_a_fraction_is_the_same_picture(picture):
    large = np.asarray(Image.fromarray(picture).resize((1600, 900)))
    found, size = load_view(CameraView('front', encoded(large)), CONFIG)
    assert size == (1600, 900)
    assert np.abs(load_view(CameraView('front', large), CONFIG)[0].astype(int) - found).mean() < 1


@pytest.mark.parametrize('slices', [np.s_[:, ::-1], np.s_[::2, ::3], np.s_[:, :, ::-1]])
def test_arrays_need_not_be_contiguous(picture, slices):
    strided = picture[slices]
    expected = load_view(CameraView('front', strided.copy()), CONFIG)[0]
    assert np.array_equal(load_view(CameraView('front', strided), CONFIG)[0], expected)


@pytest.mark.parametrize('shape', [(1, 1, 3), (3, 700, 3), (700, 2, 3)])
def test_any_size_will_do(shape):
    found, _ = load_view(CameraView('front', np.full(shape, 90, np.uint8)), CONFIG)
    assert (found == 90).all()


@pytest.mark.parametrize('image, message', [
    (np.zeros((0, 0, 3), np.uint8), r'empty \(0 x 0\)'), (np.zeros((4, 0, 3), np.uint8), 'empty'),
    (np.zeros((4, 4), np.uint8), r'uint8 \[4, 4\]; expected'),
    (np.zeros((4, 4, 4), np.uint8), 'expected uint8'), (np.zeros((4, 4, 3), np.float32), 'float32'),
    (b'', '0 bytes are not'), (b'GIX89a' + bytes(99), 'not a readable'),
    (png_header(20_000, 20_000), 'more than \\d+ pixels'), (png_header(8000, 8000), 'more than max_pixels'),
    (png_header(40, 40), 'truncated or damaged')])
def test_what_cannot_be_decoded_is_refused_by_the_name_of_the_view(image, message):
    with pytest.raises(ImageError, match=f"view 'front': .*({message})"):
        load_view(CameraView('front', image), CONFIG)


def test_the_bound_on_pixels_holds_for_arrays_too(picture):
    with pytest.raises(ImageError, match='160 x 90 pixels are more than max_pixels = 9000'):
        load_view(CameraView('front', picture), replace(CONFIG, max_pixels=9000))


@pytest.mark.parametrize('kind, kept', [
    ('JPEG', 0.02), ('JPEG', 0.3), ('PNG', 0.02), ('PNG', 0.3), ('PNG', 0.9)])
def test_a_truncated_image_is_refused(picture, kind, kept):
    data = encoded(np.random.default_rng(0).permuted(picture, axis=1), kind)
    with pytest.raises(ImageError, match="view 'front'"):
        load_view(CameraView('front', data[:int(kept * len(data))]), CONFIG)


@given(st.binary(max_size=60), st.integers(0, 2000), st.sampled_from(['JPEG', 'PNG']))
def test_damage_never_raises_anything_else(junk, start, kind):
    data = bytearray(encoded(np.full((40, 60, 3), 77, np.uint8), kind))
    start %= len(data)
    data[start:start + len(junk)] = junk
    with suppress(ImageError):
        assert load_view(CameraView('front', bytes(data)), CONFIG)[0].shape == (28, 56, 3)


@pytest.mark.parametrize('kind', ['array', 'PNG', 'JPEG'])
def test_rows_can_be_cut_off(picture, kind):
    tall = np.repeat(np.repeat(picture, 8, 0), 8, 1)
    image = tall if kind == 'array' else encoded(tall, kind)
    config = CameraConfig(height=28, width=56, top=0.25, bottom=0.75)
    kept, size = load_view(CameraView('front', image), config)
    wanted, _ = load_view(CameraView('front', tall[180:540]), CONFIG)
    assert size == (1280, 720) and kept.shape == (28, 56, 3)
    assert np.abs(kept.astype(float) - wanted).mean() < 3


def test_there_must_be_rows_left():
    with pytest.raises(ConfigurationError, match='top is 0.5'):
        CameraConfig(top=0.5, bottom=0.4)

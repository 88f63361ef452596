"""Damaged JPEGs: read as libjpeg reads them, and called damaged; sound ones never are."""
from __future__ import annotations

from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.health import CameraLimits
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, ImageFile, decode
from mpnp_ros.modalities.camera.jpeg import read_layout

WHOLE = (9999, 9999)
FORMS = {'plain': {}, 'rows': {'restart_marker_rows': 1}, 'blocks': {'restart_marker_blocks': 7},
         'optimized': {'optimize': True}, '4:4:4': {'subsampling': 0}, '4:2:2': {'subsampling': 1}}


def street(seed: int = 0, width: int = 640, height: int = 360) -> Image.Image:
    """Soft shapes with some noise, as a camera has it."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (9, 16, 3), np.uint8)).resize((width, height))
    noisy = np.asarray(soft).astype(float) + rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options) -> bytes:
    stream = BytesIO()
    image.save(stream, 'JPEG', **{'quality': 90} | options)
    return stream.getvalue()


def as_libjpeg(data: bytes) -> np.ndarray:
    """What libjpeg makes of it by itself."""
    return np.asarray(Image.open(BytesIO(data)).convert('RGB'))


def judged(data: bytes):
    return CameraLimits().judge().judge(CameraFrame((CameraView('cam_front', ImageFile(data)),)))


@given(st.integers(1, 130), st.integers(1, 90), st.integers(1, 100), st.sampled_from(['RGB', 'L', 'CMYK']),
       st.sampled_from(['noise', 'soft', 'grey', 'black']), st.integers(0, 2), st.booleans(), st.booleans(),
       st.integers(0, 9), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_no_sound_jpeg_is_found_damaged(width, height, quality, mode, scene, sampling, optimize, progressive,
                                        interval, trailing):
    rng = np.random.default_rng(width)
    image = {'noise': lambda: Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)),
             'soft': lambda: street(1, width, height),
             'grey': lambda: Image.new('RGB', (width, height), (128, 128, 128)),
             'black': lambda: Image.new('RGB', (width, height))}[scene]().convert(mode)
    data = jpeg(image, quality=quality, optimize=optimize, progressive=progressive,
                **{'subsampling': sampling} if mode != 'L' else {},
                **{'restart_marker_blocks': interval} if interval else {})
    picture = decode(data + bytes(trailing), WHOLE)
    assert not picture.damage
    assert np.array_equal(np.asarray(picture.image), as_libjpeg(data))
    if not progressive:  # of a file without an end, nothing tells that no scan is missing
        picture = decode(data[:-2], WHOLE)
        assert not picture.damage and np.array_equal(np.asarray(picture.image), as_libjpeg(data))


@pytest.mark.parametrize('form', FORMS)
def test_a_jpeg_whose_end_alone_is_missing_is_whole(form):
    data = jpeg(street(), **FORMS[form])
    assert data.endswith(b'\xff\xd9')
    for cut in (data[:-2], data[:-1]):
        assert np.array_equal(np.asarray(decode(cut, WHOLE).image), as_libjpeg(data))
        assert judged(cut) == judged(data)


@pytest.mark.parametrize('form', [*FORMS, 'progressive'])
def test_a_jpeg_that_ends_early_is_filled_with_grey_and_said_to_be_damaged(form):
    data = jpeg(street(), **FORMS.get(form, {'progressive': True}))
    cut = data[:len(data) * 7 // 10]
    picture = decode(cut, WHOLE)
    assert np.array_equal(np.asarray(picture.image), as_libjpeg(cut + b'\xff\xd9'))
    assert picture.damage
    if form != 'progressive':
        assert picture.missing == pytest.approx(0.3, abs=0.06)
        assert (np.asarray(picture.image)[-80:] == 128).all()
        assert np.array_equal(np.asarray(picture.image)[:200], as_libjpeg(data)[:200])
    said = judged(cut)
    assert said.quality < 0.5 and said.concerns[0].startswith('cam_front is a damaged JPEG (')


@pytest.mark.parametrize('form', FORMS)
def test_a_jpeg_of_which_most_is_missing_is_refused(form):
    data = jpeg(street(), **FORMS[form])
    with pytest.raises(ImageError, match=r'truncated: \d+% of its rows are missing'):
        decode(data[:len(data) // 3], WHOLE)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('wanted', [WHOLE, (224, 126), (96, 1)])
@pytest.mark.parametrize('damage', ['zeroed', 'lost'])
def test_damage_in_the_middle_is_said(form, wanted, damage):
    data = jpeg(street(), **FORMS[form])
    start = read_layout(data).start
    for seed in range(8):
        at = int(np.random.default_rng(seed).integers(start + 200, len(data) - 1000))
        broken = data[:at] + bytes(20) + data[at + 20:] if damage == 'zeroed' else data[:at] + data[at + 300:]
        picture = decode(broken, wanted)
        assert picture.damage
        if wanted == WHOLE:
            assert np.array_equal(np.asarray(picture.image), as_libjpeg(broken))
    assert judged(broken).concerns == ('cam_front is a damaged JPEG (data is lost or changed)',)


def test_data_lost_in_the_first_scans_of_a_progressive_file_is_nearly_always_found():
    data = jpeg(street(), progressive=True)
    assert not decode(data, (224, 126)).damage
    pieces = [data[:at] + data[at + 300:] for at in range(2000, read_layout(data).ends[2] - 400, 700)]
    pictures = [decode(broken, WHOLE) for broken in pieces]
    assert sum(bool(picture.damage) for picture in pictures) >= 0.8 * len(pieces)
    assert all(np.array_equal(np.asarray(picture.image), as_libjpeg(broken))
               for picture, broken in zip(pictures, pieces, strict=True))


def test_a_jpeg_of_twelve_bits_is_named():
    data = jpeg(street())
    at = data.index(b'\xff\xc0') + 4
    with pytest.raises(ImageError, match='the JPEG has values of 12 bits; send 8 bits'):
        decode(data[:at] + b'\x0c' + data[at + 1:], WHOLE)


def test_data_lost_between_two_restart_markers_is_found_by_decoding_them_alone():
    data = jpeg(street(), restart_marker_rows=1)
    layout = read_layout(data)
    assert len(layout.restarts) == 22
    for first, second in zip(layout.restarts, layout.restarts[1:], strict=False):
        broken = data[:first + 100] + data[second - 300:]
        assert len(read_layout(broken).restarts) == 22, 'no marker tells'
        assert decode(broken, (224, 126)).damage


@pytest.mark.parametrize('change', [
    lambda data, layout: data[:layout.restarts[5]] + data[layout.restarts[6]:],
    lambda data, layout: data[:layout.restarts[5]] + data[layout.restarts[13]:],
    lambda data, layout: data[:layout.restarts[5] + 1] + b'\xd0' + data[layout.restarts[5] + 2:],
    lambda data, layout: data[:layout.start + 5000] + b'\xff\x3a' + data[layout.start + 5002:],
], ids=['one is lost', 'eight are lost', 'out of turn', 'a strange marker'])
def test_markers_that_are_missing_or_out_of_turn_are_damage(change):
    data = jpeg(street(), restart_marker_rows=1)
    assert judged(change(data, read_layout(data))).concerns[0].startswith('cam_front is a damaged JPEG')


@given(st.binary(max_size=80), st.integers(0, 10_000), st.sampled_from([*FORMS]), st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_whatever_is_wrong_it_is_decoded_or_refused(junk, at, form, lost):
    data = jpeg(street(0, 64, 48), **FORMS[form])
    at %= len(data)
    with suppress(ImageError):
        assert decode(data[:at] + junk + data[at + lost:], WHOLE).image.mode == 'RGB'

"""Known values of every kind of image file, and that encoder and judge see the same."""
from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from mpnp_ros.errors import ConfigurationError, ImageError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.health import CameraLimits, luminance
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, ImageFile, decode, load_view

WHOLE = (9999, 9999)
CONFIG = CameraConfig(height=28, width=224)
RAMP = np.tile(np.arange(256, dtype=np.uint8), (32, 1))
COLOUR = (200, 100, 50)

SMALL = CameraConfig(height=28, width=56)


def saved(image: Image.Image, kind: str = 'PNG', **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(values: np.ndarray, colour_type: int, interlaced: bool = False) -> bytes:
    """A PNG of [H, W, channels], 8 or 16 bits."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    passes = [np.s_[::8, ::8], np.s_[::8, 4::8], np.s_[4::8, ::4], np.s_[::4, 2::4], np.s_[2::4, ::2],
              np.s_[::2, 1::2], np.s_[1::2]]
    rows = b''.join(b'\0' + row.astype(row.dtype.newbyteorder('>')).tobytes()
                    for part in (passes if interlaced else [np.s_[:]]) for row in values[part])
    head = struct.pack('>IIBBBBB', values.shape[1], values.shape[0], 8 * values.itemsize, colour_type, 0, 0,
                       interlaced)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + \
        chunk(b'IEND', b'')


def tiff(data: bytes, bits: int, photometric: int = 1, order: str = '<', sample_format: int = 1) -> bytes:
    """A grey TIFF, 256 x 32."""
    tags = [(256, 256), (257, 32), (258, bits), (259, 1), (262, photometric), (273, 8 + 2 + 12 * 11 + 4),
            (277, 1), (278, 32), (279, len(data)), (284, 1), (339, sample_format)]
    entries = b''.join(struct.pack(order + 'HHII', tag, 4, 1, value) for tag, value in tags)
    head = {'<': b'II*\0', '>': b'MM\0*'}[order]
    return head + struct.pack(order + 'IH', 8, len(tags)) + entries + struct.pack(order + 'I', 0) + data


def packed(values: np.ndarray) -> bytes:
    """12-bit values, two in three bytes."""
    first, second = values.reshape(-1, 2).astype(int).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


def transparent() -> Image.Image:
    return Image.fromarray(np.tile(np.uint8([*COLOUR, 0]), (32, 256, 1)))


def palette() -> Image.Image:
    image = Image.fromarray(RAMP[:, ::-1] // 64).convert('L')
    image.putpalette([9, 8, 7, *COLOUR, 0, 0, 255, 255, 255, 255])
    return image


GREY_RAMP = {
    'png 8': saved(Image.fromarray(RAMP)),
    'png 16': saved(Image.fromarray(RAMP.astype(np.uint16) * 257)),
    'png 16, low byte anything': saved(Image.fromarray((RAMP.astype(np.uint16) << 8) + RAMP[:, ::-1])),
    'png interlaced': png(RAMP[..., None], 0, True),
    'png 16 interlaced': png(RAMP[..., None].astype(np.uint16) * 257, 0, True),
    'png 16 rgb': png(np.repeat(RAMP[..., None].astype(np.uint16) * 257, 3, 2), 2),
    'png 16 alpha': png(np.stack([RAMP.astype(np.uint16) * 257, RAMP * np.uint16(0)], 2), 4),
    'png 16 rgba': png(np.stack([RAMP.astype(np.uint16) * 257] * 3 + [RAMP * np.uint16(0)], 2), 6),
    'png palette': saved(Image.fromarray(RAMP).convert('P')),
    'png palette, one colour transparent': saved(Image.fromarray(RAMP).convert('P'), transparency=200),
    'png grey and alpha': saved(Image.merge('LA', [Image.fromarray(RAMP), Image.new('L', (256, 32))])),
    'gif': saved(Image.fromarray(RAMP), 'GIF'),
    'bmp': saved(Image.fromarray(RAMP), 'BMP'),
    'tiff 8': saved(Image.fromarray(RAMP), 'TIFF'),
    'tiff 8, white is zero': tiff((255 - RAMP).tobytes(), 8, 0),
    'tiff 12': tiff(packed(RAMP.astype(int) * 16 + 15), 12),
    'tiff 16': tiff((RAMP.astype('<u2') * 257).tobytes(), 16),
    'tiff 16 big': tiff((RAMP * np.uint16(257)).astype('>u2').tobytes(), 16, order='>'),
    'tiff 16, white is zero': tiff((65535 - RAMP.astype('<u2') * 257).tobytes(), 16, 0),
    'tiff lzw': saved(Image.fromarray(RAMP).convert('RGB'), 'TIFF', compression='tiff_lzw'),
    'pgm 8': b'P5 256 32 255\n' + RAMP.tobytes(),
    'pgm 12': b'P5 256 32 4095\n' + (RAMP * np.uint16(16) + 8).astype('>u2').tobytes(),
    'pgm 16': b'P5 256 32 65535\n' + (RAMP * np.uint16(257)).astype('>u2').tobytes(),
    'ppm 12': b'P6 256 32 4095\n' + np.repeat(RAMP * np.uint16(16) + 8, 3).astype('>u2').tobytes(),
    'qoi': saved(Image.fromarray(RAMP).convert('RGB'), 'QOI'),
    'sgi': saved(Image.fromarray(RAMP), 'SGI'),
    'pcx': saved(Image.fromarray(RAMP), 'PCX'),
}
ONE_COLOUR = {
    'png rgb': saved(Image.new('RGB', (256, 32), COLOUR)),
    'png rgba, all transparent': saved(transparent()),
    'webp, all transparent': saved(transparent(), 'WEBP', lossless=True, exact=True),
    'jpeg': saved(Image.new('RGB', (256, 32), COLOUR), 'JPEG', quality=100),
    'jpeg progressive': saved(Image.new('RGB', (256, 32), COLOUR), 'JPEG', quality=100, progressive=True),
    'jpeg cmyk, inverted as Adobe does': saved(Image.new('CMYK', (256, 32), (55, 155, 205, 0)), 'JPEG',
                                               quality=100),
    'jpeg with a second picture': saved(Image.new('RGB', (256, 32), COLOUR), 'MPO', save_all=True,
                                        append_images=[Image.new('RGB', (256, 32))]),
    'tiff cmyk': saved(Image.new('CMYK', (256, 32), (55, 155, 205, 0)), 'TIFF'),
    'tiff of two pages': saved(Image.new('RGB', (256, 32), COLOUR), 'TIFF', save_all=True,
                               append_images=[Image.new('RGB', (256, 32))]),
    'bmp': saved(Image.new('RGB', (256, 32), COLOUR), 'BMP'),
}
for codec, kind in (('jpg_2000', 'JPEG2000'), ('avif', 'AVIF'), ('webp', 'WEBP')):
    if features.check(codec):
        ONE_COLOUR[kind] = saved(Image.new('RGB', (256, 32), COLOUR), kind,
                                 **{'quality': 100} if codec != 'jpg_2000' else {})
if features.check('jpg_2000'):
    GREY_RAMP['jpeg2000 16'] = saved(Image.fromarray(RAMP.astype(np.uint16) * 257), 'JPEG2000')


def seen_by_both(data: bytes) -> tuple[float, float]:
    """Mean grey of what the encoder takes and of what the judge looks at, each by itself."""
    given, _ = load_view(CameraView('front', data), CONFIG)
    judged = luminance(decode(data, (96, 1)))
    return np.asarray(Image.fromarray(given).convert('L')).mean(), judged.mean()


@pytest.mark.parametrize('name', GREY_RAMP)
def test_a_ramp_is_a_ramp_whatever_holds_it(name):
    picture = decode(GREY_RAMP[name], WHOLE)
    assert (picture.size, picture.damage, picture.image.mode) == ((256, 32), '', 'RGB')
    rounded = name in ('pgm 12', 'ppm 12')
    assert np.abs(np.asarray(picture.image).astype(int) - RAMP[..., None]).max() <= rounded
    encoder, judge = seen_by_both(GREY_RAMP[name])
    assert encoder == pytest.approx(127.5, abs=1) and judge == pytest.approx(encoder, abs=1)


@pytest.mark.parametrize('name', ONE_COLOUR)
def test_a_colour_is_that_colour_whatever_holds_it(name):
    picture = decode(ONE_COLOUR[name], WHOLE)
    assert (picture.size, picture.damage) == ((256, 32), '')
    assert np.abs(np.asarray(picture.image).astype(int) - COLOUR).max() <= 4
    encoder, judge = seen_by_both(ONE_COLOUR[name])
    assert judge == pytest.approx(encoder, abs=1)


@pytest.mark.filterwarnings('ignore::UserWarning')
@given(st.sampled_from([*GREY_RAMP.values(), *ONE_COLOUR.values()]), st.binary(max_size=40),
       st.integers(0, 10_000), st.integers(0, 60))
@settings(max_examples=300, deadline=None)
def test_whatever_is_wrong_with_a_file_it_is_decoded_or_refused(data, junk, at, lost):
    at %= len(data)
    file = ImageFile(data[:at] + junk + data[at + lost:])
    with suppress(ImageError):
        file.check(10_000_000)
        assert file.picture(WHOLE, 10_000_000).image.mode == 'RGB'


def test_lab_is_converted():
    lightness = [Image.fromarray(RAMP), Image.new('L', (256, 32), 128), Image.new('L', (256, 32), 128)]
    found = np.asarray(decode(saved(Image.merge('LAB', lightness), 'TIFF'), WHOLE).image)
    assert found[0, 0].max() <= 2 and found[0, -1].min() >= 253
    assert np.abs(found[0, 137].astype(int) - 128).max() < 4, 'L* of 53.6 is the grey in the middle'


def test_palettes_and_single_bits():
    found = np.asarray(decode(saved(palette()), WHOLE).image)
    assert [found[0, column].tolist() for column in (255, 150, 100, 0)] == \
        [[9, 8, 7], [200, 100, 50], [0, 0, 255], [255, 255, 255]]
    bits = Image.fromarray((RAMP >= 64) * np.uint8(255)).convert('1')
    assert np.asarray(decode(saved(bits), WHOLE).image).mean() == 255 * 3 / 4


@pytest.mark.parametrize('name', [*GREY_RAMP, *ONE_COLOUR])
def test_no_sound_file_is_called_damaged(name):
    judge = CameraLimits().judge()
    data = (GREY_RAMP | ONE_COLOUR)[name]
    said = judge.judge(CameraFrame((CameraView('front', ImageFile(data)),)))
    assert 0 <= said.quality <= 1 and not any('damage' in concern for concern in said.concerns)


def test_a_black_palette_image_is_dark():
    image = Image.new('P', (400, 225))
    image.putpalette([0, 0, 0, 255, 255, 255])
    said = CameraLimits().judge().judge(CameraFrame((CameraView('front', saved(image)),)))
    assert (said.quality, said.concerns) == (0., ('front is dark (mean 0 of 255)',))


def test_an_image_all_transparent_is_as_bright_as_its_colours():
    noise = np.random.default_rng(0).integers(0, 256, (56, 100, 4), np.uint8)
    noise[..., 3] = 0
    data = saved(Image.fromarray(noise).resize((400, 225), Image.Resampling.NEAREST))
    said = CameraLimits().judge().judge(CameraFrame((CameraView('front', data),)))
    assert not said.concerns and said.quality == 1


def test_the_orientation_of_exif_is_not_followed():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode(saved(Image.fromarray(RAMP), 'JPEG', exif=exif), WHOLE)
    assert picture.size == picture.image.size == (256, 32)


@pytest.mark.parametrize('pattern, colours', [
    ('rggb', ([255, 0, 0], [0, 255, 0], [0, 0, 255])), ('bggr', ([0, 0, 255], [0, 255, 0], [255, 0, 0]))])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'png 16'])
def test_a_mosaic_is_demosaiced_at_full_size(pattern, colours, kind):
    for lit, colour in zip(((0,), (1, 2), (3,)), colours, strict=True):
        mosaic = np.zeros((34, 50), np.uint8)
        for cell in lit:
            mosaic[cell // 2::2, cell % 2::2] = 255
        if kind == 'png 16':
            data = saved(Image.fromarray(mosaic.astype(np.uint16) * 257))
        else:
            data = saved(Image.fromarray(mosaic), kind, **{'quality': 100} if kind == 'JPEG' else {})
        found = np.asarray(decode(ImageFile(data, pattern), (5, 5)).image)
        assert found.shape == (34, 50, 3)
        assert np.abs(found.astype(int) - colour).max() <= 3


def test_a_colour_file_is_no_mosaic_and_red_and_blue_can_be_swapped():
    data = saved(Image.new('RGB', (40, 30), COLOUR))
    assert np.asarray(decode(ImageFile(data, 'rggb'), WHOLE).image)[3, 3].tolist() == list(COLOUR)
    assert np.asarray(decode(ImageFile(data, 'bgr'), WHOLE).image)[3, 3].tolist() == [50, 100, 200]


ANIMATED = {'save_all': True, 'append_images': [Image.new('L', (256, 32))]}


@pytest.mark.parametrize('data, words', [
    (saved(Image.fromarray(RAMP.astype(np.float32)), 'TIFF'), 'TIFF holds floating-point numbers, which are'),
    (saved(Image.fromarray(RAMP.astype(np.int32)), 'TIFF'), 'integers of 32 bits'),
    (tiff(RAMP.astype('<i2').tobytes(), 16, sample_format=2), 'integers of 16 bits with a sign'),
    (b'Pf\n256 32\n-1.0\n' + RAMP.astype('<f4').tobytes(), 'floating-point'),
    (saved(Image.fromarray(RAMP), 'GIF', **ANIMATED), 'GIF is an animation'),
    (saved(Image.fromarray(RAMP), **ANIMATED), 'PNG is an animation'),
    (saved(Image.new('RGB', (8, 8)), 'EPS'), 'not a readable image.*JPEG, PNG'),
    (saved(Image.new('RGB', (8, 8)), 'PDF'), 'not a readable image'),
    (b'8BPS\0\1' + bytes(99), 'not a readable image'),
    (saved(Image.fromarray(RAMP), 'TIFF')[:4000], 'truncated or damaged'),
])
def test_what_has_no_colours_or_is_no_single_picture_is_refused(data, words):
    with pytest.raises(ImageError, match=words):
        decode(data, WHOLE)


def test_a_file_is_decoded_once_for_encoder_and_judge(monkeypatch):
    file = ImageFile(saved(Image.fromarray(RAMP)))
    view = CameraView('front', file)
    load_view(view, CONFIG)
    monkeypatch.setattr('mpnp_ros.modalities.camera.images._decode', lambda *arguments: pytest.fail('again'))
    assert decode(file, (96, 1)).size == (256, 32)
    CameraLimits().judge().judge(CameraFrame((view,)))


def test_what_was_decoded_too_small_is_decoded_again():
    file = ImageFile(saved(Image.fromarray(np.tile(RAMP, (8, 4))), 'JPEG'))
    assert decode(file, (96, 24)).image.size == (128, 32)
    assert decode(file, (96, 24)) is decode(file, (20, 20))
    assert decode(file, (1000, 200)).image.size == (1024, 256)
    with pytest.raises(ImageError, match='max_pixels = 9'):
        ImageFile(file.data).check(9)


@pytest.mark.parametrize('kind, options', [
    ('PNG', {}), ('JPEG', {}), ('JPEG', {'progressive': True}), ('JPEG', {'restart_marker_blocks': 3}),
    ('JPEG', {'optimize': True})])
def test_ordinary_files_give_the_encoder_what_they_always_gave(kind, options):
    """Shipped heads and links depend on these bits."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (23, 40, 3), np.uint8)).resize((800, 450))
    data = saved(picture, kind, **options)
    image = Image.open(BytesIO(data))
    image.draft('RGB', (224, 28))
    wanted = image.convert('RGB').resize((224, 28), Image.Resampling.BILINEAR, (0, 0, *image.size), 2.)
    assert np.array_equal(load_view(CameraView('front', data), CONFIG)[0], np.asarray(wanted))


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
    plain, size = load_view(CameraView('front', expected), SMALL)
    kind = 'JPEG' if mode == 'CMYK' else 'PNG'
    found, found_size = load_view(CameraView('front', encoded(picture, kind, mode)), SMALL)
    assert plain.shape == (28, 56, 3) and plain.dtype == np.uint8
    assert size == found_size == (160, 90)
    assert np.abs(plain.astype(int) - found).mean() < 2


def test_a_large_jpeg_decoded_at_a_fraction_is_the_same_picture(picture):
    large = np.asarray(Image.fromarray(picture).resize((1600, 900)))
    found, size = load_view(CameraView('front', encoded(large)), SMALL)
    assert size == (1600, 900)
    assert np.abs(load_view(CameraView('front', large), SMALL)[0].astype(int) - found).mean() < 1


@pytest.mark.parametrize('slices', [np.s_[:, ::-1], np.s_[::2, ::3], np.s_[:, :, ::-1]])
def test_arrays_need_not_be_contiguous(picture, slices):
    strided = picture[slices]
    expected = load_view(CameraView('front', strided.copy()), SMALL)[0]
    assert np.array_equal(load_view(CameraView('front', strided), SMALL)[0], expected)


@pytest.mark.parametrize('shape', [(1, 1, 3), (3, 700, 3), (700, 2, 3)])
def test_any_size_will_do(shape):
    found, _ = load_view(CameraView('front', np.full(shape, 90, np.uint8)), SMALL)
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
        load_view(CameraView('front', image), SMALL)


def test_the_bound_on_pixels_holds_for_arrays_too(picture):
    with pytest.raises(ImageError, match='160 x 90 pixels are more than max_pixels = 9000'):
        load_view(CameraView('front', picture), replace(SMALL, max_pixels=9000))


@pytest.mark.parametrize('kind, kept', [
    ('JPEG', 0.02), ('JPEG', 0.3), ('PNG', 0.02), ('PNG', 0.3), ('PNG', 0.9)])
def test_a_truncated_image_is_refused(picture, kind, kept):
    data = encoded(np.random.default_rng(0).permuted(picture, axis=1), kind)
    with pytest.raises(ImageError, match="view 'front'"):
        load_view(CameraView('front', data[:int(kept * len(data))]), SMALL)


@given(st.binary(max_size=60), st.integers(0, 2000), st.sampled_from(['JPEG', 'PNG']))
def test_damage_never_raises_anything_else(junk, start, kind):
    data = bytearray(encoded(np.full((40, 60, 3), 77, np.uint8), kind))
    start %= len(data)
    data[start:start + len(junk)] = junk
    with suppress(ImageError):
        assert load_view(CameraView('front', bytes(data)), SMALL)[0].shape == (28, 56, 3)


@pytest.mark.parametrize('kind', ['array', 'PNG', 'JPEG'])
def test_rows_can_be_cut_off(picture, kind):
    tall = np.repeat(np.repeat(picture, 8, 0), 8, 1)
    image = tall if kind == 'array' else encoded(tall, kind)
    config = CameraConfig(height=28, width=56, top=0.25, bottom=0.75)
    kept, size = load_view(CameraView('front', image), config)
    wanted, _ = load_view(CameraView('front', tall[180:540]), SMALL)
    assert size == (1280, 720) and kept.shape == (28, 56, 3)
    assert np.abs(kept.astype(float) - wanted).mean() < 3


def test_there_must_be_rows_left():
    with pytest.raises(ConfigurationError, match='top is 0.5'):
        CameraConfig(top=0.5, bottom=0.4)

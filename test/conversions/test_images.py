"""Images of every encoding against a pixel-by-pixel oracle, and fuzzed ones."""
from __future__ import annotations

import array
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from PIL import Image as Picture
from sensor_msgs.msg import CompressedImage, Image

from mpnp_ros.conversions.images import ENCODINGS, from_encoded, from_rgb, to_image_file, to_rgb
from mpnp_ros.errors import ImageError

CELL = {'rggb': 'RGGB', 'bggr': 'BGGR', 'gbrg': 'GBRG', 'grbg': 'GRBG'}
PLAIN = {'rgb8': (3, (0, 1, 2)), 'bgr8': (3, (2, 1, 0)), '8UC3': (3, (2, 1, 0)), 'rgba8': (4, (0, 1, 2)),
         'bgra8': (4, (2, 1, 0)), '8UC4': (4, (2, 1, 0)), 'mono8': (1, (0, 0, 0)), '8UC1': (1, (0, 0, 0))}
SIXTEEN = {'rgb16': (3, (0, 1, 2)), 'bgr16': (3, (2, 1, 0)), 'mono16': (1, (0, 0, 0)),
           '16UC1': (1, (0, 0, 0)), 'rgba16': (4, (0, 1, 2)), 'bgra16': (4, (2, 1, 0)),
           '16UC3': (3, (2, 1, 0)), '16UC4': (4, (2, 1, 0))}
OFTEN_SMALL = st.integers(0, 40) | st.integers(0, 2 ** 32 - 1)


def make(encoding, width, height, rows, step, big_endian, rng):
    """Make a message of random bytes."""
    data = rng.integers(0, 256, rows * step, dtype=np.uint8)
    return Image(width=width, height=height, encoding=encoding, step=step, is_bigendian=big_endian,
                 data=array.array('B', data.tobytes())), data.reshape(rows, step)


def yuv_pixel(y, u, v):
    """BT.601 of one pixel in floating point."""
    y, u, v = 1.164 * (float(y) - 16), float(u) - 128, float(v) - 128
    rgb = (y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u)
    return [min(255., max(0., value)) for value in rgb]


@given(st.sampled_from(sorted(PLAIN)), st.integers(1, 9), st.integers(1, 7), st.integers(0, 5),
       st.integers(0, 2 ** 32))
@settings(max_examples=60, deadline=None)
def test_plain_encodings_pick_the_right_bytes(encoding, width, height, padding, seed):
    channels, order = PLAIN[encoding]
    message, data = make(encoding, width, height, height, width * channels + padding, False,
                         np.random.default_rng(seed))
    rgb = to_rgb(message)
    assert rgb.shape == (height, width, 3) and rgb.dtype == np.uint8
    for row in range(height):
        for column in range(width):
            assert rgb[row, column].tolist() == [data[row, column * channels + c] for c in order]


@given(st.sampled_from(sorted(SIXTEEN)), st.booleans(), st.integers(0, 3),
       st.integers(0, 2 ** 32))
@settings(max_examples=30, deadline=None)
def test_sixteen_bits_keep_the_high_byte_in_either_byte_order(encoding, big_endian, padding, seed):
    channels, order = SIXTEEN[encoding]
    message, data = make(encoding, 5, 3, 3, 10 * channels + padding, big_endian, np.random.default_rng(seed))
    high = data[:, (0 if big_endian else 1):10 * channels:2].reshape(3, 5, channels)
    assert (to_rgb(message) == high[..., list(order)]).all()


@given(st.sampled_from(sorted(CELL)), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2 ** 32))
@settings(max_examples=60, deadline=None)
def test_bayer_cells_give_one_colour_at_full_size(pattern, width, height, seed):
    message, data = make(f'bayer_{pattern}8', width, height, height, width, False,
                         np.random.default_rng(seed))
    rgb = to_rgb(message)
    assert rgb.shape == (height, width, 3)
    for row in range(height):
        for column in range(width):
            top, left = row // 2 * 2, column // 2 * 2
            seen = {'R': [], 'G': [], 'B': []}
            for index, colour in enumerate(CELL[pattern]):
                y, x = min(top + index // 2, height - 1), min(left + index % 2, width - 1)
                seen[colour].append(int(data[y, x]))
            assert rgb[row, column].tolist() == [seen['R'][0], sum(seen['G']) // 2, seen['B'][0]]


@given(st.sampled_from(['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv']), st.integers(1, 9), st.integers(1, 5),
       st.integers(0, 3), st.integers(0, 2 ** 32))
@settings(max_examples=40, deadline=None)
def test_packed_yuv_is_bt601(encoding, width, height, padding, seed):
    message, data = make(encoding, width, height, height, 2 * (width + width % 2) + padding, False,
                         np.random.default_rng(seed))
    rgb = to_rgb(message).astype(float)
    assert rgb.shape == (height, width, 3)
    y, u, v = ((0, 2), 1, 3) if encoding in ('yuv422_yuy2', 'yuyv') else ((1, 3), 0, 2)
    for row in range(height):
        for column in range(width):
            four = data[row, column // 2 * 4:column // 2 * 4 + 4]
            assert np.abs(rgb[row, column] - yuv_pixel(four[y[column % 2]], four[u], four[v])).max() <= 2


@given(st.sampled_from(['nv12', 'nv21', 'nv24']), st.integers(1, 8), st.integers(1, 8), st.integers(0, 3),
       st.integers(0, 2 ** 32))
@settings(max_examples=60, deadline=None)
def test_planar_yuv_is_bt601(encoding, width, height, padding, seed):
    step = width + padding if encoding == 'nv24' else width + width % 2 + padding
    rows = 2 * height if encoding == 'nv24' else (height + 1) // 2
    message, data = make(encoding, width, height, height + rows, step, False, np.random.default_rng(seed))
    rgb, data = to_rgb(message).astype(float), data.ravel()
    assert rgb.shape == (height, width, 3)
    for row in range(height):
        for column in range(width):
            at = height * step + (row * 2 * step + 2 * column if encoding == 'nv24' else
                                  row // 2 * step + column // 2 * 2)
            u, v = data[at:at + 2][::-1 if encoding == 'nv21' else 1]
            assert np.abs(rgb[row, column] - yuv_pixel(data[row * step + column], u, v)).max() <= 2


RED = {'rgb8': [255, 0, 0], 'bgr8': [0, 0, 255], 'rgba8': [255, 0, 0, 0], 'bgra8': [0, 0, 255, 0],
       'rgb16': [65535, 0, 0], 'bgr16': [255, 255, 65280], 'rgba16': [65535, 0, 0, 0],
       'bgra16': [0, 0, 65535, 0], '8UC3': [0, 0, 255], '8UC4': [0, 0, 255, 9], '16UC3': [0, 0, 65535],
       '16UC4': [0, 0, 65535, 9], 'uyvy': [90, 81, 240, 81], 'yuv422': [90, 81, 240, 81],
       'yuyv': [81, 90, 81, 240], 'yuv422_yuy2': [81, 90, 81, 240]}


@pytest.mark.parametrize('encoding', [*RED, 'nv12', 'nv21', 'nv24', *(f'bayer_{name}{bits}' for name in CELL
                                                                      for bits in (8, 16))])
@pytest.mark.parametrize('big_endian', [False, True])
def test_red_is_red_in_every_encoding_that_has_colours(encoding, big_endian):
    wide = encoding.endswith('16') or encoding.startswith('16')
    if encoding in RED:
        values = np.tile(RED[encoding], (4, 3 if encoding.startswith(('yu', 'uy')) else 6))
    elif encoding.startswith('bayer'):
        cell = [(65535 if wide else 255) * (colour == 'R') for colour in CELL[encoding[6:10]]]
        values = np.tile(np.reshape(cell, (2, 2)), (2, 3))
    else:
        colours = np.tile([240, 90] if encoding == 'nv21' else [90, 240], (8 if encoding == 'nv24' else 2, 3))
        values = np.concatenate([np.full((4, 6), 81), colours])
    data = values.astype(('>' if big_endian else '<') + ('u2' if wide else 'u1'))
    message = Image(width=6, height=4, encoding=encoding, step=data[0].nbytes, is_bigendian=big_endian,
                    data=array.array('B', data.tobytes()))
    found = to_rgb(message)
    assert found.shape == (4, 6, 3)
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 2


def test_nv24_without_padding_is_read_whatever_its_step_says():
    message, _ = make('nv24', 5, 4, 12, 5, False, np.random.default_rng(0))
    wanted = to_rgb(message)
    for message.step in (10, 15):
        assert np.array_equal(to_rgb(message), wanted)


def test_twelve_bits_in_the_lower_ones_are_dark():
    """The high byte is kept whatever the values are, so that an image does not flicker."""
    values = np.arange(4096, dtype='<u2').reshape(64, 64)
    message = Image(width=64, height=64, encoding='mono16', step=128, data=array.array('B', values.tobytes()))
    assert to_rgb(message).max() == 15
    message.data = array.array('B', (values << 4).tobytes())
    assert (to_rgb(message)[..., 0] == values >> 4).all()


@pytest.mark.parametrize('encoding, channels', [('rgb8', 3), ('bgr8', 3), ('rgba8', 4), ('mono8', 1)])
def test_common_encodings_are_views_of_the_message(encoding, channels):
    message, _ = make(encoding, 4, 2, 2, 4 * channels, False, np.random.default_rng(0))
    assert np.shares_memory(to_rgb(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('change, words', [
    ({'height': 0}, 'empty: 4 x 0'),
    ({'width': 0}, 'empty: 0 x 2'),
    ({'step': 11}, 'step is 11; it needs 12'),
    ({'step': 13}, '24 bytes; step 13 x 2 rows are 26'),
    ({'data': array.array('B', bytes(23))}, '23 bytes; step 12 x 2 rows are 24'),
    ({'data': array.array('B')}, '0 bytes'),
    ({'width': 12_000, 'height': 12_000}, '12000 x 12000 pixels, more than'),
    ({'encoding': 'nv12', 'height': 1, 'width': 13}, 'step is 12; it needs 14'),
    ({'encoding': 'nv12'}, '24 bytes; step 12 x 2 rows and 12 x 1 of colours are 36'),
    ({'encoding': 'nv24', 'width': 3}, 'step 12 x 2 rows and 24 x 2 of colours are 72'),
    ({'encoding': 'yuyv', 'width': 7}, 'step is 12; it needs 16'),
    ({'encoding': 'h264'}, "'h264' is not supported.*rgb8.*bayer_rggb8.*nv12"),
    ({'encoding': ''}, "'' is not supported"),
    ({'encoding': '32FC1'}, "'32FC1' holds floating-point numbers, as a depth image does.*8UC3, 8UC4, 16UC1"),
    ({'encoding': '64FC3'}, 'floating-point'),
    ({'encoding': '8SC1'}, 'numbers with a sign'),
    ({'encoding': '16UC2'}, 'holds 2 values a pixel, which are no colours'),
])
def test_a_malformed_image_is_refused_by_name(change, words):
    message, _ = make('rgb8', 4, 2, 2, 12, False, np.random.default_rng(0))
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(ImageError, match=words):
        to_rgb(message)


@given(st.sampled_from([*ENCODINGS, 'RGB8', 'jpeg', '', '32FC1']), OFTEN_SMALL, OFTEN_SMALL,
       OFTEN_SMALL, st.integers(0, 3000), st.integers(0, 255))
@settings(max_examples=400, deadline=None)
def test_any_image_is_converted_or_refused(encoding, width, height, step, size, big_endian):
    message = Image(width=width, height=height, encoding=encoding, step=step, is_bigendian=big_endian,
                    data=array.array('B', bytes(size)))
    try:
        rgb = to_rgb(message)
    except ImageError:
        return
    assert rgb.shape == (height, width, 3) and rgb.dtype == np.uint8


def test_an_image_survives_the_way_there_and_back():
    image = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    message = from_rgb(image, 'cam_front', 1_500_000_000)
    assert (to_rgb(message) == image).all()
    assert (message.header.frame_id, message.header.stamp.sec, message.header.stamp.nanosec) == \
        ('cam_front', 1, 500_000_000)


def test_every_name_of_image_encodings_is_read_or_refused_as_what_it_is():
    numbers = [f'{bits}C{count}' for bits in ('8S', '16S', '32S', '32F', '64F') for count in (1, 2, 3, 4)]
    for name in [*ENCODINGS, *numbers, '8UC2', '16UC2']:
        message, _ = make(name, 4, 2, 6, 64, False, np.random.default_rng(0))
        message.data = message.data[:64 * (6 if name == 'nv24' else 3 if name in ('nv12', 'nv21') else 2)]
        if name in ENCODINGS:
            assert to_rgb(message).shape == (2, 4, 3)
            message.encoding = name.swapcase()
            assert to_rgb(message).shape == (2, 4, 3)
        else:
            with pytest.raises(ImageError, match=f"'{name}' holds .* publish one of rgb8, rgba8, bgr8"):
                to_rgb(message)


def picture_file(kind, values=(200, 100, 50), mode='RGB', **options):
    stream = io.BytesIO()
    Picture.new(mode, (32, 32), values).save(stream, kind, **options)
    return stream.getvalue()


def compressed(text, data):
    return CompressedImage(format=text, data=array.array('B', data))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_compressed_bytes_are_handed_on_untouched(kind):
    message = from_encoded(picture_file(kind), 'cam')
    assert message.format == kind.lower()
    file = to_image_file(message)
    assert (file.data, file.pixels) == (picture_file(kind), '')


@pytest.mark.parametrize('text, kind, colour', [
    ('jpeg', 'JPEG', (200, 100, 50)), ('jpg', 'JPEG', (200, 100, 50)), ('png', 'PNG', (200, 100, 50)),
    ('', 'PNG', (200, 100, 50)), ('webp', 'WEBP', (200, 100, 50)), ('png', 'JPEG', (200, 100, 50)),
    ('bgr8; jpeg compressed bgr8', 'JPEG', (200, 100, 50)),
    ('rgb8; jpeg compressed bgr8', 'JPEG', (200, 100, 50)),
    ('rgb8; png compressed', 'PNG', (200, 100, 50)),
    ('rgba8; png compressed bgr8', 'PNG', (200, 100, 50)),
    ('bayer_rggb8; jpeg compressed bgr8', 'JPEG', (200, 100, 50)),
    ('bgr8; jpeg compressed rgb8', 'JPEG', (50, 100, 200)),
    ('rgb8; jpeg compressed rgb8', 'JPEG', (50, 100, 200)),
    ('rgb8; tiff compressed ', 'TIFF', (50, 100, 200)),
    ('bgr8; tiff compressed ', 'TIFF', (200, 100, 50))])
def test_the_format_says_what_the_pixels_are(text, kind, colour):
    """As compressed_image_transport writes them: what is named went to OpenCV, which takes it for BGR."""
    found = np.asarray(to_image_file(compressed(text, picture_file(kind))).picture((32, 32)).image)
    assert np.abs(found.astype(int) - colour).max() <= 4


@pytest.mark.parametrize('text', [
    'bayer_rggb8; jpeg compressed ', 'bayer_rggb8; png compressed ', 'bayer_rggb8'])
def test_a_mosaic_in_a_grey_file_is_the_scene_that_the_same_raw_image_shows(text):
    mosaic = np.zeros((32, 48), np.uint8)
    mosaic[::2, ::2] = 255
    stream = io.BytesIO()
    Picture.fromarray(mosaic).save(stream, 'PNG' if 'png' in text else 'JPEG')
    found = np.asarray(to_image_file(compressed(text, stream.getvalue())).picture((1, 1)).image).astype(int)
    raw = Image(width=48, height=32, encoding='bayer_rggb8', step=48, data=array.array('B', mosaic.tobytes()))
    assert (to_rgb(raw) == [255, 0, 0]).all()
    assert np.abs(found.mean((0, 1)) - [255, 0, 0]).max() < 5


def test_a_mosaic_that_was_made_grey_is_grey():
    file = to_image_file(compressed('bayer_rggb8; jpeg compressed mono8', picture_file('JPEG', 77, 'L')))
    assert (np.asarray(file.picture((32, 32)).image) == 77).all()


def test_sixteen_bits_are_the_same_raw_and_in_a_png():
    values = np.tile(np.arange(256, dtype='<u2') * 257, (16, 1))
    raw = Image(width=256, height=16, encoding='mono16', step=512, data=array.array('B', values.tobytes()))
    stream = io.BytesIO()
    Picture.fromarray(values).save(stream, 'PNG')
    file = to_image_file(compressed('mono16; png compressed mono16', stream.getvalue()))
    found = np.asarray(file.picture((256, 16)).image)
    assert np.array_equal(found, to_rgb(raw)) and found[0, :, 0].tolist() == list(range(256))


DEPTH = bytes(12) + picture_file('PNG')


@pytest.mark.parametrize('text, data, words', [
    ('32FC1; compressedDepth', DEPTH, 'depth image of the compressedDepth transport; subscribe'),
    ('16UC1; compressedDepth png', DEPTH, "'16UC1; compressedDepth png'.*the colour image"),
    ('png', DEPTH, 'depth image'),
    ('h264', b'\0\0\0\1\x67\x42', "'h264': this is a video stream"),
    ('hevc', b'anything', 'video stream'),
    ('', b'\0\0\1\x09', 'video stream'),
    ('jpeg', b'', "'jpeg': 0 bytes are not a readable image .*; send one of JPEG, PNG"),
    ('png', b'\x89PNX\r\n\x1a\n', 'not a readable'),
    ('jpeg', b'\xff\xd8', 'not a readable'),
    ('png', picture_file('PNG'), 'more than max_pixels = 1000'),
])
def test_what_is_no_image_to_be_read_is_named(text, data, words):
    with pytest.raises(ImageError, match=words):
        to_image_file(compressed(text, data), 1000)

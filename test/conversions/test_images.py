"""Images of every encoding against a pixel-by-pixel oracle, and fuzzed ones."""
from __future__ import annotations

import array
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from sensor_msgs.msg import CompressedImage, Image

from mpnp_ros.conversions.images import ENCODINGS, from_encoded, from_rgb, to_encoded, to_rgb
from mpnp_ros.errors import ImageError

CELL = {'rggb': 'RGGB', 'bggr': 'BGGR', 'gbrg': 'GBRG', 'grbg': 'GRBG'}
PLAIN = {'rgb8': (3, (0, 1, 2)), 'bgr8': (3, (2, 1, 0)), '8UC3': (3, (2, 1, 0)), 'rgba8': (4, (0, 1, 2)),
         'bgra8': (4, (2, 1, 0)), 'mono8': (1, (0, 0, 0)), '8UC1': (1, (0, 0, 0))}
SIXTEEN = {'rgb16': (3, (0, 1, 2)), 'bgr16': (3, (2, 1, 0)), 'mono16': (1, (0, 0, 0)),
           '16UC1': (1, (0, 0, 0))}
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


@given(st.sampled_from(['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv']), st.integers(1, 4), st.integers(1, 5),
       st.integers(0, 3), st.integers(0, 2 ** 32))
@settings(max_examples=40, deadline=None)
def test_packed_yuv_is_bt601(encoding, pairs, height, padding, seed):
    width = 2 * pairs
    message, data = make(encoding, width, height, height, 2 * width + padding, False,
                         np.random.default_rng(seed))
    rgb = to_rgb(message).astype(float)
    y, u, v = ((0, 2), 1, 3) if encoding in ('yuv422_yuy2', 'yuyv') else ((1, 3), 0, 2)
    for row in range(height):
        for column in range(width):
            four = data[row, column // 2 * 4:column // 2 * 4 + 4]
            assert np.abs(rgb[row, column] - yuv_pixel(four[y[column % 2]], four[u], four[v])).max() <= 2


@given(st.sampled_from(['nv12', 'nv21']), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3),
       st.integers(0, 2 ** 32))
@settings(max_examples=40, deadline=None)
def test_planar_yuv_is_bt601(encoding, half_width, half_height, padding, seed):
    width, height = 2 * half_width, 2 * half_height
    message, data = make(encoding, width, height, 3 * half_height, width + padding, False,
                         np.random.default_rng(seed))
    rgb = to_rgb(message).astype(float)
    for row in range(height):
        for column in range(width):
            pair = data[height + row // 2, column // 2 * 2:column // 2 * 2 + 2]
            u, v = pair if encoding == 'nv12' else pair[::-1]
            assert np.abs(rgb[row, column] - yuv_pixel(data[row, column], u, v)).max() <= 2


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
    ({'encoding': 'nv12', 'height': 1}, 'height 1 is odd'),
    ({'encoding': 'yuyv', 'width': 3}, 'even width, not 3'),
    ({'encoding': 'h264'}, "'h264' is not supported.*rgb8.*bayer_rggb8.*nv12"),
    ({'encoding': ''}, "'' is not supported"),
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


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_compressed_bytes_are_handed_on_untouched(kind):
    from PIL import Image as Picture
    stream = io.BytesIO()
    Picture.new('RGB', (4, 4)).save(stream, kind)
    message = from_encoded(stream.getvalue(), 'cam')
    assert message.format == kind.lower()
    assert to_encoded(message) == stream.getvalue()


@pytest.mark.parametrize('data', [b'', b'\xff\xd8', b'GIF89a....', b'\x89PNX\r\n\x1a\n'])
def test_compressed_bytes_of_another_kind_are_refused(data):
    with pytest.raises(ImageError, match='32FC1; compressedDepth.*neither JPEG nor PNG'):
        to_encoded(CompressedImage(format='32FC1; compressedDepth', data=array.array('B', data)))

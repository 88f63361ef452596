"""``sensor_msgs/Image`` and ``CompressedImage`` <-> numpy.

Encodings are those of ``sensor_msgs/image_encodings.hpp``.  What is not in :data:`ENCODINGS` is handed
to cv_bridge where the distribution has it; it is never needed for what is.
"""
from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from mpnp_ros.conversions.time import from_nanoseconds
from mpnp_ros.errors import ImageError

MAX_PIXELS = 40_000_000
MAGIC = {b'\xff\xd8\xff': 'JPEG', b'\x89PNG\r\n\x1a\n': 'PNG'}


@dataclass(frozen=True)
class Encoding:
    """How the pixels of one encoding lie in memory.

    channels: values in a pixel of a row.  dtype: of a value.  rows: rows of data for every two of the image.
    convert: [rows, W, channels] and the image's height to uint8 RGB [H, W, 3].
    """

    channels: int
    dtype: str
    convert: Callable[[np.ndarray, int], np.ndarray]
    rows: int = 2


def to_rgb(message: Image, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the image as uint8 RGB [H, W, 3]; for rgb8, rgba8, bgr8 and mono8 a view of the message's bytes.

    16-bit values keep their high byte.  8UC3 and 8UC4 are taken as BGR, as OpenCV has them.
    Raises ImageError naming what is wrong: size, step, amount of data, encoding.
    """
    encoding = ENCODINGS.get(message.encoding.lower())
    _check_size(message, max_pixels)
    if encoding is None:
        return _through_cv_bridge(message)
    return encoding.convert(_pixels(message, encoding), message.height)


def to_encoded(message: CompressedImage) -> bytes:
    """Return the JPEG or PNG file in ``message``; raises ImageError where it is neither."""
    data = message.data
    start = bytes(data[:8])
    if not any(start.startswith(magic) for magic in MAGIC):
        raise ImageError(f'compressed image of format {message.format!r}: its {len(data)} bytes are neither '
                         f'{" nor ".join(MAGIC.values())}; publish one of them')
    return bytes(data)


def from_rgb(image: np.ndarray, frame_id: str = '', stamp_ns: int = 0) -> Image:
    """Return uint8 [H, W, 3] as an rgb8 message."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding='rgb8', step=image.shape[1] * 3)
    message.header.stamp, message.header.frame_id = from_nanoseconds(stamp_ns), frame_id
    message.data = array.array('B', np.ascontiguousarray(image, np.uint8).tobytes())
    return message


def from_encoded(data: bytes, frame_id: str = '', stamp_ns: int = 0) -> CompressedImage:
    """Return the bytes of a JPEG or PNG file as a message."""
    kind = next((name for magic, name in MAGIC.items() if data.startswith(magic)), '')
    message = CompressedImage(format=kind.lower(), data=array.array('B', data))
    message.header.stamp, message.header.frame_id = from_nanoseconds(stamp_ns), frame_id
    return message


def _check_size(message: Image, max_pixels: int) -> None:
    width, height = message.width, message.height
    if not width or not height:
        raise ImageError(f'the image is empty: {width} x {height}')
    if width * height > max_pixels:
        raise ImageError(f'the image has {width} x {height} pixels, more than {max_pixels}')


def _pixels(message: Image, encoding: Encoding) -> np.ndarray:
    """View the data as [rows, W, channels] of the encoding's dtype in its byte order."""
    name, width, step = message.encoding, message.width, message.step
    rows, odd = divmod(message.height * encoding.rows, 2)
    dtype = np.dtype(encoding.dtype).newbyteorder('>' if message.is_bigendian else '<')
    row_bytes = width * encoding.channels * dtype.itemsize
    if odd:
        raise ImageError(f'{name} image: the height {message.height} is odd')
    if step < row_bytes:
        raise ImageError(f'{name} image {width} pixels wide: step is {step}; it needs {row_bytes}')
    if len(message.data) != step * rows:
        raise ImageError(f'{name} image of {width} x {message.height}: {len(message.data)} bytes; '
                         f'step {step} x {rows} rows are {step * rows}')
    data = np.frombuffer(message.data, np.uint8).reshape(rows, step)[:, :row_bytes]
    if dtype.itemsize > 1:
        data = np.ascontiguousarray(data).view(dtype)
    return data.reshape(rows, width, encoding.channels)


def _colours(*order: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """Pick channels in ``order``: a view where numpy can."""
    first, step = order[0], order[1] - order[0]
    stop = first + 3 * step
    return lambda pixels, height: pixels[..., first:stop if stop >= 0 else None:step]


def _grey(pixels: np.ndarray, height: int) -> np.ndarray:
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _high_byte(convert: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda pixels, height: convert((pixels >> 8).astype(np.uint8), height)


def _bayer(red: int, blue: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """Demosaic: the four pixels of a cell, numbered row by row, share one colour.

    The result has the size of the image, so that its calibration holds; encoders shrink it anyway.
    """
    def convert(pixels: np.ndarray, height: int) -> np.ndarray:
        mosaic = pixels[..., 0]
        mosaic = np.pad(mosaic, [(0, size % 2) for size in mosaic.shape], mode='edge')
        cells = [mosaic[row::2, column::2] for row in (0, 1) for column in (0, 1)]
        first, second = (cells[index] for index in range(4) if index not in (red, blue))
        green = ((first.astype(np.uint16) + second) >> 1).astype(mosaic.dtype)
        small = np.stack([cells[red], green, cells[blue]], axis=-1)
        return small.repeat(2, axis=0).repeat(2, axis=1)[:height, :pixels.shape[1]]
    return convert


def _packed_yuv(luma: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """4:2:2: two pixels share a U and a V; ``luma`` is where in a pixel's two bytes its Y is."""
    def convert(pixels: np.ndarray, height: int) -> np.ndarray:
        if pixels.shape[1] % 2:
            raise ImageError(f'a 4:2:2 image must have an even width, not {pixels.shape[1]}')
        u, v = (pixels[:, first::2, 1 - luma].repeat(2, axis=1) for first in (0, 1))
        return _yuv_to_rgb(pixels[..., luma], u, v)
    return convert


def _planar_yuv(u: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """4:2:0: rows of Y, then half as many of interleaved U and V, U at ``u``."""
    def convert(pixels: np.ndarray, height: int) -> np.ndarray:
        width = pixels.shape[1]
        if width % 2:
            raise ImageError(f'a 4:2:0 image must have an even width, not {width}')
        chroma = pixels[height:, :, 0].reshape(height // 2, width // 2, 2).repeat(2, axis=0).repeat(2, axis=1)
        return _yuv_to_rgb(pixels[:height, :, 0], chroma[..., u], chroma[..., 1 - u])
    return convert


def _yuv_to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, Y in 16..235 as OpenCV has it, in 1/256 steps; each [H, W] -> uint8 [H, W, 3]."""
    luma = (y.astype(np.int32) - 16) * 298 + 128
    d, e = u.astype(np.int32) - 128, v.astype(np.int32) - 128
    rgb = np.stack([luma + 409 * e, luma - 100 * d - 208 * e, luma + 516 * d], axis=-1) >> 8
    return rgb.clip(0, 255).astype(np.uint8)


def _through_cv_bridge(message: Image) -> np.ndarray:
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise ImageError(f'image encoding {message.encoding!r} is not supported without cv_bridge; '
                         f'publish one of {", ".join(ENCODINGS)}') from None
    try:
        return CvBridge().imgmsg_to_cv2(message, 'rgb8')
    except (CvBridgeError, ValueError, TypeError) as error:
        raise ImageError(f'image encoding {message.encoding!r}: cv_bridge says {error}; '
                         f'publish one of {", ".join(ENCODINGS)}') from None


_RGB, _BGR = _colours(0, 1, 2), _colours(2, 1, 0)
_CELLS = {'rggb': (0, 3), 'bggr': (3, 0), 'gbrg': (2, 1), 'grbg': (1, 2)}
ENCODINGS = {
    'rgb8': Encoding(3, 'u1', _RGB), 'bgr8': Encoding(3, 'u1', _BGR), '8uc3': Encoding(3, 'u1', _BGR),
    'rgba8': Encoding(4, 'u1', _RGB), 'bgra8': Encoding(4, 'u1', _BGR), '8uc4': Encoding(4, 'u1', _BGR),
    'rgb16': Encoding(3, 'u2', _high_byte(_RGB)), 'bgr16': Encoding(3, 'u2', _high_byte(_BGR)),
    'mono8': Encoding(1, 'u1', _grey), '8uc1': Encoding(1, 'u1', _grey),
    'mono16': Encoding(1, 'u2', _high_byte(_grey)), '16uc1': Encoding(1, 'u2', _high_byte(_grey)),
    **{f'bayer_{name}8': Encoding(1, 'u1', _bayer(*cell)) for name, cell in _CELLS.items()},
    **{f'bayer_{name}16': Encoding(1, 'u2', _high_byte(_bayer(*cell))) for name, cell in _CELLS.items()},
    'yuv422': Encoding(2, 'u1', _packed_yuv(1)), 'uyvy': Encoding(2, 'u1', _packed_yuv(1)),
    'yuv422_yuy2': Encoding(2, 'u1', _packed_yuv(0)), 'yuyv': Encoding(2, 'u1', _packed_yuv(0)),
    'nv12': Encoding(1, 'u1', _planar_yuv(0), rows=3), 'nv21': Encoding(1, 'u1', _planar_yuv(1), rows=3),
}
"""Supported encodings, in lower case."""

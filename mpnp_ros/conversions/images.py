"""``sensor_msgs/Image`` and ``CompressedImage`` <-> numpy and image files.

Encodings are those of ``sensor_msgs/image_encodings.hpp``.  Images of an encoding that is not in
:data:`ENCODINGS` go through cv_bridge where the distribution has it.
"""
from __future__ import annotations

import array
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from mpnp_ros.conversions.messages import from_nanoseconds
from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.images import CELLS, SWAPPED, ImageFile, demosaic

MAX_PIXELS = 40_000_000
MAGIC = {b'\xff\xd8\xff': 'JPEG', b'\x89PNG\r\n\x1a\n': 'PNG'}
_DEPTH_HEADER = 12  # bytes that compressedDepth puts in front of a PNG
_VIDEO = re.compile(r'h\.?26[3-6]|hevc|avc|av1\b|vp[89]|mpeg-?[124]|theora|ffmpeg|ogg', re.IGNORECASE)
_BAYER = re.compile(rf'bayer_({"|".join(CELLS)})(8|16)')
_NUMBERS = re.compile(r'\d+([USF])C(\d+)')


@dataclass(frozen=True)
class PixelEncoding:
    """Memory layout of the pixels of one encoding.

    channels: values per pixel.  dtype: of a value.  convert: [rows, W, channels] and the image's height to
    uint8 RGB [H, W, 3].  paired: two pixels share their colour, so that rows hold an even number.
    chroma: of planes, the reduction of the colour plane that follows Y; 0: no planes.
    """

    channels: int
    dtype: str
    convert: Callable[[np.ndarray, int], np.ndarray]
    paired: bool = False
    chroma: int = 0


def to_rgb(message: Image, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the image as uint8 RGB [H, W, 3]; for rgb8, rgba8, bgr8 and mono8 a view of the message's bytes.

    16-bit values keep their high byte, so that a camera of 12 bits must send them in the upper ones.  Alpha
    is ignored.  Images without the name of a colour (8UC3, 16UC4, ...) are taken as BGR, as OpenCV has them.
    Raises ImageError naming what is wrong: size, step, amount of data, encoding.
    """
    width, height, encoding = message.width, message.height, _BY_NAME.get(message.encoding.lower())
    if not width or not height:
        raise ImageError(f'the image is empty: {width} x {height}')
    if width * height > max_pixels:
        raise ImageError(f'the image has {width} x {height} pixels, more than {max_pixels}')
    if encoding is None:
        return _through_cv_bridge(message)
    pixels = _planes(message, encoding) if encoding.chroma else _pixels(message, encoding)
    return encoding.convert(pixels, height)[:, :width]


def to_image_file(message: CompressedImage, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Return the image file in ``message``, not decoded; raises ImageError where its format is not supported.

    ``message.format`` is read as compressed_image_transport writes it: 'encoding; codec compressed pixels'.
    An encoding such as bayer_rggb8 means a mosaic if the file is grey and no other pixels are named.  With
    pixels rgb8, and in a TIFF of rgb8, red and blue are swapped.
    """
    data, text = bytes(message.data), message.format
    if 'compresseddepth' in text.lower() or data[_DEPTH_HEADER:].startswith(b'\x89PNG\r\n\x1a\n'):
        raise ImageError(f'compressed image of format {text!r}: this is a depth image of the compressedDepth '
                         'transport; subscribe to the topic of the colour image')
    encoding, _, rest = text.lower().partition(';')
    named = re.search(r'compressed\s+(\w+)', rest)
    pixels, mosaic = named.group(1) if named else '', _BAYER.fullmatch(encoding.strip())
    meaning = ''
    if mosaic and (not pixels or pixels.startswith('bayer')):
        meaning = mosaic.group(1)
    elif (pixels or (encoding if 'tiff' in rest else '')).startswith('rgb'):
        meaning = SWAPPED
    file = ImageFile(data, meaning)
    try:
        file.check(max_pixels)
    except ImageError as error:
        video = _VIDEO.search(text) or data.startswith((b'\0\0\1', b'\0\0\0\1'))
        reason = 'this is a video stream; decode it and publish its images' if video else error
        raise ImageError(f'compressed image of format {text!r}: {reason}') from None
    return file


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


def _pixels(message: Image, encoding: PixelEncoding) -> np.ndarray:
    """View the data as [H, W, channels] of the encoding's dtype in its byte order; W is even where paired."""
    name, height, step = message.encoding, message.height, message.step
    width = message.width + message.width % 2 * encoding.paired
    dtype = np.dtype(encoding.dtype).newbyteorder('>' if message.is_bigendian else '<')
    row_bytes = width * encoding.channels * dtype.itemsize
    _check_step(message, row_bytes)
    if len(message.data) != step * height:
        raise ImageError(f'{name} image of {message.width} x {height}: {len(message.data)} bytes; '
                         f'step {step} x {height} rows are {step * height}')
    data = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :row_bytes]
    if dtype.itemsize > 1:
        data = np.ascontiguousarray(data).view(dtype)
    return data.reshape(height, width, encoding.channels)


def _planes(message: Image, encoding: PixelEncoding) -> np.ndarray:
    """Return Y, U and V of planes, each as large as the image: [H, W, 3].

    ``step`` is that of Y.  Rows of U and V, which alternate, are as long where there are half as many of
    each, and twice as long where there are as many; a half is rounded up.
    """
    reduced, (width, height), step = encoding.chroma, (message.width, message.height), message.step
    pairs, rows = -(-width // reduced), -(-height // reduced)
    if reduced == 1 and len(message.data) == 3 * width * height:
        step = width  # the size shows that there is no padding, whatever the message says
    else:
        _check_step(message, max(width, 2 * pairs // (3 - reduced)))
    long = step * (3 - reduced)
    if len(message.data) != step * height + long * rows:
        raise ImageError(f'{message.encoding} image of {width} x {height}: {len(message.data)} bytes; '
                         f'step {step} x {height} rows and {long} x {rows} of colours are '
                         f'{step * height + long * rows}')
    data = np.frombuffer(message.data, np.uint8)
    luma = data[:step * height].reshape(height, step)[:, :width, None]
    chroma = data[step * height:].reshape(rows, long)[:, :2 * pairs].reshape(rows, pairs, 2)
    chroma = chroma.repeat(reduced, axis=0).repeat(reduced, axis=1)[:height, :width]
    return np.concatenate([luma, chroma], axis=2)


def _check_step(message: Image, row_bytes: int) -> None:
    if message.step < row_bytes:
        raise ImageError(f'{message.encoding} image {message.width} pixels wide: step is {message.step}; '
                         f'it needs {row_bytes}')


def _colours(*order: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """Pick channels in ``order``: a view where numpy can."""
    first, step = order[0], order[1] - order[0]
    stop = first + 3 * step
    return lambda pixels, height: pixels[..., first:stop if stop >= 0 else None:step]


def _grey(pixels: np.ndarray, height: int) -> np.ndarray:
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _high_byte(convert: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda pixels, height: convert((pixels >> 8).astype(np.uint8), height)


def _bayer(pattern: str) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda pixels, height: demosaic(pixels[..., 0], pattern)


def _packed_yuv(luma: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """4:2:2: two pixels share a U and a V; ``luma`` is where in a pixel's two bytes its Y is."""
    def convert(pixels: np.ndarray, height: int) -> np.ndarray:
        u, v = (pixels[:, first::2, 1 - luma].repeat(2, axis=1) for first in (0, 1))
        return _yuv_to_rgb(pixels[..., luma], u, v)
    return convert


def _planar_yuv(u: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """Y, U and V of each pixel; ``u``: where U is, the other is V."""
    return lambda pixels, height: _yuv_to_rgb(pixels[..., 0], pixels[..., u], pixels[..., 3 - u])


def _yuv_to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, Y in 16..235 as OpenCV has it, in 1/256 steps; each [H, W] -> uint8 [H, W, 3]."""
    luma = (y.astype(np.int32) - 16) * 298 + 128
    d, e = u.astype(np.int32) - 128, v.astype(np.int32) - 128
    rgb = np.stack([luma + 409 * e, luma - 100 * d - 208 * e, luma + 516 * d], axis=-1) >> 8
    return rgb.clip(0, 255).astype(np.uint8)


def _through_cv_bridge(message: Image) -> np.ndarray:
    numbers = _NUMBERS.fullmatch(message.encoding.upper())
    if numbers:
        kind, channels = numbers.groups()
        held = {'F': 'floating-point numbers, as a depth image does', 'S': 'numbers with a sign'}.get(
            kind, f'{channels} values a pixel')
        raise ImageError(f'image encoding {message.encoding!r} holds {held}, which are no colours; '
                         f'publish one of {", ".join(ENCODINGS)}')
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
_ORDERED = {'rgb': (3, _RGB), 'rgba': (4, _RGB), 'bgr': (3, _BGR), 'bgra': (4, _BGR), 'mono': (1, _grey)}
_PLAIN = {'C1': (1, _grey), 'C3': (3, _BGR), 'C4': (4, _BGR)}
_UYVY = PixelEncoding(2, 'u1', _packed_yuv(1), paired=True)
_YUYV = PixelEncoding(2, 'u1', _packed_yuv(0), paired=True)
ENCODINGS = {
    **{f'{name}8': PixelEncoding(channels, 'u1', convert) for name, (channels, convert) in _ORDERED.items()},
    **{f'{name}16': PixelEncoding(channels, 'u2', _high_byte(convert))
       for name, (channels, convert) in _ORDERED.items()},
    **{f'8U{name}': PixelEncoding(channels, 'u1', convert) for name, (channels, convert) in _PLAIN.items()},
    **{f'16U{name}': PixelEncoding(channels, 'u2', _high_byte(convert))
       for name, (channels, convert) in _PLAIN.items()},
    **{f'bayer_{name}8': PixelEncoding(1, 'u1', _bayer(name)) for name in CELLS},
    **{f'bayer_{name}16': PixelEncoding(1, 'u2', _high_byte(_bayer(name))) for name in CELLS},
    'yuv422': _UYVY, 'uyvy': _UYVY, 'yuv422_yuy2': _YUYV, 'yuyv': _YUYV,
    'nv12': PixelEncoding(1, 'u1', _planar_yuv(1), chroma=2),
    'nv21': PixelEncoding(1, 'u1', _planar_yuv(2), chroma=2),
    'nv24': PixelEncoding(1, 'u1', _planar_yuv(1), chroma=1),
}
"""Supported encodings, as ``image_encodings.hpp`` spells them; a message may use any case."""
_BY_NAME = {name.lower(): encoding for name, encoding in ENCODINGS.items()}

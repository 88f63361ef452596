"""Frames of cameras, and their images, files of every kind and arrays, as 8-bit RGB.

The EXIF orientation is not applied, because a calibration is of the stored pixels; alpha is ignored; colour
profiles are not applied.  16-bit values keep their high byte, as in raw images, and 12-bit values of TIFF
their highest eight bits.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.jpeg import JpegFile, missing, precision

if TYPE_CHECKING:
    from mpnp_ros.modalities.camera.calibration import Distortion
    from mpnp_ros.poses import Transform

CELLS = {'rggb': (0, 3), 'bggr': (3, 0), 'gbrg': (2, 1), 'grbg': (1, 2)}
"""Which of the four pixels of a cell, numbered row by row, are red and blue."""

FORMATS = ('JPEG', 'PNG', 'WEBP', 'AVIF', 'JPEG2000', 'TIFF', 'BMP', 'DIB', 'GIF', 'PPM', 'QOI', 'SGI', 'SUN',
           'PCX')
"""Supported formats of Pillow: those recognised by their first bytes and decoded by Pillow itself."""
SWAPPED = 'bgr'
MOST_MISSING = 0.5
_WIDE = ('I;16', 'I;16L', 'I;16B', 'I;16N')
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2

REDUCING_GAP = 2.0  # box-reduce to within this factor first: twice as fast, 0.3 grey levels off


@dataclass(frozen=True, eq=False)
class CameraView:
    """One image of one camera.

    name: unique within the frame, e.g. ``cam_front``.
    image: uint8 RGB [H, W, 3]; or the bytes of an image file; or an ImageFile, which is decoded once for
        encoder and judge.
    intrinsics: [3, 3] pinhole matrix in pixels of the full-size image; None or a zero focal length
        (the ROS convention) means uncalibrated.
    rotation: [3, 3] from the camera's optical frame (x right, y down, z ahead) to the base frame
        (x ahead, y left, z up); None means unknown.
    stamp_ns: sensor time, nanoseconds.
    distortion: of the lens, where the image is not rectified; used with intrinsics only.
    position: [3] metres, of the camera in the base frame; None means unknown.
    earlier: the view of about half a second before; its rotation and position contain the motion of the
        robot, so that they lead to the base frame of this moment.  None: there is none.
    """

    name: str
    image: np.ndarray | bytes | ImageFile
    intrinsics: np.ndarray | None = None
    rotation: np.ndarray | None = None
    stamp_ns: int = 0
    distortion: Distortion | None = None
    position: np.ndarray | None = None
    earlier: CameraView | None = None

    def moved(self, way: Transform) -> CameraView:
        """Return the same view as of another base frame; way: this base frame in that one.

        A camera whose position is not known is taken to be at the origin.
        """
        return replace(self, rotation=None if self.rotation is None else way.rotation @ self.rotation,
                       position=way.apply(np.zeros(3) if self.position is None else self.position),
                       earlier=self.earlier and self.earlier.moved(way))


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """Images that belong together, any number of any size; ``frame_id`` names their base frame."""

    views: tuple[CameraView, ...]
    frame_id: str = 'base_link'


def demosaic(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """Return [H, W, 3] RGB of a mosaic [H, W]: the four pixels of a cell share one colour.

    The result has the size of the image, so that its calibration holds; encoders shrink it anyway.
    """
    (height, width), (red, blue) = mosaic.shape, CELLS[pattern]
    mosaic = np.pad(mosaic, [(0, size % 2) for size in mosaic.shape], mode='edge')
    cells = [mosaic[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    first, second = (cells[index] for index in range(4) if index not in (red, blue))
    green = ((first.astype(np.uint32) + second) >> 1).astype(mosaic.dtype)
    small = np.stack([cells[red], green, cells[blue]], axis=-1)
    return small.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    image: 8-bit RGB, a JPEG at 1/2, 1/4 or 1/8 of its size where that was large enough.
    size: width and height of the whole.  damage: what is wrong with the file, in words, or nothing.
    missing: share of the rows, counted from below, for which the file held no data.
    """

    image: Image.Image
    size: tuple[int, int]
    damage: str = ''
    missing: float = 0.


class ImageFile:
    """The bytes of an image file; decoded once for encoder and health check.

    pixels: meaning of the values if the file does not say it: empty, the pattern of a mosaic in a grey file
    ('rggb', ...), or 'bgr' for swapped red and blue.
    """

    def __init__(self, data: bytes, pixels: str = '') -> None:
        self.data = data
        self.pixels = pixels
        self._picture: Picture | None = None

    def picture(self, wanted: tuple[int, int], max_pixels: int | None = None) -> Picture:
        """Return the image, at least ``wanted`` (width, height) large if the whole is; raises ImageError."""
        kept = self._picture
        if kept and all(have >= min(need, whole) for have, need, whole in
                        zip(kept.image.size, wanted, kept.size, strict=True)):
            return kept
        self._picture = _decode(self.data, self.pixels, wanted, max_pixels)
        return self._picture

    def check(self, max_pixels: int | None = None) -> None:
        """Raise ImageError if the format is unknown or the image too large; nothing is decoded."""
        _open(BytesIO(self.data), self.data, max_pixels)


def decode(image: np.ndarray | bytes | ImageFile, wanted: tuple[int, int],
           max_pixels: int | None = None) -> Picture:
    """Return ``image``, uint8 RGB [H, W, 3] or a file, as a picture; see :meth:`ImageFile.picture`."""
    if not isinstance(image, np.ndarray):
        return (image if isinstance(image, ImageFile) else ImageFile(image)).picture(wanted, max_pixels)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f'the image is {image.dtype} {list(image.shape)}; expected uint8 RGB [H, W, 3]')
    size = (image.shape[1], image.shape[0])
    _check_size(size, max_pixels)
    return Picture(Image.fromarray(image), size)


def _decode(data: bytes, pixels: str, wanted: tuple[int, int], max_pixels: int | None) -> Picture:
    jpeg = JpegFile(data) if data.startswith(b'\xff\xd8\xff') else None
    image = _open(jpeg.stream if jpeg else BytesIO(data), data, max_pixels)
    size, reduced = image.size, wanted if pixels not in CELLS else image.size

    def load(stream: BytesIO) -> Image.Image:
        again = Image.open(stream, formats=('JPEG',))
        again.draft('RGB', reduced)
        again.load()
        return again

    try:
        image.draft('RGB', reduced)
        image.load()
        if jpeg and jpeg.is_short():
            image = load(jpeg.plain)
        damaged = jpeg is not None and jpeg.is_damaged(image, load)
    except Exception as error:  # damaged files make Pillow raise errors of every kind
        raise ImageError(f'the image is truncated or damaged ({error})') from None
    damage, lost = '', 0.
    if damaged:
        lost = missing(image)
        if lost > MOST_MISSING:
            raise ImageError(f'the image is truncated: {lost:.0%} of its rows are missing')
        damage = f'{lost:.0%} of its rows are missing' if lost >= 0.005 else 'data is lost or changed'
    try:
        return Picture(_to_rgb(image, pixels), size, damage, lost)
    except ImageError:
        raise
    except Exception as error:  # as above
        raise ImageError(f'the {image.format} of mode {image.mode} has no colours that are known ({error}); '
                         'send RGB or grey') from None


def _open(stream: BytesIO, data: bytes, max_pixels: int | None) -> Image.Image:
    """Read the header of a file."""
    try:
        image = Image.open(stream, formats=_formats())
        animated = image.format not in ('MPO', 'TIFF') and getattr(image, 'is_animated', False)
    except Image.DecompressionBombError:
        raise ImageError(f'the image has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; '
                         'send smaller images') from None
    except Exception as error:  # as above
        if data.startswith(b'\xff\xd8\xff') and precision(data) not in (0, 8):
            raise ImageError(f'the JPEG has values of {precision(data)} bits; send 8 bits') from None
        raise ImageError(f'{len(data)} bytes are not a readable image ({type(error).__name__}); '
                         f'send one of {", ".join(_formats())}') from None
    _check_size(image.size, max_pixels)
    if animated:
        raise ImageError(f'the {image.format} is an animation; send one image a message')
    return image


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this build of Pillow reads."""
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _check_size(size: Sequence[int], max_pixels: int | None) -> None:
    width, height = size
    if width == 0 or height == 0:
        raise ImageError(f'the image is empty ({width} x {height})')
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(f'{width} x {height} pixels are more than max_pixels = {max_pixels}; '
                         'send smaller images or raise it')


def _to_rgb(image: Image.Image, pixels: str) -> Image.Image:
    """Convert an image of any mode; raises ImageError if its values are not colours."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = max(tags.get(_BITS, (16,)))
    signed = _SIGNED in tags.get(_SAMPLE_FORMAT, ())
    if image.mode == 'F' or signed or (image.mode == 'I' and tags):
        kind = 'floating-point numbers' if image.mode == 'F' else f'integers of {bits} bits'
        raise ImageError(f'the {image.format} holds {kind}{" with a sign" * signed}, which are no colours; '
                         'send 8 or 16 bits without a sign')
    if image.mode == 'I' or image.mode in _WIDE:
        high = np.asarray(image).astype(np.uint32) >> max(bits - 8, 0)
        grey = high.clip(0, 255).astype(np.uint8)
        image = Image.fromarray(~grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey)
    if pixels in CELLS and image.mode == 'L':
        return Image.fromarray(demosaic(np.asarray(image), pixels))
    if image.mode == 'LAB':
        profiles = ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB')
        image = ImageCms.profileToProfile(image, *profiles, outputMode='RGB')
    if image.mode != 'RGB':
        image = image.convert('RGB')
    return Image.merge('RGB', image.split()[::-1]) if pixels == SWAPPED else image


def load_view(view: CameraView, config: CameraConfig) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the view resized to the encoder's input, and the width and height it came in.

    Result: uint8 RGB [config.height, config.width, 3]; the aspect ratio is not kept, so that the
    whole field of view between config.top and config.bottom is seen.  Raises ImageError naming the view.
    """
    whole = (config.width, math.ceil(config.height / (config.bottom - config.top)))
    try:
        picture = decode(view.image, whole, config.max_pixels)
    except ImageError as error:
        raise ImageError(f'view {view.name!r}: {error}') from None
    image = picture.image
    kept = (0, config.top * image.height, image.width, config.bottom * image.height)
    target = (config.width, config.height)
    return np.asarray(image.resize(target, Image.Resampling.BILINEAR, kept, REDUCING_GAP)), picture.size

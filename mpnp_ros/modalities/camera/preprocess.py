"""Images of any size, compressed or not, to the encoder's input."""
from __future__ import annotations

import math
from io import BytesIO

import numpy as np
from PIL import Image

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.base import CameraView
from mpnp_ros.modalities.camera.config import CameraConfig

FORMATS = ('JPEG', 'PNG')
REDUCING_GAP = 2.0  # box-reduce to within this factor first: twice as fast, 0.3 grey levels off


def load_view(view: CameraView, config: CameraConfig) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the view resized to the encoder's input, and the width and height it came in.

    Result: uint8 RGB [config.height, config.width, 3]; the aspect ratio is not kept, so that the
    whole field of view between config.top and config.bottom is seen.  Raises ImageError naming the view.
    """
    image = _from_array(view, config) if isinstance(view.image, np.ndarray) else _from_bytes(view, config)
    target = (config.width, config.height)
    whole = (config.width, math.ceil(config.height / (config.bottom - config.top)))
    try:
        size = image.size
        image.draft('RGB', whole)  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is still large enough
        kept = (0, config.top * image.height, image.width, config.bottom * image.height)
        resized = image.convert('RGB').resize(target, Image.Resampling.BILINEAR, kept, REDUCING_GAP)
    except Exception as error:  # damaged files make Pillow raise errors of every kind
        raise ImageError(f'view {view.name!r}: the image is truncated or damaged ({error})') from None
    return np.asarray(resized), size


def _from_array(view: CameraView, config: CameraConfig) -> Image.Image:
    image = view.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f'view {view.name!r}: the image is {image.dtype} {list(image.shape)}; '
                         'expected uint8 RGB [H, W, 3]')
    _check_size(view, image.shape[1], image.shape[0], config)
    return Image.fromarray(image)


def _from_bytes(view: CameraView, config: CameraConfig) -> Image.Image:
    try:
        image = Image.open(BytesIO(view.image), formats=FORMATS)
    except Exception as error:  # as above; includes Pillow's own bound on decompression bombs
        raise ImageError(f'view {view.name!r}: {len(view.image)} bytes are not a readable JPEG or PNG '
                         f'({type(error).__name__})') from None
    _check_size(view, *image.size, config)
    return image


def _check_size(view: CameraView, width: int, height: int, config: CameraConfig) -> None:
    if width == 0 or height == 0:
        raise ImageError(f'view {view.name!r}: the image is empty ({width} x {height})')
    if width * height > config.max_pixels:
        raise ImageError(f'view {view.name!r}: {width} x {height} pixels are more than max_pixels = '
                         f'{config.max_pixels}; send smaller images or raise it')

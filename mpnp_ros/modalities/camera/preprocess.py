"""Images of any size, compressed or not, to the encoder's input."""
from __future__ import annotations

import math

import numpy as np
from PIL import Image

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.decode import decode
from mpnp_ros.modalities.camera.frames import CameraView

REDUCING_GAP = 2.0  # box-reduce to within this factor first: twice as fast, 0.3 grey levels off


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

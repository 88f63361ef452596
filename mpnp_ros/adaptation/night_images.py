"""Degradation of camera images of night scenes before encoding.

The cameras of nuScenes see well at night, so arXiv:2312.07886 makes night harder.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from mpnp_ros.errors import ConfigurationError, ImageError
from mpnp_ros.modalities.camera.frames import CameraFrame, CameraView

RADIUS, BRIGHTNESS = 7, 0.2


def night_80dimgaussian7(image: Image.Image) -> Image.Image:
    """Blur at full resolution, then dim to a fifth; no noise is added."""
    blurred = image.convert('RGB').filter(ImageFilter.GaussianBlur(RADIUS))
    return ImageEnhance.Brightness(blurred).enhance(BRIGHTNESS)


NIGHT_IMAGES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    'night_80dimgaussian7': night_80dimgaussian7}


def change_images(frame: CameraFrame, name: str) -> CameraFrame:
    """Return the frame with the named change applied to every image; sizes are unchanged.

    Raises ConfigurationError for an unknown name, ImageError, naming the view, for a damaged image.
    """
    if name not in NIGHT_IMAGES:
        raise ConfigurationError(f'images of night scenes cannot be changed by {name!r}; there are '
                                 f'{", ".join(NIGHT_IMAGES)}')
    return replace(frame, views=tuple(replace(view, image=np.asarray(NIGHT_IMAGES[name](_opened(view))))
                                      for view in frame.views))


def _opened(view: CameraView) -> Image.Image:
    if isinstance(view.image, np.ndarray):
        return Image.fromarray(view.image)
    try:
        image = Image.open(BytesIO(view.image), formats=('JPEG', 'PNG'))
        image.load()
    except Exception as error:  # Pillow raises errors of every kind for damaged files
        raise ImageError(f'view {view.name!r}: the image is truncated or damaged ({error})') from None
    return image

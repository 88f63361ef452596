"""Images of nuScenes cameras: JPEG, or PNG in other roots."""
from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.key_frame import SensorReading
from mpnp_ros.nuscenes.pointclouds import read_sensor_file

END_OF_JPEG = b'\xff\xd9'


def read_image(reading: SensorReading) -> bytes:
    """The unchanged bytes of an image.

    Raises DatasetError if it is absent, neither JPEG nor PNG, truncated, or of another size than in the
    tables.
    """
    path, data = reading.path, read_sensor_file(reading.path)
    try:
        with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG')) as image:
            size = image.size
            if image.format == 'JPEG' and END_OF_JPEG not in data[-64:].rstrip(b'\0'):
                image.load()
    except UnidentifiedImageError:
        raise DatasetError(f'image {path} is neither JPEG nor PNG; download it again') from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f'image {path} is damaged ({error}); download it again') from None
    if reading.size and size != reading.size:
        raise DatasetError(f'image {path} has {size[0]} x {size[1]} pixels, but its sample_data record says '
                           f'{reading.size[0]} x {reading.size[1]}, and so does the calibration; use the '
                           'original file, or change width, height and camera_intrinsic')
    return data

"""Night images of nuScenes-QA-mini on arrays."""
from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mpnp_ros.adaptation.key_frames import change_images, night_80dimgaussian7
from mpnp_ros.errors import ConfigurationError, ImageError
from mpnp_ros.modalities.camera.frames import CameraFrame, CameraView

NAME = 'night_80dimgaussian7'


def changed(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(night_80dimgaussian7(Image.fromarray(pixels)))


@pytest.mark.parametrize('level', [0, 100, 255])
def test_an_even_image_is_dimmed_to_a_fifth(level):
    np.testing.assert_allclose(changed(np.full((40, 60, 3), level, np.uint8)), level / 5, atol=1)


def test_an_edge_is_blurred_by_a_gaussian_of_seven_pixels():
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[:, 80:] = 250
    row = changed(pixels)[40, :, 0].astype(float) / 50
    assert row[40] < .02 and row[120] > .98
    below, above = (int(np.argmax(row > share)) for share in (.16, .84))
    assert 12 <= above - below <= 16, 'two deviations of 7 pixels between 16 and 84 %'


def test_every_view_keeps_its_size_and_calibration():
    noise = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    stream = BytesIO()
    Image.fromarray(noise).save(stream, 'PNG')
    views = (CameraView('front', noise, np.eye(3), np.eye(3), 7), CameraView('back', stream.getvalue()))
    found = change_images(CameraFrame(views, 'base'), NAME)
    assert [view.name for view in found.views] == ['front', 'back'] and found.frame_id == 'base'
    assert found.views[0].stamp_ns == 7 and found.views[0].intrinsics is views[0].intrinsics
    for view in found.views:
        np.testing.assert_array_equal(view.image, changed(noise))


def test_unknown_changes_and_damaged_images_are_named():
    frame = CameraFrame((CameraView('left', b'nothing'),))
    with pytest.raises(ConfigurationError, match=NAME):
        change_images(frame, 'night_vision')
    with pytest.raises(ImageError, match="'left'"):
        change_images(frame, NAME)

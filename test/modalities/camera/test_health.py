"""Images that show something and images that do not."""
from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mpnp_ros.errors import ImageError
from mpnp_ros.modalities.camera.health import CameraLimits
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.modalities.health import Health
from mpnp_ros.modalities.registry import create_judge

SECOND = 1_000_000_000


def street(seed: int = 0, height: int = 225, width: int = 400) -> np.ndarray:
    """Blocks of grey of many sizes, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    layers = [np.kron(rng.uniform(20, 230, (-(-height // size), -(-width // size))), np.ones((size, size)))
              for size in (5, 15, 45)]
    grey = np.mean([layer[:height, :width] for layer in layers], axis=0)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(image).save(stream, 'JPEG', quality=90)
    return stream.getvalue()


def judged(*images: np.ndarray | bytes) -> Health:
    """What a new judge says of these images as views 0, 1, ..."""
    views = [CameraView(f'cam_{number}', image) for number, image in enumerate(images)]
    return CameraLimits().judge().judge(CameraFrame(tuple(views)))


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


@pytest.mark.parametrize('form', [np.asarray, jpeg])
@pytest.mark.parametrize(('change', 'concern'), [
    (lambda image: image // 8, 'cam_0 is dark (mean 15 of 255)'),
    (lambda image: (118 + image // 32), 'cam_0 has little contrast'),
    (lambda image: np.minimum(image * 5., 255).astype(np.uint8), 'cam_0 is clipped'),
    (lambda image: np.sort(image > 120, axis=1) * np.uint8(255), 'cam_0 is clipped'),
    (lambda image: blurred(image, 12), 'cam_0 is blurred'),
])
def test_what_is_wrong_with_an_image_is_said(form, change, concern):
    good = judged(form(street()))
    assert good == Health(1.)
    bad = judged(form(change(street())))
    assert bad.quality < .5
    assert len(bad.concerns) == 1 and bad.concerns[0].startswith(concern[:-1])


def test_real_images_of_a_day_are_good_and_dimmed_ones_are_not(key_frame, camera_frame):
    frame = camera_frame(key_frame)
    assert CameraLimits().judge().judge(frame) == Health(1.)
    dim = [np.asarray(Image.open(BytesIO(view.image))) // 5 for view in frame.views]
    assert judged(*dim).quality == 0


def test_one_blind_view_of_six_costs_a_sixth_and_is_named():
    said = judged(*[street(seed) for seed in range(5)], np.zeros((225, 400, 3), np.uint8))
    assert said.quality == pytest.approx(5 / 6)
    assert said.concerns == ('cam_5 is dark (mean 0 of 255)',)


@pytest.mark.parametrize('form', [np.asarray, jpeg])
def test_a_view_that_stands_still_is_frozen_until_it_moves(form):
    judge = CameraLimits().judge()

    def look(seed: int, seconds: float) -> Health:
        moving = CameraView('cam_front', form(street(round(seconds))), stamp_ns=round(seconds * SECOND))
        view = replace(moving, name='cam_back', image=form(street(seed)))
        return judge.judge(CameraFrame((moving, view)))

    assert look(100, 0).quality == 1
    assert [look(101, second).quality for second in (1, 2, 3)] == [1, 1, 1]
    frozen = look(101, 4)
    assert (frozen.quality, frozen.concerns) == (.5, ('cam_back is frozen (the same image for 3.0 s)',))
    assert look(102, 5).quality == 1


def test_a_single_image_shown_again_and_again_is_not_frozen():
    judge = CameraLimits().judge()
    said = [judge.judge(CameraFrame((CameraView('cam', street(), stamp_ns=second * SECOND),)))
            for second in range(9)]
    assert said == [Health(1.)] * 9


def test_frozen_images_are_not_looked_for_where_that_is_switched_off():
    judge = create_judge('camera', {'frozen_after': 0.})
    for second, seed in enumerate((0, 1, 1, 1, 1, 1, 1)):
        view = CameraView('cam', street(seed), stamp_ns=second * SECOND)
        assert judge.judge(CameraFrame((view,))) == Health(1.)


def test_a_view_that_has_been_there_is_missed():
    judge = CameraLimits().judge()

    def look(second: int, *names: str) -> Health:
        views = [CameraView(name, street(second), stamp_ns=second * SECOND) for name in names]
        return judge.judge(CameraFrame(tuple(views)))

    assert [look(0, 'left', 'right').quality, look(1, 'left').quality] == [1, 1]
    assert look(2, 'left') == Health(.5, ('right is silent (2.0 s)',))
    assert look(3, 'left', 'right') == Health(1.)
    assert look(0, 'left') == Health(1.), 'time has begun again'


@pytest.mark.parametrize('shape', [(1, 1, 3), (2, 50, 3), (3000, 2, 3)])
def test_images_of_any_size_are_judged(shape):
    assert 0 <= judged(np.full(shape, 128, np.uint8)).quality <= 1


def test_a_damaged_image_is_named():
    with pytest.raises(ImageError, match="'cam_0'"):
        judged(jpeg(street())[:200])

from __future__ import annotations

import numpy as np
import pytest

from mpnp_world.scene.conditions import Conditions
from mpnp_world.sensors.camera_sensor import CameraSensor

GREY = np.full((2, 60, 80, 3), 40, np.uint8)


def exposed(light: str = 'day', weather: str = 'clear', seed: int = 3, time: float = 0.5,
            images: np.ndarray = GREY) -> np.ndarray:
    return CameraSensor(Conditions(light, weather)).expose(images, seed, time)


def test_same_seed_and_time_give_the_same_bytes():
    assert (exposed('night', 'rain') == exposed('night', 'rain')).all()
    assert (exposed('night') != exposed('night', time=1.0)).any()
    assert (exposed('night') != exposed('night', seed=4)).any()


def test_noise_grows_with_darkness():
    day, dusk, night = (exposed(light).std() for light in ('day', 'dusk', 'night'))
    assert day < 0.5 * dusk < 0.5 * night
    assert night > 8


def test_cameras_have_noise_of_their_own():
    first, second = exposed('night').astype(float)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize('light', ['day', 'dusk', 'night'])
def test_rain_draws_streaks(light):
    wet, dry = exposed(light, 'rain').astype(int), exposed(light).astype(int)
    changed = np.abs(wet - dry).max(-1) > 25 if light == 'day' else wet.std() != dry.std()
    assert np.any(changed) and np.mean(changed) < 0.2 or light != 'day'
    assert wet.shape == GREY.shape


def test_input_is_left_alone():
    images = GREY.copy()
    exposed('night', 'rain', images=images)
    assert (images == GREY).all()

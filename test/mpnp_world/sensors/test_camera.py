
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.poses import Transform
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState
from mpnp_world.sensors.camera import CameraSensor, camera_view, looking_view, seen, sun_projection
from mpnp_world.sensors.rig import CAMERAS, IMAGE_SIZE

GREY = np.full((2, 60, 80, 3), 40, np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(CAMERAS)), st.floats(-4, 4), st.tuples(*[st.floats(-50, 50)] * 2),
       st.floats(0, 5))
def test_cameras_project_as_their_calibration_says(channel, yaw, place, height):
    """Against intrinsics and extrinsics applied step by step."""
    ego, mounting = EgoState(12.0, -7.0, yaw, 0.0), CAMERAS[channel]
    point = np.array((*place, height))
    in_ego = Transform.about_z(yaw).rotation.T @ (point - (ego.x, ego.y, 0))
    in_camera = mounting.pose.rotation.T @ (in_ego - mounting.pose.translation)
    if in_camera[2] < 1:
        return
    pixel = np.array(mounting.intrinsics) @ in_camera / in_camera[2]
    clip = camera_view(mounting, ego).projection @ (*point, 1.0)
    found = (clip[:2] / clip[3] / 2 + 0.5) * IMAGE_SIZE
    assert np.allclose(found, pixel[:2], atol=1e-6 * max(1, np.abs(pixel).max()))
    assert clip[3] == pytest.approx(in_camera[2])


def test_a_looking_view_centres_its_target_upright():
    view = looking_view((0, 0, 5), (10, 0, 0), 16 / 9)
    middle = view.projection @ (10, 0, 0, 1)
    assert np.allclose(middle[:2] / middle[3], 0)
    above, left = view.projection @ (10, 0, 1, 1), view.projection @ (10, 1, 0, 1)
    assert above[1] < 0 and left[0] < 0


def test_spheres_are_seen_when_they_reach_into_view():
    projection = looking_view((0, 0, 1), (10, 0, 1), 1.0, field=0.5).projection
    middles = np.array([(10, 0, 1), (10, 30, 1), (-20, 0, 1), (10, 12, 1)], float)
    assert seen(projection, middles, 1.0).tolist() == [True, False, False, False]
    assert seen(projection, middles, 3.0).tolist() == [True, False, False, True]


def test_the_sun_sees_what_is_nearer_to_it_first():
    projection = sun_projection((0, 0, 0), (0.6, 0.0, 0.8), 50)
    low, high = (projection @ (0.6 * d, 0, 0.8 * d, 1) for d in (0, 10))
    assert high[2] < low[2]
    assert np.allclose(low[:2], high[:2])


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

from __future__ import annotations

import math

import numpy as np
import pytest

from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import LIGHTS, WEATHERS, Conditions
from mpnp_world.scene.state import EgoState, Fixture, Scenery, WorldObject, WorldState
from mpnp_world.sensors.lighting import head_lights, lighting_of, street_lamps
from mpnp_world.sensors.rig import EGO_REAR, EGO_SIZE


def brightness(light: str, weather: str = 'clear') -> float:
    lighting = lighting_of(4, Conditions(light, weather))
    return sum(lighting.sun) + sum(lighting.zenith) + sum(lighting.bounce)


@pytest.mark.parametrize('weather', WEATHERS)
def test_light_falls_from_day_to_night(weather):
    day, dusk, night = (brightness(light, weather) for light in LIGHTS)
    assert day > 3 * dusk > 30 * night


def test_only_a_clear_day_casts_shadows():
    shadows = [(light, weather) for light in LIGHTS for weather in WEATHERS
               if lighting_of(1, Conditions(light, weather)).shadows]
    assert shadows == [('day', 'clear')]


def test_the_sun_follows_from_the_seed():
    directions = [lighting_of(seed, Conditions()).sun_direction for seed in range(8)]
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    assert len(set(directions)) == 8 and min(z for _, _, z in directions) > 0.4
    assert lighting_of(3, Conditions()) == lighting_of(3, Conditions())


def test_head_lights_are_ahead_of_what_has_them_on():
    lit = WorldObject(1, 'bus', 'moving', 20.0, 5.0, math.pi, KINDS['bus'].size, lights=True)
    dark = WorldObject(2, 'sedan', 'parked', 9.0, 5.0, 0.0, KINDS['sedan'].size)
    state = WorldState(0, Conditions('night'), 0.0, EgoState(1.0, 2.0, math.pi / 2, 0.0), (lit, dark), (),
                       Scenery((), ()))
    own, other = head_lights(state)
    assert np.allclose(own[:2], (1.0, 2.0 + EGO_SIZE[0] - EGO_REAR + 0.15), atol=1e-5)
    assert other[0] == pytest.approx(20 - KINDS['bus'].size[0] / 2 - 0.15)
    assert np.allclose(other[3:5], (-1, 0), atol=1e-6)


def test_street_lamps_hang_over_the_road():
    lamp = Fixture('lamp', 10.0, 8.0, -math.pi / 2, (2.0, 0.3, 7.0), z=0.15)
    (x, y, z, power), = street_lamps(Scenery((lamp, Fixture('tree', 0, 0, 0, (3, 3, 6))), ()))
    assert (x, y) == pytest.approx((10.0, 6.3)) and z == pytest.approx(7.0) and power > 0
    assert street_lamps(Scenery((), ())).shape == (0, 4)

"""Light and weather from descriptions of nuScenes and of the world."""
from __future__ import annotations

import pytest

from mpnp_ros.adaptation.key_frames import conditions_of
from mpnp_world.scene.conditions import LIGHTS, WEATHERS, Conditions


@pytest.mark.parametrize('light', LIGHTS)
@pytest.mark.parametrize('weather', WEATHERS)
def test_conditions_of_the_world_are_read_back(light, weather):
    assert conditions_of(f'{Conditions(light, weather).description}; embedded world') == (light, weather)


@pytest.mark.parametrize('description, expected', [
    ('Night, big street, bus stop, high speed, construction vehicle', ('night', 'clear')),
    ('Rain, many parked cars, overtake truck', ('day', 'rain')),
    ('Night, after rain, difficult lighting', ('night', 'rain')),
    ('Parked truck, railway, train, foghorn', ('day', 'clear')), ('', ('day', 'clear'))])
def test_descriptions_as_in_nuscenes(description, expected):
    assert conditions_of(description) == expected

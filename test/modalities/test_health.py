"""What all judges share, and where they come from."""
from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities import registry
from mpnp_ros.modalities.health import HealthFinding, HealthLimits, grade, health, worst
from mpnp_ros.modalities.registry import EncoderConfig, Sensor
from mpnp_ros.options import option

FINITE = st.floats(-1e6, 1e6)


@dataclass(frozen=True)
class SonarLimits(HealthLimits):
    echoes: tuple[float, ...] = option((0., 9.), 'number of echoes', low=0, high=100)

    def judge(self):
        return self


def test_a_grade_is_0_at_the_first_limit_and_1_at_the_second_in_either_direction():
    assert [grade(value, (10., 20.)) for value in (5, 10, 15, 20, 99)] == [0, 0, .5, 1, 1]
    assert [grade(value, (.6, .2)) for value in (.1, .2, .4, .6, .7)] == pytest.approx([1, 1, .5, 0, 0])


@given(FINITE, FINITE, FINITE, FINITE)
def test_a_grade_is_within_0_and_1_and_monotonic(first, second, nothing, everything):
    if nothing == everything:
        return
    low, high = sorted((first, second), reverse=everything < nothing)
    assert 0 <= grade(low, (nothing, everything)) <= grade(high, (nothing, everything)) <= 1


def test_a_sensor_is_as_good_as_its_worst_property_and_sensors_share_equally():
    dark = worst([HealthFinding(.9, 'is blurred'), HealthFinding(.2, 'is dark'),
                  HealthFinding(.2, 'is flat')])
    assert dark.words == 'is dark'
    said = health({'left': dark, 'right': HealthFinding(.6, 'is dull')})
    assert (said.quality, said.concerns) == (pytest.approx(.4), ('left is dark',))


@pytest.mark.parametrize('pair', [(1., 1.), (1., 2., 3.), (1.,)])
def test_a_criterion_is_two_different_numbers(pair):
    with pytest.raises(ConfigurationError, match='echoes is .* two different numbers'):
        SonarLimits(echoes=pair)


def test_a_modality_names_its_limits_or_has_no_judge(monkeypatch):
    known = {'sonar': Sensor('sonar', EncoderConfig, lambda config: None, SonarLimits),
             'smell': Sensor('smell', EncoderConfig, lambda config: None)}
    monkeypatch.setattr(registry, 'find_sensor', known.get)
    assert registry.create_judge('sonar', {'echoes': [1, 2]}) == SonarLimits(echoes=(1., 2.))
    assert registry.create_judge('smell') is None
    with pytest.raises(ConfigurationError, match='echos is no option; did you mean echoes'):
        registry.create_judge('sonar', {'echos': [1, 2]})

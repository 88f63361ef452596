"""Names, times and tokens of scenes."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError, DatasetError
from mpnp_world.scene.identity import LIGHTS, MAX_SEED, SLOT, WEATHERS, Conditions, SceneIdentity

identities = st.builds(SceneIdentity, st.integers(0, MAX_SEED), st.builds(
    Conditions, st.sampled_from(LIGHTS), st.sampled_from(WEATHERS)))


@given(identities)
def test_a_scene_is_known_by_its_name(identity):
    assert SceneIdentity.of_name(identity.name) == identity


@given(identities, identities)
def test_scenes_share_neither_tokens_nor_time(one, other):
    if one != other:
        assert one.token('sample', 0) != other.token('sample', 0)
        assert abs(one.start - other.start) >= SLOT * 1_000_000


@given(identities)
def test_every_moment_fits_into_a_ros_stamp(identity):
    assert identity.stamp(SLOT) < 2 ** 31 * 1_000_000


def test_the_description_says_night_as_nuscenes_does():
    assert SceneIdentity(7, Conditions('night', 'rain')).description == 'Night, rain; embedded world, seed 7'
    assert SceneIdentity(7, Conditions()).description == 'clear; embedded world, seed 7'


@pytest.mark.parametrize('seed', [-1, MAX_SEED + 1])
def test_seeds_beyond_the_calendar_are_refused(seed):
    with pytest.raises(ConfigurationError, match=f'seed {seed} .* 0 to {MAX_SEED}'):
        SceneIdentity(seed, Conditions())


@pytest.mark.parametrize('name', ['scene-0061', 'world-1-day', 'world-0001-day-clear-again'])
def test_names_of_other_data_sets_are_refused(name):
    with pytest.raises(DatasetError, match='world-<seed>-<light>-<weather>'):
        SceneIdentity.of_name(name)

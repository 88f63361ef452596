"""The quality of sound."""
from __future__ import annotations

import numpy as np
import pytest

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.audio.frames import AudioFrame
from mpnp_ros.modalities.audio.health import AudioLimits

NOISE = (0.05 * np.random.default_rng(0).standard_normal((2, 8000))).astype(np.float32)


def judged(samples, **fields):
    return AudioLimits().judge().judge(AudioFrame(np.asarray(samples, np.float32), 8000, **fields))


def test_good_sound_is_good():
    assert judged(NOISE).quality == 1 and judged(NOISE).concerns == ()
    assert judged(0.02 * NOISE).quality == 1  # -60 dB


@pytest.mark.parametrize(('samples', 'words'), [
    (np.zeros(8000), 'audio 1 is silent'), (1e-5 * NOISE[1], 'audio 1 is very quiet (-126 dB)'),
    (np.sign(NOISE[1]), 'audio 1 is clipped (100% of the samples)'),
    (NOISE[1] + .7, 'audio 1 has a constant part (0.70)'),
    (np.where(np.arange(8000) < 100, NOISE[1], .05), 'audio 1 stands still (99% of the samples)')])
def test_each_fault_of_one_of_two_microphones_costs_half_and_is_named(samples, words):
    health = judged(np.stack([NOISE[0], samples]))
    assert health.quality == pytest.approx(.5) and health.concerns == (words,)


def test_gaps_are_told():
    assert judged(NOISE[:1], missing=.5).concerns == ('audio has gaps (50% is missing)',)
    assert judged(NOISE, missing=.5).quality == 0 < judged(NOISE, missing=.2).quality < 1


def test_limits_must_be_two():
    with pytest.raises(ConfigurationError, match='two different numbers'):
        AudioLimits.from_mapping({'level': [-50.0]})

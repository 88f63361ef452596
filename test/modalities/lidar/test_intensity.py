from __future__ import annotations

import re

import numpy as np
import pytest

from mpnp_ros.modalities.lidar.intensity import IntensityScale, are_shares

RNG = np.random.default_rng(0)
SHARES = (RNG.integers(0, 100, 5000) / 100).astype(np.float32)  # as KITTI has them


def test_shares_come_on_the_scale_of_the_encoder():
    scaled, misfit = IntensityScale(255.).fit(SHARES)
    np.testing.assert_allclose(scaled, SHARES * 255)
    assert not misfit
    with_a_few_beyond = np.append(SHARES, np.full(20, 1.2, np.float32))
    assert IntensityScale(255.).fit(with_a_few_beyond)[0].max() == pytest.approx(306)


@pytest.mark.parametrize('values', [
    RNG.integers(0, 256, 5000), RNG.integers(0, 100, 5000), np.append(RNG.integers(0, 80, 5000), [255] * 40),
    RNG.uniform(0, 255, 5000), np.zeros(5000)])
def test_the_scale_of_nuscenes_is_left_as_it_is(values):
    values = values.astype(np.float32)
    scaled, misfit = IntensityScale(255.).fit(values)
    assert scaled is values and not misfit


@pytest.mark.parametrize('values, full, given, words', [
    (RNG.uniform(0, 6000, 5000), 255., 0., '9[5-6]% of the intensities are above 255, up to [56][0-9]+'),
    (RNG.integers(0, 65536, 5000), 255., 0., 'above 255, up to 655'),
    (RNG.integers(0, 2, 5000), 255., 0., 'reach 1 of 255 only'),
    (RNG.integers(0, 256, 5000), 255., 65535., 'reach 255 of 65535 only; set full_intensity'),
    (RNG.integers(0, 256, 5000), 255., 1., 'above 1, up to 255; set full_intensity')])
def test_what_does_not_fit_is_said(values, full, given, words):
    _, misfit = IntensityScale(full, given).fit(values.astype(np.float32))
    assert re.search(words, misfit)


def test_a_given_scale_and_an_encoder_for_shares_are_obeyed():
    photons = np.array([0., 3000., 6000.], np.float32)
    np.testing.assert_allclose(IntensityScale(255., 6000.).fit(photons)[0], [0, 127.5, 255])
    assert IntensityScale(1.).fit(SHARES)[0] is SHARES
    assert IntensityScale(255.).fit(None) == (None, '')


def test_a_small_sweep_has_the_scale_of_the_one_before():
    scale = IntensityScale(255.)
    few = np.array([0.5, np.nan], np.float32)
    np.testing.assert_array_equal(scale.fit(few)[0], few)
    scale.fit(np.append(SHARES, np.nan))
    np.testing.assert_array_equal(scale.fit(few)[0], few * 255)
    assert not are_shares(-SHARES)

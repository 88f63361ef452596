"""Messages of sound to samples, also bad ones."""
from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from builtin_interfaces.msg import Time

from mpnp_ros.conversions.audio import SAMPLES, SoundFormat, StampedSound, from_info, to_samples
from mpnp_ros.errors import AudioError

pytestmark = pytest.mark.ros
SOUND = np.random.default_rng(0).uniform(-1, 1, (2, 100))


def stored(sound, name):
    """Interleaved samples in a format."""
    kind, silence, scale = SAMPLES[name]
    values = sound.T * scale + silence
    if np.dtype(kind).kind in 'iu':
        info = np.iinfo(kind)
        values = np.clip(np.round(values), info.min, info.max)
    return values.astype(kind).tobytes()


def wave_file(sound, rate, kind):
    from scipy.io import wavfile
    file = io.BytesIO()
    wavfile.write(file, rate, np.frombuffer(stored(sound, kind), SAMPLES[kind][0]).reshape(-1, len(sound)))
    return file.getvalue()


@pytest.mark.parametrize('name', SAMPLES)
def test_every_format_gives_the_sound_back(name):
    samples, rate = to_samples(stored(SOUND, name), SoundFormat(name, 44100, 2))
    assert samples.dtype == np.float32 and samples.shape == SOUND.shape and rate == 44100
    steps = 2 / 2 ** 8 if name in ('S8', 'U8') else 2 / 2 ** 16
    np.testing.assert_allclose(samples, SOUND, atol=steps)


@pytest.mark.parametrize('name', ['U8', 'S16LE', 'S32LE', 'F32LE'])
def test_a_wave_file_tells_its_own_format(name):
    for form in (None, SoundFormat('S8', 8000, 1)):
        samples, rate = to_samples(wave_file(SOUND, 22050, name), form)
        assert rate == 22050
        np.testing.assert_allclose(samples, SOUND, atol=2 / 2 ** 7 if name == 'U8' else 1e-4)


@pytest.mark.parametrize(('data', 'form', 'words'), [
    (b'', SoundFormat('S16LE', 16000, 1), 'no samples'), (b'abc', SoundFormat('S16LE', 16000, 1), '3 bytes'),
    (bytes(6), SoundFormat('S16LE', 16000, 2), '6 bytes are no whole number'), (bytes(8), None, 'AudioInfo'),
    (b'ID3' + bytes(9), None, r'compressed \(MP3\).*format: wave'), (b'OggS', None, 'Ogg'),
    (b'RIFF', None, 'WAVE data cannot be read'), (b'RIFF\xff\xff\xff\xffWAVEfmt ', None, 'WAVE data'),
    (np.array([np.nan], '<f4').tobytes(), SoundFormat('F32LE', 16000, 1), 'not finite')])
def test_what_cannot_be_read_is_refused_with_the_remedy(data, form, words):
    with pytest.raises(AudioError, match=words):
        to_samples(data, form)


@given(st.binary(max_size=200), st.sampled_from([None, SoundFormat('S16LE', 16000, 1),
                                                 SoundFormat('F32LE', 8000, 2)]), st.booleans())
def test_any_bytes_are_sound_or_refused(data, form, riff):
    try:
        samples, rate = to_samples(b'RIFF' + data if riff else data, form)
    except AudioError:
        return
    assert samples.ndim == 2 and samples.size and rate > 0 and np.abs(samples).max() <= 1


@pytest.mark.parametrize(('fields', 'words'), [
    ({'coding_format': 'MP3'}, 'compressed .MP3.*format: wave'), ({'sample_format': 'S20'}, "'S20'"),
    ({'sample_rate': 0}, 'sample rate is 0'), ({'sample_rate': 10 ** 9}, 'sample rate'),
    ({'channels': 0}, '0 microphones'), ({'channels': 65}, '65 microphones')])
def test_an_info_that_cannot_be_used_is_refused(fields, words):
    good = {'coding_format': 'WAVE', 'sample_format': 'S16LE', 'sample_rate': 16000, 'channels': 2}
    assert from_info(SimpleNamespace(**good)) == SoundFormat('S16LE', 16000, 2, 'WAVE')
    with pytest.raises(AudioError, match=words):
        from_info(SimpleNamespace(**{**good, **fields}))


def test_stamps_of_the_three_messages():
    now, own = Time(sec=5), Time(sec=3)
    plain = StampedSound(SimpleNamespace(data=b'ab'), now)
    assert (plain.header.stamp, plain.at_end, plain.told, plain.data) == (now, True, None, b'ab')
    raw = StampedSound(SimpleNamespace(timestamp=own, data=b'ab', format='pcm-s16', sample_rate=8000,
                                       number_of_channels=1), now)
    assert (raw.header.stamp, raw.at_end, raw.told) == (own, False, SoundFormat('S16LE', 8000, 1))
    raw.format_name = 'opus'
    with pytest.raises(AudioError, match="'opus'; RawAudio is read as pcm-s16 only"):
        assert raw.told

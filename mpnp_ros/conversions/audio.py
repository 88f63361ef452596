"""Messages of sound to samples: ``audio_common_msgs`` and RawAudio of ``foxglove_msgs``.

Neither package is a part of every installation, so they are imported where a driver publishes them.
"""
from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from std_msgs.msg import Header

from mpnp_ros.errors import AudioError
from mpnp_ros.modalities.audio.frames import FASTEST, MOST
from mpnp_ros.modalities.audio.registration import PLAIN, RAW, STAMPED

TYPES = {'stamped': STAMPED, 'raw': RAW, 'plain': PLAIN}
"""Types of messages that are read, by the word of the parameter, the best first."""
SAMPLES: Mapping[str, tuple[str, float, float]] = {
    'S8': ('i1', 0, 2 ** 7), 'U8': ('u1', 2 ** 7, 2 ** 7), 'S16LE': ('<i2', 0, 2 ** 15),
    'S16BE': ('>i2', 0, 2 ** 15), 'S32LE': ('<i4', 0, 2 ** 31), 'S32BE': ('>i4', 0, 2 ** 31),
    'F32LE': ('<f4', 0, 1), 'F32BE': ('>f4', 0, 1), 'F64LE': ('<f8', 0, 1)}
"""Formats of samples as of GStreamer: type, the value of silence, and that of full scale."""
UNCOMPRESSED = ('', 'wave', 'wav', 'pcm', 'raw')
COMPRESSED = {b'ID3': 'MP3', b'\xff\xfb': 'MP3', b'\xff\xf3': 'MP3', b'OggS': 'Ogg', b'fLaC': 'FLAC',
              b'\xff\xf1': 'AAC'}
"""What compressed data begins with."""
REMEDY = 'publish PCM: `format: wave` of audio_capture'


@dataclass(frozen=True)
class SoundFormat:
    """How samples are stored: names of :data:`SAMPLES`; samples a second; microphones, interleaved.

    Raises AudioError for what is compressed, unknown or out of range.
    """

    sample_format: str
    rate: int
    microphones: int
    coding_format: str = ''

    def __post_init__(self) -> None:
        if self.coding_format.lower() not in UNCOMPRESSED:
            raise AudioError(f'the sound is compressed ({self.coding_format}), which is not read; {REMEDY}')
        if self.sample_format not in SAMPLES:
            raise AudioError(f'the sample format is {self.sample_format!r}; expected one of '
                             f'{", ".join(SAMPLES)}; set it in the driver, or `sample_format`')
        if not 0 < self.rate <= FASTEST:
            raise AudioError(f'the sample rate is {self.rate}; expected 1 to {FASTEST}; set `rate`')
        if not 0 < self.microphones <= MOST:
            raise AudioError(f'there are {self.microphones} microphones; expected 1 to {MOST}; set '
                             '`microphones`')


class StampedSound:
    """Data of a message of sound, with a header.

    at_end: whether the stamp is that of the last sample instead of the first.  format: None where the message
    does not tell it.
    """

    def __init__(self, message: Any, now: Any) -> None:
        """now: stamp where the message has none."""
        self.header, self.at_end, self.data = Header(stamp=now), True, b''
        self.format_name, self.rate, self.microphones = '', 0, 0
        if hasattr(message, 'audio'):
            self.header, self.data = message.header, bytes(message.audio.data)
        elif hasattr(message, 'number_of_channels'):
            self.header, self.at_end = Header(stamp=message.timestamp), False
            self.format_name, self.rate = message.format, message.sample_rate
            self.microphones, self.data = message.number_of_channels, bytes(message.data)
        else:
            self.data = bytes(message.data)

    @property
    def told(self) -> SoundFormat | None:
        """Return the format that the message tells.  Raises AudioError."""
        if not self.format_name and not self.rate:
            return None
        if self.format_name != 'pcm-s16':
            raise AudioError(f'the format is {self.format_name!r}; RawAudio is read as pcm-s16 only')
        return SoundFormat('S16LE', self.rate, self.microphones)


def from_info(message: Any) -> SoundFormat:
    """Return the format that an AudioInfo tells.  Raises AudioError."""
    return SoundFormat(message.sample_format.upper(), message.sample_rate, message.channels,
                       message.coding_format)


def to_samples(data: bytes, form: SoundFormat | None) -> tuple[np.ndarray, int]:
    """Return samples float32 [microphones, N], -1..1, and their rate.

    form: not needed for data that begins with a RIFF header (a WAVE file).  Raises AudioError for data that
    is compressed, empty or cut, or that needs a format.
    """
    if not data:
        raise AudioError('the message has no samples')
    if data[:4] == b'RIFF':
        return _from_wave(data)
    if form is None:
        kind = next((kind for start, kind in COMPRESSED.items() if data.startswith(start)), '')
        if kind:
            raise AudioError(f'the sound seems to be compressed ({kind}), which is not read; {REMEDY}')
        raise AudioError('nothing tells the format of the sound; publish AudioInfo, or set `sample_format`, '
                         '`rate` and `microphones`')
    kind, silence, scale = SAMPLES[form.sample_format]
    step = np.dtype(kind).itemsize * form.microphones
    if len(data) % step:
        raise AudioError(f'{len(data)} bytes are no whole number of {form.microphones} {form.sample_format} '
                         'samples; look for a wrong format or a cut message')
    samples = np.frombuffer(data, kind).reshape(-1, form.microphones).T
    return _scaled(samples, silence, scale), form.rate


def _from_wave(data: bytes) -> tuple[np.ndarray, int]:
    from scipy.io import wavfile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of chunks with texts
            rate, samples = wavfile.read(io.BytesIO(data))
    except Exception as error:  # scipy raises anything from ValueError to ZeroDivisionError at bad headers
        raise AudioError(f'the WAVE data cannot be read ({error}); {REMEDY}') from None
    columns = samples.reshape(len(samples), -1).T
    form = {'int8': 'S8', 'uint8': 'U8', 'int16': 'S16LE', 'int32': 'S32LE', 'float32': 'F32LE',
            'float64': 'F64LE'}.get(samples.dtype.name, samples.dtype.name)
    checked = SoundFormat(form, int(rate), len(columns))
    if not columns.size:
        raise AudioError('the message has no samples')
    return _scaled(columns, *SAMPLES[checked.sample_format][1:]), checked.rate


def _scaled(samples: np.ndarray, silence: float, scale: float) -> np.ndarray:
    """Return samples as float32; raises AudioError for numbers that are none or far beyond full scale."""
    with np.errstate(over='ignore', invalid='ignore'):
        made = ((samples.astype(np.float64) - silence) / scale).astype(np.float32)
    if not np.isfinite(made).all():
        raise AudioError('samples are not finite; look for a wrong sample format')
    return made.clip(-1, 1)

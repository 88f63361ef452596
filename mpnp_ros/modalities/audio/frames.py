"""Sound of one moment, and the buffer that makes it of the chunks of a stream."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mpnp_ros.errors import AudioError
from mpnp_ros.tokens import SECOND

FASTEST = 384_000
"""Samples per second of the fastest stream that is read."""
MOST = 64
"""Microphones of a stream at most."""
CLIPPED = 0.999
"""Absolute value from which on a sample is clipped."""


@dataclass(frozen=True, eq=False)
class AudioFrame:
    """The newest sound of a stream.

    samples: float32 [microphones, N], -1..1, finite; what is missing is 0.  rate: samples per second.
    stamp_ns: time of the end.  positions: [microphones, 3] metres in ``frame_id``; None: not known.
    missing: share of the samples that never came, 0 to 1.  name: of the source.
    """

    samples: np.ndarray
    rate: int
    stamp_ns: int = 0
    positions: np.ndarray | None = None
    missing: float = 0.0
    name: str = 'audio'
    frame_id: str = 'base_link'


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """The sound of one message: samples as of AudioFrame; stamp_ns: time of its end."""

    samples: np.ndarray
    rate: int
    stamp_ns: int

    @property
    def duration_ns(self) -> int:
        """Return how long it lasts."""
        return self.samples.shape[1] * SECOND // self.rate


class SoundBuffer:
    """Joins the chunks of a stream and keeps the newest seconds.

    seconds: kept.  slack: of stamps, seconds; a later chunk leaves a gap, which is filled with silence.  A
    stream that jumps back or further ahead than what is kept, or changes its format, begins anew.
    """

    def __init__(self, seconds: float, slack: float) -> None:
        self._seconds, self._slack = seconds, slack
        self._parts: deque[tuple[np.ndarray, bool]] = deque()
        self._form = (0, 0)
        self.length = 0
        """Samples that are kept."""
        self.end_ns = 0
        """Time of the end."""

    @property
    def rate(self) -> int:
        """Return the samples per second; 0 before the first chunk."""
        return self._form[0]

    @property
    def seconds(self) -> float:
        """Return how long the sound is that is kept."""
        return self.length / self.rate if self.rate else 0.0

    def add(self, chunk: AudioChunk) -> bool:
        """Add a chunk; returns whether it continues what was there.

        Raises AudioError for samples that are not [microphones, N] of finite numbers.
        """
        samples = chunk.samples
        if samples.ndim != 2 or 0 in samples.shape:
            raise AudioError(f'samples have shape {list(samples.shape)}; expected [microphones, N], both '
                             'above 0')
        if not np.isfinite(samples).all():
            raise AudioError('samples are not finite; look for a wrong sample format in the driver')
        form = (chunk.rate, len(samples))
        ahead_ns = chunk.stamp_ns - chunk.duration_ns - self.end_ns
        slack_ns = self._slack * SECOND
        joins = form == self._form and -max(slack_ns, SECOND) <= ahead_ns <= self._seconds * SECOND
        if not joins:
            self.clear()
        elif ahead_ns > slack_ns:
            self._append(np.zeros((len(samples), ahead_ns * chunk.rate // SECOND), np.float32), False)
        self._form, self.end_ns = form, chunk.stamp_ns
        self._append(samples.astype(np.float32, copy=False), True)
        return joins

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self._form, self.length = (0, 0), 0

    def window(self, seconds: float) -> tuple[np.ndarray, float]:
        """Return the newest samples [microphones, N] and the share of them that is missing."""
        wanted = min(self.length, max(1, round(seconds * self.rate)))
        joined = np.concatenate([samples for samples, _ in self._parts], 1)[:, -wanted:]
        came = np.concatenate([np.full(samples.shape[1], there) for samples, there in self._parts])[-wanted:]
        return joined, 1.0 - float(came.mean())

    def _append(self, samples: np.ndarray, came: bool) -> None:
        self._parts.append((samples, came))
        self.length += samples.shape[1]
        most = round(self._seconds * self.rate) if self.rate else self.length
        while len(self._parts) > 1 and self.length - self._parts[0][0].shape[1] >= most:
            self.length -= self._parts.popleft()[0].shape[1]


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return samples [..., N] at another rate, float32 [..., ceil(N wanted / rate)], by a polyphase filter.

    The filter removes what lies above half of the lower rate.  Raises AudioError for a rate out of range.
    """
    if not 0 < rate <= FASTEST:
        raise AudioError(f'the sample rate is {rate}; expected 1 to {FASTEST}')
    if rate == wanted:
        return samples.astype(np.float32, copy=False)
    from scipy.signal import resample_poly
    ratio = Fraction(wanted, rate).limit_denominator(2000)
    return np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator, axis=-1), np.float32)

"""The direction of a sound from the delays between microphones: steered response power with phase transform.

GCC-PHAT: C. Knapp, G. Carter, IEEE Trans. ASSP 24 (1976); its sum over pairs and directions: J. DiBiase,
PhD thesis, Brown University (2000).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FRAME_SECONDS = 0.064
"""Length of the frames whose spectra are compared."""
LOWEST, HIGHEST = 200.0, 7000.0
"""Frequencies in hertz that are compared."""
WHITENING = 0.5
"""Power of the amplitude that is divided by: 1 is PHAT, by which quiet bins of noise count as the others."""
AZIMUTHS = 360
"""Directions that are tried, all around at elevation 0."""
MOST = 8
"""Microphones that are compared with each other; of more, as many are drawn once and for all."""
FLAT = 0.02
"""Metres; microphones that all lie closer to one line cannot tell its two sides apart."""


@dataclass(frozen=True)
class SoundDirection:
    """Where a sound comes from.

    azimuth: radians, counter-clockwise from +x.  coherence: how much better the microphones agree with a
    plane wave from there than from all directions on average, 0 to 1; about 0 for noise that is independent
    at each microphone, and for noise from all around.
    """

    azimuth: float
    coherence: float


def spans_plane(positions: np.ndarray) -> bool:
    """Return whether microphones at positions [M, 3], metres, can tell all azimuths apart."""
    flat = positions[:, :2] - positions[:, :2].mean(0)
    return len(flat) >= 3 and float(np.linalg.svd(flat, compute_uv=False)[1]) > FLAT


def find_direction(samples: np.ndarray, rate: int, positions: np.ndarray,
                   speed_of_sound: float) -> SoundDirection:
    """Return the direction of the strongest source.

    samples: [M, N] at ``rate`` samples per second, M at least 3.  positions: [M, 3] metres.  speed_of_sound:
    metres/second.  A source is taken to be far away compared to the size of the array.
    """
    if len(samples) > MOST:
        drawn = np.random.default_rng(0).permutation(len(samples))[:MOST]
        samples, positions = samples[drawn], positions[drawn]
    size = 1 << max(6, round(np.log2(FRAME_SECONDS * rate)))
    padded = np.pad(samples, ((0, 0), (0, max(0, size - samples.shape[1]))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::size // 2]
    frequency = np.fft.rfftfreq(size, 1 / rate)
    kept = (frequency >= LOWEST) & (frequency <= min(HIGHEST, 0.45 * rate))
    spectra = np.fft.rfft(frames * np.hanning(size), axis=2)[..., kept]
    first, second = np.triu_indices(len(samples), 1)
    cross = spectra[first] * spectra[second].conj()  # [pairs, frames, bins]
    weight = np.maximum(np.abs(cross), 1e-30) ** -WHITENING
    total = (np.abs(cross) * weight).sum()
    if not total > 0:
        return SoundDirection(0.0, 0.0)
    mean = (cross * weight).sum(1)
    azimuth = np.arange(AZIMUTHS) * (2 * np.pi / AZIMUTHS)
    towards = np.stack([np.cos(azimuth), np.sin(azimuth)], 1)
    # Seconds by which the first of each pair hears the sound earlier, [azimuths, pairs].
    lead = towards @ (positions[first] - positions[second])[:, :2].T / speed_of_sound
    power = np.zeros(AZIMUTHS)
    for pair, spectrum in enumerate(mean):
        power += (np.exp(-2j * np.pi * lead[:, pair, None] * frequency[kept]) @ spectrum).real
    power /= total
    best, mean_power = int(power.argmax()), float(power.mean())
    before, at, after = power[best - 1], power[best], power[(best + 1) % AZIMUTHS]
    bend = before - 2 * at + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    angle = (best + shift) * (2 * np.pi / AZIMUTHS)
    return SoundDirection(float(np.arctan2(np.sin(angle), np.cos(angle))),
                     float(np.clip((at - mean_power) / max(1e-9, 1 - mean_power), 0, 1)))


def steered(samples: np.ndarray, rate: int, positions: np.ndarray, azimuth: float,
            speed_of_sound: float) -> np.ndarray:
    """Return the mean of the microphones, delayed so that sound from one direction adds up, float32 [N]."""
    towards = np.array([np.cos(azimuth), np.sin(azimuth)])
    lead = (positions - positions.mean(0))[:, :2] @ towards / speed_of_sound
    count = samples.shape[1]
    size = 1 << int(np.ceil(np.log2(count + 2 * (1 + np.abs(lead).max() * rate))))
    spectra = np.fft.rfft(samples, size, axis=1)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size, 1 / rate) * lead[:, None])
    return np.fft.irfft((spectra * turn).mean(0), size)[:count].astype(np.float32)

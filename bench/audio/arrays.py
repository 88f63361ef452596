"""Directions of simulated sources: plane waves, echoes and independent noise at arrays of microphones."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.audio.synthetic import COUNT, MAKERS, RATE, noise, scaled
from mpnp_ros.modalities.audio.config import AudioConfig
from mpnp_ros.modalities.audio.direction import find_direction
from mpnp_world.sensors.rig import MICROPHONES

SPEED = AudioConfig.speed_of_sound
ARRAYS = {
    'square, 0.1 m': np.array([[x, y, 0.] for x in (.05, -.05) for y in (.05, -.05)]),
    'roof, 1.5 m x 1.2 m': np.array(list(MICROPHONES.values()))}
SOURCES = ('noise', 'siren', 'horn', 'engine')
SNRS = (-10, -5, 0, 5, 10, 20)
"""Decibels of the source over the noise of each microphone."""
ECHOES, ECHO_DELAY = 3, 0.03
"""Echoes from other directions, a third of the amplitude each, and their longest delay in seconds."""


@dataclass(frozen=True)
class DirectionScore:
    """Directions of one array, source and SNR.

    median: error in degrees of those that were told.  near: share of all trials told within 10 degrees.
    told: share that was told at all.
    """

    array: str
    source: str
    snr: int
    median: float
    near: float
    told: float


def arriving(sound: np.ndarray, azimuth: float, places: np.ndarray, delay: float = 0.) -> np.ndarray:
    """Return a plane wave from an azimuth at each microphone, [M, COUNT]; delay: seconds more."""
    towards = np.array([np.cos(azimuth), np.sin(azimuth)])
    delays = delay - (places - places.mean(0))[:, :2] @ towards / SPEED
    size = 1 << int(np.ceil(np.log2(2 * COUNT)))
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size, 1 / RATE) * delays[:, None])
    return np.asarray(np.fft.irfft(np.fft.rfft(sound, size) * turn, size)[:, :COUNT])


def measure_directions(trials: int, seed: int = 0) -> Iterator[DirectionScore]:
    """Yield the scores of every array, source and SNR."""
    least = AudioConfig.least_coherence
    for array, places in ARRAYS.items():
        for source in SOURCES:
            for snr in SNRS:
                rng = np.random.default_rng([seed, snr + 100, SOURCES.index(source)])
                errors = []
                for _ in range(trials):
                    sound = noise(rng, 1) if source == 'noise' else MAKERS[source](rng)
                    azimuth = rng.uniform(-np.pi, np.pi)
                    heard = arriving(sound, azimuth, places)
                    for _ in range(ECHOES):
                        heard += arriving(sound, rng.uniform(-np.pi, np.pi), places,
                                          rng.uniform(0.002, ECHO_DELAY)) / 3
                    level = float(np.sqrt((heard ** 2).mean())) / 10 ** (snr / 20)
                    heard += np.stack([scaled(noise(rng, 1), level) for _ in places])
                    found = find_direction(heard, RATE, places, SPEED)
                    apart = np.degrees(np.abs(np.angle(np.exp(1j * (found.azimuth - azimuth)))))
                    errors.append(apart if found.coherence >= least else np.nan)
                given = np.array(errors)
                told = given[~np.isnan(given)]
                median = float(np.median(told)) if len(told) else float('nan')
                yield DirectionScore(array, source, snr, median, float((told <= 10).sum() / trials),
                                     len(told) / trials)

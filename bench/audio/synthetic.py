"""Synthetic sounds of sirens, horns, engines, tyres and alarms, with rooms, Doppler shift and noise.

Nothing here is a recording.  Speech is not made: its probabilities are not fitted.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

RATE = 16000
SECONDS = 2.0
COUNT = int(RATE * SECONDS)
NOTHING = 'nothing'
Random = np.random.Generator


def windows(seed: int, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield ``count`` pairs of a channel, or NOTHING for half of them, and its sound, float32 [COUNT]."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        name = str(rng.choice(list(MAKERS))) if rng.random() < 0.5 else NOTHING
        background = noise(rng, rng.uniform(0, 2))
        if name == NOTHING:
            yield name, scaled(background, 10 ** rng.uniform(-2.5, -0.7))
            continue
        sound = through_room(rng, MAKERS[name](rng))
        level = 10 ** rng.uniform(-2.5, -0.7)
        snr = 10 ** (rng.uniform(-5, 25) / 20)
        yield name, (scaled(sound, level) + scaled(background, level / snr)).clip(-1, 1).astype(np.float32)


def siren(rng: Random) -> np.ndarray:
    """Return a siren: wail, yelp or two tones, the horn's band and harmonics, approaching or leaving."""
    time = times() * rng.uniform(0.94, 1.06) + rng.uniform(0, 10)
    kind = rng.choice(['wail', 'yelp', 'two tones'])
    if kind == 'two tones':
        low = rng.uniform(380, 700)
        period, high = rng.uniform(0.8, 1.8), low * rng.uniform(1.2, 1.5)
        pitch = np.where(time % period < period / 2, low, high)
    else:
        low, high = rng.uniform(450, 750), rng.uniform(1100, 1700)
        rate = rng.uniform(0.1, 0.4) if kind == 'wail' else rng.uniform(2, 4.5)
        phase = (time * rate) % 1
        rise = rng.uniform(0.3, 0.7)
        pitch = low + (high - low) * np.where(phase < rise, phase / rise, (1 - phase) / (1 - rise))
    return harmonics(rng, np.cumsum(pitch) / RATE, 8, rng.uniform(0.7, 1.6))


def horn(rng: Random) -> np.ndarray:
    """Return one or several blasts of a horn of one, two or three notes."""
    note = rng.uniform(250, 480)
    notes = note * np.array([1, rng.uniform(1.18, 1.28), rng.uniform(1.4, 1.6)])[:rng.integers(1, 4)]
    sound = sum((harmonics(rng, tone * times(), 20, rng.uniform(0.4, 1.0)) for tone in notes),
                np.zeros(COUNT))
    return np.asarray(sound * bursts(rng, rng.uniform(0.15, 1.5), rng.uniform(0.1, 0.6)))


def engine(rng: Random) -> np.ndarray:
    """Return the pulses of a combustion engine with resonances, load and uneven cylinders."""
    firing = rng.uniform(18, 90) * (1 + rng.uniform(-0.3, 0.6) * times() / SECONDS)
    turns = np.cumsum(firing * (1 + 0.02 * smooth(rng, 40))) / RATE
    cylinders = rng.uniform(0.6, 1.4, rng.choice([4, 6, 8]))
    pulses = np.zeros(COUNT)
    at = np.flatnonzero(np.diff(np.floor(turns)))
    pulses[at] = cylinders[np.arange(len(at)) % len(cylinders)]
    sound = pulses + 0.05 * rng.standard_normal(COUNT) * (1 + np.sin(2 * np.pi * turns))
    for _ in range(rng.integers(2, 5)):
        sound = sound + resonated(sound, rng.uniform(60, 1200), rng.uniform(2, 8))
    return banded(sound, 30, rng.uniform(800, 4000))


def tyres(rng: Random) -> np.ndarray:
    """Return rolling noise of a car that passes by, or squealing tyres."""
    if rng.random() < 0.5:
        place = (times() - rng.uniform(0, SECONDS)) * rng.uniform(6, 25) / rng.uniform(3, 15)
        return banded(noise(rng, 0.7), 150, rng.uniform(1500, 4000)) / (1 + place ** 2)
    pitch = rng.uniform(700, 1900) * (1 + 0.15 * smooth(rng, 6) + 0.02 * smooth(rng, 60))
    squeal = harmonics(rng, np.cumsum(pitch) / RATE, 5, 0.8)
    return np.asarray((squeal + 0.2 * banded(noise(rng, 0.5), 500, 5000)) * bursts(rng, 1.0, 0.5))


def alarm(rng: Random) -> np.ndarray:
    """Return beeps: of a reversing truck, a smoke detector, a car alarm or a clock."""
    pitch = rng.uniform(800, 3400)
    return np.asarray(harmonics(rng, pitch * times(), int(rng.integers(1, 5)), rng.uniform(0.3, 1.5)) *
                      bursts(rng, *rng.uniform(0.06, 0.6, 2)))


MAKERS: Mapping[str, Callable[[Random], np.ndarray]] = {
    'siren': siren, 'horn': horn, 'engine': engine, 'tyres': tyres, 'alarm': alarm}


def times() -> np.ndarray:
    """Return the time of each sample in seconds."""
    return np.arange(COUNT) / RATE


def harmonics(rng: Random, turns: np.ndarray, count: int, fall: float) -> np.ndarray:
    """Return a tone with ``count`` harmonics that get weaker.  turns: its phase in periods."""
    step = np.abs(np.diff(turns, append=turns[-1])) * RATE
    return sum((np.where(order * step < RATE / 2, 1, 0) * order ** -fall *
                np.sin(2 * np.pi * (order * turns + rng.random())) for order in range(1, count + 1)),
               np.zeros(COUNT))


def bursts(rng: Random, on: float, off: float) -> np.ndarray:
    """Return 1 for ``on`` seconds and 0 for ``off`` seconds in turns, with soft edges."""
    phase = (times() + rng.uniform(0, on)) % (on + off)
    return np.clip(np.minimum(phase, on - phase) / 0.01, 0, 1)


def smooth(rng: Random, rate: float) -> np.ndarray:
    """Return a random curve that changes about ``rate`` times a second, deviation 1."""
    knots = rng.standard_normal(int(SECONDS * rate) + 3)
    return np.interp(times() * rate, np.arange(len(knots)), knots)


def noise(rng: Random, fall: float) -> np.ndarray:
    """Return noise whose power falls with this power of the frequency: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(COUNT))
    frequency = np.maximum(np.fft.rfftfreq(COUNT, 1 / RATE), 30)
    return np.fft.irfft(spectrum * frequency ** (-fall / 2), COUNT)


def banded(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return what lies between two frequencies, with slopes of 12 dB an octave."""
    frequency = np.maximum(np.fft.rfftfreq(len(sound), 1 / RATE), 1)
    gain = 1 / np.sqrt((1 + (low / frequency) ** 4) * (1 + (frequency / high) ** 4))
    return np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))


def resonated(sound: np.ndarray, centre: float, quality: float) -> np.ndarray:
    """Return a sound through a resonance."""
    frequency = np.maximum(np.fft.rfftfreq(len(sound), 1 / RATE), 1)
    gain = 1 / (1 + 1j * quality * (frequency / centre - centre / frequency))
    return np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))


def through_room(rng: Random, sound: np.ndarray) -> np.ndarray:
    """Return a sound with exponentially falling echoes, and what a loudspeaker or a body takes from it."""
    length = int(rng.uniform(0.05, 0.6) * RATE)
    echoes = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    echoes *= rng.uniform(0, 0.5) / np.sqrt((echoes ** 2).sum())
    echoes[0] += 1
    size = 1 << int(np.ceil(np.log2(COUNT + length)))
    made = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(echoes, size), size)[:COUNT]
    return banded(made, rng.uniform(30, 300), rng.uniform(2500, 8000))


def scaled(sound: np.ndarray, level: float) -> np.ndarray:
    """Return a sound with this root mean square."""
    return np.asarray(sound * (level / max(float(np.sqrt((sound ** 2).mean())), 1e-9)), np.float32)

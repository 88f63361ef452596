"""Synthetic sound of engines, horns, sirens, tyres and rain at microphones on the roof.

Every source plays a waveform of sines and noise, which depends on time only, at its place.  Sound has delay,
attenuation and Doppler shift.  There are no echoes and no obstacles.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from mpnp_ros.poses import wrap_angle
from mpnp_world.scene.state import WorldObject, WorldState
from mpnp_world.sensors.rig import MICROPHONES

SAMPLE_RATE = 16000
SPEED_OF_SOUND = 343.0
"""Metres/second, at 20 degrees Celsius."""
FULL_SCALE = 4.0
"""Pascals of a sample of 1 (106 dB); louder sound is clipped."""
HEARING, FADING = 200.0, 50.0
"""Range of a source, and length of its fading before that, metres."""
NEAREST = 1.0
"""Distance below which the level of a source is constant, metres."""
LOOP = 6.0
"""Seconds after which waveforms repeat."""
LEVELS: dict[str, float] = {'siren': 20.0, 'horn': 7.0, 'engine': 0.15, 'tyres': 0.02}
"""Root mean square at 1 m, pascals; tyres: per metre/second of speed."""
STREET, OWN_CAR, RAIN = 0.02, 0.006, 0.04
"""Root mean square at every microphone, pascals; own car: per metre/second of speed."""
SIREN_TONES, SIREN_PERIOD = (500.0, 1500.0), 6.0
"""Lowest and highest frequency between which the siren wails, hertz, and period, seconds."""
HORN_TONES = (420.0, 510.0)
IDLING = 28.0
"""Firing frequency of the engine of an object, hertz."""
WITHOUT_ENGINE = ('bicycle', 'trailer', 'pedestrian', 'child', 'cone', 'barrier')
STREAM = 6


@dataclass(frozen=True)
class _SoundSource:
    """A waveform at a place that moves linearly during the interval.

    places: x, y, z at the beginning and end, metres, world frame; levels: at both, pascals at 1 m.  shift:
    lead of the waveform, seconds.
    """

    waveform: str
    places: tuple[np.ndarray, np.ndarray]
    levels: tuple[float, float]
    shift: float = 0.0


def listen(before: WorldState, after: WorldState) -> np.ndarray:
    """The sound at the microphones, float32 [microphones, samples], -1..1, rows as in MICROPHONES.

    Sample n is at n / SAMPLE_RATE seconds after the beginning of the scene; the result has all with
    before.time <= n / SAMPLE_RATE < after.time.  Everything moves linearly between the states, so that
    successive intervals join without clicks.
    """
    numbers = np.arange(sample_number(before.time), sample_number(after.time))
    times = numbers / SAMPLE_RATE
    progress = (times - before.time) / (after.time - before.time)
    start, end = before.ego, after.ego
    yaw = start.yaw + progress * wrap_angle(end.yaw - start.yaw)
    x, y, z = np.array(list(MICROPHONES.values())).T[..., None]
    ears = np.stack(np.broadcast_arrays(
        start.x + progress * (end.x - start.x) + np.cos(yaw) * x - np.sin(yaw) * y,
        start.y + progress * (end.y - start.y) + np.sin(yaw) * x + np.cos(yaw) * y, z), -1)
    heard = _ambience(before, after, numbers, progress)
    for source in _sources(before, after):
        heard += _arriving(source, ears, times, progress)
    return np.clip(heard / FULL_SCALE, -1, 1).astype(np.float32)


def sample_number(seconds: float) -> int:
    """The first sample at or after a time; times that differ by less than a nanosecond are equal."""
    return math.ceil(seconds * SAMPLE_RATE - 1e-5)


def _arriving(source: _SoundSource, ears: np.ndarray, times: np.ndarray, progress: np.ndarray) -> np.ndarray:
    """The sound pressure of a source, pascals [microphones, samples].  ears: places of the microphones.

    The delay follows the distance at reception instead of emission.  This avoids jumps when a source changes
    speed between intervals; the error of the pitch is of second order in speed over speed of sound.
    """
    start, end = source.places
    distance = np.linalg.norm(start + progress[:, None] * (end - start) - ears, axis=-1)
    level = source.levels[0] + progress * (source.levels[1] - source.levels[0])
    fading = np.clip((HEARING - distance) / FADING, 0, 1)
    loop = _waveforms()[source.waveform]
    position = (times + source.shift - distance / SPEED_OF_SOUND) % LOOP * SAMPLE_RATE
    whole = position.astype(np.intp)
    part = position - whole
    played = loop[whole] * (1 - part) + loop[whole + 1] * part
    return level * fading / np.maximum(distance, NEAREST) * played


def _sources(before: WorldState, after: WorldState) -> Iterator[_SoundSource]:
    """The sources near the ego vehicle; those present in only one state fade."""
    earlier, later = ({thing.identity: thing for thing in state.objects} for state in (before, after))
    for identity in sorted(earlier.keys() | later.keys()):
        known = earlier.get(identity) or later[identity], later.get(identity) or earlier[identity]
        places = [np.array((thing.x, thing.y, thing.z + 0.5 * thing.size[2])) for thing in known]
        levels = [_levels(at.get(identity)) for at in (earlier, later)]
        is_near = any(math.dist(place[:2], (ego.x, ego.y)) < HEARING
                      for place, ego in zip(places, (before.ego, after.ego), strict=True))
        for waveform, begin in levels[0].items():
            if is_near and (begin or levels[1][waveform]):
                yield _SoundSource(waveform, (places[0], places[1]), (begin, levels[1][waveform]),
                                   1.37 * identity)


def _levels(thing: WorldObject | None) -> dict[str, float]:
    """Levels of the sounds of an object, pascals at 1 m."""
    if thing is None:
        return dict.fromkeys(LEVELS, 0.0)
    runs = thing.kind not in WITHOUT_ENGINE and thing.attribute not in ('parked', 'without rider')
    on = {'siren': thing.siren, 'horn': thing.horn, 'engine': runs, 'tyres': runs * thing.speed}
    return {waveform: level * on[waveform] for waveform, level in LEVELS.items()}


def _ambience(before: WorldState, after: WorldState, numbers: np.ndarray, progress: np.ndarray) -> np.ndarray:
    """Sound of street, own car and rain, pascals [microphones, samples]; independent by microphone."""
    speed = before.ego.speed + progress * (after.ego.speed - before.ego.speed)
    rain = RAIN * (before.conditions.weather == 'rain')
    level = STREET + OWN_CAR * speed
    offsets = np.random.default_rng([before.seed, STREAM]).integers(0, int(LOOP * SAMPLE_RATE),
                                                                    (len(MICROPHONES), 2, 1))
    hum, patter = ((numbers + offset) % int(LOOP * SAMPLE_RATE) for offset in offsets.swapaxes(0, 1))
    return level * _waveforms()['tyres'][hum] + rain * _waveforms()['rain'][patter]


@cache
def _waveforms() -> dict[str, np.ndarray]:
    """All periodic waveforms [LOOP * SAMPLE_RATE + 1] with root mean square 1."""
    time = np.arange(int(LOOP * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = np.interp(time % SIREN_PERIOD, (0, SIREN_PERIOD / 2, SIREN_PERIOD),
                      (*SIREN_TONES, SIREN_TONES[0]))
    turns = np.concatenate([[0.0], np.cumsum(pitch[:-1])]) / SAMPLE_RATE
    waves = {
        'siren': _harmonics(turns, (1.0, 0.0, 0.33, 0.0, 0.2)),
        'horn': sum((_harmonics(tone * time, (1.0, 0.7, 0.5, 0.35, 0.25, 0.15)) for tone in HORN_TONES),
                    np.zeros_like(time)),
        'engine': _harmonics(IDLING * time, [1 / order for order in range(1, 13)]) + 0.3 * _noise(1, 60, 900),
        'tyres': _noise(2, 80, 1200),
        'rain': _noise(3, 1500, 7500),
    }
    return {name: np.append(wave, wave[0]) / math.sqrt(np.mean(wave ** 2)) for name, wave in waves.items()}


def _harmonics(turns: np.ndarray, strengths: tuple[float, ...] | list[float]) -> np.ndarray:
    """A sum of harmonics.  turns: phase of the tone in periods."""
    return sum((strength * np.sin(math.tau * order * turns) for order, strength in enumerate(strengths, 1)),
               np.zeros_like(turns))


def _noise(seed: int, low: float, high: float) -> np.ndarray:
    """A loop of noise in a frequency band, hertz, louder at low frequencies; root mean square 1."""
    count = int(LOOP * SAMPLE_RATE)
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    phase = np.random.default_rng([seed, STREAM]).uniform(0, math.tau, len(frequency))
    inside = (frequency >= low) & (frequency <= high)
    spectrum = np.where(inside, 1 / np.sqrt(np.maximum(frequency, low)), 0.0) * np.exp(1j * phase)
    wave = np.fft.irfft(spectrum, count)
    return wave / math.sqrt(np.mean(wave ** 2))

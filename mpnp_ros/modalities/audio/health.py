"""Quality of sound: all microphones alive, not clipped, no steps or constants, nothing missing.

Measured in the world by day (lowest / median of 40 windows of 2 s): level -48 / -42 dB of full scale.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpnp_ros.modalities.audio.frames import CLIPPED, AudioFrame
from mpnp_ros.modalities.health import SCALE, Health, HealthFinding, HealthLimits, grade, health, worst
from mpnp_ros.options import option

SILENCE = -140.0
"""Decibels of full scale of no sound at all."""


@dataclass(frozen=True)
class AudioLimits(HealthLimits):
    """Limits of the quality of sound, 0 at the first value and 1 at the second."""

    level: tuple[float, ...] = option(
        (-85.0, -70.0), f'level of a microphone without its constant part, of full scale: {SCALE}', unit='dB',
        low=-200, high=0)
    clipped: tuple[float, ...] = option(
        (0.1, 0.005), f'share of the samples at the end of the scale: {SCALE}', low=0, high=1)
    constant: tuple[float, ...] = option(
        (0.5, 0.2), f'size of the constant part, of full scale: {SCALE}', low=0, high=1)
    stuck: tuple[float, ...] = option(
        (0.9, 0.5), f'share of the samples that equal the one before: {SCALE}', low=0, high=1)
    missing: tuple[float, ...] = option(
        (0.5, 0.05), f'share of the sound that never came: {SCALE}', low=0, high=1)

    def judge(self) -> AudioJudge:
        """Return a new judge with these limits."""
        return AudioJudge(self)


class AudioJudge:
    """Judges an :class:`AudioFrame`."""

    def __init__(self, limits: AudioLimits) -> None:
        self._limits = limits

    def judge(self, frame: AudioFrame) -> Health:
        """Return the mean quality of the microphones and one concern each."""
        several = len(frame.samples) > 1
        names = [f'{frame.name} {number}' if several else frame.name for number in range(len(frame.samples))]
        return health({name: worst(self._findings(samples, frame.missing))
                       for name, samples in zip(names, frame.samples, strict=True)})

    def _findings(self, samples: np.ndarray, missing: float) -> Iterator[HealthFinding]:
        limits = self._limits
        mean = float(samples.mean(dtype=np.float64))
        deviation = float(samples.std(dtype=np.float64))
        level = 20 * np.log10(max(deviation, 10 ** (SILENCE / 20)))
        said = 'is silent' if level <= SILENCE else f'is very quiet ({level:.0f} dB)'
        yield HealthFinding(grade(missing, limits.missing), f'has gaps ({missing:.0%} is missing)')
        yield HealthFinding(grade(level, limits.level), said)
        clipped = float((np.abs(samples) >= CLIPPED).mean())
        yield HealthFinding(grade(clipped, limits.clipped), f'is clipped ({clipped:.0%} of the samples)')
        yield HealthFinding(grade(abs(mean), limits.constant), f'has a constant part ({mean:.2f})')
        same = float((np.diff(samples) == 0).mean()) if samples.size > 1 else 0.0
        yield HealthFinding(grade(same, limits.stuck), f'stands still ({same:.0%} of the samples)')

"""What the audio encoder hears in the embedded world, and where the sirens there are."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.audio.scores import average_precision
from mpnp_ros.modalities.audio.channels import CHANNELS
from mpnp_ros.modalities.audio.encoder import AudioEncoder
from mpnp_ros.modalities.audio.frames import AudioFrame
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import WorldState
from mpnp_world.scene.world import Tour
from mpnp_world.sensors.microphones import SAMPLE_RATE, listen
from mpnp_world.sensors.rig import MICROPHONES

TICK, AUDIBLE = 0.1, 100.0
"""Seconds of a step, and metres within which a siren counts as audible."""


@dataclass(frozen=True)
class DriveScore:
    """Scores of a drive.

    windows, sirens: of 2 s, and those with an audible siren.  ap: average precision of siren, chance: that of
    a random order.  told: share of the windows with a siren whose token has a direction.  median: error of
    these in degrees.  near: share of the windows with a siren with a direction within 15 degrees.
    """

    windows: int
    sirens: int
    ap: float
    chance: float
    told: float
    median: float
    near: float


def measure_drive(encoder: AudioEncoder, seeds: range, windows: int) -> DriveScore:
    """Drive ``windows`` windows in the streets of each seed."""
    heard, audible, errors = [], [], []
    places = np.array(list(MICROPHONES.values()))
    for seed in seeds:
        tour = Tour(seed, Conditions(), 1e6)
        for _ in range(windows):
            parts = []
            for _ in range(round(encoder.config.window / TICK)):
                before, state = tour.step(TICK)
                parts.append(listen(before, state))
            tokens = encoder.encode(AudioFrame(np.concatenate(parts, 1), SAMPLE_RATE, positions=places))
            true = siren_azimuth(state)
            heard.append(float(tokens.values[0, CHANNELS.index('siren')]))
            audible.append(true is not None)
            if true is not None:
                errors.append(np.degrees(abs(np.angle(np.exp(1j * (float(tokens.azimuth[0]) - true))))))
    truth, given = np.array(audible), np.array(errors)
    told = given[~np.isnan(given)]
    return DriveScore(len(truth), int(truth.sum()), average_precision(truth, np.array(heard)),
                      float(truth.mean()), len(told) / max(1, len(given)),
                      float(np.median(told)) if len(told) else float('nan'),
                      float((told <= 15).sum() / max(1, len(given))))


def siren_azimuth(state: WorldState) -> float | None:
    """Return the azimuth of the nearest siren in radians, None where none is audible."""
    ego = state.ego
    near = min(((np.hypot(thing.x - ego.x, thing.y - ego.y), thing) for thing in state.objects
                if thing.siren), key=lambda pair: pair[0], default=None)
    if near is None or near[0] > AUDIBLE:
        return None
    return float(np.arctan2(near[1].y - ego.y, near[1].x - ego.x) - ego.yaw)

"""What is heard in recorded clips with labels."""
from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.audio.scores import average_precision, calibration_error, interval
from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.audio.channels import CHANNELS
from mpnp_ros.modalities.audio.encoder import AudioEncoder

LABELS: Mapping[str, str] = {'siren': 'siren', 'horn': 'car_horn', 'engine': 'engine_idling',
                             'speech': 'speech'}
"""The label of each channel that the clips have."""
ALSO: Mapping[str, tuple[str, ...]] = {
    'engine': ('chainsaw', 'jackhammer', 'drilling', 'helicopter'), 'speech': ('children_playing',)}
"""Labels of clips in which the channel is heard too, although they are called something else."""


@dataclass(frozen=True, eq=False)
class Clips:
    """Recorded clips; rows of labels and sources.

    raw: [clips, CHANNELS] as the classifier gives them.  heard: the same calibrated.
    """

    labels: np.ndarray
    sources: tuple[str, ...]
    raw: np.ndarray
    heard: np.ndarray


@dataclass(frozen=True)
class SoundScore:
    """Scores of one channel.

    ap: average precision against all other clips, with its 95 % interval over sources.  chance: that of a
    random order.  fair: without the clips of ALSO.  recall, false: shares of its clips and of the others (but
    for ALSO) with at least 0.5.  error, raw_error: expected calibration error with and without calibration.
    brier, prior: mean squared error, and that of the share of its clips as the probability of each.
    accuracy, majority: of "at least 0.5", and of "no" for each.
    """

    channel: str
    clips: int
    ap: float
    low: float
    high: float
    chance: float
    fair: float
    recall: float
    false: float
    error: float
    raw_error: float
    brier: float
    prior: float
    accuracy: float
    majority: float


def read_clips(root: Path, encoder: AudioEncoder) -> Clips:
    """Return what is heard in each clip of a folder with labels.csv (file, label, source_id)."""
    try:
        soundfile = importlib.import_module('soundfile')
    except ImportError:
        raise DatasetError('FLAC files need soundfile: pip install soundfile==0.14.0') from None
    try:
        rows = list(csv.DictReader((root / 'labels.csv').read_text('utf-8').splitlines()))
    except OSError as error:
        raise DatasetError(f'{root} has no labels.csv ({error.strerror}); name the folder of clips') from None
    raw = []
    for row in rows:
        samples, rate = soundfile.read(root / row['file'], dtype='float32', always_2d=True)
        raw.append(encoder.raw(samples.mean(1), rate))
    given = np.array(raw)
    return Clips(np.array([row['label'] for row in rows]), tuple(row['source_id'] for row in rows), given,
                 encoder.calibrated(given))


def score_clips(clips: Clips) -> Iterator[SoundScore]:
    """Yield the scores of every channel that the clips have."""
    for channel, label in LABELS.items():
        if label not in clips.labels:
            continue
        place = CHANNELS.index(channel)
        truth, heard = clips.labels == label, clips.heard[:, place]
        fair = truth | ~np.isin(clips.labels, ALSO.get(channel, ()))
        said, share = heard >= 0.5, float(truth.mean())

        def measure(rows: np.ndarray, truth: np.ndarray = truth, heard: np.ndarray = heard) -> float:
            return average_precision(truth[rows], heard[rows])

        yield SoundScore(
            channel, int(truth.sum()), average_precision(truth, heard), *interval(clips.sources, measure),
            share, average_precision(truth[fair], heard[fair]), float(said[truth].mean()),
            float(said[fair & ~truth].mean()), calibration_error(truth[fair], heard[fair]),
            calibration_error(truth[fair], clips.raw[fair, place]), float(((heard - truth) ** 2).mean()),
            share * (1 - share), float((said == truth).mean()), max(share, 1 - share))


def alarms_by_label(clips: Clips) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield each label, its clips, and the share of them in which each channel is said to be heard."""
    for label in sorted(set(clips.labels)):
        mine = clips.labels == label
        yield label, int(mine.sum()), (clips.heard[mine] >= 0.5).mean(0)

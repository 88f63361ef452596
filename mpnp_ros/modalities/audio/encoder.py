"""The audio encoder: what is heard, as probabilities of a frozen classifier, and from where."""
from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources

import numpy as np
import yaml

from mpnp_ros.errors import AudioError, WeightsError
from mpnp_ros.modalities.audio.channels import CHANNELS, classes_of
from mpnp_ros.modalities.audio.classifier import SoundClassifier, load_classifier
from mpnp_ros.modalities.audio.config import AudioConfig
from mpnp_ros.modalities.audio.direction import find_direction, spans_plane, steered
from mpnp_ros.modalities.audio.frames import AudioFrame, resampled
from mpnp_ros.tokens import SECTORS, ModalityTokens

VERSION = 1
"""Goes up whenever the same sound gives other tokens."""
LARGEST_LOGIT = 12.0
"""Logits are cut here, as a probability of exactly 0 or 1 has none."""
LEVEL, GREATEST_GAIN = 0.1, 40.0
"""Root mean square that sound is brought to before it is classified, and the greatest gain for that."""


@dataclass(frozen=True, eq=False)
class SoundCalibration:
    """Scale and bias, [CHANNELS] each, of the logits of a classifier (Platt scaling)."""

    scale: np.ndarray
    bias: np.ndarray

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities [..., CHANNELS]."""
        with np.errstate(divide='ignore'):
            logits = np.log(probabilities) - np.log1p(-probabilities)
        logits = logits.clip(-LARGEST_LOGIT, LARGEST_LOGIT) * self.scale + self.bias
        return 1 / (1 + np.exp(-logits))


class AudioEncoder:
    """Encode an :class:`AudioFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

    One token: the probability that each of :data:`~mpnp_ros.modalities.audio.channels.CHANNELS` is heard.  It
    has a direction where the positions of at least three microphones are known, they do not lie on a line,
    and they agree on one.
    """

    modality = 'audio'
    token_width = len(CHANNELS)

    def __init__(self, config: AudioConfig, classifier: SoundClassifier | None = None) -> None:
        self.config = config
        self._classifier = classifier or load_classifier(config.weights, config.device)
        self._classes = classes_of(self._classifier.names)
        self.known = np.array([bool(places) for places in self._classes])
        if not self.known.any():
            raise WeightsError(f'none of the {len(self._classifier.names)} classes of {config.weights} is '
                               f'{", ".join(CHANNELS)}; name a classifier of AudioSet or ESC-50')
        self._calibration = calibration_of(self._classifier.name)
        shaped = f'{self._classifier.sha256} {self._calibration.scale} {self._calibration.bias}'
        self.fingerprint = config.fingerprint(self.modality, shaped, VERSION)

    def encode(self, frame: AudioFrame) -> ModalityTokens:
        """Return one token.  Raises AudioError for samples that are no sound."""
        if frame.samples.ndim != 2 or 0 in frame.samples.shape:
            raise AudioError(f'{frame.name}: samples have shape {list(frame.samples.shape)}; expected '
                             '[microphones, N], both above 0')
        azimuth, sound = math.nan, frame.samples.mean(0)
        if frame.positions is not None and spans_plane(frame.positions):
            speed = self.config.speed_of_sound
            found = find_direction(frame.samples, frame.rate, frame.positions, speed)
            if found.coherence >= self.config.least_coherence:
                azimuth = found.azimuth
                sound = steered(frame.samples, frame.rate, frame.positions, azimuth, speed)
        return ModalityTokens(
            modality=self.modality, encoder=self.fingerprint, values=self.heard(sound, frame.rate)[None],
            azimuth=np.array([azimuth], np.float32), sources=(frame.name,),
            source_index=np.zeros(1, np.uint16), source_stamps_ns=(frame.stamp_ns,),
            stamp_ns=frame.stamp_ns, frame_id=frame.frame_id,
            known=self.known, looked=np.ones(SECTORS, bool))

    def raw(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Return the highest probability of each channel's classes, not calibrated, float32 [CHANNELS]."""
        sound = resampled(samples, rate, self._classifier.rate)
        level = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
        gain = min(LEVEL / level, GREATEST_GAIN) if level > 0 else 1.0
        given = self._classifier.probabilities((sound * np.float32(gain)).clip(-1, 1))
        return np.array([given[places].max() if places else 0.0 for places in self._classes], np.float32)

    def heard(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Return the probability that each channel is heard in samples [N], float32 [CHANNELS]."""
        return self.calibrated(self.raw(samples, rate))

    def calibrated(self, raw: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities of those of :meth:`raw`, float32 [..., CHANNELS]."""
        return np.where(self.known, self._calibration(raw), 0).astype(np.float32)


def calibration_of(name: str) -> SoundCalibration:
    """Return the calibration of a classifier that the package has; none for another classifier."""
    text = resources.files('mpnp_ros').joinpath('data/sounds.yaml').read_text('utf-8')
    given = yaml.safe_load(text).get(name, {})
    pairs = np.array([given.get(channel, (1.0, 0.0)) for channel in CHANNELS], np.float64)
    return SoundCalibration(pairs[:, 0], pairs[:, 1])

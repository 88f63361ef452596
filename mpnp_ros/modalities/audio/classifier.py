"""Frozen classifiers of sounds: YAMNet, and models of transformers for audio classification."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mpnp_ros.device import choose_device
from mpnp_ros.errors import WeightsError
from mpnp_ros.files import sha256_of
from mpnp_ros.modalities.audio import yamnet
from mpnp_ros.modalities.audio.config import YAMNET
from mpnp_ros.modalities.audio.yamnet_weights import YamNetFile, read_installed, read_tflite

AUDIOSET = ('Speech', 'Siren', 'Vehicle')
"""Classes that only models of AudioSet have together; there several are true at once."""


class SoundClassifier(Protocol):
    """A frozen classifier.

    name: of its calibration.  rate: samples per second of its input.  names: of the classes.  sha256: of the
    weights.
    """

    name: str
    rate: int
    names: tuple[str, ...]
    sha256: str

    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """Return the probability of each class in samples [N], -1..1, at ``rate``."""
        ...


class YamNetClassifier:
    """YAMNet: the mean over the patches of the sound."""

    name, rate = YAMNET, yamnet.RATE

    def __init__(self, file: YamNetFile, device: str = 'auto') -> None:
        self.names, self.sha256 = file.names, file.sha256
        self._device = choose_device(device)
        self._network = yamnet.YamNet().fill(file.layers).to(self._device).eval().requires_grad_(False)

    @torch.inference_mode()
    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """See SoundClassifier."""
        waves = torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None].to(self._device)
        return np.asarray(torch.sigmoid(self._network(waves))[0].mean(0).float().cpu().numpy())


@dataclass(eq=False)
class TransformersClassifier:
    """A model of transformers with a head of classes, such as AST, HuBERT or wav2vec 2.0."""

    name: str
    rate: int
    names: tuple[str, ...]
    sha256: str
    model: Any
    extractor: Any
    several: bool
    """Whether several classes can be true at once."""

    @torch.inference_mode()
    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """See SoundClassifier."""
        inputs = self.extractor(samples, sampling_rate=self.rate, return_tensors='pt').to(self.model.device)
        logits = self.model(**inputs).logits[0].float()
        return np.asarray((torch.sigmoid(logits) if self.several else torch.softmax(logits, 0)).cpu().numpy())


def load_classifier(source: str, device: str = 'auto') -> SoundClassifier:
    """Return the classifier that the option ``weights`` names.  Raises WeightsError."""
    if source == YAMNET:
        return YamNetClassifier(read_installed(), device)
    if source.endswith('.tflite'):
        return YamNetClassifier(read_tflite(Path(source).expanduser()), device)
    return _load_transformers(source, device)


def _load_transformers(source: str, device: str) -> TransformersClassifier:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        try:
            from huggingface_hub import snapshot_download
            folder = Path(snapshot_download(source, allow_patterns=['*.json', 'model.safetensors']))
        except Exception as error:  # the hub raises anything from ValueError to its transport's errors
            raise WeightsError(f'sound weights {source!r} are neither {YAMNET!r}, a .tflite file nor a '
                               f'folder, and the Hugging Face hub does not give them '
                               f'({type(error).__name__}: {error})') from None
    weights = folder / 'model.safetensors'
    if not weights.is_file():
        raise WeightsError(f'{weights} is missing; pickled weights (.bin, .pth) are not read: save the model '
                           'with safe_serialization=True')
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForAudioClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise WeightsError(f'{folder} holds no model for audio classification ({error}); name another one'
                           ) from None
    model = model.to(choose_device(device)).eval().requires_grad_(False)
    labels = model.config.id2label
    names = tuple(str(labels[place]) for place in sorted(labels))
    several = model.config.problem_type == 'multi_label_classification' or set(AUDIOSET) <= set(names)
    return TransformersClassifier('', int(extractor.sampling_rate), names, sha256_of(weights), model,
                                  extractor, several)

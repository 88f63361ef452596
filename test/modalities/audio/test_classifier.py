"""Classifiers: models of transformers from a folder, and what is refused."""
from __future__ import annotations

import numpy as np
import pytest

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.audio.channels import CHANNELS
from mpnp_ros.modalities.audio.classifier import load_classifier
from mpnp_ros.modalities.audio.config import AudioConfig
from mpnp_ros.modalities.audio.encoder import AudioEncoder
from mpnp_ros.modalities.audio.frames import AudioFrame


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A tiny wav2vec 2.0 with a head of three classes, as save_pretrained writes it."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification
    path = tmp_path_factory.mktemp('sounds')
    config = Wav2Vec2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                            conv_dim=(8, 8), conv_stride=(8, 8), conv_kernel=(8, 8),
                            num_feat_extract_layers=2, num_conv_pos_embeddings=4,
                            num_conv_pos_embedding_groups=2,
                            classifier_proj_size=8, id2label={0: 'dog', 1: 'siren', 2: 'car_horn'})
    Wav2Vec2ForSequenceClassification(config).save_pretrained(path)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(path)
    return path


def test_a_model_of_transformers_tells_the_channels_that_it_has_classes_of(folder):
    classifier = load_classifier(str(folder), 'cpu')
    assert (classifier.rate, classifier.names) == (8000, ('dog', 'siren', 'car_horn'))
    sound = np.random.default_rng(0).uniform(-.1, .1, 16000).astype(np.float32)
    given = classifier.probabilities(sound)
    assert given.shape == (3,) and given.sum() == pytest.approx(1)
    encoder = AudioEncoder(AudioConfig(weights=str(folder), device='cpu'))
    tokens = encoder.encode(AudioFrame(sound[None], 8000))
    assert dict(zip(CHANNELS, tokens.known.tolist(), strict=True)) == {
        'siren': True, 'horn': True, 'engine': False, 'tyres': False, 'speech': False, 'alarm': False}
    assert not tokens.values[0, 2:].any() and (tokens.values[0, :2] > 0).all()


def test_what_cannot_be_read_is_refused_with_the_remedy(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(WeightsError, match='neither'):
        load_classifier('nobody/nothing-here')
    with pytest.raises(WeightsError, match='safe_serialization'):
        load_classifier(str(tmp_path))
    (tmp_path / 'model.safetensors').write_bytes((folder / 'model.safetensors').read_bytes())
    with pytest.raises(WeightsError, match='no model for audio classification'):
        load_classifier(str(tmp_path))

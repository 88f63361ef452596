"""Detectors that look for words: tiny networks of random weights, against the processors of transformers."""
from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2Processor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTProcessor,
    SwinConfig,
)
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil

from mpnp_ros.detection.detectors.base import best
from mpnp_ros.detection.detectors.choice import create_detector
from mpnp_ros.detection.detectors.open_vocabulary import shown_size
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.questions.vocabulary import CATEGORIES

WORDS = ('car', 'traffic cone', 'my van')
TEXT = {'hidden_size': 16, 'intermediate_size': 16, 'num_hidden_layers': 1, 'num_attention_heads': 2}
OWL_WORDS = 16
"""Tokens of a word that OWL reads."""


@pytest.fixture(scope='module', autouse=True)
def seeded():
    """Random weights that are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope='module')
def street() -> np.ndarray:
    """A real image, or else noise."""
    shared = Path(__file__).parents[4] / 'shared'
    files = sorted((shared / 'data/nuscenes_keyframe/samples/CAM_FRONT').glob('*.jpg'))
    return np.asarray(Image.open(files[0]).convert('RGB').resize((320, 180))) if files else \
        np.random.default_rng(0).integers(0, 255, (180, 320, 3), np.uint8)


@pytest.fixture(scope='module', params=['owlvit', 'owlv2'])
def owl(request, tmp_path_factory) -> Path:
    """The folder of a tiny OWL-ViT or OWLv2, as transformers saves it."""
    folder = tmp_path_factory.mktemp(request.param)
    letters = [chr(place) for place in range(ord('a'), ord('z') + 1)]
    names = ['!', *(letter + end for letter, end in product(letters, ('', '</w>'))), '<|startoftext|>',
             '<|endoftext|>']
    vocabulary = {name: place for place, name in enumerate(names)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], pad_token='!', model_max_length=OWL_WORDS)
    configuration, network, processor, pictures = {
        'owlvit': (OwlViTConfig, OwlViTForObjectDetection, OwlViTProcessor, OwlViTImageProcessorPil),
        'owlv2': (Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor, Owlv2ImageProcessorPil),
    }[request.param]
    size = {'height': 64, 'width': 64}
    processor(pictures(size=size), tokenizer).save_pretrained(folder)
    last = len(names) - 1
    model = network(configuration(
        text_config={**TEXT, 'vocab_size': len(names), 'max_position_embeddings': OWL_WORDS,
                     'bos_token_id': last - 1, 'eos_token_id': last, 'pad_token_id': 0},
        vision_config={**TEXT, 'image_size': 64, 'patch_size': 16}, projection_dim=16))
    with torch.no_grad():  # random weights see no difference between words
        model.class_head.logit_scale.weight.mul_(5)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope='module')
def dino(tmp_path_factory) -> Path:
    """The folder of a tiny Grounding DINO, as transformers saves it."""
    folder = tmp_path_factory.mktemp('dino')
    names = [f'[unused{place}]' for place in range(1100)]
    for place, name in {0: '[PAD]', 100: '[UNK]', 101: '[CLS]', 102: '[SEP]', 103: '[MASK]', 1012: '.',
                        1029: '?', 1050: 'car', 1051: 'traffic', 1052: 'con', 1053: '##e', 1054: 'my',
                        1055: 'van'}.items():
        names[place] = name
    tokenizer = BertTokenizer(vocab={name: place for place, name in enumerate(names)})
    pictures = GroundingDinoImageProcessorPil(size={'shortest_edge': 64, 'longest_edge': 128})
    GroundingDinoProcessor(pictures, tokenizer).save_pretrained(folder)
    small = {'encoder_layers': 1, 'decoder_layers': 2, 'encoder_ffn_dim': 16, 'decoder_ffn_dim': 16,
             'encoder_attention_heads': 2, 'decoder_attention_heads': 2, 'd_model': 32, 'num_queries': 10}
    model = GroundingDinoForObjectDetection(GroundingDinoConfig(
        backbone_config=SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
                                   image_size=64, out_indices=[2, 3, 4]),
        text_config=BertConfig(**TEXT, vocab_size=len(names)), num_feature_levels=3, max_text_len=24,
        disable_custom_kernels=True, **small))
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def test_owl_gives_the_boxes_and_scores_of_its_processor(owl, street):
    detector = create_detector(str(owl), 'cpu', words=WORDS)
    assert detector.classes == WORDS and detector.size == (64, 64)
    found = detector.detect(street)
    processor, kind = (Owlv2Processor, Owlv2ForObjectDetection) if 'owlv2' in owl.name else \
        (OwlViTProcessor, OwlViTForObjectDetection)
    reference, model = processor.from_pretrained(owl), kind.from_pretrained(owl).eval()
    given = reference(text=[list(WORDS)], images=Image.fromarray(street), return_tensors='pt')
    with torch.no_grad():
        output = model(**given)
    expected, = reference.post_process_grounded_object_detection(
        output, threshold=-1., target_sizes=[street.shape[:2]], text_labels=[list(WORDS)])
    wanted = best(expected['boxes'].numpy(), output.logits[0].sigmoid().numpy(), street)
    assert len(found) == len(wanted) > 0
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)


def test_each_word_has_its_score_wherever_it_stands(owl, dino, street):
    for folder in (owl, dino):
        first, turned = (create_detector(str(folder), 'cpu', words=words) for words in (WORDS, WORDS[::-1]))
        assert first.sha256 != turned.sha256
        if folder == owl:  # Grounding DINO numbers the tokens of a word anew, but looks at them in order
            np.testing.assert_allclose(first.detect(street).scores, turned.detect(street).scores[:, ::-1],
                                       atol=1e-5)


def test_grounding_dino_gives_a_word_the_mean_of_its_tokens(dino, street):
    detector = create_detector(str(dino), 'cpu', words=WORDS)
    assert detector.size == (114, 64)
    found = detector.detect(street)
    reference = GroundingDinoProcessor.from_pretrained(dino)
    model = GroundingDinoForObjectDetection.from_pretrained(dino).eval()
    given = reference(text=[list(WORDS)], images=Image.fromarray(street), return_tensors='pt')
    with torch.no_grad():
        output = model(**given)
    expected, = reference.post_process_grounded_object_detection(
        output, given['input_ids'], threshold=-1., text_threshold=1., target_sizes=[street.shape[:2]])
    ids, chances, scores = given['input_ids'][0].tolist(), output.logits[0].sigmoid().numpy(), []
    assert ids == [101, 1050, 1012, 1051, 1052, 1053, 1012, 1054, 1055, 1012, 102]
    for tokens in ([1], [3, 4, 5], [7, 8]):
        scores.append(chances[:, tokens].mean(1))
    wanted = best(expected['boxes'].numpy(), np.stack(scores, 1), street)
    assert len(found) == len(wanted) > 0
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)


def test_words_of_the_configuration_become_categories(owl, street, tmp_path):
    (tmp_path / 'mine.yaml').write_text('car: car\nmy van: {truck: 0.7, car: 0.2}\n')
    config = CameraConfig(tokens='detections', device='cpu', detector=str(owl), min_score=0.05,
                          class_map=str(tmp_path / 'mine.yaml'),
                          words=('orange cone: traffic cone', 'barrier'))
    encoder = CameraDetectionEncoder(config)
    assert encoder.detector.classes == ('car', 'my van', 'orange cone', 'barrier')
    known = {name for name, known in zip(CATEGORIES, encoder.reader.known, strict=True) if known}
    assert known == {'car', 'truck', 'traffic cone', 'barrier'}
    matrix = np.array([[250., 0, 160], [0, 250, 90], [0, 0, 1]])
    tokens = encoder.encode(CameraFrame((CameraView('cam_front', street, matrix),)))
    assert tokens.encoder == encoder.fingerprint and tokens.width == 24
    fewer = CameraDetectionEncoder(config.changed(words=('barrier',)))
    assert fewer.fingerprint != encoder.fingerprint


def test_words_that_cannot_be_read_are_refused(owl, dino):
    with pytest.raises(ConfigurationError, match="'a very long van of mine' has more than 16 tokens"):
        create_detector(str(owl), words=('car', 'a very long van of mine'))
    with pytest.raises(ConfigurationError, match=r"'a\. b' has a \. or \?, which parts words"):
        create_detector(str(dino), words=('car', 'a. b'))
    with pytest.raises(ConfigurationError, match='the words have 26 tokens; this detector reads at most 24'):
        create_detector(str(dino), words=('car',) * 12)


def test_what_is_no_such_detector_is_said(owl, tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'omdet-turbo'}))
    with pytest.raises(WeightsError, match="of the kind 'omdet-turbo'; of those that look for words, owlvit"):
        create_detector(str(tmp_path), words=WORDS)
    (tmp_path / 'config.json').write_bytes((owl / 'config.json').read_bytes())
    with pytest.raises(WeightsError, match='safetensors is missing'):
        create_detector(str(tmp_path), words=WORDS)
    (tmp_path / 'model.safetensors').write_bytes((owl / 'model.safetensors').read_bytes())
    with pytest.raises(WeightsError, match='no open-vocabulary detector that transformers can load'):
        create_detector(str(tmp_path), words=WORDS)


def test_the_size_of_images_is_that_of_the_processor():
    assert shown_size({'height': 768, 'width': 960}) == (960, 768)
    assert shown_size({'shortest_edge': 800, 'longest_edge': 1333}) == (1333, 750)
    with pytest.raises(WeightsError, match='expected height and width, or shortest_edge'):
        shown_size({'longest_edge': 10})

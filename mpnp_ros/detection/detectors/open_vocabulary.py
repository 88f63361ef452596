"""Open-vocabulary detectors of transformers: OWL-ViT, OWLv2, Grounding DINO and MM Grounding DINO.

They look for words.  OWL reads each word by itself.  Grounding DINO reads all of them as one text; the score
of a word is the mean of those of its tokens.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mpnp_ros.detection.detectors.base import Boxes, best
from mpnp_ros.detection.detectors.hub import weights_in
from mpnp_ros.detection.detectors.onnx_file import corners
from mpnp_ros.device import choose_device
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.files import read_json, sha256_of

OWL, OWL2, DINOS = 'owlvit', 'owlv2', ('grounding-dino', 'mm-grounding-dino')
DELIMITERS = '.?'
"""Where Grounding DINO parts a text."""


def is_open_vocabulary(folder: Path) -> bool:
    """Return whether a folder of transformers holds a detector that looks for words."""
    return model_type(folder) in zero_shot_models()


def model_type(folder: Path) -> str:
    """Return the kind of network in a folder of transformers; empty where it does not say."""
    path = folder / 'config.json'
    if not path.is_file():
        return ''
    return str(read_json(path, 'configuration', 'fetch it again', WeightsError).get('model_type', ''))


def zero_shot_models() -> Sequence[str]:
    """Return the kinds of networks that transformers counts among detectors that look for words."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
    return tuple(MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES)


class OpenVocabularyDetector:
    """See :class:`mpnp_ros.detection.detectors.base.Detector`; its classes are the words.

    folder: with config.json, model.safetensors and the files of its processor; code in it is not run.
    Raises WeightsError where it holds no such detector, ConfigurationError for words that it cannot read.
    """

    def __init__(self, folder: Path, words: Sequence[str], device: str = 'cpu') -> None:
        self.classes, self._kind = tuple(word.replace('_', ' ').strip() for word in words), model_type(folder)
        if self._kind not in (OWL, OWL2, *DINOS):
            raise WeightsError(f'{folder} holds a detector of the kind {self._kind!r}; of those that look '
                               f'for words, {", ".join((OWL, OWL2, *DINOS))} are known')
        weights = weights_in(folder)
        try:
            from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor
            self._processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True,
                                                                 trust_remote_code=False)
            model = AutoModelForZeroShotObjectDetection.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises errors of many kinds
            raise WeightsError(f'{folder} holds no open-vocabulary detector that transformers can load '
                               f'({type(error).__name__}: {error})') from None
        self._device = choose_device(device)
        self._model: Any = model.to(self._device).float().eval().requires_grad_(False)
        self._shares: np.ndarray | None = None  # [tokens, words], where one text has all words
        if self._kind in DINOS:
            self._text, self._shares = self._joined()
        else:
            self._text = self._apart()
        pictures = self._processor.image_processor
        size = {name: value for name, value in dict(pictures.size).items() if value}
        self.size = shown_size(size)
        shaping = [sorted(size.items()), list(pictures.image_mean), list(pictures.image_std),
                   self._text['input_ids'].tolist(), self.classes]
        self.sha256 = f'{sha256_of(weights)} {shaping}'

    @torch.inference_mode()
    def detect(self, image: np.ndarray) -> Boxes:
        """See Detector."""
        given = self._processor.image_processor(images=Image.fromarray(image), return_tensors='pt')
        output = self._model(**{name: value.to(self._device) for name, value in {
            **self._text, **given}.items() if name in ('pixel_values', 'pixel_mask', *self._text)})
        chances = output.logits[0].float().sigmoid().cpu().numpy()
        scores = chances if self._shares is None else chances[:, :len(self._shares)] @ self._shares
        boxes = corners(output.pred_boxes[0].float().cpu().numpy(), 'cxcywh')
        height, width = image.shape[:2]
        if self._kind == OWL2:  # it sees a square, with the image at the top left
            width = height = max(width, height)
        return best(boxes * np.tile([width, height], 2), scores, image)

    def _apart(self) -> dict[str, torch.Tensor]:
        """Return the tokens of each word, [words, tokens]."""
        longest, read = self._model.config.text_config.max_position_embeddings, self._processor.tokenizer
        for word in self.classes:
            if len(read(word)['input_ids']) > longest:
                raise ConfigurationError(f'{word!r} has more than {longest} tokens, as many as this detector '
                                         'reads of a word; choose a shorter one')
        tokens = read(list(self.classes), padding='max_length', max_length=longest,
                      return_attention_mask=True, return_tensors='pt')
        return {name: tokens[name] for name in ('input_ids', 'attention_mask')}

    def _joined(self) -> tuple[dict[str, torch.Tensor], np.ndarray]:
        """Return the tokens of one text of all words, and the shares [tokens, words] of tokens in a word."""
        words = [word.lower() for word in self.classes]
        if odd := next((word for word in words if set(word) & set(DELIMITERS)), None):
            raise ConfigurationError(f'{odd!r} has a {" or ".join(DELIMITERS)}, which parts words for this '
                                     'detector; write it without')
        text = ''.join(f'{word}. ' for word in words).strip()
        tokens = self._processor.tokenizer(text, return_offsets_mapping=True, return_token_type_ids=True,
                                           return_attention_mask=True, return_tensors='pt')
        spans, longest = tokens.pop('offset_mapping')[0].numpy(), self._model.config.max_text_len
        if len(spans) > longest:
            raise ConfigurationError(f'the words have {len(spans)} tokens; this detector reads at most '
                                     f'{longest}, so give it fewer')
        shares, start = np.zeros((len(spans), len(words)), np.float32), 0
        for place, word in enumerate(words):
            inside = (spans[:, 0] >= start) & (spans[:, 1] <= start + len(word)) & (spans[:, 1] > spans[:, 0])
            shares[inside, place] = 1 / max(1, inside.sum())
            start += len(word) + 2
        return dict(tokens), shares


def shown_size(size: dict[str, int]) -> tuple[int, int]:
    """Return the width and height that a processor shrinks an image 16 x 9 to, from its option ``size``."""
    if {'width', 'height'} <= size.keys():
        return size['width'], size['height']
    if 'shortest_edge' not in size:
        raise WeightsError(f'the size of images is {size!r}; expected height and width, or shortest_edge')
    scale = min(size['shortest_edge'] / 9, size.get('longest_edge', 10 ** 6) / 16)
    return round(16 * scale), round(9 * scale)

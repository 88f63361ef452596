"""A language model with only the upper blocks in memory, for training on a robot.

Links are trained on questions that the whole model has read before (:mod:`mpnp_ros.llm.question_files`),
which needs neither the token embeddings nor the blocks below the lowest link.
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from mpnp_ros.device import choose_device, choose_dtype
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.families import AnswerHead, family_of
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import UNREADABLE, ModelFolder, wrong_tensors

FORMATS = {'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16}
HEADER = 8
"""Bytes before the header of a safetensors file, which contain its length."""


def load_upper_blocks(source: str | Path, first: int, device: str = 'auto', dtype: str = 'auto',
                      choices: Iterable[Sequence[str]] | None = None,
                      cache: str | Path | None = None) -> LanguageModel:
    """Load blocks `first` and up, the final norm and the head of a frozen language model, and nothing else.

    Running lower parts (`embed`, `run_blocks` from a lower block) raises WeightsError.  All other results
    equal those of the whole model to the last bit.

    choices: the closed lists of answers that will be scored; only their rows of the head are loaded.  None:
    the whole head, for answers in free text.  The rest, name and fingerprint are as
    in :func:`mpnp_ros.llm.weights.load_language_model`.

    Raises ConfigurationError for a `first` that is no block, QuestionError for bad choices, and as
    `load_language_model` does.
    """
    target = choose_device(device)
    stored = ModelFolder.find(source, cache)
    tokenizer = stored.tokenizer()
    tokens = None
    if choices is not None:
        tries = [ChoiceTrie(tokenizer, answers) for answers in {tuple(answers) for answers in choices}]
        competing = {token for trie in tries for token in trie.vocabulary.tolist()}
        tokens = torch.tensor(sorted(competing), dtype=torch.long)
    try:
        config = AutoConfig.from_pretrained(stored.path, local_files_only=True, trust_remote_code=False)
        with torch.device('meta'):
            model = AutoModelForCausalLM.from_config(config, dtype=choose_dtype(dtype, target, stored.width),
                                                     trust_remote_code=False)
        tensors = _StoredTensors(stored, model)
        family = family_of(model, stored.name)
        if not 0 <= first < len(family.blocks):
            raise ConfigurationError(
                f'block {first} is none of {stored.name}, which has 0..{len(family.blocks) - 1}')
        family.leave_out(first)
        if tokens is not None:
            model.set_output_embeddings(AnswerHead(tokens, tensors.head_rows(tokens.numpy())))
        model.load_state_dict(dict(tensors.wanted(target)), strict=False, assign=True)
    except UNREADABLE as error:
        raise WeightsError(f'{stored.name} cannot be loaded: {error}') from error
    return LanguageModel(model.to(target), tokenizer, stored.name, stored.identity())


class _StoredTensors:
    """The tensors in the files of a model; the table of token embeddings is its head if it has no other.

    They are copied one by one, and never more than one is in memory in the stored and in the model's format.
    Safetensors' own reading would map whole files as memory to be written, which counts against a limit on
    the memory of the process (RLIMIT_DATA).
    """

    def __init__(self, stored: ModelFolder, model: PreTrainedModel) -> None:
        self._name, self._model = stored.name, model
        paths = {module: path for path, module in model.named_modules()}
        self._head, self._table = (f'{paths[part]}.weight' for part in
                                   (model.get_output_embeddings(), model.get_input_embeddings()))
        self._places = {key: place for file in stored.files for key, place in _places_in(file)}

    def head_rows(self, tokens: np.ndarray) -> torch.Tensor:
        """Return the head's rows of some tokens, in the model's format; no others are touched."""
        return self._read(self._head, tokens).to(self._model.dtype)

    def wanted(self, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield names and tensors of all that the model still lacks."""
        lacking = {name: tensor for name, tensor in self._model.state_dict().items() if tensor.is_meta}
        for name, like in lacking.items():
            if self._places[self._key(name)].shape != like.shape:
                raise wrong_tensors(self._name, [name])
            yield name, self._read(name).to(device, like.dtype)

    def _read(self, name: str, rows: np.ndarray | EllipsisType = ...) -> torch.Tensor:
        place = self._places[self._key(name)]
        stored = np.memmap(place.file, np.uint8, 'r', place.start, (*place.shape, place.dtype.itemsize))[rows]
        copy = torch.empty(stored.shape[:-1], dtype=place.dtype)
        np.copyto(copy.view(torch.uint8).numpy().reshape(stored.shape), stored)
        return copy

    def _key(self, name: str) -> str:
        """Return the name in the files, which may lack that of the model's body; WeightsError if absent."""
        for wanted in (name, self._table) if name == self._head else (name,):
            for key in (wanted, wanted.removeprefix(f'{self._model.base_model_prefix}.')):
                if key in self._places:
                    return key
        raise wrong_tensors(self._name, [name])


@dataclass(frozen=True)
class _Place:
    """Location of a tensor in a file."""

    file: Path
    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype


def _places_in(file: Path) -> Iterator[tuple[str, _Place]]:
    """Yield names and places of the tensors of a file, which is checked to be whole."""
    with safe_open(file, 'np') as content:
        names = list(content.keys())
    with file.open('rb') as stream:
        length = int.from_bytes(stream.read(HEADER), 'little')
        header = json.loads(stream.read(length))
    for name in names:
        entry = header[name]
        yield name, _Place(file, HEADER + length + entry['data_offsets'][0], tuple(entry['shape']),
                           FORMATS[entry['dtype']])

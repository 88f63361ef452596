"""Prepared questions on disk, for later trainings."""
from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mpnp_ros.errors import QuestionError, StorageError
from mpnp_ros.files import cache_root, write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import ChoiceText, PreparedQuestion, Reach, prepare_batch
from mpnp_ros.llm.text_cache import TextCache

LIMIT = 4_000_000_000
SCHEMA = 1

States = tuple[torch.Tensor, torch.Tensor | None]


class QuestionFiles:
    """Hidden states and cached columns of texts; a folder for each model, format, first block and reach.

    The key of a text covers its tokens and their visibility, so templates and choices need no name.  Each
    batch that is read becomes one safetensors file, whole or absent.
    """

    def __init__(self, folder: str | Path | None = None, limit: int = LIMIT) -> None:
        """folder: default `questions` in the cache.  limit: bytes; the folders longest not used go first."""
        self._root = Path(folder) if folder else cache_root() / 'questions'
        self._limit, self._full = limit, False
        self._places: dict[Path, dict[str, Path]] = {}

    def prepare(self, lm: LanguageModel, texts: Sequence[ChoiceText], first: int,
                reach: Reach) -> list[PreparedQuestion]:
        """Prepare questions as :func:`mpnp_ros.llm.prepared.prepare_batch` does, but load the stored ones.

        Raises QuestionError for those not stored where only upper blocks of the model are in memory.
        """
        shelf = self._shelf(lm, first, reach)
        names = [_name(text, reach) for text in texts]
        known = self._load(shelf, names, lm)
        new = {name: text for name, text in zip(names, texts, strict=True) if name not in known}
        if new and not lm.reads_text:
            text = next(iter(new.values()))
            words = lm.tokenizer.decode(text.layout.ids[0, :text.prompt_tokens])
            raise QuestionError(
                f'{len(new)} questions of a batch, {words!r} among them, are not kept in {self._root} as '
                f'{lm.name} reads them up to block {first} in {lm.dtype} on {lm.device.type}; only upper '
                'blocks are in memory here, so read them beforehand with the whole model')
        if new:
            read = prepare_batch(lm, list(new.values()), first, reach)
            fresh = {name: (question.hidden, question.rows.cache.whole)
                     for name, question in zip(new, read, strict=True)}
            self._save(shelf, fresh)
            known |= fresh
        prepared = []
        for text, name in zip(texts, names, strict=True):
            hidden, past = known[name]
            cache = TextCache() if past is None else TextCache.of(past, lm.caching_blocks(first))
            prepared.append(text.prepared(hidden, first, reach, cache))
        return prepared

    def _shelf(self, lm: LanguageModel, first: int, reach: Reach) -> Path:
        key = f'{SCHEMA} {lm.identity} {lm.dtype} {lm.device.type} {first} {reach}'
        shelf = self._root / hashlib.sha256(key.encode()).hexdigest()[:16]
        if shelf not in self._places:
            shelf.mkdir(parents=True, exist_ok=True)
            shelf.touch()
            places = self._places[shelf] = {}
            for file in sorted(shelf.glob('*.safetensors')):
                with suppress(OSError, SafetensorError), safe_open(file, 'pt') as stored:
                    places.update((key.removesuffix('.hidden'), file) for key in list(stored.keys())
                                  if key.endswith('.hidden'))
        return shelf

    def _load(self, shelf: Path, names: Iterable[str], lm: LanguageModel) -> dict[str, States]:
        """Return the stored texts; those of a damaged or missing file count as absent."""
        places, loaded = self._places[shelf], {}
        for file in {places[name] for name in names if name in places}:
            try:
                with safe_open(file, 'pt', str(lm.device)) as stored:
                    held = set(stored.keys())
                    for name in names:
                        if f'{name}.hidden' in held:
                            past = stored.get_tensor(f'{name}.past') if f'{name}.past' in held else None
                            loaded[name] = stored.get_tensor(f'{name}.hidden'), past
            except (OSError, SafetensorError):
                continue
        return loaded

    def _save(self, shelf: Path, states: Mapping[str, States]) -> None:
        tensors = {f'{name}.{part}': tensor.contiguous() for name, pair in states.items()
                   for part, tensor in zip(('hidden', 'past'), pair, strict=True) if tensor is not None}
        if not self._has_room(sum(tensor.nbytes for tensor in tensors.values())):
            return
        file = shelf / f'{hashlib.sha256(" ".join(sorted(states)).encode()).hexdigest()[:16]}.safetensors'
        try:
            write_file(file, save(tensors))
        except StorageError as error:
            self._full = True
            logging.getLogger(__name__).warning('prepared questions cannot be stored: %s', error)
            return
        self._places[shelf] |= dict.fromkeys(states, file)

    def _has_room(self, size: int) -> bool:
        """Make room by removing other folders; log once where that is not enough."""
        others = sorted((other for other in self._root.iterdir() if other not in self._places),
                        key=lambda other: other.stat().st_mtime)
        while not self._full:
            held = sum(file.stat().st_size for file in self._root.glob('*/*.safetensors'))
            if held + size <= self._limit:
                break
            if others:
                shutil.rmtree(others.pop(0), ignore_errors=True)
                continue
            self._full = True
            logging.getLogger(__name__).warning(
                'no more prepared questions are stored: %s has reached its limit of %.1f GB; later trainings '
                'read the others again (delete the folder to make room)',
                self._root, self._limit / 1e9)
        return not self._full


def _name(text: ChoiceText, reach: Reach) -> str:
    """Return a digest of all inputs of reading a text."""
    layout = text.layout.to('cpu')
    parts = layout.ids, layout.positions, layout.full_visible()
    digest = hashlib.sha256(f'{text.start(reach)} {layout.tokens}'.encode())
    for part in parts:
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]

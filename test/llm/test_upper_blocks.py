"""Upper blocks alone: the same numbers as the whole model, and nothing else in memory."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpnp_ros.errors import ConfigurationError, QuestionError, WeightsError
from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.upper_blocks import load_upper_blocks
from mpnp_ros.llm.weights import load_language_model

IDS = torch.tensor([[5, 9, 40, 7, 77]])
CHOICES = ('yes', 'no', 'with rider', 'without rider')
EXACT = {'device': 'cpu', 'dtype': 'float32'}


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Callable, tiny_tokenizer: object, family: str) -> Path:
    """A tiny model of each family in turn."""
    return saved(tmp_path / family, tiny_model(family), tiny_tokenizer)


@pytest.fixture
def llama(tmp_path: Path, tiny_model: Callable, tiny_tokenizer: object) -> Path:
    """A tiny model whose head is its table of token embeddings."""
    return saved(tmp_path / 'llama', tiny_model('llama'), tiny_tokenizer)


def saved(folder: Path, model: object, tokenizer: object, **options: object) -> Path:
    """A model on disk, as transformers writes it."""
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def upper_logits(lm: LanguageModel, hidden: torch.Tensor, prefix: dict, tokens: torch.Tensor | None,
                 first: int = 2) -> torch.Tensor:
    """The head's scores from the input of block `first`."""
    return lm.logits(lm.run_blocks(hidden, TextLayout.causal(IDS), first, lm.blocks, prefix), tokens)


def held(lm: LanguageModel) -> int:
    """How many numbers a model has in memory."""
    return sum(parameter.numel() for parameter in set(lm.model.parameters()))


@torch.no_grad()
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_upper_blocks_give_what_the_whole_model_gives(folder, make_prefix, dtype):
    whole = load_language_model(folder, 'cpu', dtype)
    upper = load_upper_blocks(folder, 2, 'cpu', dtype)
    answers = load_upper_blocks(folder, 2, 'cpu', dtype, [CHOICES, ('car', 'no')])
    layout, tokens = TextLayout.causal(IDS), ChoiceTrie(whole.tokenizer, CHOICES).vocabulary
    hidden = whole.run_blocks(whole.embed(layout), layout, 0, 2)
    for prefix in ({}, make_prefix(whole)):
        for lm, scored in ((upper, None), (upper, tokens), (answers, tokens)):
            expected = upper_logits(whole, hidden, prefix, scored)
            assert torch.equal(upper_logits(lm, hidden, prefix, scored), expected)


def test_it_is_the_same_model_with_less_in_memory(folder):
    whole, upper = load_language_model(folder, **EXACT), load_upper_blocks(folder, 3, **EXACT)
    assert (upper.name, upper.fingerprint, upper.shape) == (whole.name, whole.fingerprint, whole.shape)
    assert (upper.dtype, upper.device, upper.max_tokens) == (whole.dtype, whole.device, whole.max_tokens)
    assert (whole.first_block, whole.reads_text) == (0, True)
    assert (upper.first_block, upper.reads_text) == (3, False)
    assert not any(parameter.requires_grad for parameter in upper.model.parameters())
    assert not any(tensor.is_meta for tensor in (*upper.model.parameters(), *upper.model.buffers()))
    block = sum(parameter.numel() for parameter in whole.family.blocks[3].parameters())
    head = whole.model.get_output_embeddings().weight.numel()
    norms = held(upper) - block - head
    assert 0 <= norms <= 2 * whole.width + whole.width * whole.shape.embedding_width
    answers = load_upper_blocks(folder, 3, **EXACT, choices=[CHOICES])
    rows = len(ChoiceTrie(whole.tokenizer, CHOICES).vocabulary)
    assert held(answers) == held(upper) - head + rows * whole.shape.embedding_width


def test_what_is_not_there_cannot_be_run(folder, make_prefix):
    lm = load_upper_blocks(folder, 2, **EXACT, choices=[CHOICES])
    layout, hidden = TextLayout.causal(IDS), torch.zeros(1, 5, 32)
    with pytest.raises(WeightsError, match='table of token embeddings .*read questions'):
        lm.embed(layout)
    with pytest.raises(WeightsError, match='block 1 .*read questions'):
        lm.run_blocks(hidden, layout, 1, 4, make_prefix(lm, blocks=(1, 2)))
    assert lm.run_blocks(hidden, layout, 1, 1) is hidden
    with pytest.raises(WeightsError, match='without naming choices'):
        lm.logits(hidden)
    with pytest.raises(WeightsError, match=r'token 0 is not'):
        lm.logits(hidden, torch.tensor([0]))


def test_all_blocks_may_be_the_upper_ones(llama):
    lm = load_upper_blocks(llama, 0, **EXACT)
    assert (lm.first_block, lm.reads_text) == (0, False)


@pytest.mark.parametrize('first', [-1, 4])
def test_a_block_that_is_none_is_refused(llama, first):
    with pytest.raises(ConfigurationError, match=r'0\.\.3'):
        load_upper_blocks(llama, first, **EXACT)


def test_bad_choices_are_refused(llama):
    with pytest.raises(QuestionError, match='twice'):
        load_upper_blocks(llama, 2, **EXACT, choices=[('yes', 'yes')])


def test_several_files_and_names_without_the_body(tmp_path, tiny_model, tiny_tokenizer):
    folder = saved(tmp_path / 'shards', tiny_model('gpt2'), tiny_tokenizer, max_shard_size='30KB')
    index = json.loads((folder / 'model.safetensors.index.json').read_text())['weight_map']
    assert len(set(index.values())) > 2
    hidden = torch.ones(1, 5, 32)
    expected = upper_logits(load_language_model(folder, **EXACT), hidden, {}, None)
    assert torch.equal(upper_logits(load_upper_blocks(folder, 2, **EXACT), hidden, {}, None), expected)
    for file in folder.glob('*.safetensors'):
        bare = {name.removeprefix('transformer.'): tensor for name, tensor in load_file(file).items()}
        save_file(bare, file, {'format': 'pt'})
    assert torch.equal(upper_logits(load_upper_blocks(folder, 2, **EXACT), hidden, {}, None), expected)


@pytest.mark.parametrize('other', [{}, {'model.layers.3.mlp.up_proj.weight': torch.zeros(7)}])
def test_missing_and_misshaped_tensors_are_refused(llama, other):
    file = llama / 'model.safetensors'
    state = load_file(file)
    del state['model.layers.3.mlp.up_proj.weight']
    save_file({**state, **other}, file, {'format': 'pt'})
    with pytest.raises(WeightsError, match=r'layers\.3\.mlp\.up_proj'):
        load_upper_blocks(llama, 2, **EXACT)


def test_a_cut_file_is_refused(llama):
    file = llama / 'model.safetensors'
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match='cannot be loaded'):
        load_upper_blocks(llama, 2, **EXACT)


def test_what_is_below_is_not_even_read(llama):
    """A model without its lower blocks is enough."""
    file = llama / 'model.safetensors'
    state = load_file(file)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith('model.layers.1.')}
    save_file(kept, file, {'format': 'pt'})
    assert load_upper_blocks(llama, 2, **EXACT).blocks == 4

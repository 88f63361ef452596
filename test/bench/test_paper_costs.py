"""Operations and memory of training steps, counted without data, against what small models really take."""
from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from transformers import BloomConfig, OPTConfig

from bench.adaptation_memory.training_process import PROMPTS
from bench.paper_scale.costs import (
    KEPT,
    LORA_RANK,
    OURS,
    PUBLISHED,
    Cost,
    PaperMethod,
    PaperStep,
    cost,
    encoding,
    methods,
    peak,
)
from bench.paper_scale.models import ADD, MODELS, SWITCH, TOKEN_WIDTH, PeakMemory, language_model
from mpnp_ros.llm.cost import block_weights, head_macs, macs
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.cost import ATTENTION_BACK, link_macs
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.budget import ADAMW, measure_macs

TINY = replace(SWITCH, text=20, batch=4, samples=12, epochs=2, frames=5)
LINKED = 2
NAMES = [method.name for method in methods(LINKED)]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models beside those of the paper; the deep one has blocks for all four connectors of eP-ALM."""
    for name, blocks in (('opt', 4), ('deep', 12)):
        monkeypatch.setitem(MODELS, name, OPTConfig(
            hidden_size=64, ffn_dim=256, num_hidden_layers=blocks, num_attention_heads=4, vocab_size=500,
            word_embed_proj_dim=64, max_position_embeddings=64))
    monkeypatch.setitem(MODELS, 'bloom', BloomConfig(hidden_size=64, n_layer=4, n_head=4, vocab_size=500))


def method(name: str) -> PaperMethod:
    """One of all methods, with two linked blocks; of EAS all four attentions are skipped."""
    return next(method for method in methods(LINKED) if method.name == name)


def counted(name: str, way: str = KEPT, model: str = 'opt') -> Cost:
    """What a method costs on a small model."""
    return cost(model, TINY, method(name), way)


def allocated(run: PaperStep) -> int:
    """Bytes that the allocator really gave, at most at once: weights, moments and a training step."""
    run.train()
    held = sum(tensor.nbytes for tensor in run.weights())
    held += sum(tensor.nbytes for state in run.optimiser.state.values() for tensor in state.values())
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run.train()
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == '[memory]':
            now += event.nbytes()
            most = max(most, now)
    return held + most


@pytest.mark.parametrize(('model', 'name'), [
    *(('opt', name) for name in NAMES), ('bloom', 'PromptFuse'), ('bloom', 'LaVIN / MMA'), ('bloom', OURS)])
def test_the_tracker_finds_what_is_really_allocated(model: str, name: str) -> None:
    """But for what kernels take for themselves, which is up to some eighty kB."""
    with FakeTensorMode():
        found = sum(peak(PaperStep(model, TINY, method(name), KEPT)))
    assert found == pytest.approx(allocated(PaperStep(model, TINY, method(name), KEPT)), rel=.06)


def test_the_tracker_counts_storages_once_and_until_they_are_gone() -> None:
    weight = torch.ones(1000)
    memory = PeakMemory().hold([weight, weight[:10]])
    with memory:
        large = torch.ones(5000) * 1.
        view = large[:10]
        del large
        assert memory.held == 24_000
        del view
        weight.add_(1)
    assert (memory.held, memory.peak) == (4000, 44_000)


@pytest.fixture
def real_steps() -> Iterator[dict[str, PaperStep]]:
    """Every method on a small model with numbers."""
    torch.manual_seed(0)
    yield {name: PaperStep('deep', TINY, method(name), KEPT) for name in NAMES}


def test_all_that_is_trained_gets_gradients_and_nothing_else_changes(
        real_steps: dict[str, PaperStep]) -> None:
    for name, run in real_steps.items():
        frozen = {tensor: tensor.clone() for tensor in run.weights() if not tensor.requires_grad}
        tokens = {'lidar': torch.randn(TINY.batch, TINY.tokens, TOKEN_WIDTH)}
        run.learn(tokens)
        assert all(tensor.grad is not None for tensor in run.step.trained()), name
        run.optimiser.step()
        assert all(torch.equal(tensor, before) for tensor, before in frozen.items()), name


def test_prompts_at_the_input_cost_what_the_formula_says() -> None:
    with torch.device('meta'):
        shape = language_model('opt').shape
    rows = TINY.text + TINY.tokens + PROMPTS
    projection = TINY.tokens * TOKEN_WIDTH * shape.width
    weights = 4 * rows * block_weights(shape) + head_macs(shape, TINY.answer)
    attention = macs(shape, 0, 4, rows) - 4 * rows * block_weights(shape)
    step = 2 * weights + (1 + ATTENTION_BACK) * attention + 2 * projection
    found = counted('PromptFuse')
    assert found.steps / TINY.seen == pytest.approx(step, rel=.001)
    assert found.optimiser == ADAMW * found.parameters * 3 * 2
    assert found.parameters == (TOKEN_WIDTH + 1 + PROMPTS) * shape.width


def test_lora_adds_its_matrices_and_the_gradients_that_lead_to_them() -> None:
    """Two matrices in two blocks; below them no state needs a gradient."""
    with torch.device('meta'):
        width = language_model('opt').width
    rank, rows = LORA_RANK, TINY.text
    low, high = (counted(f'mPnP published{name}') for name in ('', f', LoRA of rank {rank}'))
    product = 2 * rows * rank * width  # of A or of B, for keys and values
    # Each costs once forward and twice backward, but A of the lowest block reads data.
    matrices = 2 * product * 3 + product * 3 + product * 2
    keys_and_values = 2 * rows * rows * width  # gradients of the attention to those of the lowest block
    assert (high.steps - low.steps) / TINY.seen == pytest.approx(matrices + keys_and_values, rel=.001)
    assert high.parameters - low.parameters == 2 * 2 * 2 * rank * width


def test_ours_costs_what_the_formulas_of_the_package_say() -> None:
    with torch.device('meta'):
        lm = language_model('opt')
    found, past = counted(OURS), TINY.text - TINY.answer
    reading = macs(lm.shape, 0, 2, TINY.text) + macs(lm.shape, 2, 4, past)
    assert found.reading / TINY.samples == pytest.approx(reading, rel=.01)
    config = LinkConfig.for_model(lm, 'lidar', 'encoder', TOKEN_WIDTH, last=LINKED)
    link = link_macs(config, TINY.batch, TINY.batch, TINY.tokens, past + 1)
    blocks = macs(lm.shape, 2, 4, TINY.answer, dict.fromkeys((2, 3), config.entries), past, TINY.answer)
    assert found.steps / TINY.seen == pytest.approx(2 * blocks + sum(link) / TINY.batch, rel=.03)


LONG = 'how many cars are there behind the truck that is to the left of me and of what kind are these ?'
OF_THE_PACKAGE = {
    'PromptFuse': ('prompt_fuse', {'columns': 0}), 'Full LLM': ('full_llm', {'columns': 0}),
    'LaVIN / MMA': ('mma', {'columns': 0}), 'eP-ALM, corrected': ('ep_alm', {'columns': 0}),
    'mPnP published': ('mpnp_published', {'last': LINKED, 'lora': 0, 'directions': False}),
    f'mPnP published, LoRA of rank {LORA_RANK}': ('mpnp_published', {'last': LINKED, 'directions': False}),
    'mPnP, all rows linked': ('mpnp', {'last': LINKED, 'reach': 'all'}), OURS: ('mpnp', {'last': LINKED})}


@pytest.mark.parametrize('name', OF_THE_PACKAGE)
def test_a_step_costs_what_that_of_the_package_costs(name: str, tiny_lm, monkeypatch) -> None:
    """Within 15 %: here learned prompts are rows of every text, there they run once for a batch.

    And here the blocks below published links are read beforehand, there they run in every step.
    """
    lm, (kind, options) = tiny_lm('opt'), OF_THE_PACKAGE[name]
    monkeypatch.setitem(MODELS, 'package', lm.model.config)
    made = create_method(kind, lm)
    made.plug(made.new_link('lidar', 'encoder', TOKEN_WIDTH, **options))
    values = np.random.default_rng(0).normal(size=(TINY.batch, TINY.tokens, TOKEN_WIDTH)).astype(np.float32)
    frames = [{'lidar': ModalityTokens('lidar', 'encoder', each, np.zeros(TINY.tokens, np.float32))}
              for each in values]
    questions = [made.prepare_answer(LONG, 'two') for _ in frames]
    made.calibrate(questions, frames)
    package = measure_macs(lambda: made.answer_losses(questions, frames).mean().backward())
    answer = len(questions[0].target)
    task = replace(TINY, text=questions[0].question.prepared.prompt_tokens + answer - 1, answer=answer,
                   samples=TINY.batch, epochs=1, frames=TINY.batch)
    assert cost('package', task, method(name), KEPT).steps == pytest.approx(package, rel=.15)


def test_encoders_run_in_every_epoch_or_once_a_frame() -> None:
    published, kept = (counted('mPnP published', way) for way in (PUBLISHED, KEPT))
    frame = encoding(TINY).macs
    assert (published.encoders, kept.encoders) == (24 * frame, 5 * frame)
    assert published.macs == kept.macs_encoding_always - kept.steps - kept.reading + published.steps
    assert published.steps > kept.steps


def test_encoders_are_counted_whole() -> None:
    """RangeViT's blocks and its convolutions, and six views of ViT-S."""
    lidar, both = encoding(SWITCH).macs, encoding(ADD).macs
    assert lidar > 242e9
    assert both - lidar == pytest.approx(27.6e9, rel=.01)


def test_what_is_read_beforehand_is_not_in_the_step() -> None:
    ours, all_rows = counted(OURS), counted('mPnP, all rows linked')
    assert ours.steps < all_rows.steps and ours.reading > all_rows.reading > 0
    assert ours.memory.stored > all_rows.memory.stored > 0
    whole = counted('PromptFuse')
    assert whole.reading == whole.memory.stored == 0
    assert ours.memory.peak < ours.memory.reading or ours.memory.weights < whole.memory.weights


def test_skipping_attention_and_linking_higher_cost_less() -> None:
    assert counted('EAS, 8 attentions skipped').steps < counted('LaVIN / MMA').steps
    assert counted('eP-ALM, corrected').steps < counted('eP-ALM, prompts at input').steps


def test_training_all_weights_holds_two_moments_of_each() -> None:
    memory = counted('Full LLM').memory
    assert memory.moments == pytest.approx(2 * memory.weights, rel=.02)
    assert memory.rest > memory.weights / 2


def test_counting_a_step_of_tensors_without_numbers_changes_no_count() -> None:
    real = PaperStep('opt', TINY, method(OURS), KEPT)
    with FakeTensorMode():
        fake = PaperStep('opt', TINY, method(OURS), KEPT)
        without = measure_macs(lambda: fake.learn(fake.tokens(TINY.batch)))
    assert measure_macs(lambda: real.learn(real.tokens(TINY.batch))) == without

"""Packed upper blocks give what the model's own blocks give."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mpnp_ros.errors import CancelledError, UnsupportedModelError
from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.language_model import interruptible
from mpnp_ros.llm.packed_blocks import PackedBlocks
from mpnp_ros.llm.prepared import ChoiceText, PromptTemplate, prepare_batch
from mpnp_ros.methods.questions import QuestionBatch

CHOICES = ('1', '10', 'with rider', 'without rider', 'car')
QUESTIONS = ('how many cars?', 'what is the status of the car to the front left?', 'car?')
FIRST = 2


def asked(lm, reach: str = 'answer', count: int = 3) -> QuestionBatch:
    texts = [ChoiceText(lm, PromptTemplate(), question, ChoiceTrie(lm.tokenizer, CHOICES))
             for question in QUESTIONS[:count]]
    return QuestionBatch.stack(prepare_batch(lm, texts, FIRST, reach))


def packed(lm, **options: object) -> PackedBlocks:
    blocks = PackedBlocks(lm, **options)
    blocks.prepare(FIRST)
    assert blocks.ready(FIRST)
    return blocks


def real_rows(batch: QuestionBatch, hidden: torch.Tensor) -> list[torch.Tensor]:
    """The rows of each text without its padding."""
    return [own[:question.rows.layout.tokens] for question, own in zip(batch.questions, hidden, strict=True)]


@pytest.mark.parametrize('model', ['llama', 'mistral', 'qwen2'])
@pytest.mark.parametrize('reach', ['answer', 'all'])
@pytest.mark.parametrize('count', [1, 3])
def test_the_same_hidden_states_with_any_prefix(tiny_lm, make_prefix, model, reach, count):
    lm = tiny_lm(model)
    batch, blocks = asked(lm, reach, count), packed(lm)
    for prefix in ({}, make_prefix(lm), make_prefix(lm, batch=count), make_prefix(lm, -1., 7, seed=3),
                   make_prefix(lm, blocks=(3,)), {}):
        with torch.no_grad():
            wanted, found = batch.complete(lm, prefix), blocks.run(batch, prefix)
        for one, other in zip(real_rows(batch, found), real_rows(batch, wanted), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_rows_have_gates_of_their_own_and_closed_ones_are_not_there(tiny_lm, make_prefix):
    lm = tiny_lm('llama')
    batch, blocks = asked(lm), packed(lm)
    gates = torch.tensor([0., -torch.inf, -2.])[:, None, None]
    prefix = {block: BlockPrefix(part.keys, part.values, gates)
              for block, part in make_prefix(lm, batch=3).items()}
    with torch.no_grad():
        wanted, found, without = batch.complete(lm, prefix), blocks.run(batch, prefix), blocks.run(batch, {})
    torch.testing.assert_close(real_rows(batch, found), real_rows(batch, wanted), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], without[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found[0], without[0], atol=1e-3)


def test_what_ran_before_leaves_no_trace(tiny_lm, make_prefix):
    lm = tiny_lm('llama')
    batch, blocks = asked(lm), packed(lm)
    first = blocks.run(batch, {})
    blocks.run(batch, make_prefix(lm, columns=9))
    assert torch.equal(blocks.run(batch, {}), first)


def test_only_models_that_are_packed_exactly_are_packed(tiny_lm, monkeypatch, caplog):
    for other in ('opt', 'gpt2', 'bloom', 'gemma2'):
        with pytest.raises(UnsupportedModelError, match='not packed'):
            PackedBlocks(tiny_lm(other))
    blocks = PackedBlocks(tiny_lm('llama'))
    assert blocks.nbytes == 0
    monkeypatch.setattr('mpnp_ros.llm.packed_blocks.PackedBlock', lambda *_: 1 / 0)
    blocks.prepare(FIRST)
    assert not blocks.ready(FIRST) and 'could not be packed' in caplog.text


def test_it_is_interrupted_between_blocks(tiny_lm):
    lm = tiny_lm('llama')
    batch, blocks = asked(lm), packed(lm)
    with interruptible(lambda: True), pytest.raises(CancelledError):
        blocks.run(batch, {})


def test_threads_do_not_disturb_each_other(tiny_lm, make_prefix):
    lm = tiny_lm('llama')
    batch, blocks = asked(lm), packed(lm)
    prefixes = [make_prefix(lm, seed=seed) for seed in range(4)]
    alone = [blocks.run(batch, prefix) for prefix in prefixes]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            for one, other in zip(threads.map(lambda prefix: blocks.run(batch, prefix), prefixes), alone,
                                  strict=True):
                assert torch.equal(one, other)

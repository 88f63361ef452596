"""The benchmark of memory on a tiny model: what is trained, what is compared, what is written; no amounts."""
from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console

from bench.adaptation_memory.__main__ import main, questions_and_tokens, table
from bench.adaptation_memory.training_process import PROMPTS, InputTuning, StepMeasurement, peak_resident
from mpnp_ros.llm.choices import ChoiceTrie, answer_tokens
from mpnp_ros.llm.prepared import PromptTemplate

CHOICES = ('yes', 'no', 'with rider', 'without rider')
ASKED = (('how many cars?', 'yes'), ('what is the truck to the front left?', 'without rider'))
COLUMNS, WIDTH = 3, 6


@pytest.fixture
def tuning(tiny_lm):
    """Gives a function: whether to recompute -> input-layer tuning of a tiny model, always the same."""
    def make(recompute: bool = False, columns: int = COLUMNS) -> InputTuning:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return InputTuning(tiny_lm(), WIDTH, columns, recompute)
    return make


def losses(tuning: InputTuning, tokens: torch.Tensor) -> torch.Tensor:
    """Of both questions at once."""
    trie = ChoiceTrie(tuning.lm.tokenizer, CHOICES)
    prepared = [tuning.prepare(question, trie, answer) for question, answer in ASKED]
    return tuning.losses(prepared, [answer for _, answer in ASKED], tokens)


def spelled_out(tuning: InputTuning, question: str, answer: str, tokens: torch.Tensor) -> torch.Tensor:
    """Minus the log-probability of a choice by one pass of transformers' own model over each decision."""
    trie, model = ChoiceTrie(tuning.lm.tokenizer, CHOICES), tuning.lm.model
    prompt = PromptTemplate().ids(tuning.lm.tokenizer, question)
    path = answer_tokens(tuning.lm.tokenizer, answer)
    text = model.get_input_embeddings()(torch.cat([prompt, prompt.new_tensor(path)]))
    entries = torch.cat([tuning.prompts, tuning.projection(tokens)])
    logits = model(inputs_embeds=torch.cat([entries, text])[None]).logits[0, len(entries):]
    total = torch.zeros(())
    for decision in trie.targets(answer, len(prompt)):
        depth = [token in decision.candidates for token in path].index(True)
        row = logits[len(prompt) - 1 + depth, list(decision.candidates)]
        total = total - row.log_softmax(-1)[decision.target]
    return total


def test_the_rival_gives_the_probabilities_of_the_stock_model(tuning):
    tokens, module = torch.randn(2, COLUMNS, WIDTH), tuning()
    for row, (question, answer) in enumerate(ASKED):
        torch.testing.assert_close(losses(module, tokens)[row],
                                   spelled_out(module, question, answer, tokens[row]))


def test_tokens_are_averaged_to_the_entries_there_are(tuning):
    tokens = torch.randn(2, COLUMNS, WIDTH)
    noisy = torch.stack([tokens + 1, tokens - 1], 2).flatten(1, 2)
    torch.testing.assert_close(losses(tuning(), noisy), losses(tuning(), tokens))


def test_recomputing_changes_no_gradient(tuning):
    tokens, both = torch.randn(2, COLUMNS, WIDTH), (tuning(), tuning(recompute=True))
    for module in both:
        losses(module, tokens).mean().backward()
    for kept, again in zip(*(module.parameters() for module in both), strict=True):
        torch.testing.assert_close(kept.grad, again.grad)
        assert bool(kept.grad.any())
    assert len(both[0].prompts) == PROMPTS


def test_questions_are_those_of_the_world_about_frames_with_tokens():
    data = questions_and_tokens(20, 'encoder', 5)
    assert len(data.examples) == 20
    assert len({example.question for example in data.examples}) > 10
    assert {tokens['lidar'].values.shape for tokens in data.frames.values()} == {(72, 5)}


def test_shares_are_of_the_input_layer_with_the_same_batch():
    results = [StepMeasurement('upper', 8, 100, 150, 200, .5, 10),
               StepMeasurement('input', 8, 100, 200, 500, 1., 40),
               StepMeasurement('upper', 16, 100, 150, 200, .5, 10)]
    console = Console(file=io.StringIO(), width=140)
    console.print(table(results))
    upper, _, alone = (line for line in console.file.getvalue().splitlines() if '│' in line)
    assert all(share in upper for share in ('0.400', '0.250'))
    assert '0.400' not in alone


def test_peak_resident_sees_what_was_touched():
    before = peak_resident()
    block = bytearray(before + 64_000_000)
    block[::1024] = b'x' * len(block[::1024])
    assert peak_resident() > before + 32_000_000


@pytest.mark.timeout(240)
def test_the_program_trains_every_way_and_writes_what_it_took(tiny_lm_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))
    file = tmp_path / 'memory.json'
    assert main(['--llm', str(tiny_lm_folder), '--batches', '4', '--steps', '2', '--questions', '24',
                 '--threads', '1', '--ways', 'upper', 'input', '--json', str(file)]) == 0
    written = json.loads(file.read_text())
    read, upper, rival = written['results']
    assert [result['way'] for result in written['results']] == ['read', 'upper', 'input']
    assert rival['parameters'] == 32 * (24 + 1) + 32 * PROMPTS
    assert all(result['macs'] > 0 < result['seconds'] for result in (upper, rival))
    assert all(0 < result['imported'] <= result['loaded'] <= result['peak']
               for result in (read, upper, rival))
    assert all(result['loss'] > 0 for result in (upper, rival))
    assert 'GMAC/step' in capsys.readouterr().out


def test_a_wrong_model_is_an_exit_code_with_a_reason(tmp_path, capsys):
    assert main(['--llm', str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err

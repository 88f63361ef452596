"""Measure a few training steps in their own process; started by bench.adaptation_memory.

    python -m bench.adaptation_memory.training_process FOLDER WAY BATCH

It imports only what a training process imports, because imports are part of the measurement.
"""
from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import OpenRows, PreparedQuestion, PromptTemplate
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.llm.upper_blocks import load_upper_blocks
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.methods.questions import QuestionBatch, rows_to_decide
from mpnp_ros.methods.registry import create_method
from mpnp_ros.training.batches import BatchPlan, PreparedQuestions
from mpnp_ros.training.budget import measure_macs
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.trainer import Trainer, TrainerConfig

MODALITY = 'lidar'
READ, WHOLE, UPPER, INPUT, RECOMPUTED = 'read', 'whole', 'upper', 'input', 'recomputed'
DATA, QUESTIONS, LINK, SETTING = 'data', 'questions', 'link', 'setting.json'
KIB = 1024
PROMPTS = 10
"""Learned entries at the input layer."""


@dataclass(frozen=True)
class Setting:
    """Settings of all processes of one benchmark.

    columns: entries per frame at the input layer.  threads: of torch.
    """

    llm: str
    dtype: str
    columns: int
    steps: int
    threads: int

    @classmethod
    def load(cls, folder: Path) -> Setting:
        """Read the settings from a folder."""
        return cls(**json.loads((folder / SETTING).read_text()))

    def save(self, folder: Path) -> None:
        """Write the settings to a folder."""
        (folder / SETTING).write_text(json.dumps(asdict(self)))


@dataclass(frozen=True)
class StepMeasurement:
    """The measurements of one process.

    imported, loaded, peak: peak resident bytes after imports, after loading the model, and at the end.
    seconds, macs: per step.  parameters: number of trained ones.  loss: of the last step.
    """

    way: str
    batch: int
    imported: int
    loaded: int
    peak: int
    seconds: float = 0.
    macs: int = 0
    parameters: int = 0
    loss: float = 0.


def main(arguments: Sequence[str] | None = None) -> None:
    """Train in the given way and print a line of JSON."""
    imported = peak_resident()
    folder, way, batch = arguments or sys.argv[1:]
    setting = Setting.load(Path(folder))
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    train = {READ: read_questions, WHOLE: train_links, UPPER: train_links}.get(way, tune_input_layer)
    taken: dict[str, Any] = {'imported': imported, **train(Path(folder), setting, way, int(batch))}
    print(json.dumps(asdict(StepMeasurement(way, int(batch), **taken))))


def peak_resident() -> int:
    """Peak resident bytes of this process, including pages of mapped files."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmHWM')).split()[1]) * KIB


def read_questions(folder: Path, setting: Setting, way: str, batch: int) -> dict[str, float]:
    """Read all questions with the whole model, as a serving process does."""
    lm = load_language_model(setting.llm, 'cpu', setting.dtype)
    loaded = peak_resident()
    method = create_method('mpnp', lm)
    link = load_link(shipped_links()[MODALITY].path)
    if link.config.base_model != lm.fingerprint:  # an untrained one to a quarter of the blocks
        link = method.new_link(MODALITY, link.config.encoder, link.config.token_width, additive=True,
                               last=max(1, lm.blocks // 4))
    method.plug(link)
    save_link(link, folder / LINK)
    prepared = PreparedQuestions(method, QuestionFiles(folder / QUESTIONS))
    prepared.read(TokenDataset.load(folder / DATA).examples)
    return {'loaded': loaded, 'peak': peak_resident()}


def train_links(folder: Path, setting: Setting, way: str, batch: int) -> dict[str, float]:
    """Train links on prepared questions."""
    link, data = load_link(folder / LINK), TokenDataset.load(folder / DATA)
    if way == WHOLE:
        lm = load_language_model(setting.llm, 'cpu', setting.dtype)
    else:
        assert link.first_block is not None  # the link is open
        lm = load_upper_blocks(setting.llm, link.first_block, 'cpu', setting.dtype,
                               {example.choices for example in data.examples})
    loaded = peak_resident()
    method = create_method('mpnp', lm)
    method.plug(link)
    book = PreparedQuestions(method, QuestionFiles(folder / QUESTIONS))
    report = Trainer(method, TrainerConfig(steps=setting.steps, batch=batch), book).fit(data)
    return {'loaded': loaded, 'peak': peak_resident(), 'seconds': report.seconds_per_step,
            'macs': report.macs_per_step, 'parameters': report.parameters, 'loss': report.losses[-1]}


def tune_input_layer(folder: Path, setting: Setting, way: str, batch: int) -> dict[str, float]:
    """Train a projection of tokens to the input layer, and prompts.

    MACs are counted after the peak is read, because counting keeps additional tensors.
    """
    data = TokenDataset.load(folder / DATA)
    lm = load_language_model(setting.llm, 'cpu', setting.dtype)
    loaded = peak_resident()
    run = InputRun(lm, data, setting.columns, batch, way == RECOMPUTED)
    started = time.perf_counter()
    for step in range(setting.steps):
        loss = run.step(step)
    seconds = (time.perf_counter() - started) / setting.steps
    return {'loaded': loaded, 'peak': peak_resident(), 'seconds': seconds, 'loss': loss,
            'macs': measure_macs(lambda: run.loss(0).backward()),
            'parameters': sum(parameter.numel() for parameter in run.tuning.parameters())}


class InputRun:
    """Training steps at the input layer, on the batches of a Trainer."""

    def __init__(self, lm: LanguageModel, data: TokenDataset, columns: int, batch: int,
                 recompute: bool) -> None:
        self.data = data
        width = next(iter(data.frames.values()))[MODALITY].width
        self.tuning = InputTuning(lm, width, columns, recompute)
        tries = {choices: ChoiceTrie(lm.tokenizer, choices)
                 for choices in {example.choices for example in data.examples}}
        self.questions = [self.tuning.prepare(example.question, tries[example.choices], example.answer)
                          for example in data.examples]
        self.plan = BatchPlan([question.prompt_tokens for question in self.questions], batch,
                              TrainerConfig.seed)
        self.optimiser = torch.optim.AdamW(self.tuning.parameters(), TrainerConfig.learning_rate, fused=True)

    def step(self, number: int) -> float:
        """Run one step; returns the loss."""
        loss = self.loss(number)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def loss(self, number: int) -> torch.Tensor:
        """The mean loss over the questions of a step."""
        places = self.plan[number]
        examples = [self.data.examples[place] for place in places]
        tokens = torch.stack([torch.from_numpy(self.data.frames[example.frame][MODALITY].values)
                              for example in examples])
        with self.tuning.lm.autocast():
            return self.tuning.losses([self.questions[place] for place in places],
                                      [example.answer for example in examples], tokens).mean()


class InputTuning(nn.Module):
    """Input-layer tuning of a frozen language model as in PromptFuse, for comparison.

    Tokens of a modality are projected to the model's width and placed in front of the text, behind a few
    learned entries.  Gradients flow through all blocks and all rows.  recompute: store only the states
    between blocks and run each block again in the backward pass.
    """

    def __init__(self, lm: LanguageModel, width: int, columns: int, recompute: bool = False) -> None:
        """width: of a token.  columns: entries per frame, to which its tokens are averaged."""
        super().__init__()
        self.lm, self.columns, self.recompute = lm, columns, recompute
        self.projection = nn.Linear(width, lm.width)
        self.prompts = nn.Parameter(.02 * torch.randn(PROMPTS, lm.width))
        self.to(lm.device)

    def prepare(self, question: str, trie: ChoiceTrie, answer: str) -> PreparedQuestion:
        """The layout of entries and text, as far as the true answer needs it; no block runs."""
        prompt = PromptTemplate().ids(self.lm.tokenizer, question)
        ids = torch.cat([prompt.new_zeros(PROMPTS + self.columns), prompt])
        layout = trie.layout_with_branches(ids).to(self.lm.device)
        hidden = torch.empty(1, layout.tokens, 0)
        whole = PreparedQuestion(layout, len(ids), hidden, 0, OpenRows('all', layout, hidden, 0, TextCache()),
                                 trie, TextCache())
        count = rows_to_decide(whole, trie.choices.index(answer))
        return PreparedQuestion(layout, len(ids), hidden, 0, whole.rows.head(count), trie, TextCache())

    def losses(self, questions: Sequence[PreparedQuestion], answers: Sequence[str],
               tokens: torch.Tensor) -> torch.Tensor:
        """[B] minus log-probability of each answer; tokens: [B, P, D], P a multiple of the columns."""
        batch = QuestionBatch.stack(questions)
        frames = tokens.unflatten(1, (self.columns, -1)).mean(2)
        entries = torch.cat([self.prompts.expand(len(questions), -1, -1), self.projection(frames)], 1)
        with torch.no_grad():
            text = self.lm.embed(batch.layout)[:, entries.shape[1]:]
        hidden = torch.cat([entries.to(text.dtype), text], 1)
        if self.recompute:
            for block in range(self.lm.blocks):
                hidden = checkpoint(self.lm.run_blocks, hidden, batch.layout, block, block + 1,
                                    use_reentrant=False)
        else:
            hidden = self.lm.run_blocks(hidden, batch.layout, 0, self.lm.blocks)
        return -batch.answer_log_probabilities(
            self.lm, hidden, [question.choice_tree.choices.index(answer) for question, answer in
                              zip(questions, answers, strict=True)])


if __name__ == '__main__':
    main()

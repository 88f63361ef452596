"""Measurement of the training speed by a few real steps with two numbers of linked blocks and two batches."""
from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mpnp_ros.errors import TrainingError
from mpnp_ros.files import cache_root, locked
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.questions import AnsweredQuestion
from mpnp_ros.methods.registry import DEFAULT_METHOD, MethodSpec, find_method
from mpnp_ros.questions.vocabulary import ANSWERS, CATEGORIES, RELATIONS
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.cost_model import CostModel, Speed, TimedStep, fit_rates, machine_key
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.workload import Workload

MONTH = 30 * 86_400.
TOKENS, WIDTH, TEXTS = 72, 24, 24
"""Tokens of a frame and their width, and number of different questions."""
WARM_UP, TIMED = 1, 3
"""Steps before the timed ones, and timed steps."""
SYNTHETIC = 'made_up'
"""Name of the modality and of its encoder."""
NICENESS = 10
PROCESS = ('import torch, {method}, mpnp_ros.training.trainer as trainer; '
           'print(trainer.peak_memory(torch.device("cpu")))')


def machine_speed(lm: LanguageModel, method: MethodSpec, link: LinkConfig,
                  folder: str | Path | None = None, max_age: float = MONTH,
                  measure: Callable[..., Speed] | None = None) -> Speed:
    """Return the training speed of this machine, measured before or now (about 15 s for a small model).

    method, link: as in :func:`measure_speed`.  folder: of the measurements, default: in the cache.  max_age:
    seconds after which it is measured again.  Another machine, number of threads, model, number format or
    reach needs its own measurement.  Of two processes one measures, and the other waits.
    """
    folder = cache_root(folder) / 'speed'
    folder.mkdir(exist_ok=True)
    path = folder / f'{machine_key(lm, link.reach)}.json'
    with locked(path):
        speed = Speed.load(path, time.time() - max_age)
        if speed is None:
            speed = (measure or measure_speed)(lm, method, link)
            speed.save(path)
    return speed


def measure_speed(lm: LanguageModel, method: MethodSpec, link: LinkConfig, batch: int = 64) -> Speed:
    """Train new links of a method on random tokens for a few steps, and time them.

    link: options of the links; modality, encoder and linked blocks do not matter.  The model needs all its
    blocks.
    """
    depths = sorted({max(1, lm.blocks // 8), max(1, lm.blocks // 2)})
    with torch.random.fork_rng(devices=[lm.device] if lm.device.type == 'cuda' else []):
        runs = [_Run(lm, method, link, depth, batch) for depth in depths]
        steps = [run.timed(size) for run, size in product(runs, (max(1, batch // 4), batch))]
    # seconds until a new process can train, and its bytes before it loads anything
    started = time.perf_counter()
    program = PROCESS.format(method=method.method.__module__)
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))})
    if done.returncode:
        raise TrainingError(f'no process for training can be started: {done.stderr.strip()[-200:]}')
    startup = time.perf_counter() - started
    return Speed(*fit_rates(steps), statistics.median(run.per_reading_mac for run in runs), startup,
                 int(done.stdout), time.time())


def synthetic_dataset(width: int, frames: int) -> TokenDataset:
    """Return one question a frame of random tokens, in the words and with the answers of NuScenes-QA."""
    random, asked = np.random.default_rng(0), tuple(product(CATEGORIES, RELATIONS))
    texts = [f'How many {thing}s are to the {where} of me?' for thing, where in asked[:TEXTS]]
    examples = tuple(Example(texts[n % TEXTS], ANSWERS[n % len(ANSWERS)], ANSWERS, 'count', 1, str(n))
                     for n in range(frames))
    azimuth = np.linspace(-3, 3, TOKENS, dtype=np.float32)
    tokens = {str(n): {SYNTHETIC: ModalityTokens(
        SYNTHETIC, SYNTHETIC, random.random((TOKENS, width), np.float32), azimuth)} for n in range(frames)}
    return TokenDataset(tokens, examples)


class _Run:
    """Links to so many blocks that are trained on random tokens; reading the questions is timed at once."""

    def __init__(self, lm: LanguageModel, method: MethodSpec, link: LinkConfig, linked_blocks: int,
                 batch: int) -> None:
        self.lm, self.linked_blocks = lm, linked_blocks
        self.link = replace(link, modality=SYNTHETIC, encoder=SYNTHETIC, soft_tokens=0,
                            blocks=tuple(range(lm.blocks - linked_blocks, lm.blocks)))
        self.method = method.method(lm)
        self.method.plug(method.link(self.link))
        self.optimiser = torch.optim.AdamW(self.method.trainable_parameters(), lr=1e-5, fused=True)
        self.data = synthetic_dataset(link.token_width, max(batch, TEXTS))
        self.tokens = [self.data.frames[example.frame] for example in self.data.examples]
        texts = self.data.examples[:TEXTS]
        self._prepared(texts[:2])
        started = self._now()
        self._prepared(texts)
        self.per_reading_mac = (self._now() - started) / self._costs(texts).reading(linked_blocks)
        self.questions = self._prepared(self.data.examples)
        self.method.calibrate(self.questions, self.tokens)

    def timed(self, batch: int) -> TimedStep:
        """Return the median time of a few steps of the trainer."""
        seconds = []
        for _ in range(WARM_UP + TIMED):
            started = self._now()
            self.optimiser.zero_grad()
            with self.lm.autocast():
                loss = self.method.answer_losses(self.questions[:batch], self.tokens[:batch]).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(self.method.trainable_parameters(), 1.)
            self.optimiser.step()
            seconds.append(self._now() - started)
        work = self._costs(self.data.examples[:batch]).step(self.linked_blocks, batch)
        return TimedStep(self.linked_blocks, *work, statistics.median(seconds[WARM_UP:]))

    def _prepared(self, examples: Sequence[Example]) -> list[AnsweredQuestion]:
        parts = (examples[start:start + TEXTS] for start in range(0, len(examples), TEXTS))
        return [question for part in parts for question in self.method.prepare_answers(
            [(example.question, example.answer) for example in part], ANSWERS)]

    def _costs(self, examples: Sequence[Example]) -> CostModel:
        """Return the cost model of training on some of the questions."""
        work = Workload.of(replace(self.data, examples=tuple(examples)), self.lm.tokenizer)
        return CostModel.for_model(self.lm, self.method.spec, [self.link], work, Speed(0, 0, 0, 0))

    def _now(self) -> float:
        if self.lm.device.type == 'cuda':
            torch.cuda.synchronize(self.lm.device)
        return time.perf_counter()


def main() -> int:
    """Measure the speed for the first adaptation unless it is known; return the exit code.

    Arguments: language model, device, dtype and threads, as of the adaptation node.
    """
    from mpnp_ros.llm.weights import load_language_model

    name, device, dtype, threads = sys.argv[1:]
    os.nice(NICENESS)
    torch.set_num_threads(int(threads))
    lm = load_language_model(name, device, dtype)
    method = find_method(DEFAULT_METHOD)
    link = method.link.config_type.for_model(lm, SYNTHETIC, SYNTHETIC, WIDTH, additive=True)
    machine_speed(lm, method, link)
    return 0


if __name__ == '__main__':
    sys.exit(main())

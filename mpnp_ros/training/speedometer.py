"""Measurement of the training speed: a few real steps at two depths and two batch sizes."""
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
TOKENS, TEXTS, WARM_UP, TIMED = 72, 24, 1, 3
MADE_UP, WIDTH, POLITE = 'made_up', 24, 10
PROCESS = ('import torch, {method}, mpnp_ros.training.trainer as trainer; '
           'print(trainer.peak_memory(torch.device("cpu")))')


def machine_speed(lm: LanguageModel, method: MethodSpec, link: LinkConfig,
                  folder: str | Path | None = None, max_age: float = MONTH,
                  measure: Callable[..., Speed] | None = None) -> Speed:
    """How fast this machine trains links, as measured before or now (about 15 s for a small model).

    method, link: what is trained where it is measured.  folder: of the measurements, default: in the cache.
    max_age: seconds after which it is measured again, as it is for another machine, number of threads, model,
    number format or reach.  Of two processes one measures.
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
    """Train new links on made-up tokens for a few steps and time them.

    link: a link of that kind; its modality, encoder and depth do not matter.  The model needs all its blocks.
    """
    depths = sorted({max(1, lm.blocks // 8), max(1, lm.blocks // 2)})
    with torch.random.fork_rng(devices=[lm.device] if lm.device.type == 'cuda' else []):
        runs = [_Run(lm, method, link, depth, batch) for depth in depths]
        steps = [run.timed(size) for run, size in product(runs, (max(1, batch // 4), batch))]
    startup, process = _empty_process(method)
    return Speed(*fit_rates(steps), statistics.median(run.per_reading_mac for run in runs), startup, process,
                 time.time())


def made_up_dataset(width: int, frames: int) -> TokenDataset:
    """Return one question a frame of random tokens, in the words and with the answers of NuScenes-QA."""
    random, asked = np.random.default_rng(0), tuple(product(CATEGORIES, RELATIONS))
    texts = [f'How many {thing}s are to the {where} of me?' for thing, where in asked[:TEXTS]]
    examples = tuple(Example(texts[n % TEXTS], ANSWERS[n % len(ANSWERS)], ANSWERS, 'count', 1, str(n))
                     for n in range(frames))
    azimuth = np.linspace(-3, 3, TOKENS, dtype=np.float32)
    tokens = {str(n): {MADE_UP: ModalityTokens(
        MADE_UP, MADE_UP, random.random((TOKENS, width), np.float32), azimuth)} for n in range(frames)}
    return TokenDataset(tokens, examples)


class _Run:
    """Links of one depth that are trained on random tokens; reading the questions is timed at once."""

    def __init__(self, lm: LanguageModel, method: MethodSpec, link: LinkConfig, depth: int,
                 batch: int) -> None:
        self.lm, self.depth = lm, depth
        self.link = replace(link, modality=MADE_UP, encoder=MADE_UP, soft_tokens=0,
                            blocks=tuple(range(lm.blocks - depth, lm.blocks)))
        self.method = method.method(lm)
        self.method.plug(method.link(self.link))
        self.optimiser = torch.optim.AdamW(self.method.trainable_parameters(), lr=1e-5, fused=True)
        self.data = made_up_dataset(link.token_width, max(batch, TEXTS))
        self.tokens = [self.data.frames[example.frame] for example in self.data.examples]
        self.questions, self.per_reading_mac = self._read()
        self.method.calibrate(self.questions, self.tokens)

    def timed(self, batch: int) -> TimedStep:
        """Return the median time of a few steps of the trainer."""
        seconds = [self._step(batch) for _ in range(WARM_UP + TIMED)][WARM_UP:]
        work = self._costs(self.data.examples[:batch]).step(self.depth, batch)
        return TimedStep(self.depth, *work, statistics.median(seconds))

    def _read(self) -> tuple[list[AnsweredQuestion], float]:
        """Return the questions, and the time per MAC of reading a text."""
        texts = self.data.examples[:TEXTS]
        self._prepared(texts[:2])
        started = self._now()
        self._prepared(texts)
        seconds = self._now() - started
        return self._prepared(self.data.examples), seconds / self._costs(texts).reading(self.depth)

    def _prepared(self, examples: Sequence[Example]) -> list[AnsweredQuestion]:
        read = [self.method.prepare_answers([(one.question, one.answer) for one in part], ANSWERS)
                for part in (examples[at:at + TEXTS] for at in range(0, len(examples), TEXTS))]
        return [question for part in read for question in part]

    def _step(self, batch: int) -> float:
        started = self._now()
        self.optimiser.zero_grad()
        with self.lm.autocast():
            loss = self.method.answer_losses(self.questions[:batch], self.tokens[:batch]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.method.trainable_parameters(), 1.)
        self.optimiser.step()
        return self._now() - started

    def _costs(self, examples: Sequence[Example]) -> CostModel:
        """Return the cost model of some of the questions."""
        work = Workload.of(replace(self.data, examples=tuple(examples)), self.lm.tokenizer)
        return CostModel.for_model(self.lm, self.method.spec, [self.link], work, Speed(0, 0, 0, 0))

    def _now(self) -> float:
        if self.lm.device.type == 'cuda':
            torch.cuda.synchronize(self.lm.device)
        return time.perf_counter()


def _empty_process(method: MethodSpec) -> tuple[float, int]:
    """Seconds until a new process can train, and bytes that it has before it loads anything."""
    started = time.perf_counter()
    program = PROCESS.format(method=method.method.__module__)
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))})
    if done.returncode:
        raise TrainingError(f'no process for training can be started: {done.stderr.strip()[-200:]}')
    return time.perf_counter() - started, int(done.stdout)


def main() -> int:
    """Measure the speed for the first adaptation unless it is known; returns the exit code.

    Arguments: language model, device, dtype and threads, as of the adaptation node.
    """
    from mpnp_ros.llm.weights import load_language_model

    name, device, dtype, threads = sys.argv[1:]
    os.nice(POLITE)
    torch.set_num_threads(int(threads))
    lm = load_language_model(name, device, dtype)
    method = find_method(DEFAULT_METHOD)
    link = method.link.config_type.for_model(lm, MADE_UP, MADE_UP, WIDTH, additive=True)
    machine_speed(lm, method, link)
    return 0


if __name__ == '__main__':
    sys.exit(main())

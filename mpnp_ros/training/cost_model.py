"""Training costs as a function of the number of linked blocks, and the plan that a budget allows.

MACs and bytes follow from sizes, as in arXiv:2312.07886 but with all costs.  The linked blocks run forward
and give gradients to their inputs, not to their weights.  Where links reach only the rows that decide an
answer, only these rows run.  The blocks below cost once for each text, and the encoders cost nothing, as
tokens are kept.  Seconds follow from MACs by the rates measured on this machine (:class:`Speed`).
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mpnp_ros.errors import BudgetError, ConfigurationError
from mpnp_ros.files import write_file
from mpnp_ros.llm.cost import block_weights, head_macs
from mpnp_ros.llm.families import ModelShape
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.training.budget import Budget, Spent, format_amount
from mpnp_ros.training.workload import Workload

SCHEMA = 1

PARAMETER_BYTES = 6 * 4
"""Bytes of a trained parameter: itself, its gradient, two moments of AdamW, and copies of it before training
and at its best."""
SMALLEST_PART = 4
"""A batch is made smaller to save memory, down to this part of the wanted one."""


@dataclass(frozen=True)
class Speed:
    """Seconds of training, as rates that hold for any number of linked blocks and any batch.

    per_step, per_block: seconds of a step, and of each of its linked blocks, even if there is nothing to
    compute.  per_link_mac, per_block_mac, per_reading_mac: seconds per multiply-accumulate in links, in
    linked blocks and in reading questions.  startup: seconds until a new process can train.
    process_bytes: its memory before it loads anything.  measured: time of the measurement, seconds since
    1970.
    """

    per_step: float
    per_block: float
    per_link_mac: float
    per_block_mac: float
    per_reading_mac: float = 0.
    startup: float = 0.
    process_bytes: float = 0.
    measured: float = 0.

    def step(self, linked_blocks: int, link_macs: float, block_macs: float) -> float:
        """Return the seconds of one training step."""
        return self.per_step + self.per_block * linked_blocks + self.work(link_macs, block_macs)

    def work(self, link_macs: float, block_macs: float) -> float:
        """Return the seconds of computing alone."""
        return self.per_link_mac * link_macs + self.per_block_mac * block_macs

    def reading(self, macs: float) -> float:
        """Return the seconds of running texts through the language model."""
        return self.per_reading_mac * macs

    def save(self, path: Path) -> None:
        """Write the file for :meth:`load`."""
        write_file(path, json.dumps({'schema': SCHEMA, **asdict(self)}).encode())

    @classmethod
    def load(cls, path: Path, since: float = -math.inf) -> Speed | None:
        """Read a measurement; return None if it is unusable or not newer than `since`, seconds since 1970."""
        try:
            entries = json.loads(path.read_bytes())
            if entries.pop('schema') != SCHEMA:
                return None
            speed = cls(**entries)
            usable = all(0 <= getattr(speed, entry.name) < math.inf for entry in fields(cls))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return speed if usable and speed.measured > since else None


class TimedStep(NamedTuple):
    """A timed step: linked blocks, MACs in links and in blocks, seconds."""

    linked_blocks: int
    link_macs: float
    block_macs: float
    seconds: float


def fit_rates(steps: Sequence[TimedStep]) -> tuple[float, float, float, float]:
    """Return the first four rates of :class:`Speed`, fitted to timed steps by relative error.

    No rate is negative, so that a deeper link or a larger batch never seems cheaper.  All 15 subsets of
    non-zero rates are tried.
    """
    table = np.array([(1, *step[:3]) for step in steps], float)
    table /= np.array([step.seconds for step in steps])[:, None]
    scale = table.max(0)
    best, error = np.zeros(4), math.inf
    for size in range(1, 5):
        for chosen in map(list, combinations(range(4), size)):
            rates = np.zeros(4)
            rates[chosen] = np.linalg.lstsq(table[:, chosen] / scale[chosen], np.ones(len(table)))[0]
            missed = float(np.square(table / scale @ rates - 1).sum())
            if (rates >= 0).all() and missed < error:
                best, error = rates, missed
    step, block, link_mac, block_mac = (best / scale).tolist()
    return step, block, link_mac, block_mac


def machine_key(lm: LanguageModel, reach: str) -> str:
    """Return the key of a measurement, 16 digits: machine, threads, torch, model, number format, reach."""
    if lm.device.type == 'cuda':
        device = torch.cuda.get_device_name(lm.device)
    else:
        try:
            lines = Path('/proc/cpuinfo').read_text().splitlines()
        except OSError:
            lines = []
        names = (line.partition(':')[2].strip() for line in lines if line.lower().startswith('model name'))
        device = next(names, platform.processor())
    facts = (device, platform.machine(), os.cpu_count(), torch.get_num_threads(), torch.__version__,
             lm.fingerprint, str(lm.dtype), reach)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


class Work(NamedTuple):
    """MACs in links, and in the blocks and the head of the language model."""

    links: float
    blocks: float

    @property
    def macs(self) -> float:
        """Return the sum of both."""
        return self.links + self.blocks


@dataclass(frozen=True, kw_only=True)
class Plan(Spent):
    """A training that fits a budget, with its expected costs.

    linked_blocks: number of the uppermost blocks that are linked.  steps: of `batch` questions.  reason: of
    the number of linked blocks.
    """

    linked_blocks: int
    steps: int
    batch: int
    reason: str


@dataclass(frozen=True)
class Aim:
    """The wanted extent of a training.  Raises ConfigurationError.

    batch: questions per step.  least_steps, most_steps: useful numbers of steps.  linked_blocks: of existing
    links; 0: of new links, as many as the budget allows.  most_blocks: 0: half of the blocks, where accuracy
    saturates (arXiv:2312.07886, table 1).  evaluated: questions answered in all evaluations together.
    """

    batch: int = 64
    least_steps: int = 40
    most_steps: int = 1000
    linked_blocks: int = 0
    most_blocks: int = 0
    evaluated: int = 0

    def __post_init__(self) -> None:
        if min(self.batch, self.least_steps) < 1 or self.most_steps < self.least_steps:
            raise ConfigurationError(f'{self.least_steps} to {self.most_steps} steps of {self.batch} '
                                     'questions cannot be planned; all must be at least 1, the least first')
        if min(self.linked_blocks, self.most_blocks, self.evaluated) < 0:
            raise ConfigurationError('linked_blocks, most_blocks and evaluated must not be negative')


class CostModel:
    """Costs of training some links together on one language model.

    method: of the links; it must state their cost.  links: of the trained modalities; their number of linked
    blocks does not matter.
    """

    def __init__(self, shape: ModelShape, method: MethodSpec, links: Sequence[LinkConfig], workload: Workload,
                 speed: Speed, number_bytes: int = 4) -> None:
        """number_bytes: bytes of a number in the language model."""
        if not links:
            raise ConfigurationError('there is no link to train; name at least one')
        if method.cost is None:
            raise ConfigurationError(f'the method {method.name} does not say what its links cost')
        self.link, self.link_cost = method.link, method.cost
        self.shape, self.links, self.workload, self.speed = shape, tuple(links), workload, speed
        self.number_bytes = number_bytes
        self._reach_all = links[0].reach == 'all'
        self._parameters: dict[int, int] = {}

    @classmethod
    def for_model(cls, lm: LanguageModel, method: MethodSpec, links: Sequence[LinkConfig],
                  workload: Workload, speed: Speed) -> CostModel:
        """Return the cost model for the sizes and the number format of a language model."""
        return cls(lm.shape, method, links, workload, speed, lm.dtype.itemsize)

    def step(self, linked_blocks: int, batch: int) -> Work:
        """Return the work of one training step, forward and backward."""
        links = [self.link_cost.macs(config, batch, self.workload.distinct_frames(batch),
                                     self._tokens(config), self.workload.prompt)
                 for config in self._linked(linked_blocks)]
        first, others = self._block(self.workload.rows)
        head = 2 * self.workload.decisions * head_macs(self.shape, 1, self.workload.candidates)
        return Work(sum(part.forward + part.backward for part in links),
                    batch * (first + (linked_blocks - 1) * others + head))

    def answer(self, linked_blocks: int) -> Work:
        """Return the work of answering one question, as an evaluation does."""
        links = [self.link_cost.macs(config, 1, 1, self._tokens(config), self.workload.prompt).forward
                 for config in self._linked(linked_blocks)]
        rows, columns = self._open(self.workload.tree)
        head = self.workload.decisions * head_macs(self.shape, 1, self.workload.candidates)
        return Work(sum(links), linked_blocks * self._forward(rows, columns + self._prefix) + head)

    def reading(self, linked_blocks: int) -> float:
        """Return the MACs of running every text once through the blocks below the links."""
        prompt, tokens = self.workload.prompt, self._open(self.workload.tree)[1]
        lower = (self.shape.blocks - linked_blocks) * self._forward(tokens, tokens)
        upper = 0 if self._reach_all else linked_blocks * self._forward(prompt - 1, prompt - 1)
        return self.workload.texts * (lower + upper)

    def parameters(self, linked_blocks: int) -> int:
        """Return the number of trained parameters."""
        if linked_blocks not in self._parameters:
            with torch.device('meta'):
                links = [self.link(config) for config in self._linked(linked_blocks)]
            self._parameters[linked_blocks] = sum(
                parameter.numel() for link in links for parameter in link.parameters())
        return self._parameters[linked_blocks]

    def bytes(self, linked_blocks: int, batch: int) -> float:
        """Return the peak memory of a training process with only the linked blocks and the head in memory.

        Activations are estimated within a factor of about 1.5.
        """
        shape, work = self.shape, self.workload
        rows, columns = self._open(work.rows)
        model = linked_blocks * block_weights(shape) + shape.vocabulary * shape.embedding_width
        kept = 2 * linked_blocks * (columns - rows) * shape.kv_heads * shape.head_dim
        text = self._open(work.tree)[1] * shape.width + kept
        frames = sum(work.frames * self._tokens(config) * config.token_width for config in self.links)
        return (self.speed.process_bytes + (model + work.texts * text) * self.number_bytes + 4 * frames
                + PARAMETER_BYTES * self.parameters(linked_blocks)
                + batch * (self.activations(linked_blocks) + self.number_bytes * kept))

    def activations(self, linked_blocks: int) -> float:
        """Return the estimated bytes that one question of a step keeps for the backward pass."""
        shape, prompt = self.shape, self.workload.prompt
        rows, columns = self._open(self.workload.rows)
        inner, cached = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        row = 6 * shape.width + (3 if shape.gated else 2) * shape.feedforward + 3 * inner
        scores = 3 * shape.heads * rows * (columns + self._prefix)
        block = self.number_bytes * (rows * row + 2 * columns * cached) + 4 * scores
        return linked_blocks * block + 4 * sum(
            self.link_cost.activations(config, self._tokens(config), prompt)
            for config in self._linked(linked_blocks))

    def seconds(self, linked_blocks: int, batch: int) -> float:
        """Return the seconds of one training step."""
        return self.speed.step(linked_blocks, *self.step(linked_blocks, batch))

    def cost(self, linked_blocks: int, steps: int, batch: int, evaluated: int = 0) -> Spent:
        """Return the cost of a whole training: start, reading, training and evaluating."""
        answers, step = self.answer(linked_blocks), self.step(linked_blocks, batch)
        reading, speed = self.reading(linked_blocks), self.speed
        seconds = (speed.startup + speed.reading(reading) + steps * speed.step(linked_blocks, *step)
                   + evaluated * speed.work(*answers))
        return Spent(seconds, reading + steps * step.macs + evaluated * answers.macs,
                     self.bytes(linked_blocks, batch))

    def plan(self, budget: Budget, aim: Aim | None = None) -> Plan:
        """Return the training with the most linked blocks, then the largest batch, then most steps that fits.

        At least `least_steps` x `batch` questions are seen.  Existing links keep their blocks if that fits;
        otherwise the plan has fewer and gives the reason.  A larger budget never gives fewer blocks, nor for
        the same blocks a smaller batch, nor for the same batch fewer steps.

        Raises BudgetError with the limit that is too small and the amount that fits.
        """
        aim = aim or Aim()
        for linked_blocks, batch, least in self._candidates(aim):
            if budget.too_small_for(self.cost(linked_blocks, least, batch, aim.evaluated)):
                continue
            start = self.cost(linked_blocks, 0, batch, aim.evaluated)
            step = Spent(self.seconds(linked_blocks, batch), self.step(linked_blocks, batch).macs)
            fitting = [(getattr(budget, name) - getattr(start, name)) // getattr(step, name)
                       for name in ('seconds', 'macs') if getattr(budget, name) and getattr(step, name)]
            steps = max(least, int(min([_steps(aim.most_steps, aim, batch), *fitting])))
            cost = self.cost(linked_blocks, steps, batch, aim.evaluated)
            return Plan(cost.seconds, cost.macs, cost.bytes, linked_blocks=linked_blocks, steps=steps,
                        batch=batch, reason=self._reason(budget, aim, linked_blocks))
        raise BudgetError(f'no training fits the budget:  {self._shortage(budget, aim, 1)}; raise the budget '
                          'to that, or ask for fewer steps or questions')

    def _candidates(self, aim: Aim) -> Iterator[tuple[int, int, int]]:
        """Yield (linked blocks, batch, least steps), the best first."""
        most = self._most(aim)
        if most > self.shape.blocks:
            raise ConfigurationError(f'{most} linked blocks; the language model has {self.shape.blocks}')
        for linked_blocks in range(most, 0, -1):
            batch = aim.batch
            while batch >= 1 and batch * SMALLEST_PART >= aim.batch:
                yield linked_blocks, batch, _steps(aim.least_steps, aim, batch)
                batch //= 2

    def _reason(self, budget: Budget, aim: Aim, linked_blocks: int) -> str:
        """Return why a plan has so many linked blocks."""
        wanted, blocks = self._most(aim), _blocks(linked_blocks)
        if linked_blocks == wanted:
            return f'{blocks}, as the links have' if aim.linked_blocks else f'{blocks}, as many as are useful'
        of_links = 'as many as the links have' if aim.linked_blocks else 'more'
        return f'{blocks}, not {of_links}: {self._shortage(budget, aim, wanted)}'

    def _shortage(self, budget: Budget, aim: Aim, linked_blocks: int) -> str:
        """Return what the smallest useful training with so many blocks needs beyond the budget."""
        def excess(candidate: tuple[int, int, Spent]) -> float:
            return max(getattr(candidate[2], name) / getattr(budget, name)
                       for name in budget.too_small_for(candidate[2]))

        least = ((steps, batch, self.cost(linked_blocks, steps, batch, aim.evaluated))
                 for blocks, batch, steps in self._candidates(aim) if blocks == linked_blocks)
        steps, batch, cost = min(least, key=excess)
        short = [f'{format_amount(name, getattr(cost, name))} where '
                 f'{format_amount(name, getattr(budget, name))} are allowed'
                 for name in budget.too_small_for(cost)]
        return f'{steps} steps of {batch} questions with {_blocks(linked_blocks)} take {" and ".join(short)}'

    def _most(self, aim: Aim) -> int:
        return aim.linked_blocks or aim.most_blocks or max(1, self.shape.blocks // 2)

    def _linked(self, linked_blocks: int) -> list[LinkConfig]:
        last = self.shape.blocks
        return [replace(config, blocks=tuple(range(last - linked_blocks, last))) for config in self.links]

    def _tokens(self, config: LinkConfig) -> float:
        return self.workload.tokens.get(config.modality, 0)

    @property
    def _prefix(self) -> float:
        """Return the number of columns that all links together add to a block."""
        return sum(self.link_cost.columns(config, self._tokens(config)) for config in self.links)

    def _open(self, rows: float) -> tuple[float, float]:
        """Return the rows that run for a question about a frame, and the text columns they see."""
        columns = self.workload.prompt - 1 + rows
        return (columns if self._reach_all else rows), columns

    def _forward(self, rows: float, columns: float) -> float:
        """Return the MACs of one block on some rows that see some columns."""
        return rows * (block_weights(self.shape) + 2 * columns * self.shape.heads * self.shape.head_dim)

    def _block(self, rows: float) -> tuple[float, float]:
        """Return the MACs of a step in the first linked block and in one above it, for one question.

        Backward, a frozen matrix costs once and a product of attention twice.  In the first block only the
        prefix and the parts behind attention lead to a link.
        """
        shape, prefix = self.shape, self._prefix
        rows, columns = self._open(rows)
        inner = shape.heads * shape.head_dim
        before = shape.width * (inner + 2 * shape.kv_heads * shape.head_dim)
        weights, forward = block_weights(shape), self._forward(rows, columns + prefix)
        first = rows * (weights - before + (columns + 3 * prefix) * inner)
        return forward + first, forward + rows * (weights + 4 * (columns + prefix) * inner)


def _steps(steps: int, aim: Aim, batch: int) -> int:
    """Return how many smaller steps see as many questions."""
    return math.ceil(steps * aim.batch / batch)


def _blocks(count: int) -> str:
    return f'{count} linked block{"s" if count > 1 else ""}'

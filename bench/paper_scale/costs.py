"""Costs of an adaptation at the paper's sizes, operations and peak memory, and ratios of ours to others.

Torch counts the operations of steps on fake tensors; memory is that of the live storages (PeakMemory).
Methods are counted in two ways.  Published: encoders run in every epoch and the head on every position.
Kept: results that do not depend on trained parts are computed once, and the head runs on the positions of the
answer only.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import AdamW

from bench.paper_scale.models import TOKEN_WIDTH, AdaptationTask, Encoders, PeakMemory, language_model
from bench.paper_scale.steps import (
    EpAlmStep,
    FullLlmStep,
    LavinStep,
    MakeStep,
    MpnpPublishedStep,
    MpnpStep,
    PromptFuseStep,
    Step,
)
from mpnp_ros.training.budget import ADAMW, measure_macs

PUBLISHED, KEPT = 'published', 'kept'
#: Linked blocks of ours by model, as in the paper.
LINKED = {'OPT-1.3B': 13, 'OPT-2.7B': 17, 'BLOOMZ-1.1B': 13}
DEPTHS = (4, 7, 10, 13, 16, 19, 22)
LENGTHS = (72, 32, 20)
"""Tokens of a question with its answer: the maximum of the paper, and shorter ones."""
SKIPPED = 8
LORA_RANK = 8
WARM_STEPS = 2


@dataclass(frozen=True)
class PaperMethod:
    """A method to count: name, constructor of its step, and ways to run it."""

    name: str
    make: MakeStep
    ways: tuple[str, ...] = (PUBLISHED, KEPT)


FULL, PROMPT_FUSE, OURS = 'Full LLM', 'PromptFuse', 'mPnP'
OURS_ALL_ROWS = 'mPnP, all rows linked'
OPERATIONS_LIMITS, MEMORY_LIMIT = {PROMPT_FUSE: .25, FULL: .18}, .5
"""Limits of the ratios of ours to others."""


def methods(linked: int) -> tuple[PaperMethod, ...]:
    """All methods; ours and the published one with `linked` linked blocks."""
    return (
        PaperMethod(FULL, FullLlmStep),
        PaperMethod(PROMPT_FUSE, PromptFuseStep),
        PaperMethod('eP-ALM, prompts at input', partial(EpAlmStep, published=True)),
        PaperMethod('eP-ALM, corrected', partial(EpAlmStep, published=False)),
        PaperMethod('LaVIN / MMA', LavinStep),
        PaperMethod(f'EAS, {SKIPPED} attentions skipped', partial(LavinStep, skipped=SKIPPED)),
        PaperMethod('mPnP published', partial(MpnpPublishedStep, linked=linked)),
        PaperMethod(f'mPnP published, LoRA of rank {LORA_RANK}',
                    partial(MpnpPublishedStep, linked=linked, lora=LORA_RANK)),
        PaperMethod(OURS_ALL_ROWS, partial(MpnpStep, linked=linked, reach='all'), (KEPT,)),
        PaperMethod(OURS, partial(MpnpStep, linked=linked), (KEPT,)),
    )


@dataclass(frozen=True)
class Memory:
    """Bytes of a training step at its peak.

    weights: frozen and trained.  moments: of AdamW.  rest: gradients and activations.  reading: peak of
    reading questions and encoding frames beforehand, 0 if steps do it.  stored: prepared questions on disk.
    measured: peak on a GPU, 0 without one.
    """

    weights: int
    moments: int
    rest: int
    reading: int = 0
    stored: int = 0
    measured: int = 0

    @property
    def peak(self) -> int:
        """Bytes of the training step."""
        return self.weights + self.moments + self.rest


@dataclass(frozen=True)
class Cost:
    """Costs of one method for a whole adaptation.

    encoders, reading (of questions beforehand), steps (blocks, head and trained parts, forward and backward)
    and optimiser are in multiply-accumulates.  encoders_always: encoders run in every epoch.
    """

    model: str
    adaptation: str
    method: str
    way: str
    parameters: int
    encoders: float
    encoders_always: float
    reading: float
    steps: float
    optimiser: float
    memory: Memory

    @property
    def macs(self) -> float:
        """Total MACs."""
        return self.encoders + self.reading + self.steps + self.optimiser

    @property
    def macs_encoding_always(self) -> float:
        """Total MACs with encoders in every epoch."""
        return self.macs - self.encoders + self.encoders_always

    def macs_of_own_frames(self, task: AdaptationTask) -> float:
        """Total MACs if every question of a task is about a frame of its own, encoded once."""
        return self.macs - self.encoders + self.encoders_always / task.epochs


class PaperStep:
    """A step of a method on the default device, with encoders and optimiser.

    way: PUBLISHED or KEPT.
    """

    def __init__(self, model: str, task: AdaptationTask, method: PaperMethod, way: str) -> None:
        self.task, self.way = task, way
        self.encoders = Encoders(task) if way == PUBLISHED else None
        self.step = _make(model, task, method.make)
        if way == KEPT and self.step.first:
            self.step.lm.family.leave_out(self.step.first)
        self.optimiser = AdamW(self.step.trained(), fused=True)

    @property
    def given(self) -> bool:
        """Whether questions are read beforehand."""
        return self.way == KEPT and self.step.first > 0

    def tokens(self, count: int) -> dict[str, torch.Tensor]:
        """Tokens of `count` frames, as read from disk, by modality."""
        return {sensor.modality: torch.zeros(count, sensor.tokens, TOKEN_WIDTH)
                for sensor in self.task.sensors}

    def texts(self, count: int) -> torch.Tensor:
        """Texts of `count` questions, as read from disk or computed."""
        if not self.given:
            return self.step.read(count)
        return torch.zeros(count, self.task.text, self.step.lm.width, dtype=self.step.lm.dtype)

    def learn(self, tokens: Mapping[str, torch.Tensor]) -> None:
        """Run a step without the optimiser."""
        positions = self.task.answer if self.way == KEPT else self.task.text + self.task.tokens
        self.step.loss(tokens, self.texts(self.task.batch), positions).backward()

    def train(self) -> None:
        """Run a whole step; one encoded frame stands for all of the batch."""
        batch = self.task.batch
        self.learn({name: tokens.expand(batch, -1, -1) for name, tokens in self.encoders().items()}
                   if self.encoders else self.tokens(batch))
        self.optimiser.step()
        self.optimiser.zero_grad()

    def weights(self) -> list[torch.Tensor]:
        """All weights in memory."""
        modules = [self.step, self.step.lm.model, *filter(None, [self.encoders])]
        return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def cost(model: str, task: AdaptationTask, method: PaperMethod, way: str, device: str = 'cpu') -> Cost:
    """The cost of one method.  device: cuda also runs the steps with random weights."""
    encoded, kept, read, question, stored = encoding(task), way == KEPT, 0, 0., 0
    with FakeTensorMode():
        run = PaperStep(model, task, method, way)
        step = measure_macs(lambda: run.learn(run.tokens(task.batch)))
        run.optimiser.zero_grad()
        memory, parameters = peak(run), sum(parameter.numel() for parameter in run.step.trained())
        if run.given:
            question, read = reading_macs(model, task, method.make), reading_peak(model, task, method.make)
            cached = run.step.cached(1).nbytes if isinstance(run.step, MpnpStep) else 0
            stored = (run.texts(1).nbytes + cached) * task.samples
    measured = measured_peak(model, task, method, way, device) if device == 'cuda' else 0
    return Cost(model, task.name, method.name, way, parameters,
                encoders=encoded.macs * (task.frames if kept else task.seen),
                encoders_always=encoded.macs * task.seen, reading=question * task.samples,
                steps=step / task.batch * task.seen, optimiser=ADAMW * parameters * task.steps,
                memory=Memory(*memory, max(read, encoded.peak) if kept else 0, stored, measured))


def costs(model: str, task: AdaptationTask, device: str = 'cpu') -> list[Cost]:
    """The costs of all methods in all their ways."""
    return [cost(model, task, method, way, device)
            for method in methods(LINKED[model]) for way in method.ways]


def by_depth(model: str, task: AdaptationTask, counted: Iterable[Cost], device: str = 'cpu',
             ) -> dict[int, Cost]:
    """The cost of ours by number of linked blocks.  counted: the costs of the task, not counted again."""
    ours = next(cost for cost in counted if (cost.method, cost.way) == (OURS, KEPT))
    return {linked: ours if linked == LINKED[model] else
            cost(model, task, PaperMethod(OURS, partial(MpnpStep, linked=linked)), KEPT, device)
            for linked in DEPTHS}


def by_length(model: str, task: AdaptationTask, counted: Iterable[Cost], device: str = 'cpu',
              ) -> dict[int, dict[str, float]]:
    """Ratios of ours to others by the tokens of a question with its answer; all are kept what can be kept.

    counted: the costs of the task, not counted again.
    """
    made, known = {}, {cost.method: cost for cost in counted if cost.way == KEPT}
    for length in LENGTHS:
        asked = replace(task, text=length)
        found = known if asked == task else {
            method.name: cost(model, asked, method, KEPT, device) for method in methods(LINKED[model])
            if method.name in (FULL, PROMPT_FUSE, OURS, OURS_ALL_ROWS)}
        ours, all_rows = found[OURS], found[OURS_ALL_ROWS]
        made[length] = {
            'mPnP / PromptFuse': ours.macs / found[PROMPT_FUSE].macs,
            'mPnP / Full LLM': ours.macs / found[FULL].macs,
            'all rows linked / PromptFuse': all_rows.macs / found[PROMPT_FUSE].macs,
            **{f'frames of their own: mPnP / {rival}':
               ours.macs_of_own_frames(asked) / found[rival].macs_of_own_frames(asked)
               for rival in OPERATIONS_LIMITS}}
    return made


class Encoding(NamedTuple):
    """MACs and peak bytes of encoding a moment with all sensors."""

    macs: int
    peak: int


@cache
def encoding(task: AdaptationTask) -> Encoding:
    """The cost of the encoders of an adaptation."""
    with FakeTensorMode():
        encoders = Encoders(task)
        return Encoding(measure_macs(encoders), _peak_of(encoders, encoders))


def reading_macs(model: str, task: AdaptationTask, make: MakeStep) -> float:
    """MACs of reading one question through the blocks below the trained parts."""
    step = _make(model, task, make)
    return measure_macs(lambda: step.read(task.batch)) / task.batch


def peak(run: PaperStep) -> tuple[int, int, int]:
    """Bytes of weights, of the optimiser's moments, and of everything else at the peak of a step."""
    weights = run.weights()
    memory = PeakMemory().hold(weights)
    held = memory.held
    with memory:
        for _ in range(WARM_STEPS):
            run.train()
    moments = sum(value.nbytes for state in run.optimiser.state.values() for value in state.values())
    return held, moments, memory.peak - held - moments


def reading_peak(model: str, task: AdaptationTask, make: MakeStep) -> int:
    """Bytes at the peak of reading a batch of questions with the whole model."""
    step = _make(model, task, make)
    return _peak_of(step.lm.model, lambda: step.read(task.batch))


def measured_peak(model: str, task: AdaptationTask, method: PaperMethod, way: str, device: str) -> int:
    """Peak bytes of torch on a GPU in a real step with random weights."""
    with torch.device(device):
        run = PaperStep(model, task, method, way)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(WARM_STEPS):
            run.train()
        found = torch.cuda.max_memory_allocated(device)
    del run
    torch.cuda.empty_cache()
    return found


def _make(model: str, task: AdaptationTask, make: MakeStep) -> Step:
    """A step with its language model in the precision of its weights."""
    weights = getattr(getattr(make, 'func', make), 'weights', torch.bfloat16)
    return make(language_model(model, weights), task)


def _peak_of(module: torch.nn.Module, work: Callable[[], object]) -> int:
    memory = PeakMemory().hold([*module.parameters(), *module.buffers()])
    with memory:
        work()
    return memory.peak


@dataclass(frozen=True)
class Claim:
    """A ratio of ours to a peer's.  of: quantity and peer; reading: accounting; limit: upper bound."""

    of: str
    reading: str
    ratio: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the ratio is within its limit."""
        return self.ratio <= self.limit


def claims(found: Iterable[Cost], task: AdaptationTask) -> list[Claim]:
    """All ratios of ours to other methods, for one model and adaptation, under every accounting."""
    known = {(cost.method, cost.way): cost for cost in found}
    ours, made = known[OURS, KEPT], []
    for rival, limit in OPERATIONS_LIMITS.items():
        published, kept = known[rival, PUBLISHED], known[rival, KEPT]
        ratios = {
            'each as it is run: theirs as published, ours kept': ours.macs / published.macs,
            'both kept': ours.macs / kept.macs,
            'both kept, and every question about a frame of its own':
                ours.macs_of_own_frames(task) / kept.macs_of_own_frames(task),
            'encoders in every epoch for both': ours.macs_encoding_always / published.macs,
        }
        made += [Claim(f'operations / {rival}', reading, ratio, limit) for reading, ratio in ratios.items()]
    own, theirs, theirs_kept = (cost.memory for cost in (ours, known[PROMPT_FUSE, PUBLISHED],
                                                     known[PROMPT_FUSE, KEPT]))
    whole = max(own.peak, own.reading)
    ratios = {
        'training step: theirs as published, ours kept': own.peak / theirs.peak,
        'training step: both kept': own.peak / theirs_kept.peak,
        'with reading beforehand: theirs as published, ours kept': whole / theirs.peak,
        'with reading beforehand: both kept': whole / theirs_kept.peak,
        'what was read of all questions in memory too: both kept': (own.peak + own.stored) / theirs_kept.peak,
    }
    return made + [Claim(f'memory / {PROMPT_FUSE}', reading, ratio, MEMORY_LIMIT)
                   for reading, ratio in ratios.items()]

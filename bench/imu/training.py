"""Training of the motion network."""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.imu.drives import UNTOLD, ImuDrive, classes
from bench.imu.windows import Window, random_part, varied_window
from mpnp_ros.modalities.imu.network import MotionNetwork, MotionScores, inputs_of

NEWEST = 12
"""Seconds at the end of a window that are learned from; the axes were found from those before them."""


@dataclass(frozen=True)
class TrainingPlan:
    """windows: number of varied windows.  share: of them from the world.  steps, batch: of the optimizer."""

    windows: int = 3000
    share: float = 0.3
    steps: int = 450
    batch: int = 40
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    hidden: int = 48
    dropout: float = 0.2
    seed: int = 0


def training_windows(drive: ImuDrive, parts: Sequence[tuple[float, float]], worlds: Sequence[ImuDrive],
                     plan: TrainingPlan, workers: int = 1,
                     show: Callable[[int, int], None] = lambda done, whole: None) -> list[Window]:
    """Return varied windows of parts of a drive, and of drives in the world; the same for any `workers`."""
    make = partial(_training_window, drive, parts, worlds, plan)
    windows = []
    with ProcessPoolExecutor(workers, mp_context=get_context('fork'), initializer=_hold,
                             initargs=(make,)) as pool:
        for done, window in enumerate(pool.map(_held, range(plan.windows), chunksize=20), 1):
            if len(window.truth) >= 2:
                windows.append(window)
            show(done, plan.windows)
    return windows


def _training_window(drive: ImuDrive, parts: Sequence[tuple[float, float]], worlds: Sequence[ImuDrive],
                     plan: TrainingPlan, place: int) -> Window:
    random = np.random.default_rng([plan.seed, place])
    source, span = drive, list(parts)
    if worlds and random.random() < plan.share:
        source = worlds[int(random.integers(len(worlds)))]
        span = [(float(source.times[0]), float(source.times[-1]))]
    return varied_window(source, *random_part(span, random), random)


_make: list[Callable[[int], Window]] = []


def _hold(make: Callable[[int], Window]) -> None:
    """Keep what makes windows in a worker; forked, so that drives are not copied with every window."""
    _make[:] = [make]


def _held(place: int) -> Window:
    return _make[0](place)


def trained(windows: Sequence[Window], validation: Sequence[Window], plan: TrainingPlan,
            show: Callable[[str], None] = print) -> MotionNetwork:
    """Return a network trained on windows; validation: of which the likelihood is shown."""
    torch.manual_seed(plan.seed)
    random = np.random.default_rng(plan.seed)
    network = MotionNetwork(hidden=plan.hidden, dropout=plan.dropout)
    weights = [value for value in network.parameters() if value.ndim > 1]
    others = [value for value in network.parameters() if value.ndim < 2]
    optimizer = torch.optim.AdamW([{'params': weights, 'weight_decay': plan.weight_decay},
                                   {'params': others, 'weight_decay': 0.0}], plan.learning_rate)
    began = time.monotonic()
    by_length = sorted(range(len(windows)), key=lambda place: len(windows[place].truth))
    for step in range(plan.steps):
        rate = min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / plan.steps))
        for group in optimizer.param_groups:
            group['lr'] = plan.learning_rate * rate
        start = random.integers(max(1, len(windows) - plan.batch + 1))
        batch = [windows[place] for place in by_length[start:start + plan.batch]]
        losses = loss_of(network, batch)
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99 or step + 1 == plan.steps:
            network.eval()
            with torch.inference_mode():
                held = loss_of(network, validation) if validation else {}
            network.train()
            show(f'step {step + 1} ({time.monotonic() - began:.0f} s): '
                 + ', '.join(f'{name} {value.item():.3f}' for name, value in losses.items()) + '; held out: '
                 + ', '.join(f'{name} {value.item():.3f}' for name, value in held.items()))
    return network.eval()


def loss_of(network: MotionNetwork, windows: Sequence[Window]) -> dict[str, Tensor]:
    """Return the negative log likelihood of the newest seconds by group."""
    scores = network(inputs_of([window.features for window in windows]))
    longest = scores.speed.shape[1]
    truth = np.full((len(windows), longest, 4), UNTOLD)
    for place, window in enumerate(windows):
        newest = window.truth[-NEWEST:]
        truth[place, longest - len(newest):] = classes(newest)
    return losses_of(scores, torch.from_numpy(truth))


def losses_of(scores: MotionScores, truth: Tensor) -> dict[str, Tensor]:
    """Return the mean negative log likelihood of classes [B, S, 4] by group, without those that are
    UNTOLD.
    """
    losses = {}
    for place, name in enumerate(('speed', 'turn', 'pace')):
        right = truth[..., place].flatten()
        losses[name] = functional.nll_loss(getattr(scores, name).flatten(0, 1), right, ignore_index=UNTOLD)
    told = truth[..., 3] != UNTOLD
    losses['bump'] = functional.binary_cross_entropy_with_logits(
        scores.bump[told], truth[..., 3][told].float()) if told.any() else scores.bump.sum() * 0
    return losses

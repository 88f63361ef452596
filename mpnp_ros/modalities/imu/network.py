"""The motion network: probabilities of speeds, followed second by second, and of turns, paces and bumps.

Speed is a hidden Markov model over bins (forward algorithm).  The acceleration ahead moves it, the
acceleration to the left over the rotation rate measures it in bends, and what a small network reads from
vibrations weighs the bins.  All its parts are trained together by the likelihood of the true speeds, so
probabilities are calibrated. Turn and pace are probabilities of a normal distribution beyond the borders.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mpnp_ros.modalities.imu.channels import PACE_BORDER, SPEED_BORDERS, TURN_BORDER
from mpnp_ros.modalities.imu.features import BANDS, KINDS, MotionFeatures

SPEED_EDGES = (0.0, 0.2, 0.5, 0.8, 1.1, 1.5, 2.0, 2.5, 3.0, 3.75, 4.5, 5.25, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0,
               12.0, 13.5, 15.0, 17.0, 19.0, 22.0, 26.0, 40.0)
"""Borders of the bins of speed, metres/second."""
BINS = len(SPEED_EDGES) - 1
FOLLOWED = 60
"""Seconds over which the speed is followed."""
OF_VIBRATIONS = KINDS * BANDS * 3 + BANDS + 4
"""Numbers that the weights of the bins are read from."""

LEAST_JOLT, USUAL = 0.3, 0.75
"""A bump is compared with the jolt that this share of the seconds does not exceed, or the least, m/s^2."""
BEFORE = -1.0
"""In place of `there`: a second before the window."""


class MotionInputs(NamedTuple):
    """Features of B windows of S seconds; those of shorter windows are filled up in front.

    motion: [B, S, 6] rotation, ahead, left, size, still, there (BEFORE in
    seconds that fill up).  vibrations: [B, S, OF_VIBRATIONS].
    window: [B, 3] certainty, bias_error, sided.  jolts: [B, S, 2] largest and usual jolt.
    """

    motion: Tensor
    vibrations: Tensor
    window: Tensor
    jolts: Tensor


class MotionScores(NamedTuple):
    """Log probabilities of the newest T seconds, up to FOLLOWED.

    speed: [B, T, 4].  turn, pace: [B, T, 3].  bump: its logit [B, T].
    """

    speed: Tensor
    turn: Tensor
    pace: Tensor
    bump: Tensor


class MotionNetwork(nn.Module):
    """See the module.  hidden: width of the layers that read vibrations."""

    edges: Tensor
    centres: Tensor
    widths: Tensor
    member: Tensor

    def __init__(self, channels: Sequence[Any] = (), hidden: int = 48, dropout: float = 0.0) -> None:
        super().__init__()
        edges = torch.tensor(SPEED_EDGES)
        self.register_buffer('edges', edges, persistent=False)
        self.register_buffer('centres', (edges[1:] + edges[:-1]) / 2, persistent=False)
        self.register_buffer('widths', edges.diff(), persistent=False)
        of_class = torch.bucketize(self.centres, torch.tensor(SPEED_BORDERS))
        self.register_buffer('member', nn.functional.one_hot(of_class, len(SPEED_BORDERS) + 1).float(),
                             persistent=False)
        self.read = nn.Sequential(
            nn.Linear(OF_VIBRATIONS, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, BINS))
        self.prior = nn.Parameter(torch.zeros(BINS))
        self.walk = nn.Parameter(torch.tensor([0.3, 0.3]).log())  # of the speed: always, and by its size
        self.bend = nn.Parameter(torch.tensor([0.4, 0.15]).log())  # of the acceleration to the left
        self.bend_weight = nn.Parameter(torch.tensor(-0.5))
        self.gain = nn.Parameter(torch.tensor(0.0))  # of the acceleration ahead
        self.turn_error = nn.Parameter(torch.tensor(0.01).log())
        self.pace_error = nn.Parameter(torch.tensor(0.25).log())
        self.bump = nn.Parameter(torch.tensor([-4.0, 1.0, 3.0]))

    def forward(self, inputs: MotionInputs) -> MotionScores:
        """Return the scores of the newest seconds, each from the seconds up to it."""
        inputs = MotionInputs(*(values if values.ndim < 3 else values[:, -FOLLOWED:] for values in inputs))
        rotation, ahead, left, size, still, there = inputs.motion.unbind(-1)
        certainty, bias_error, sided = inputs.window.T
        sure = certainty[:, None]
        change = sure * ahead * self.gain.exp()
        doubt = size * (1 - sure ** 2).clamp(min=0).sqrt()
        weights = self.read(inputs.vibrations) + self._bends(rotation, left, doubt, sure)
        speed = self._followed(weights, change, doubt, there)
        standing = speed[..., 0].exp()[..., None]
        pace = beyond(change, PACE_BORDER, torch.hypot(self.pace_error.exp(), doubt))
        resting = torch.tensor([0.0, 1.0, 0.0], device=pace.device)
        pace = standing * resting + (1 - standing) * pace[..., [1, 2, 0]]
        turn = beyond(rotation, TURN_BORDER, torch.hypot(self.turn_error.exp(), bias_error[:, None])
                      .expand_as(rotation))
        left_right = turn[..., [0, 1]]
        left_right = torch.where(sided[:, None, None] > 0.5, left_right, left_right.mean(-1, keepdim=True))
        turn = torch.cat([left_right, turn[..., 2:]], -1)
        jolt, usual = inputs.jolts.clamp(min=1e-2).log().unbind(-1)
        bump = self.bump[0] + self.bump[1] * jolt + self.bump[2] * (jolt - usual)
        turn, pace = (each.clamp(min=1e-5).log().log_softmax(-1) for each in (turn, pace))
        return MotionScores(speed, turn, pace, bump)

    def _bends(self, rotation: Tensor, left: Tensor, doubt: Tensor, sure: Tensor) -> Tensor:
        """Return how well each speed explains the acceleration to the left, log [B, S, BINS]."""
        expected = rotation[..., None] * self.centres
        constant, by_speed = self.bend.exp()
        deviation = torch.sqrt(constant ** 2 + doubt[..., None] ** 2 + (by_speed * expected) ** 2
                               + (rotation[..., None] * self.widths) ** 2 / 12)
        distance = (left[..., None] - expected) / deviation
        score = -torch.log1p(distance ** 2 / 4) * 2.5 - deviation.log()
        return score * torch.sigmoid(self.bend_weight) * (sure ** 2)[..., None]

    def _followed(self, weights: Tensor, change: Tensor, doubt: Tensor, there: Tensor) -> Tensor:
        """Return log probabilities of the classes [B, S, 4]."""
        always, by_speed = self.walk.exp()
        belief = self.prior.log_softmax(-1).expand(len(weights), BINS)
        found = []
        for second in range(weights.shape[1]):
            spread = torch.sqrt(always ** 2 + doubt[:, second, None] ** 2 + self.widths ** 2 / 12
                                + (by_speed * change[:, second, None]) ** 2)
            moved = self.centres + change[:, second, None]
            below = normal((self.edges[1:-1] - moved[..., None]) / spread[..., None])
            share = nn.functional.pad(nn.functional.pad(below, (1, 0)), (0, 1), value=1.0).diff(dim=-1)
            share = (share + 1e-7) / (share + 1e-7).sum(-1, keepdim=True)
            following = torch.einsum('bi,bij->bj', belief.exp(), share).clamp(min=1e-12).log()
            seen = (following + weights[:, second]).log_softmax(-1)
            here = there[:, second, None]
            belief = torch.where(here > 0.5, seen, torch.where(here < 0, belief, following))
            found.append((belief.exp() @ self.member).clamp(min=1e-6).log())
        return torch.stack(found, 1).log_softmax(-1)


def normal(values: Tensor) -> Tensor:
    """Return the cumulative normal distribution."""
    return 0.5 * (1 + torch.erf(values / math.sqrt(2)))


def beyond(value: Tensor, border: float, deviation: Tensor) -> Tensor:
    """Return the probabilities that a normally distributed value is above border, below -border, or
    between.
    """
    above, below = normal((value - border) / deviation), normal((-value - border) / deviation)
    return torch.stack([above, below, (1 - above - below).clamp(min=0)], -1)


def inputs_of(features: Sequence[MotionFeatures]) -> MotionInputs:
    """Return the features of windows, which may differ in length, as one batch of float32."""
    longest = max(len(each.rotation) for each in features)
    rows: Mapping[str, list[np.ndarray]] = {'motion': [], 'vibrations': [], 'window': [], 'jolts': []}
    for each in features:
        missing = longest - len(each.rotation)
        motion = np.stack([each.rotation, each.ahead, each.left, each.size, each.still, each.there], 1)
        jolt = each.vibrations.jolt
        usual = max(LEAST_JOLT, float(np.quantile(jolt, USUAL))) if len(jolt) else LEAST_JOLT
        jolts = np.stack([jolt, np.full(len(jolt), usual)], 1)
        for name, values in (('motion', motion), ('vibrations', vibration_rows(each)), ('jolts', jolts)):
            rows[name].append(np.pad(values, ((missing, 0), (0, 0))))
        rows['motion'][-1][:missing, -1] = BEFORE
        rows['window'].append(np.array([each.certainty, each.bias_error, each.sided], np.float64))
    return MotionInputs(*(torch.from_numpy(np.stack(values).astype(np.float32)) for values in rows.values()))


def vibration_rows(features: MotionFeatures) -> np.ndarray:
    """Return what the weights of the bins are read from, [S, OF_VIBRATIONS], about -1 to 1.

    Powers, powers above the quietest tenth and below the loudest tenth of the window, which bands are
    measured, and the sizes of rotation and acceleration.
    """
    power, measured = features.vibrations.power, features.vibrations.measured
    rows = len(power)
    if not rows:
        return np.zeros((0, OF_VIBRATIONS))
    usable = power[features.there] if features.there.any() else power
    quiet, loud = np.quantile(usable, 0.1, axis=0), np.quantile(usable, 0.9, axis=0)
    scaled = np.stack([(power + 4) / 3, (power - quiet) / 2, (power - loud) / 2], 1) * measured
    sizes = np.stack([np.log10(np.abs(features.rotation) + 1e-3) / 2 + 1,
                      np.log10(features.size + 1e-2) / 2 + 0.5, features.still,
                      np.full(rows, min(rows, 120) / 120)], 1)
    bands = np.broadcast_to(measured, (rows, BANDS))
    return np.concatenate([scaled.clip(-2, 2).reshape(rows, -1), bands, sizes], 1)

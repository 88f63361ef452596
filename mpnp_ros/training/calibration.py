"""Calibration of links that count, in seconds instead of the minutes of a training.

The worth of a sensor's counts follows from moments in which a trusted sensor looks at the same place; no
question and no label is needed.  The counts of both are compared sector by sector.  First the sensor is
turned to the best agreement.  Then the confusion of categories and the missed share follow from non-negative
least squares with a perfect sensor as prior.

The confidence of answers follows from a temperature by which their log-probabilities are divided.  It depends
on question and frame: on the contents of the question and on the uncertainty of the counts (after Guo et al.,
arXiv:1706.04599, section 4.2, who have one temperature for all).  It is fitted on questions not used for
training, changes no answer, and is stored with the link.  Where several sensors look, their temperatures are
averaged by their parts in what is asked, and an agreement is added, fitted in the same way: two that tell the
same are surer than either, which the mean of their counts does not show.

What is fitted is the confidence itself, as the probability that the answer is right (section 2): the
likelihood of all choices, which Guo et al. fit, leaves answers from uncertain counts too sure.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.counting import CountingPooling, Counts
from mpnp_ros.methods.mpnp.link import (
    LatentLink,
    Worth,
    fuse,
    in_sectors,
    overlap_of,
    what_doubt_reads,
)
from mpnp_ros.methods.questions import question_states
from mpnp_ros.tokens import SECTORS
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, Frame

WINDOW, BLUR = 12, 5
"""Sectors that are compared together: as wide as those of a question, and in the search for the turn."""
MIN_FRAMES = 20
"""Frames below which the worth is not fitted."""
PRIOR = 20.0
"""Number of objects of a channel that weigh as much as the prior of a perfect sensor."""
GRADIENT_STEPS = 500
"""Steps of the least squares of the worth."""
BINS = 15
BATCH = 64
STIFFNESS = 10.0
"""Weight of the squares of the temperature's parameters that read the question.  There are many of them, so
that temperatures differ between questions only for a reason; those that read the counts are few, and free."""
LEAST = 1e-6
"""Confidences of 0 and 1 are moved by so much: their gradients are infinite."""
LBFGS_STEPS = 60
"""Maximum iterations of the fit of the temperature."""


@torch.no_grad()
def fit_worth(worth: Worth, seen: Counts, trusted: Counts) -> Worth:
    """Set the worth of a sensor's counts; returns `worth`.

    seen: uncorrected counts of the sensor in some frames [F, ...].  trusted: counts of a trusted sensor in
    the same frames.  Raises TrainingError if there are too few frames.
    """
    if len(seen.numbers) < MIN_FRAMES:
        raise TrainingError(f'{len(seen.numbers)} frames are too few to compare two sensors in; '
                            f'wait until there are {MIN_FRAMES}')
    there, _ = in_sectors(trusted)
    turn = _best_turn(in_sectors(seen)[0], there, trusted.covered)
    own, _ = in_sectors(seen._replace(azimuth=seen.azimuth + turn))
    looked = torch.roll(seen.covered, round(turn / math.tau * SECTORS), 1).amax(2) * trusted.covered.amax(2)
    windows = [_around(part, WINDOW) for part in (own, there, looked[..., None])]
    known = windows[2][..., 0] > WINDOW - .5
    source, target = windows[0][known], windows[1][known]
    source = torch.cat([source, source.new_full((len(source), 1), float(WINDOW))], 1)
    channels = there.shape[2]
    start = torch.cat([torch.eye(channels), torch.zeros(1, channels)]).to(source)
    stiffness = torch.cat([source.new_full((channels,), PRIOR), source.new_full((1,), PRIOR * WINDOW)])
    solution = _least_squares(source, target, start, stiffness * WINDOW)
    told = trusted.covered.amax((0, 1)) > 0
    worth.turn.fill_(turn)
    worth.confusion.copy_(torch.where(told[:, None], solution[:channels].T, start[:channels]))
    worth.missed.copy_(solution[channels] * told)
    return worth


def _best_turn(seen: torch.Tensor, there: torch.Tensor, covered: torch.Tensor) -> float:
    """Return the radians to the left by which numbers [F, SECTORS, C] agree best with those there."""
    seen, there = (_around(part.sum(2, keepdim=True), BLUR) for part in (seen, there * covered))
    seen, there = seen - seen.mean(), there - there.mean()
    agreement = torch.stack([(torch.roll(seen, shift, 1) * there).sum() for shift in range(SECTORS)])
    best = int(agreement.argmax())
    before, here, behind = (float(agreement[(best + step) % SECTORS]) for step in (-1, 0, 1))
    bend = before - 2 * here + behind
    exact = best + (0.5 * (before - behind) / bend if bend < 0 else 0.)
    return (exact + SECTORS / 2) % SECTORS * math.tau / SECTORS - math.pi


def _around(numbers: torch.Tensor, width: int) -> torch.Tensor:
    """Return sums [F, SECTORS, C] over `width` sectors around each sector."""
    return sum(torch.roll(numbers, step - width // 2, 1) for step in range(width))


def _least_squares(source: torch.Tensor, target: torch.Tensor, start: torch.Tensor,
                   stiffness: torch.Tensor) -> torch.Tensor:
    """Return the X >= 0, [n, m], of the least |source X - target|^2 + |sqrt(stiffness) (X - start)|^2.

    By accelerated projected gradients (Beck and Teboulle, SIAM J. Imaging Sciences 2, 2009).
    """
    gram = source.T @ source + torch.diag(stiffness)
    wanted = source.T @ target + stiffness[:, None] * start
    step = 1 / torch.linalg.matrix_norm(gram, 2)
    found, ahead, momentum = start, start, 1.
    for _ in range(GRADIENT_STEPS):
        new = (ahead - step * (gram @ ahead - wanted)).clamp(min=0)
        later = (1 + math.sqrt(1 + 4 * momentum ** 2)) / 2
        ahead = new + (momentum - 1) / later * (new - found)
        found, momentum = new, later
    return found


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Return the expected calibration error in [0, 1] (arXiv:1706.04599, equation 3); NaN without answers."""
    confidence, correct = np.asarray(confidences, float), np.asarray(right, float)
    if not len(confidence):
        return float('nan')
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[bin_of == place].sum() - correct[bin_of == place].sum()) for place in range(bins)]
    return float(sum(gaps) / len(confidence))


def fit_temperature(method: Method, modality: str, examples: Sequence[Example], book: PreparedQuestions,
                    see: Callable[[Example], Frame]) -> tuple[float, float]:
    """Fit the temperature of a plugged link; return the loss before and after.

    The loss is the mean binary cross-entropy between the confidence of the most likely answer and whether it
    is right.  examples: with choices, not from the training set.  see: returns the tokens for each question.
    Raises TrainingError for a link that does not count.
    """
    doubt = _counting(method, modality).doubt
    assert doubt is not None  # links that count have one
    with torch.no_grad():
        doubt.weight.zero_()
        doubt.bias.zero_()
    answered = _answered(method, (modality,), examples, book, see)
    return _fit(answered, doubt, torch.ones_like(answered.overlap))


def fit_agreement(method: Method, modalities: Sequence[str], examples: Sequence[Example],
                  book: PreparedQuestions, see: Callable[[Example], Frame]) -> tuple[float, float]:
    """Fit how much surer answers are where several plugged links look; return the loss before and after.

    The temperature of each link is fitted before.  All of them get the same agreement.  Loss, arguments and
    errors as for :func:`fit_temperature`.
    """
    links = [_counting(method, modality) for modality in modalities]
    agreement = links[0].new_agreement()
    for link in links:
        link.agreement = agreement
    answered = _answered(method, modalities, examples, book, see)
    return _fit(answered, agreement, answered.overlap)


def _counting(method: Method, modality: str) -> LatentLink:
    """Return a plugged link that counts, or raise TrainingError."""
    link = method.links()[modality]
    if not (isinstance(link, LatentLink) and isinstance(link.pooling, CountingPooling)):
        raise TrainingError(f'the {modality} link does not count and has no temperature to be fitted')
    return link


class _Answered(NamedTuple):
    """Answers to B questions: log-probabilities [B, choices], whether the most likely is right [B], what
    their temperature depends on [B, ...], of that the numbers from the question alone, and the overlap [B].
    """

    scores: torch.Tensor
    right: torch.Tensor
    known: torch.Tensor
    of_question: int
    overlap: torch.Tensor


@torch.no_grad()
def _answered(method: Method, modalities: Sequence[str], examples: Sequence[Example],
              book: PreparedQuestions, see: Callable[[Example], Frame]) -> _Answered:
    """Answer the questions from the tokens of links that share a reader."""
    links = [_counting(method, modality) for modality in modalities]
    pooling, block = links[0].pooling, links[0].config.question_block
    assert isinstance(pooling, CountingPooling)
    book.read(examples)
    scores, right, known, overlap, width = [], [], [], [], 0
    for start in range(0, len(examples), BATCH):
        batch = examples[start:start + BATCH]
        questions, frames = [book.question(example) for example in batch], [see(example) for example in batch]
        replies = method.answer_batch(questions, frames)
        scores += [torch.tensor(reply.probabilities).clamp(min=1e-12).log() for reply in replies]
        right += [reply.text == example.answer for reply, example in zip(replies, batch, strict=True)]
        states = question_states(method.lm, [question.prepared for question in questions], [block])
        assert states is not None  # as there is a block to read them at
        asked, parts = pooling.probes(*states.at(block)), []
        for link, modality in zip(links, modalities, strict=True):
            assert link.worth is not None  # links that count have one
            tokens = TokenBatch.stack([frame[modality] for frame in frames], method.lm.device)
            parts.append((link.count(tokens), link.worth, link.gates.max()))
        fused, made = fuse(parts), pooling.reading(asked)
        known.append(what_doubt_reads(asked, pooling.tally(fused.counts, asked, made)))
        overlap.append(overlap_of(fused.shares, made[0], pooling.supervised))
        width = asked[0].numel()
    device = method.lm.device
    return _Answered(torch.stack(scores).to(device), torch.tensor(right, device=device).float(),
                     torch.cat(known), width, torch.cat(overlap))


def _fit(answered: _Answered, layer: nn.Linear, factor: torch.Tensor) -> tuple[float, float]:
    """Fit a layer that adds its output, times a factor [B], to the log temperature of the answers."""
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=LBFGS_STEPS, line_search_fn='strong_wolfe')

    def answer_loss() -> torch.Tensor:
        temperature = (factor * layer(answered.known)[:, 0]).clamp(-3, 3).exp()
        confidence = (answered.scores / temperature[:, None]).softmax(-1).amax(-1)
        return binary_cross_entropy(confidence.clamp(LEAST, 1 - LEAST), answered.right)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = answer_loss() + STIFFNESS * layer.weight[:, :answered.of_question].square().sum()
        loss.backward()
        return loss

    before = answer_loss().item()
    optimiser.step(closure)
    optimiser.zero_grad()
    return before, answer_loss().item()

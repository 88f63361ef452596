"""Calibration of confidence.

A counting link has a temperature by which the log-probabilities of answers are divided.  It depends on
question and frame: on what is asked and on the uncertainty of the counts (after Guo et al., arXiv:1706.04599,
section 4.2, who have one temperature for all).  It is fitted on questions not used for training, changes no
answer, and is stored with the link.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.functional import nll_loss

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.questions import question_states
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, Frame

BINS = 15
BATCH = 64
STIFFNESS = 10.0
"""Weight of the squares of the parameters that read the question, of which there are many: temperatures
differ between questions only for a reason.  Those that read the counts are few, and free."""
ROUNDS = 60


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Return the expected calibration error in [0, 1] (arXiv:1706.04599, equation 3); NaN without answers."""
    sure, good = np.asarray(confidences, float), np.asarray(right, float)
    if not len(sure):
        return float('nan')
    places = np.minimum((sure * bins).astype(int), bins - 1)
    apart = [abs(sure[places == place].sum() - good[places == place].sum()) for place in range(bins)]
    return float(sum(apart) / len(sure))


def fit_temperature(method: Method, modality: str, examples: Sequence[Example], book: PreparedQuestions,
                    see: Callable[[Example], Frame]) -> tuple[float, float]:
    """Fit the temperature of a plugged link.

    examples: with choices, not from the training set.  see: returns the tokens for each question.  Returns
    the mean negative log-likelihood of the true answers before and after.  Raises TrainingError for a link
    that does not count.
    """
    link = method.links()[modality]
    if not isinstance(link, LatentLink) or link.config.pooling != 'counting':
        raise TrainingError(f'the {modality} link does not count and has no temperature to be fitted')
    with torch.no_grad():
        link.doubt.weight.zero_()
        link.doubt.bias.zero_()
    book.read(examples)
    logs, true, asked, tallies = [], [], [], []
    for start in range(0, len(examples), BATCH):
        batch = examples[start:start + BATCH]
        questions, frames = [book.question(example) for example in batch], [see(example) for example in batch]
        replies = method.answer_batch(questions, frames)
        logs += [torch.tensor(reply.probabilities).clamp(min=1e-12).log() for reply in replies]
        true += [one.prepared.trie.choices.index(example.answer)
                 for one, example in zip(questions, batch, strict=True)]
        block = link.config.question_block
        states = question_states(method.lm, [one.prepared for one in questions], [block])
        with torch.no_grad():
            asked.append(link.pooling.probes(*states.at(block)))
            tokens = TokenBatch.stack([frame[modality] for frame in frames], method.lm.device)
            tallies.append(link.pooling.tally(link.count(tokens), asked[-1]))
    scores, answers = torch.stack(logs).to(method.lm.device), torch.tensor(true, device=method.lm.device)
    optimiser = torch.optim.LBFGS(link.doubt.parameters(), max_iter=ROUNDS, line_search_fn='strong_wolfe')

    def loss_of() -> torch.Tensor:
        warmth = torch.cat([link.temperature(*pair) for pair in zip(asked, tallies, strict=True)])
        return nll_loss((scores / warmth[:, None]).log_softmax(-1), answers)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = loss_of() + STIFFNESS * link.doubt.weight[:, :asked[0][0].numel()].square().sum()
        loss.backward()
        return loss

    before = loss_of().item()
    optimiser.step(closure)
    return before, loss_of().item()

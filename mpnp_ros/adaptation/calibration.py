"""Confidence that can be believed: how far it is from the share of right answers, and the cure.

A link that counts holds a temperature by which the log-probabilities of answers are divided, a number for
each question that follows from what its probes ask for (Guo et al., arXiv 1706.04599, section 4.2, with one
temperature for all questions).  It is fitted on questions that the link has not learned from, changes no
answer, and is stored with the link.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.functional import nll_loss

from mpnp_ros.adaptation.batches import QuestionBook
from mpnp_ros.adaptation.dataset import Example, Frame
from mpnp_ros.errors import TrainingError
from mpnp_ros.links.link import LatentLink
from mpnp_ros.methods.base import Method
from mpnp_ros.methods.batch import question_states

BINS = 15
BATCH = 64
STIFFNESS = 1e-3
"""Weight of the squares of what is fitted, so that a temperature differs between questions for a reason."""
ROUNDS = 60


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error in [0, 1] (arXiv 1706.04599, equation 3); NaN of none."""
    sure, good = np.asarray(confidences, float), np.asarray(right, float)
    if not len(sure):
        return float('nan')
    places = np.minimum((sure * bins).astype(int), bins - 1)
    apart = [abs(sure[places == place].sum() - good[places == place].sum()) for place in range(bins)]
    return float(sum(apart) / len(sure))


def fit_temperature(method: Method, modality: str, examples: Sequence[Example], book: QuestionBook,
                    see: Callable[[Example], Frame]) -> tuple[float, float]:
    """Fit the temperature of a plugged link.

    examples: with choices, not of the training set.  see: what each question's answer may rest on.  Returns
    the mean negative log-likelihood of the true answers before and after.  Raises TrainingError for a link
    that does not count.
    """
    link = method.links()[modality]
    if not isinstance(link, LatentLink) or link.config.pooling != 'counting':
        raise TrainingError(f'the {modality} link does not count and has no temperature to be fitted')
    doubt = link.doubt
    with torch.no_grad():
        doubt.weight.zero_()
        doubt.bias.zero_()
    book.read(examples)
    scores, asked, true = [], [], []
    for start in range(0, len(examples), BATCH):
        batch = examples[start:start + BATCH]
        questions = [book.question(example) for example in batch]
        replies = method.answer_batch(questions, [see(example) for example in batch])
        scores += [reply.probabilities for reply in replies]
        true += [one.prepared.trie.choices.index(example.answer)
                 for one, example in zip(questions, batch, strict=True)]
        states = question_states(method.lm, [one.prepared for one in questions], [link.config.question_block])
        with torch.no_grad():
            asked.append(link.pooling.probes(*states.at(link.config.question_block)).flatten(1))
    logs = torch.tensor(scores, device=method.lm.device).clamp(min=1e-12).log()
    features = torch.cat(asked)
    answers = torch.tensor(true, device=method.lm.device)
    optimiser = torch.optim.LBFGS(doubt.parameters(), max_iter=ROUNDS, line_search_fn='strong_wolfe')

    def loss_of() -> torch.Tensor:
        warmth = doubt(features).clamp(-3, 3).exp()
        return nll_loss((logs / warmth).log_softmax(-1), answers)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = loss_of() + STIFFNESS * doubt.weight.square().sum()
        loss.backward()
        return loss

    before = loss_of().item()
    optimiser.step(closure)
    return before, loss_of().item()

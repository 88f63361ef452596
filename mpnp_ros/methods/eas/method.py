"""EAS: columns before the text, and blocks that go without attention (arXiv:2403.15226)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import torch
from torch import nn

from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.eas.link import EasAdapters, EasLink, Supernet
from mpnp_ros.methods.eas.redundancy import SearchConfig, SkipProfile, measure_skips, search_skips
from mpnp_ros.methods.mma.method import Mma
from mpnp_ros.methods.questions import AnsweredQuestion, Tokens
from mpnp_ros.methods.registry import MethodSpec


class Eas(Mma):
    """As mma, but some blocks have no attention: they cost their feed-forward, and no keys and values.

    Which ones is measured by :meth:`calibrate` before links are trained, and saved with them.
    """

    def __init__(self, lm: LanguageModel, *, calibration_questions: int = 8, breadth: int = 2,
                 **options: Any) -> None:
        """calibration_questions: that blocks are chosen by; breadth: as in measure_skips."""
        super().__init__(lm, **options)
        self.calibration_questions, self.breadth = calibration_questions, breadth

    def calibrate(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens]) -> None:
        """As other methods do, and choose which blocks go without attention, unless the links say so.

        By texts alone: what links say that were not trained is noise.
        """
        super().calibrate(questions, tokens)
        shared: EasAdapters | None = self._connections.shared
        if shared is not None and len(shared.skipped) and not shared.measured:
            shared.choose(self.profile(questions, [{}], len(shared.skipped)).order)

    def profile(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens],
                count: int) -> SkipProfile:
        """How far skipping up to `count` blocks moves the log-probabilities of true answers, by measurement.

        Not how far down: a model that knows little gets better by whatever makes it less sure.
        """
        trial = self._trial()
        asked, frames = self._sample(questions, tokens)
        whole = trial.losses(asked, frames, frozenset())
        return measure_skips(
            lambda skipped: float((trial.losses(asked, frames, skipped) - whole).abs().mean()),
            trial.supernet.skippable, count, self.breadth)

    def search(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens], count: int,
               config: SearchConfig | None = None) -> frozenset[int]:
        """Which blocks to skip by the paper's search; questions and their frames in step.

        Every eighth question is held back to reward by.
        """
        trial, pairs = self._trial(), list(zip(questions, tokens, strict=True))
        held, train = pairs[::8], cycle(_batches([pair for place, pair in enumerate(pairs) if place % 8]))
        optimiser = torch.optim.AdamW(trial.trainable_parameters(), lr=1e-3)

        def step(skipped: frozenset[int]) -> None:
            optimiser.zero_grad()
            trial.supernet.now = tuple(sorted(skipped))
            trial.answer_losses(*zip(*next(train), strict=True)).mean().backward()
            optimiser.step()

        return search_skips(lambda skipped: float(trial.losses(*zip(*held, strict=True), skipped).mean()),
                            step, trial.supernet.skippable, count, config or SearchConfig())

    def _trial(self) -> _Trial:
        return _Trial(self)

    def _sample(self, questions: Sequence[AnsweredQuestion],
                tokens: Sequence[Tokens]) -> tuple[list[AnsweredQuestion], list[Tokens]]:
        """A few questions from all over, with some frame each."""
        asked = list(questions[::max(1, len(questions) // self.calibration_questions)])
        asked = asked[:self.calibration_questions]
        return asked, [tokens[place % len(tokens)] for place in range(len(asked))]


class _Trial(Eas):
    """Copies of a method's links that try every block in both forms; nothing is folded."""

    def __init__(self, method: Eas) -> None:
        super().__init__(method.lm, template=method.template, fold=False)
        for link in method.links().values():
            config = replace(link.config, skipped=len(link.config.skippable))
            copied = EasLink(config).to(self.lm.device)
            copied.start_from(link)
            copied.shared = Supernet(config).to(self.lm.device)
            copied.shared.begin_with(link.shared)
            copied.signals = nn.Parameter(copied.shared.placed(link.signals, link.shared))
            self.plug(copied)
        self.supernet: Supernet = self._connections.shared

    @torch.no_grad()
    def losses(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens],
               skipped: frozenset[int]) -> torch.Tensor:
        """[B] that of each question with some blocks skipped."""
        self.supernet.now = tuple(sorted(skipped))
        return self.answer_losses(questions, tokens)


def _batches(pairs: list[tuple[AnsweredQuestion, Tokens]],
             size: int = 16) -> list[list[tuple[AnsweredQuestion, Tokens]]]:
    return [pairs[start:start + size] for start in range(0, len(pairs), size)]


SPEC = MethodSpec(
    'eas', 'Efficient Attention Skipping (arXiv:2403.15226): as `mma`, and some blocks have no attention',
    Eas, EasLink)

"""Training of the reader of a counting link, without the upper blocks of the language model.

The first stage is about words: the meaning of training questions is known, so the probes learn their
directions, distances and categories, and which questions counts cannot answer.  The second stage is about
numbers: a linear classifier, discarded afterwards, answers from the entries.  The language model only reads
each text once, so this takes minutes; training through its upper blocks takes hours.
"""
from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import increment_version
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.counting import EDGES, CountingPooling
from mpnp_ros.methods.mpnp.link import LatentLink, Question
from mpnp_ros.options import Options, option
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.vocabulary import THING
from mpnp_ros.tokens import sector_azimuths
from mpnp_ros.training.batches import BatchPlan
from mpnp_ros.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from mpnp_ros.training.painted_questions import PaintedDataset, target_of
from mpnp_ros.training.text_states import padded_states, text_states

CHECKPOINT_EVERY = 200


@dataclass(frozen=True)
class ReaderConfig(Options):
    """Options of a training: of a first stage on texts, and of a second on questions about frames.

    Rates fall on half a cosine after `warm_up` steps.
    """

    word_steps: int = option(1200, 'steps of the first stage', low=1)
    word_batch: int = option(128, 'texts per step of the first stage', low=1)
    word_rate: float = option(2e-3, 'highest learning rate of the first stage', low=1e-30)
    number_steps: int = option(2000, 'steps of the second stage', low=1)
    number_batch: int = option(64, 'questions per step of the second stage', low=1)
    number_rate: float = option(1e-3, 'highest learning rate of the second stage', low=1e-30)
    warm_up: int = option(60, 'steps over which rates rise', low=0)
    words_still: float = option(
        0.05, 'learning rate of the words in the second stage, as a share of its rate', low=0)
    dropout: float = option(
        0.15, 'dropout on the states of texts in the first stage', low=0, high=.999)
    meaning: float = option(1.0, 'weight of the loss of meanings in the second stage', low=0)
    beyond: int = option(8, 'questions per question that counts cannot answer', low=1)
    weight_decay: float = option(0.01, 'weight decay', low=0)
    clip: float = option(1.0, 'largest norm of the gradient', low=1e-30)
    seed: int = option(0, 'random seed')


@dataclass(frozen=True)
class ReaderStep:
    """Progress after one step: stage, its number from 1, number of steps, and loss.

    stage: 'reading', which has no loss, 'words' or 'numbers'.
    """

    stage: str
    step: int
    steps: int
    loss: float


class ReaderTraining:
    """One training of the reader of a plugged link.

    Raises TrainingError for a link that does not count, or that chooses channel by channel.
    """

    def __init__(self, method: Method, modality: str, data: PaintedDataset,
                 config: ReaderConfig | None = None, checkpoint: str | Path | None = None,
                 states: dict[str, torch.Tensor] | None = None) -> None:
        """checkpoint: folder from which a stopped training resumes.

        states: states of texts that the language model has read; new ones are added for the next training.
        """
        link = method.links()[modality]
        if not (isinstance(link, LatentLink) and isinstance(link.pooling, CountingPooling)
                and link.config.masks == 'sorts'):
            raise TrainingError(f'the {modality} link does not count by sort; make it with pooling: counting '
                                'and masks: sorts')
        self.link, self.pooling = link, link.pooling
        self.method, self.modality, self.data = method, modality, data
        self.config = config or ReaderConfig()
        self.folder = None if checkpoint is None else Path(checkpoint)
        self.answers = tuple(dict.fromkeys(
            answer for example in data.dataset.examples for answer in example.choices))
        self.kinds = tuple(sorted({meaning.type for meaning in data.meanings.values()}))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            width = self.link.config.entries * self.link.config.pooling_width
            self.classifier = nn.Linear(width, len(self.answers)).to(method.lm.device)
            self.types = nn.Linear(self.link.config.probes * self.link.config.pooling_width,
                                   len(self.kinds)).to(method.lm.device)
        self.examples = data.dataset.examples
        self.texts, self.beyond = tuple(data.meanings), data.beyond
        self._targets: dict[Meaning, tuple[torch.Tensor, ...]] = {}
        self._states = {} if states is None else states

    def run(self, progress: Callable[[ReaderStep], None] = lambda step: None,
            cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Train; return False if cancelled.  A stopped training resumes from its checkpoint."""
        if not self._read_texts(progress, cancelled):
            return False
        sample = random.Random(self.config.seed).sample(self.texts, min(512, len(self.texts)))
        self.link.calibrate([self._question(sample)], None)
        stages = (('words', self.config.word_steps, self.config.word_rate, self._word_loss()),
                  ('numbers', self.config.number_steps, self.config.number_rate, self._number_loss()))
        with torch.random.fork_rng(devices=[]):
            return all(self._stage(*stage, progress, cancelled) for stage in stages)

    def _stage(self, name: str, steps: int, rate: float, loss_of: Callable[[int], torch.Tensor],
               progress: Callable[[ReaderStep], None], cancelled: Callable[[], bool]) -> bool:
        """Train one stage; return False if cancelled."""
        config, pooling = self.config, self.pooling
        parts = {self.modality: self.link, 'classifier': self.classifier, 'types': self.types}
        words = [*pooling.probes.parameters(), *pooling.answerable.parameters(), *self.types.parameters()]
        of_words = {id(parameter) for parameter in words}
        numbers = [parameter for parameter in (*pooling.parameters(), *self.classifier.parameters())
                   if id(parameter) not in of_words]
        groups: list[dict[str, Any]] = [{'params': words, 'full_rate': rate}]
        if name == 'numbers':
            groups = [{'params': words, 'full_rate': rate * config.words_still},
                      {'params': numbers, 'full_rate': rate}]
        parameters = [parameter for group in groups for parameter in group['params']]
        optimiser = torch.optim.AdamW(groups, lr=rate, weight_decay=config.weight_decay, fused=True)
        folder = None if self.folder is None else self.folder / name
        state = TrainingState()
        if folder is not None:
            state = load_checkpoint(folder, self._identity(), parts, optimiser)
        while state.step < steps:
            if cancelled():
                return False
            started = time.perf_counter()
            fall = 0.02 + 0.49 * (1 + math.cos(math.pi * state.step / steps))
            for group in optimiser.param_groups:
                group['lr'] = group['full_rate'] * fall * min(1., (state.step + 1) / config.warm_up)
            loss = loss_of(state.step)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, config.clip)
            if not math.isfinite(loss.item()):
                raise TrainingError(f'the loss is {loss.item()} at step {state.step + 1} of {name}; '
                                    'try lower rates')
            optimiser.step()
            increment_version(parameters)  # a fused step does not, and what links keep goes by it
            state.step += 1
            state.losses.append(loss.item())
            state.seconds += time.perf_counter() - started
            if folder is not None and (state.step % CHECKPOINT_EVERY == 0 or state.step == steps):
                save_checkpoint(folder, self._identity(), state, parts, optimiser)
            progress(ReaderStep(name, state.step, steps, state.losses[-1]))
        return True

    def _word_loss(self) -> Callable[[int], torch.Tensor]:
        """Return the loss of the first stage as a function of the step."""
        plan = self._plan(self.texts, self.config.word_batch)

        def loss(step: int) -> torch.Tensor:
            batch, probes = [self.texts[place] for place in plan[step]], self.pooling.probes
            torch.manual_seed(self.config.seed + step)
            probes.dropout = self.config.dropout
            try:
                return self._meaning_loss(batch, self._asked(batch, step))
            finally:
                probes.dropout = 0.
        return loss

    def _number_loss(self) -> Callable[[int], torch.Tensor]:
        """Return the loss of the second stage as a function of the step."""
        plan = self._plan([example.question for example in self.examples], self.config.number_batch)

        def loss(step: int) -> torch.Tensor:
            batch = [self.examples[place] for place in plan[step]]
            texts = [example.question for example in batch]
            asked = self._asked(texts, step)
            tokens = TokenBatch.stack([self.data.dataset.frames[example.frame][self.modality]
                                       for example in batch], self.method.lm.device)
            known, pooling = asked[:len(batch)], self.pooling
            made = pooling.reading(known)
            entries = pooling.entries_of(pooling.tally(self.link.count(tokens), known, made), known, made)
            answers = torch.tensor([self.answers.index(example.answer) for example in batch],
                                   device=entries.device)
            return (cross_entropy(self.classifier(entries.flatten(1)), answers)
                    + self.config.meaning * self._meaning_loss(texts, asked))
        return loss

    def _asked(self, texts: Sequence[str], step: int) -> torch.Tensor:
        """Return the probes of some texts, followed by those of questions that counts cannot answer."""
        rng = random.Random(f'{self.config.seed}/{step}')
        count = min(len(self.beyond), max(1, len(texts) // self.config.beyond))
        return self.pooling.probes(*self._question([*texts, *rng.sample(self.beyond, count)]))

    def _meaning_loss(self, texts: Sequence[str], asked: torch.Tensor) -> torch.Tensor:
        """Return the loss of meanings, of question types and of answerability by counts."""
        meanings = [self.data.meanings[text] for text in texts]
        together = (torch.stack(parts) for parts in zip(*map(self._target, meanings), strict=True))
        types = torch.tensor([self.kinds.index(meaning.type) for meaning in meanings], device=asked.device)
        known, pooling = asked[:len(texts)], self.pooling
        answerable = (torch.arange(len(asked), device=asked.device) < len(texts)).float()
        return (pooling.supervision(known, *together) + cross_entropy(self.types(known.flatten(1)), types)
                + binary_cross_entropy_with_logits(pooling.can_answer(asked), answerable))

    def _read_texts(self, progress: Callable[[ReaderStep], None], cancelled: Callable[[], bool]) -> bool:
        """Run every text up to the block that links read; return False if cancelled.

        The states of 40,000 texts take 1 GB in half precision; they are not kept on disk.
        """
        block, size = self.link.config.question_block, self.config.word_batch
        new = [text for text in (*self.texts, *self.beyond) if text not in self._states]
        for number, part in enumerate(text_states(self.method, new, block, size), 1):
            for text, states in part:
                self._states[text] = states.half().clone()
            progress(ReaderStep('reading', number, -(-len(new) // size), 0.))
            if cancelled():
                return False
        return True

    def _question(self, texts: Sequence[str]) -> Question:
        """Return the padded states of some texts, and their mask."""
        return padded_states([self._states[text] for text in texts])

    def _target(self, meaning: Meaning) -> tuple[torch.Tensor, ...]:
        """Return what the probes should learn of a meaning, see CountingPooling.supervision."""
        if meaning not in self._targets:
            distances = np.array(EDGES) - EDGES[0] / 2
            *where, things = target_of(meaning, sector_azimuths(), distances, self.pooling.supervised)
            sorts = np.array([self.pooling.sort_index(None if thing.category == THING else thing.category,
                                                      thing.status) for thing in things])
            self._targets[meaning] = tuple(torch.from_numpy(part).to(self.method.lm.device)
                                           for part in (*where, sorts))
        return self._targets[meaning]

    def _plan(self, texts: Sequence[str], batch: int) -> BatchPlan:
        return BatchPlan([len(self._states[text]) for text in texts], batch, self.config.seed)

    def _identity(self) -> str:
        """Return a sha256 of everything that must be equal to resume a training."""
        text = json.dumps([asdict(self.config), self.link.config.to_dict(), self.data.identity])
        return hashlib.sha256(text.encode()).hexdigest()

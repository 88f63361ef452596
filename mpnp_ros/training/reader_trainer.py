"""Teaching a link to count, without the language model's upper blocks.

First the words: the meaning of training questions is known, so the probes learn their directions, distances
and categories, and which questions counts cannot answer.  Then the numbers: a linear classifier, discarded
afterwards, answers from the entries.  The language model only reads each text once, so this takes minutes;
learning through its upper blocks takes hours.
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

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.nn.utils.rnn import pad_sequence

from mpnp_ros.errors import TrainingError
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.counting import EDGES, SUPERVISED
from mpnp_ros.methods.mpnp.link import LatentLink, Question
from mpnp_ros.modalities.geometry import sector_azimuths
from mpnp_ros.options import Options, option
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.vocabulary import ANSWERS, THING
from mpnp_ros.questions.wording import TYPES
from mpnp_ros.training.batches import BatchPlan
from mpnp_ros.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from mpnp_ros.training.painted_questions import PaintedDataset, target_of

CHECKPOINT_EVERY = 200


@dataclass(frozen=True)
class ReaderConfig(Options):
    """How a reader learns: the first stage learns from texts, the second from questions about frames.

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
        0.05, "share of the second stage's rate at which words go on learning in it", low=0)
    dropout: float = option(
        0.15, 'share of what is read of texts that is left out in the first stage', low=0, high=.999)
    meaning: float = option(1.0, 'weight of what questions mean in the second stage', low=0)
    beyond: int = option(8, 'one question in so many is one that counts cannot answer', low=1)
    weight_decay: float = option(0.01, 'weight decay', low=0)
    clip: float = option(1.0, 'largest norm of the gradient', low=1e-30)
    seed: int = option(0, 'random seed')


@dataclass(frozen=True)
class ReaderStep:
    """One step as it is reported: stage, number (from 1) of how many, and loss.

    stage: 'reading', which has no loss, 'words' or 'numbers'.
    """

    stage: str
    step: int
    steps: int
    loss: float


class ReaderTraining:
    """One training of the reader of a plugged link.

    Raises TrainingError for a link that does not count, or that was made to choose channel by channel.
    """

    def __init__(self, method: Method, modality: str, data: PaintedDataset,
                 config: ReaderConfig | None = None, checkpoint: str | Path | None = None,
                 states: dict[str, torch.Tensor] | None = None) -> None:
        """checkpoint: folder from which a stopped training resumes.

        states: texts that the language model has read; new ones are added for the next training.
        """
        self.link: LatentLink = method.links()[modality]
        if (self.link.config.pooling, self.link.config.masks) != ('counting', 'sorts'):
            raise TrainingError(f'the {modality} link does not count by sort; make it with pooling: counting '
                                'and masks: sorts')
        self.method, self.modality, self.data = method, modality, data
        self.config = config or ReaderConfig()
        self.folder = None if checkpoint is None else Path(checkpoint)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            width = self.link.config.entries * self.link.config.pooling_width
            self.classifier = nn.Linear(width, len(ANSWERS)).to(method.lm.device)
            self.types = nn.Linear(self.link.config.probes * self.link.config.pooling_width, len(TYPES)).to(
                method.lm.device)
        self.examples = data.dataset.examples
        self.texts, self.beyond = tuple(data.meanings), data.beyond
        self._targets: dict[Meaning, tuple[torch.Tensor, ...]] = {}
        self._states = {} if states is None else states

    def run(self, progress: Callable[[ReaderStep], None] = lambda step: None,
            cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Train; False if cancelled.  A stopped training resumes from its checkpoint."""
        if not self._read(progress, cancelled):
            return False
        sample = random.Random(self.config.seed).sample(self.texts, min(512, len(self.texts)))
        self.link.calibrate([self._question(sample)], None)
        stages = (('words', self.config.word_steps, self.config.word_rate, self._words()),
                  ('numbers', self.config.number_steps, self.config.number_rate, self._numbers()))
        with torch.random.fork_rng(devices=[]):
            return all(self._stage(*stage, progress, cancelled) for stage in stages)

    def _stage(self, name: str, steps: int, rate: float, loss_of: Callable[[int], torch.Tensor],
               progress: Callable[[ReaderStep], None], cancelled: Callable[[], bool]) -> bool:
        config, pooling = self.config, self.link.pooling
        parts = {self.modality: self.link, 'classifier': self.classifier, 'types': self.types}
        words = [*pooling.probes.parameters(), *pooling.answerable.parameters(), *self.types.parameters()]
        known = {id(one) for one in words}
        numbers = [one for one in (*pooling.parameters(), *self.classifier.parameters())
                   if id(one) not in known]
        groups = [{'params': words, 'full_rate': rate}]
        if name == 'numbers':
            groups = [{'params': words, 'full_rate': rate * config.words_still},
                      {'params': numbers, 'full_rate': rate}]
        parameters = [one for group in groups for one in group['params']]
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
            state.step += 1
            state.losses.append(loss.item())
            state.seconds += time.perf_counter() - started
            if folder is not None and (state.step % CHECKPOINT_EVERY == 0 or state.step == steps):
                save_checkpoint(folder, self._identity(), state, parts, optimiser)
            progress(ReaderStep(name, state.step, steps, state.losses[-1]))
        return True

    def _words(self) -> Callable[[int], torch.Tensor]:
        """The loss of the first stage at a step."""
        plan = self._plan(self.texts, self.config.word_batch)

        def loss(step: int) -> torch.Tensor:
            batch, probes = [self.texts[place] for place in plan[step]], self.link.pooling.probes
            torch.manual_seed(self.config.seed + step)
            probes.dropout = self.config.dropout
            try:
                return self._meaning(batch, self._asked(batch, step))
            finally:
                probes.dropout = 0.
        return loss

    def _numbers(self) -> Callable[[int], torch.Tensor]:
        """The loss of the second stage at a step."""
        plan = self._plan([one.question for one in self.examples], self.config.number_batch)

        def loss(step: int) -> torch.Tensor:
            batch = [self.examples[place] for place in plan[step]]
            texts = [one.question for one in batch]
            asked = self._asked(texts, step)
            tokens = TokenBatch.stack([self.data.dataset.frames[one.frame][self.modality] for one in batch],
                                      self.method.lm.device)
            known, pooling = asked[:len(batch)], self.link.pooling
            entries = pooling.entries_of(pooling.tally(self.link.count(tokens), known), known)
            answers = torch.tensor([ANSWERS.index(one.answer) for one in batch], device=entries.device)
            return (cross_entropy(self.classifier(entries.flatten(1)), answers)
                    + self.config.meaning * self._meaning(texts, asked))
        return loss

    def _asked(self, texts: Sequence[str], step: int) -> torch.Tensor:
        """Return the probes of some texts, followed by those of questions that counts cannot answer."""
        rng = random.Random(f'{self.config.seed}/{step}')
        count = min(len(self.beyond), max(1, len(texts) // self.config.beyond))
        return self.link.pooling.probes(*self._question([*texts, *rng.sample(self.beyond, count)]))

    def _meaning(self, texts: Sequence[str], asked: torch.Tensor) -> torch.Tensor:
        """Return the loss of meanings, of question types and of answerability by counts."""
        meanings = [self.data.meanings[text] for text in texts]
        together = (torch.stack(parts) for parts in zip(*map(self._target, meanings), strict=True))
        types = torch.tensor([TYPES.index(one.type) for one in meanings], device=asked.device)
        known, pooling = asked[:len(texts)], self.link.pooling
        answerable = (torch.arange(len(asked), device=asked.device) < len(texts)).float()
        return (pooling.supervision(known, *together) + cross_entropy(self.types(known.flatten(1)), types)
                + binary_cross_entropy_with_logits(pooling.can_answer(asked), answerable))

    def _read(self, progress: Callable[[ReaderStep], None], cancelled: Callable[[], bool]) -> bool:
        """Let the language model read every text up to the block that links read; False if cancelled.

        The states of 40,000 texts take 1 GB in half precision; they are not kept on disk.
        """
        lm, block, size = self.method.lm, self.link.config.question_block, self.config.word_batch
        ids = {text: self.method.template.ids(lm.tokenizer, text) for text in (*self.texts, *self.beyond)
               if text not in self._states}
        ordered = sorted(ids, key=lambda text: len(ids[text]))
        parts = range(0, len(ordered), size)
        for number, start in enumerate(parts):
            if cancelled():
                return False
            texts = ordered[start:start + size]
            layout = TextLayout.stack([TextLayout.causal(ids[text][None]) for text in texts]).to(lm.device)
            with torch.no_grad():
                hidden = lm.run_blocks(lm.embed(layout), layout, 0, block)
            for text, states in zip(texts, hidden, strict=True):
                self._states[text] = states[:len(ids[text])].half().clone()
            progress(ReaderStep('reading', number + 1, len(parts), 0.))
        return True

    def _question(self, texts: Sequence[str]) -> Question:
        states = [self._states[text] for text in texts]
        lengths = torch.tensor([len(one) for one in states], device=states[0].device)
        padded = pad_sequence(states, batch_first=True).float()
        return padded, torch.arange(padded.shape[1], device=lengths.device) < lengths[:, None]

    def _target(self, meaning: Meaning) -> tuple[torch.Tensor, ...]:
        if meaning not in self._targets:
            distances = np.array(EDGES) - EDGES[0] / 2
            *where, things = target_of(meaning, sector_azimuths(), distances)
            sorts = np.array([self.link.pooling.sort_index(None if one.category == THING else one.category,
                                                           one.status) for one in things])
            self._targets[meaning] = tuple(torch.from_numpy(part[:SUPERVISED]).to(self.method.lm.device)
                                           for part in (*where, sorts))
        return self._targets[meaning]

    def _plan(self, texts: Sequence[str], batch: int) -> BatchPlan:
        return BatchPlan([len(self._states[text]) for text in texts], batch, self.config.seed)

    def _identity(self) -> str:
        """Return a sha256 of everything that must be equal to resume a training."""
        text = json.dumps([asdict(self.config), self.link.config.to_dict(), self.data.identity])
        return hashlib.sha256(text.encode()).hexdigest()

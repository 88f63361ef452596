"""Accuracy of answers, and its dependence on the sensors."""
from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import Reply
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, Frame, TokenDataset

BATCH = 64
Z95 = 1.959964
"""Quantile of the normal distribution for an interval of 95 %."""
DRAWS = 300
"""Resamplings of a bootstrap."""

Group = TypeVar('Group', str, int)

InSteps = Callable[[Method, str, Sequence[str], Frame], Reply | None]
"""Returns the answer to a question with choices about a frame; None: the method is asked as usual."""


@dataclass(frozen=True)
class Share:
    """Number of right answers out of n.

    resampled: 95 % interval over key frames, in [0, 1]; None: not known.
    """

    right: int
    n: int
    resampled: tuple[float, float] | None = None

    @property
    def value(self) -> float:
        """Return the share in [0, 1]; NaN for none."""
        return self.right / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval in [0, 1]: over key frames if known, otherwise over questions.

        The latter is the Wilson score interval (Wilson, JASA 22, 1927).
        """
        if self.resampled is not None:
            return self.resampled
        if not self.n:
            return 0., 1.
        weight = Z95 ** 2 / self.n
        centre = (self.value + weight / 2) / (1 + weight)
        half = math.sqrt(weight * self.value * (1 - self.value) + weight ** 2 / 4) / (1 + weight)
        return max(0., centre - half), min(1., centre + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f'{100 * self.value:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]'


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers: of all questions, by type, by number of hops, by light and weather."""

    overall: Share
    by_type: Mapping[str, Share]
    by_hops: Mapping[int, Share]
    by_condition: Mapping[str, Share] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Return the overall accuracy, in [0, 1]."""
        return self.overall.value

    @property
    def n(self) -> int:
        """Return the number of questions."""
        return self.overall.n

    @classmethod
    def of(cls, examples: Sequence[Example], answers: Sequence[str],
           conditions: Mapping[str, tuple[str, ...]] | None = None,
           sample_of: Callable[[str], str] | None = None) -> Accuracy:
        """Compare answers with the true ones, except for white space.

        conditions: as in TokenDataset.  sample_of: key of a frame -> its key frame, over which intervals are
        resampled; None, or a single key frame: intervals are over questions.
        """
        right = [example.answer.split() == answer.split()
                 for example, answer in zip(examples, answers, strict=True)]
        answered = list(zip(examples, right, strict=True))
        samples = {key: sample_of(key) if sample_of else ''
                   for key in {example.frame for example in examples}}

        def shares(group_of: Callable[[Example], Iterable[Group]]) -> dict[Group, Share]:
            groups: dict[Group, list[tuple[str, bool]]] = defaultdict(list)
            for example, correct in answered:
                for group in group_of(example):
                    groups[group].append((samples[example.frame], correct))
            return {group: _share(groups[group]) for group in sorted(groups)}

        return cls(_share([(samples[example.frame], correct) for example, correct in answered]),
                   shares(lambda example: (example.type,)), shares(lambda example: (example.hops,)),
                   shares(lambda example: (conditions or {}).get(example.frame, ())))


@dataclass(frozen=True)
class SensorDependence:
    """Accuracies of one method on one set of questions with different tokens.

    sensors: with the true frames.  shuffled: every question sees another frame of the set.  unplugged:
    without tokens.  alone: with each modality without the others.
    """

    sensors: Accuracy
    shuffled: Accuracy
    unplugged: Accuracy
    alone: Mapping[str, Accuracy]

    @property
    def rows(self) -> dict[str, Accuracy]:
        """Return all accuracies by name; a single modality is not repeated alone."""
        rows = {'sensors': self.sensors, 'shuffled': self.shuffled, 'unplugged': self.unplugged}
        if len(self.alone) > 1:
            rows |= {f'{name} alone': accuracy for name, accuracy in self.alone.items()}
        return rows


def evaluate(method: Method, dataset: TokenDataset, book: PreparedQuestions | None = None,
             tokens_of: Callable[[Example], Frame] | None = None, batch: int = BATCH,
             cancelled: Callable[[], bool] | None = None) -> Accuracy:
    """Return the accuracy of the plugged links on all questions of a data set.

    book: questions that the method has read before.  tokens_of: returns the tokens for each question, by
    default its frame.  cancelled: called before every batch; answers until then are counted.  Raises
    TrainingError for a data set without questions.
    """
    see = tokens_of or (lambda example: dataset.frames[example.frame])
    answers = answers_of(method, dataset.examples, book or PreparedQuestions(method), see, batch, cancelled)
    known = [(example, answer) for example, answer in zip(dataset.examples, answers, strict=True)
             if answer is not None]
    return Accuracy.of([example for example, _ in known], [answer for _, answer in known],
                       dataset.conditions)


def answers_of(method: Method, examples: Sequence[Example], book: PreparedQuestions,
               see: Callable[[Example], Frame], batch: int = BATCH,
               cancelled: Callable[[], bool] | None = None, in_steps: InSteps | None = None,
               ) -> list[str | None]:
    """Return the answer to every question in order; None if cancelled.

    in_steps: answers some questions in another way.  Raises TrainingError if there is no question.
    """
    replies = replies_of(method, examples, book, see, batch, cancelled, in_steps)
    return [None if reply is None else reply.text for reply in replies]


def replies_of(method: Method, examples: Sequence[Example], book: PreparedQuestions,
               see: Callable[[Example], Frame], batch: int = BATCH,
               cancelled: Callable[[], bool] | None = None, in_steps: InSteps | None = None,
               ) -> list[Reply | None]:
    """As :func:`answers_of`, with confidences.  With choices, the true answer may be unknown."""
    if not examples:
        raise TrainingError('there are no questions to evaluate on; hold out fewer or more frames')
    places = range(len(examples))
    order = sorted(places, key=lambda at: (bool(examples[at].choices), len(examples[at].question)))
    replies: list[Reply | None] = [None] * len(examples)
    for start in range(0, len(order), batch):
        if cancelled and cancelled():
            break
        frames = {at: see(examples[at]) for at in order[start:start + batch]}
        if in_steps:
            for at, frame in frames.items():
                replies[at] = in_steps(method, examples[at].question, examples[at].choices, frame)
        left = [at for at in frames if replies[at] is None]
        chosen, tokens = [examples[at] for at in left], [frames[at] for at in left]
        if not chosen:
            continue
        book.read(chosen)
        questions = [book.question(example) for example in chosen]
        if all(question.choices for question in questions):
            answered = method.answer_batch(questions, tokens)
        else:
            answered = [method.answer(method.prepare(example.question, example.choices), frame)
                        for example, frame in zip(chosen, tokens, strict=True)]
        for at, reply in zip(left, answered, strict=True):
            replies[at] = reply
    return replies


def sensor_dependence(method: Method, dataset: TokenDataset, seed: int = 0,
                      book: PreparedQuestions | None = None) -> SensorDependence:
    """Measure the dependence on the sensors.  Raises TrainingError without another frame to shuffle with."""
    book = book or PreparedQuestions(method)
    other = other_frames(dataset, seed)
    names = dataset.modalities

    def alone(name: str) -> Callable[[Example], Frame]:
        return lambda example: {key: tokens for key, tokens in dataset.frames[example.frame].items()
                                if key == name}

    sensors = evaluate(method, dataset, book)
    return SensorDependence(
        sensors, evaluate(method, dataset, book, lambda example: dataset.frames[other[example]]),
        evaluate(method, dataset, book, lambda example: {}),
        {names[0]: sensors} if len(names) == 1 else
        {name: evaluate(method, dataset, book, alone(name)) for name in names})


def other_frames(dataset: TokenDataset, seed: int) -> dict[Example, str]:
    """Return for every example the key of a random frame that is not its own."""
    keys = sorted(dataset.frames)
    if len(keys) < 2:
        raise TrainingError('shuffling needs two frames or more; use more headings or scenes')
    rng, place = random.Random(seed), {key: number for number, key in enumerate(keys)}
    return {example: keys[(place[example.frame] + rng.randrange(1, len(keys))) % len(keys)]
            for example in dataset.examples}


def majority(train: TokenDataset, test: TokenDataset) -> Accuracy:
    """Return the accuracy of :func:`majority_answers`."""
    return Accuracy.of(test.examples, majority_answers(train.examples, test.examples), test.conditions)


def majority_answers(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Return the most frequent training answer of each question's text, otherwise of its type."""
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_type: dict[str, Counter[str]] = defaultdict(Counter)
    for example in train:
        by_text[example.question][example.answer] += 1
        by_type[example.type][example.answer] += 1

    def guess(example: Example) -> str:
        seen = by_text.get(example.question) or by_type.get(example.type) or Counter([''])
        return seen.most_common(1)[0][0]

    return [guess(example) for example in test]


def bootstrap(answers: Iterable[tuple[str, bool]]) -> tuple[float, float]:
    """Return the 95 % interval of the share of right answers, in [0, 1], by resampling key frames.

    answers: (key frame, whether right).  Questions about one key frame are not independent of each other.
    """
    numbers: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for sample, right in answers:
        numbers[sample][0] += right
        numbers[sample][1] += 1
    drawn = _draws(len(numbers)) @ np.array([numbers[sample] for sample in sorted(numbers)])
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (.025, .975))
    return float(low), float(high)


@cache
def _draws(count: int) -> np.ndarray:
    """Return how often each of some key frames is in each resampling, [DRAWS, count]."""
    rng = random.Random(0)
    return np.stack([np.bincount([rng.choice(range(count)) for _ in range(count)], minlength=count)
                     for _ in range(DRAWS)])


def _share(answers: Sequence[tuple[str, bool]]) -> Share:
    """Return the share of right answers; answers: (key frame, whether right)."""
    several = len({sample for sample, _ in answers}) > 1
    return Share(sum(right for _, right in answers), len(answers), bootstrap(answers) if several else None)

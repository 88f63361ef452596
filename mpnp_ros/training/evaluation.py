"""Accuracy, and its dependence on the sensors."""
from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mpnp_ros.errors import TrainingError
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import Reply
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, Frame, TokenDataset

BATCH = 64
Z95 = 1.959964


@dataclass(frozen=True)
class Share:
    """Number of right answers out of n."""

    right: int
    n: int

    @property
    def value(self) -> float:
        """Return it in [0, 1]; NaN for none."""
        return self.right / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % Wilson score interval (Wilson, JASA 22, 1927), in [0, 1]."""
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
    """Shares of right answers: of all, by type of question, by number of hops, by light and weather."""

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
        """Number of questions."""
        return self.overall.n

    @classmethod
    def of(cls, examples: Sequence[Example], answers: Sequence[str],
           conditions: Mapping[str, tuple[str, ...]] | None = None) -> Accuracy:
        """Compare answers with the true ones.  conditions: as in TokenDataset."""
        right = [_plain(example.answer) == _plain(answer)
                 for example, answer in zip(examples, answers, strict=True)]
        labelled = [(name, one) for example, one in zip(examples, right, strict=True)
                    for name in (conditions or {}).get(example.frame, ())]
        return cls(Share(sum(right), len(right)),
                   _shares((example.type for example in examples), right),
                   _shares((example.hops for example in examples), right),
                   _shares((name for name, _ in labelled), [one for _, one in labelled]))


@dataclass(frozen=True)
class SensorDependence:
    """One method and one set of questions with different tokens.

    sensors: the true frames.  shuffled: every question sees another frame of the set.  unplugged: no tokens.
    alone: each modality without the others.
    """

    sensors: Accuracy
    shuffled: Accuracy
    unplugged: Accuracy
    alone: Mapping[str, Accuracy]

    @property
    def rows(self) -> dict[str, Accuracy]:
        """Return all rows by name; a single modality is not repeated alone."""
        rows = {'sensors': self.sensors, 'shuffled': self.shuffled, 'unplugged': self.unplugged}
        if len(self.alone) > 1:
            rows |= {f'{name} alone': accuracy for name, accuracy in self.alone.items()}
        return rows


def evaluate(method: Method, dataset: TokenDataset, book: PreparedQuestions | None = None,
             tokens_of: Callable[[Example], Frame] | None = None, batch: int = BATCH,
             cancelled: Callable[[], bool] | None = None) -> Accuracy:
    """Answer all questions of a dataset with the plugged links.

    book: questions that the method has read before.  tokens_of: the tokens for each question, by default its
    frame.
    cancelled: called before every batch; answers until then are counted. Raises TrainingError for a dataset
    without questions.
    """
    see = tokens_of or (lambda example: dataset.frames[example.frame])
    answers = answers_of(method, dataset.examples, book or PreparedQuestions(method), see, batch, cancelled)
    known = [(example, answer) for example, answer in zip(dataset.examples, answers, strict=True)
             if answer is not None]
    return Accuracy.of([example for example, _ in known], [answer for _, answer in known],
                       dataset.conditions)


def answers_of(method: Method, examples: Sequence[Example], book: PreparedQuestions,
               see: Callable[[Example], Frame], batch: int = BATCH,
               cancelled: Callable[[], bool] | None = None) -> list[str | None]:
    """Return the answer to every question in order; None if cancelled.

    Raises TrainingError if there is no question.
    """
    replies = replies_of(method, examples, book, see, batch, cancelled)
    return [None if reply is None else reply.text for reply in replies]


def replies_of(method: Method, examples: Sequence[Example], book: PreparedQuestions,
               see: Callable[[Example], Frame], batch: int = BATCH,
               cancelled: Callable[[], bool] | None = None) -> list[Reply | None]:
    """As :func:`answers_of`, with confidences.  With choices, the true answer may be unknown."""
    if not examples:
        raise TrainingError('there are no questions to evaluate on; hold out fewer or more frames')
    places = range(len(examples))
    order = sorted(places, key=lambda at: (bool(examples[at].choices), len(examples[at].question)))
    replies: list[Reply | None] = [None] * len(examples)
    for start in range(0, len(order), batch):
        if cancelled and cancelled():
            break
        chosen = order[start:start + batch]
        for place, reply in zip(chosen, _replies(method, [examples[at] for at in chosen], book, see),
                                strict=True):
            replies[place] = reply
    return replies


def sensor_dependence(method: Method, dataset: TokenDataset, seed: int = 0,
                      book: PreparedQuestions | None = None) -> SensorDependence:
    """Measure the dependence on the sensors; raises TrainingError without another frame to shuffle with."""
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


def _replies(method: Method, examples: Sequence[Example], book: PreparedQuestions,
             see: Callable[[Example], Frame]) -> list[Reply]:
    book.read(examples)
    questions = [book.question(example) for example in examples]
    tokens = [see(example) for example in examples]
    if all(question.choices for question in questions):
        return method.answer_batch(questions, tokens)
    return [method.answer(method.prepare(example.question, example.choices), one)
            for example, one in zip(examples, tokens, strict=True)]


def _shares(groups: Iterable, right: Sequence[bool]) -> dict:
    tally: dict = defaultdict(list)
    for group, one in zip(groups, right, strict=True):
        tally[group].append(one)
    return {group: Share(sum(ones), len(ones)) for group, ones in sorted(tally.items())}


def _plain(answer: str) -> str:
    return ' '.join(answer.split())

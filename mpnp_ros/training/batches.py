"""Contents of one training step: questions of similar length, and the tokens that each of them sees."""
from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from mpnp_ros.errors import QuestionError
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import AnsweredQuestion, AskedQuestion
from mpnp_ros.training.dataset import Example, Frame

POOL = 16
READ_AT_ONCE = 32

Key = tuple[str, tuple[str, ...] | str]


class PreparedQuestions:
    """Questions that a method has read, each text once for all frames and answers.

    Valid as long as no link is plugged below those plugged at the reading.
    """

    def __init__(self, method: Method, files: QuestionFiles | None = None) -> None:
        """files: folder of questions for the next run; default: none."""
        self._method, self._files = method, files
        self._read: dict[Key, AnsweredQuestion] = {}

    def read(self, examples: Iterable[Example], cancelled: Callable[[], bool] = lambda: False,
             progress: Callable[[int, int], None] = lambda read, of: None) -> bool:
        """Read unknown texts in batches of similar length; return False if cancelled.

        cancelled: called before every batch.  progress: called after it with (texts read, all texts).  Raises
        QuestionError.
        """
        new = {_key(example): example for example in examples}
        new = {key: example for key, example in new.items() if key not in self._read}
        order = sorted(new.values(), key=lambda example: (example.choices, len(example.question),
                                                          example.question))
        read = 0
        for choices, group in groupby(order, key=lambda example: example.choices):
            same = list(group)
            for start in range(0, len(same), READ_AT_ONCE):
                if cancelled():
                    return False
                batch = same[start:start + READ_AT_ONCE]
                if choices:
                    any_answer = [(example.question, example.answer or choices[0]) for example in batch]
                    questions = self._method.prepare_answers(any_answer, choices, self._files)
                else:
                    questions = [self._method.prepare_answer(example.question, example.answer)
                                 for example in batch]
                self._read |= zip(map(_key, batch), questions, strict=True)
                read += len(batch)
                progress(read, len(new))
        return True

    def question(self, example: Example) -> AskedQuestion:
        """Return the question of an example; with choices, its answer may be unknown."""
        self.read([example])
        return self._read[_key(example)].question

    def __getitem__(self, example: Example) -> AnsweredQuestion:
        """Return the question of an example with its answer, read now if necessary.  Raises QuestionError."""
        self.read([example])
        known = self._read[_key(example)]
        if known.answer == example.answer:
            return known
        if example.answer not in example.choices:
            raise QuestionError(f'the answer {example.answer!r} is not among the choices of '
                                f'{example.question!r}; add it to them')
        return replace(known, answer=example.answer, target=example.choices.index(example.answer))


def _key(example: Example) -> Key:
    return example.question, example.choices or example.answer


class BatchPlan:
    """The examples of each step; depends on the seed and the step only, so that training can resume.

    Every epoch visits all examples in a new order.  Pools of 16 batches are sorted by length, so that batches
    need little padding.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._seed = lengths, seed
        self._count = max(1, round(len(lengths) / batch))
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def __getitem__(self, step: int) -> list[int]:
        """Return the indices of the examples of a step."""
        epoch, place = divmod(step, self._count)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._shuffled(random.Random(f'{self._seed}/{epoch}'))
        return self._epoch[1][place]

    def _shuffled(self, rng: random.Random) -> list[list[int]]:
        """Return the batches of an epoch."""
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        batches = []
        for first in range(0, self._count, POOL):
            last = min(first + POOL, self._count)
            pool = sorted(order[self._edge(first):self._edge(last)], key=self._lengths.__getitem__)
            start = self._edge(first)
            batches += [pool[self._edge(at) - start:self._edge(at + 1) - start] for at in range(first, last)]
        rng.shuffle(batches)
        return batches

    def _edge(self, batch: int) -> int:
        return batch * len(self._lengths) // self._count


def drop_modalities(frame: Frame, modalities: Sequence[str], probability: float, rng: random.Random,
                    trained: Container[str] | None = None) -> Frame:
    """Return the tokens of the linked modalities, with some probability of a random part of them.

    trained: modalities of which at least one is in that part; default: all of them.
    """
    names = [name for name in modalities if name in frame]
    if len(names) > 1 and rng.random() < probability:
        parts = [[name for place, name in enumerate(names) if kept >> place & 1]
                 for kept in range(1, 2 ** len(names))]
        useful = [part for part in parts if trained is None or any(name in trained for name in part)]
        names = useful[rng.randrange(len(useful))]
    return {name: frame[name] for name in names}

"""Questions whose words do not give their answers away: majority answers, balancing, and choosing."""
from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mpnp_ros.questions.generator import LabelledQuestion

GROUPINGS: dict[str, Callable[[LabelledQuestion], tuple[str, str]]] = {
    'text': lambda question: (question.type, question.text),
    'template': lambda question: (question.type, question.template),
    'type': lambda question: (question.type, ''),
}


def balance(questions: Iterable[LabelledQuestion], seed: int = 0, by: str = 'text') -> list[LabelledQuestion]:
    """Return the questions with the most frequent answer of every group capped at the second most frequent.

    by: ``text`` groups questions of the same words (groups with one answer only are dropped); ``template``
    groups questions of the same wording, for few frames; ``type`` all questions of a type, for very few.
    Keeps the order of ``questions``; the selection depends on ``seed`` only.
    """
    pool = list(questions)
    groups: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, question in enumerate(pool):
        groups[GROUPINGS[by](question)][question.answer].append(index)
    rng = random.Random(seed)
    kept: set[int] = set()
    for answers in groups.values():
        sizes = sorted(map(len, answers.values()), reverse=True)
        cap = sizes[1] if len(sizes) > 1 else 0
        for indices in answers.values():
            kept.update(indices if len(indices) <= cap else rng.sample(indices, cap))
    return [pool[index] for index in sorted(kept)]


@dataclass(frozen=True)
class Majority:
    """The most frequent answer of each question text and, for unknown texts, of its type."""

    by_text: Mapping[str, str]
    by_type: Mapping[str, str]

    @classmethod
    def of(cls, questions: Iterable[LabelledQuestion]) -> Majority:
        """Count the answers."""
        texts: dict[str, Counter[str]] = defaultdict(Counter)
        types: dict[str, Counter[str]] = defaultdict(Counter)
        for question in questions:
            texts[question.text][question.answer] += 1
            types[question.type][question.answer] += 1
        return cls(*({key: answers.most_common(1)[0][0] for key, answers in table.items()}
                     for table in (texts, types)))

    def guess(self, question: LabelledQuestion) -> str:
        """Return the majority answer; empty for an unknown type."""
        return self.by_text.get(question.text, self.by_type.get(question.type, ''))


class Chooser:
    """Chooses questions so that types, and answers within a type, are as even as possible.

    Of each type it chooses as many questions that the majority answers wrong as right, if there are any, so
    that the text alone tells nothing.
    """

    def __init__(self, majority: Majority) -> None:
        self._majority = majority
        self._types: Counter[str] = Counter()
        self._expected: Counter[tuple[str, bool]] = Counter()
        self._answers: Counter[tuple[str, str]] = Counter()

    def choose(self, questions: Iterable[LabelledQuestion], count: int) -> list[LabelledQuestion]:
        """Return at most ``count`` questions; earlier choices count."""
        def expected(question: LabelledQuestion) -> bool:
            return self._majority.guess(question) == question.answer

        def frequency(question: LabelledQuestion) -> tuple[int, int, int]:
            """How often similar questions have been chosen."""
            kind = question.type
            return (self._types[kind], self._expected[kind, expected(question)],
                    self._answers[kind, question.answer])

        left = list(questions)
        chosen: list[LabelledQuestion] = []
        while left and len(chosen) < count:
            rarest = min(left, key=frequency)
            left.remove(rarest)
            chosen.append(rarest)
            self._types[rarest.type] += 1
            self._expected[rarest.type, expected(rarest)] += 1
            self._answers[rarest.type, rarest.answer] += 1
        return chosen

"""Majority answers, and a choice of questions that they do not give away."""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mpnp_ros.questions.generator import LabelledQuestion


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

    To balance the text alone, as many questions of each type are chosen that the majority answers wrong as
    right, if there are any.
    """

    def __init__(self, majority: Majority) -> None:
        self._majority = majority
        self._types: Counter[str] = Counter()
        self._expected: Counter[tuple[str, bool]] = Counter()
        self._answers: Counter[tuple[str, str]] = Counter()

    def choose(self, questions: Iterable[LabelledQuestion], count: int) -> list[LabelledQuestion]:
        """Return at most ``count`` questions; earlier choices count."""
        left, chosen = list(questions), []
        while left and len(chosen) < count:
            rarest = min(left, key=self._times)
            left.remove(rarest)
            chosen.append(rarest)
            self._types[rarest.type] += 1
            self._expected[rarest.type, self._is_expected(rarest)] += 1
            self._answers[rarest.type, rarest.answer] += 1
        return chosen

    def _times(self, question: LabelledQuestion) -> tuple[int, int, int]:
        """Return how often similar questions have been chosen."""
        kind = question.type
        return (self._types[kind], self._expected[kind, self._is_expected(question)],
                self._answers[kind, question.answer])

    def _is_expected(self, question: LabelledQuestion) -> bool:
        return self._majority.guess(question) == question.answer

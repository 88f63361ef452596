"""Balances questions, so that the text alone does not give the answer."""
from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from mpnp_ros.nuscenes.questions import LabelledQuestion

GROUPINGS: dict[str, Callable[[LabelledQuestion], tuple[str, str]]] = {
    'text': lambda question: (question.type, question.text),
    'template': lambda question: (question.type, question.template),
    'type': lambda question: (question.type, ''),
}


def balance(questions: Iterable[LabelledQuestion], seed: int = 0, by: str = 'text') -> list[LabelledQuestion]:
    """Cap the most frequent answer of every group at the second most frequent one.

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


def majority_accuracy(questions: Iterable[LabelledQuestion], by: str = 'text') -> float:
    """The accuracy of the most frequent answer of each group, 0..1; 0 without questions.

    It is the best accuracy on the same set without sensors.
    """
    groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for question in questions:
        groups[GROUPINGS[by](question)][question.answer] += 1
    total = sum(counts.total() for counts in groups.values())
    return sum(max(counts.values()) for counts in groups.values()) / total if total else 0.0

"""Questions are chosen so that their words do not give the answers away."""
from __future__ import annotations

import math
from collections import Counter, defaultdict

import pytest

from mpnp_ros.questions.balance import balance
from mpnp_ros.questions.generator import LabelledQuestion, scene_questions
from mpnp_ros.questions.key_frame import KeyFrame


def answers_by_group(questions: list[LabelledQuestion], by: str) -> list[Counter[str]]:
    """Answers of the questions with the same text or template."""
    groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for question in questions:
        groups[question.type, question.text if by == 'text' else question.template][question.answer] += 1
    return list(groups.values())


def majority_accuracy(groups: list[Counter[str]]) -> float:
    """Accuracy of the most frequent answer of each group."""
    return sum(max(counts.values()) for counts in groups) / sum(counts.total() for counts in groups)


@pytest.fixture(scope='module')
def many_questions(real_frame: KeyFrame) -> list[LabelledQuestion]:
    return [question for step in range(48)
            for question in scene_questions(real_frame.turned(math.tau * step / 48), per_kind=12)]


@pytest.mark.parametrize('by', ['text', 'template'])
def test_balance_takes_the_shortcut_out(many_questions: list[LabelledQuestion], by: str) -> None:
    balanced = balance(many_questions, seed=0, by=by)
    assert len(balanced) > 100
    assert majority_accuracy(answers_by_group(balanced, by)) < majority_accuracy(
        answers_by_group(many_questions, by)) - .05
    for counts in answers_by_group(balanced, by):
        (_, first), (_, second), *_ = counts.most_common()
        assert first == second


def test_balance_keeps_order_and_is_repeatable(many_questions: list[LabelledQuestion]) -> None:
    balanced = balance(many_questions, seed=5)
    assert balanced == balance(many_questions, seed=5)
    rest = iter(many_questions)
    assert all(question in rest for question in balanced)


def test_balance_of_nothing() -> None:
    assert balance([]) == []

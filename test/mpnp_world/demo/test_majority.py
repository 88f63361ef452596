"""What one would answer without looking."""
from __future__ import annotations

from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_world.demo import majority as demo_majority
from mpnp_world.demo.drive import SCOPE
from mpnp_world.demo.majority import Majority, count_majority


def question(text: str, answer: str, kind: str = 'exist') -> LabelledQuestion:
    return LabelledQuestion(text, answer, kind, 0, '', '')


def test_the_most_frequent_answer_of_a_text_else_of_its_type():
    majority = Majority.of([question('a?', 'yes'), question('a?', 'yes'), question('a?', 'no'),
                            question('b?', 'no'), question('c?', 'no'), question('n?', '3', 'count')])
    assert majority.guess(question('a?', 'no')) == 'yes'
    assert majority.guess(question('never asked?', 'yes')) == 'no'
    assert majority.guess(question('never asked?', '1', 'count')) == '3'
    assert majority.guess(question('what?', 'car', 'object')) == ''


def test_it_is_counted_once(monkeypatch, tmp_path):
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path))
    monkeypatch.setattr(demo_majority, 'SEEDS', range(2))
    monkeypatch.setattr(demo_majority, 'KEY_FRAMES', 2)
    counted = count_majority(SCOPE, 4)
    assert set(counted.by_type) >= {'exist', 'count'} and set(counted.by_text.values()) <= set(ANSWERS)
    assert len(counted.by_text) > 10
    monkeypatch.setattr(demo_majority, 'scene_questions', None)
    assert count_majority(SCOPE, 4) == counted

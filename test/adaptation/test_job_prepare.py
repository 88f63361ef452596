"""Questions without answers, of all kinds, that turn with the vehicle."""
from __future__ import annotations

from collections import Counter

from mpnp_ros.adaptation.job_prepare import FROM_THE_VEHICLE, unlabelled_questions
from mpnp_ros.questions.generator import Scope, scene_questions
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.questions.wording import TEMPLATES, read_question, turned_question
from mpnp_world.dataset.objects_only import scene_key_frames

KINDS = {kind[:2] for kind in TEMPLATES if kind[2] in FROM_THE_VEHICLE}


def test_all_kinds_are_asked_equally_often_and_nothing_twice():
    questions = unlabelled_questions(0, 120)
    assert len({one.question for one in questions}) == 120
    counts = Counter((one.type, one.hops) for one in questions)
    assert set(counts) == KINDS and max(counts.values()) - min(counts.values()) <= 1
    assert {(one.answer, one.choices) for one in questions} == {('', ANSWERS)}


def test_each_is_read_as_its_kind_and_turns():
    for one in unlabelled_questions(1, 500):
        assert read_question(one.question).kind[:2] == (one.type, one.hops)
        assert turned_question(one.question, 2) is not None


def test_the_seed_says_which():
    one, again, other = (unlabelled_questions(seed, 50) for seed in (3, 3, 4))
    assert one == again != other


def test_what_the_scenes_ask_is_among_them():
    every = {one.question for one in unlabelled_questions(0, 10 ** 6)}
    asked = [one.text for frame in scene_key_frames(2, 3)
             for one in scene_questions(frame, per_kind=60, scope=Scope(anchors=False))]
    assert len(asked) > 500 and set(asked) <= every

"""Subjects of questions: every meaning can be said in many words, and what is beyond is said apart."""
from __future__ import annotations

import random
import re

import pytest

from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.subjects import (
    MOST_TELLING,
    MOTION,
    OBJECTS,
    SOUNDS,
    SUBJECTS,
    States,
    all_answers,
)
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.questions.wording import Description

FAMILIES = pytest.mark.parametrize('subject', [MOTION, SOUNDS], ids=lambda subject: subject.name)


@FAMILIES
def test_every_meaning_can_be_said_in_many_words(subject: States):
    rng = random.Random(0)
    for meaning in subject.meanings:
        texts = {subject.say(meaning, rng) for _ in range(60)}
        assert len(texts) > 20, meaning
        assert all(re.fullmatch(r"[A-Za-z ,.;:?'-]+", text) and '  ' not in text for text in texts)


@FAMILIES
def test_what_is_held_out_is_said_only_when_asked_for(subject: States):
    rng = random.Random(1)
    words = [word for word in subject.tables['held_out'] if '{' not in word]
    plain = [subject.say(subject.any_meaning(rng), rng).lower() for _ in range(400)]
    assert not any(re.search(rf'\b{re.escape(word.lower())}\b', text) for word in words for text in plain)
    held_out = {subject.say(subject.any_meaning(rng), rng, held_out=True).lower() for _ in range(100)}
    assert held_out.isdisjoint(plain)


@FAMILIES
def test_held_out_parts_and_slots_are_parts_of_the_grammar(subject: States):
    tables = subject.tables
    lists = [*tables['forms'].values(), *tables['words'].values(), *tables.get('a', {}).values(),
             *tables.get('the', {}).values()]
    known = {word for words in lists for word in words}
    assert set(tables['held_out']) <= known
    slots = {slot for word in known for slot in re.findall(r'\{(\w+)\}', word)}
    assert slots <= set(tables['words']) | {'a', 'the', 'where'}


def test_channels_are_those_of_the_encoders():
    assert MOTION.channel_names == (
        'speed: standing', 'speed: slow', 'speed: driving', 'speed: fast', 'turn: left', 'turn: right',
        'turn: none', 'pace: braking', 'pace: steady', 'pace: speeding up', 'bump')
    assert SOUNDS.channel_names == ('siren', 'horn', 'engine', 'tyres', 'speech', 'alarm')
    assert set(MOST_TELLING) == set(SOUNDS.channel_names)


def test_answers_of_all_subjects_begin_with_those_of_nuscenes_qa():
    answers = all_answers()
    assert answers[:30] == ANSWERS and len(set(answers)) == len(answers)
    assert all(set(subject.answers) <= set(answers) for subject in SUBJECTS.values())


def test_questions_beyond_a_subject_are_of_the_others_too():
    rng = random.Random(2)
    beyond = [OBJECTS.say_beyond(rng).lower() for _ in range(300)]
    assert any('siren' in text for text in beyond) and any('braking' in text for text in beyond)
    meanings = [MOTION.any_meaning(rng) for _ in range(100)]
    assert {meaning.type for meaning in meanings} == {'exist', 'absent', 'status'}


def test_the_sound_and_its_direction_are_said():
    rng = random.Random(3)
    texts = [SOUNDS.say(Meaning('exist', Description('horn'), 'left'), rng).lower() for _ in range(80)]
    assert sum('left' in text for text in texts) > 70
    assert sum(bool(re.search('h[oi]nk|horn|hoot|toot', text)) for text in texts) > 70

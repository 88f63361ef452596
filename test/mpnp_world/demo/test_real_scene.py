"""The real key frame of the demo: where it is found, what is asked about it; the stand-in takes its place."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader

from mpnp_ros.cli.exchanges import Exchange
from mpnp_ros.errors import DatasetError
from mpnp_ros.questions.generator import LabelledQuestion
from mpnp_world.demo import real_scene as demo_scene
from mpnp_world.demo.drive import BOTH, Majority
from mpnp_world.demo.real_scene import QUESTIONS, find_scene, interview

NOBODY = Majority({}, {})


@pytest.fixture
def root(standin) -> Path:
    return standin


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path) -> Path:
    """A checkout without shared data."""
    (tmp_path / 'main').mkdir()
    monkeypatch.setattr(demo_scene, 'source_folder', lambda: tmp_path / 'main')
    monkeypatch.delenv('NUSCENES_ROOT', raising=False)
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'main'


def test_a_root_comes_from_the_option_then_the_environment_then_shared_data(root, nowhere, monkeypatch):
    assert find_scene() is None
    shared = nowhere / demo_scene.SHARED
    (nowhere.parent / 'shared' / 'data').mkdir(parents=True)
    shared.symlink_to(root)
    assert find_scene().root.root == shared
    monkeypatch.setenv('NUSCENES_ROOT', str(nowhere / 'nothing'))
    assert find_scene(root).root.root == root
    with pytest.raises(DatasetError, match='nothing'):
        find_scene()


def test_what_is_asked_is_near_true_and_of_several_types(root):
    scene = find_scene(root)
    asked = scene.questions(NOBODY)
    assert 10 < len(asked) <= QUESTIONS and len({item.type for item in asked}) >= 3
    assert 'me' in ' '.join(item.text for item in asked)
    assert '6 cameras, a LiDAR sweep' in scene.title


def test_the_bag_holds_the_key_frame_alone_and_is_written_once(root, monkeypatch):
    scene = find_scene(root)
    bag = scene.bag()
    with Reader(bag) as reader:
        counts = {topic: info.msgcount for topic, info in reader.topics.items()}
    assert counts['/lidar_top'] == 1 and counts['/labelled_questions'] == 1
    monkeypatch.setattr(demo_scene, 'write_bag', None)
    assert scene.bag() == bag


def test_every_question_is_asked_with_both_and_with_each_alone():
    class Robot:
        plugged: Sequence[str] = ()

        def plug(self, plugged: Sequence[str]) -> None:
            self.plugged = plugged

        def ask_of(self, question: LabelledQuestion, guess: str, plugged: Sequence[str]) -> Exchange:
            assert plugged == self.plugged
            return Exchange(question.text, question.type, question.answer, guess, 'yes', 1., plugged, .1)

    question = LabelledQuestion('dark?', 'yes', 'exist', 0, '', '')
    answers = interview(Robot(), [question, question], Majority({}, {'exist': 'no'}))
    assert list(answers) == [BOTH, ('camera',), ('lidar',)]
    assert [[exchange.used for exchange in exchanges] for exchanges in answers.values()] == [
        [plugged] * 2 for plugged in answers]
    assert answers[BOTH][0].guess == 'no'

"""Real key frames of the demo: where they are found, what is asked about them."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from rosbags.rosbag2 import Reader

from mpnp_ros.cli.exchanges import Exchange
from mpnp_ros.errors import DatasetError, NotAnsweringError
from mpnp_ros.questions.balance import Majority
from mpnp_ros.questions.generator import NEARBY, LabelledQuestion, scene_questions
from mpnp_world.demo import real_drive as demo_real
from mpnp_world.demo.drive import BOTH, MOST_SKIPPED, Sight
from mpnp_world.demo.real_drive import RealAnswers, RealDrive, find_drive, interview, near
from mpnp_world.standin.writer import write_standin

NOBODY = Majority({}, {})


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """A root of one scene of two key frames."""
    return write_standin(tmp_path_factory.mktemp('drive') / 'root', seed=3, scenes=1, key_frames=2)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path) -> Path:
    """A checkout without shared data."""
    (tmp_path / 'main').mkdir()
    monkeypatch.setattr(demo_real, 'source_folder', lambda: tmp_path / 'main')
    monkeypatch.delenv('NUSCENES_ROOT', raising=False)
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'main'


class Robot:
    """Answers yes; shows the key frames in turn, and loses some.  lost: how many of the first."""

    def __init__(self, drive: RealDrive, lost: int = 0) -> None:
        self.drive, self.lost, self.place = drive, lost, 0
        self.plugged: Sequence[str] = ()

    def plug(self, plugged: Sequence[str]) -> None:
        self.plugged = plugged

    def present_frame(self, sensors: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        assert tuple(sensors) == self.drive.sensors
        frame = self.drive.frames[self.place % len(self.drive.frames)]
        self.lost -= 1
        return None if self.lost >= 0 else (
            Sight(frame.stamp_ns, key_frame=frame.token), scene_questions(frame, 0, 20, NEARBY))

    def next_frame(self, sensors: Sequence[str]) -> tuple[Sight, Sequence[LabelledQuestion]] | None:
        self.place += 1
        return self.present_frame(sensors)

    def ask(self, question: LabelledQuestion, guess: str) -> Exchange:
        return Exchange(question.text, question.type, question.answer, guess, 'yes', 1., tuple(self.plugged),
                        .1)


def ignore(answers: RealAnswers) -> None:
    """Show nothing."""


def test_a_root_comes_from_the_option_then_the_environment_then_shared_data(root, nowhere, monkeypatch):
    assert find_drive() is None
    shared = nowhere / demo_real.SHARED
    (nowhere.parent / 'shared' / 'data').mkdir(parents=True)
    shared.symlink_to(root)
    assert find_drive().root.root == shared
    monkeypatch.setenv('NUSCENES_ROOT', str(nowhere / 'nothing'))
    assert find_drive(root).root.root == root
    with pytest.raises(DatasetError, match='nothing'):
        find_drive()


def test_a_drive_is_a_scene_and_one_key_frame_stands_alone(root):
    drive, alone = find_drive(root), find_drive(root, whole=False)
    assert drive.whole and len(drive.frames) > 1 and not alone.whole and len(alone.frames) == 1
    assert {frame.scene for frame in drive.frames} == {alone.frames[0].scene}
    assert '1 key frame, 6 cameras, LiDAR' in alone.title
    assert drive.sensors == BOTH and drive.trials == (BOTH, ('camera',), ('lidar',))
    assert .02 <= drive.slop < .2


def test_the_bag_is_written_once_with_what_the_drive_has(root, monkeypatch):
    for drive in (find_drive(root), find_drive(root, whole=False)):
        with Reader(drive.bag()) as reader:
            counts = {topic: info.msgcount for topic, info in reader.topics.items()}
        assert counts['/labelled_questions'] == len(drive.frames) <= counts['/lidar_top']
    monkeypatch.setattr(demo_real, 'write_bag', None)
    assert drive.bag().is_dir()


def test_tokens_have_the_stamps_of_the_sensors_also_when_the_bag_is_played_again(root):
    drive = find_drive(root)
    frame = drive.frames[1]
    for later in (0, 5):
        seconds, rest = divmod(frame.stamp_ns, 10 ** 9)
        message = SimpleNamespace(sample_token=frame.token, header=SimpleNamespace(
            stamp=SimpleNamespace(sec=seconds + later, nanosec=rest)))
        assert drive.stamps(message) == {
            'lidar': frame.lidar.stamp_ns + later * 10 ** 9,
            'camera': min(reading.stamp_ns for reading in frame.cameras.values()) + later * 10 ** 9}


def test_every_question_is_asked_with_all_sensors_and_with_each_alone(root):
    drive, told = find_drive(root), []
    robot = Robot(drive)
    answers = interview(robot, drive, NOBODY, lambda answers: told.append(len(answers.moments)))
    assert told == list(range(1, len(drive.frames) + 1)) and robot.plugged == BOTH
    assert [moment.frame for moment in answers.moments] == list(drive.frames)
    assert list(answers.by_sensors) == [BOTH, ('camera',), ('lidar',)]
    for plugged, exchanges in answers.by_sensors.items():
        assert {exchange.used for exchange in exchanges} == {plugged}
        assert [exchange.question for exchange in exchanges] == [
            exchange.question for exchange in answers.exchanges(BOTH)]
        assert len(exchanges) == len(answers.away)
    assert len(near(answers.fullest.frame)) == max(len(near(frame)) for frame in drive.frames)


def test_what_is_true_elsewhere_is_not_what_is_true_here(root):
    answers = interview(Robot(drive := find_drive(root, whole=False)), drive, NOBODY, ignore)
    truths = [exchange.truth for exchange in answers.exchanges(BOTH)]
    same = sum(here == away for here, away in zip(truths, answers.away, strict=True))
    directed = [truth is not None for truth in answers.away]
    assert same < sum(directed) < len(truths)
    assert [' me' in exchange.question for exchange in answers.exchanges(BOTH)] == directed


def test_lost_key_frames_are_left_out_but_not_for_ever(root):
    drive = find_drive(root)
    answers = interview(Robot(drive, lost=1), drive, NOBODY, ignore)
    assert answers.skipped == 1 and len(answers.moments) == len(drive.frames) - 1
    alone = find_drive(root, whole=False)
    assert len(interview(Robot(alone, lost=2), alone, NOBODY, ignore).moments) == 1
    with pytest.raises(NotAnsweringError, match=f'{MOST_SKIPPED + 1} key frames came without tokens'):
        interview(Robot(drive, lost=100), drive, NOBODY, ignore)

"""`mpnp evaluate --bag`: what is printed, and a stand-in bag through real nodes with tiny models."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mpnp_ros.bags.questions import TOPIC, FrameQuestions, read_questions
from mpnp_ros.bags.writer import write_bag
from mpnp_ros.cli import evaluate_bag as command_of_bags
from mpnp_ros.cli.evaluate_bag import BagAsker
from mpnp_ros.cli.exchanges import ANSWERED, LOST, REFUSED, AskedOutcome, BagReport, Exchange
from mpnp_ros.cli.main import main
from mpnp_ros.cli.node_processes import node_program, source_files
from mpnp_ros.errors import BagError
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.balance import Majority
from mpnp_ros.questions.generator import LabelledQuestion

PATIENCE = 120.
QUESTION = LabelledQuestion('is it dark?', 'yes', 'exist', 0, '', 'sample')


@pytest.fixture(scope='module')
def bag(standin, tmp_path_factory) -> Path:
    """One key frame of a generated nuScenes root."""
    return write_bag(NuScenes(standin), tmp_path_factory.mktemp('bag') / 'bag', progress=False)


def exchange(answer: str) -> Exchange:
    """An answer to the question, which the majority gets wrong."""
    return Exchange(QUESTION.text, QUESTION.type, QUESTION.answer, 'no', answer, .5, ('camera',), .2)


def report(blind: bool = True) -> BagReport:
    """One right answer, a wrong one, one that was refused though its text is right, and one that was lost."""
    made = BagReport('bag', 2, 5, 1, blind={QUESTION.text: 'yes'} if blind else {})
    for outcome in (AskedOutcome(exchange('yes'), ANSWERED, latency=.1),
                    AskedOutcome(exchange('no'), ANSWERED, latency=.3),
                    AskedOutcome(exchange('yes'), REFUSED, 'no sensor looks back', .1),
                    AskedOutcome.lost(QUESTION, 'no', 'no answer within 60 s')):
        made.add(outcome)
    return made


def test_what_was_not_answered_is_wrong_and_the_reasons_are_told():
    text = report().text()
    for part in ('4 of 5 questions at 1 of 2 key frames', 'answers rest on camera', '1 of 4  25.0', '100.0',
                 'answered 2, unknown 0, refused 1, lost 1', 'refused 1: no sensor looks back',
                 'lost 1: no answer within 60 s', 'median 200 ms, 95 % within 290 ms'):
        assert part in text
    assert report(blind=False).text().splitlines()[2].split()[-1] == '-'


def test_the_same_as_json():
    data = json.loads(json.dumps(report().as_dict()), parse_constant=pytest.fail)
    assert data['accuracy']['exist'] == {'n': 4, 'right': 1, 'accuracy': .25, 'majority': 0., 'blind': 1.}
    assert data['reasons']['lost'] == {'no answer within 60 s': 1}
    empty = BagReport('bag', 2, 5)
    assert json.loads(json.dumps(empty.as_dict()), parse_constant=pytest.fail)['latency']['p50'] is None
    assert empty.text() == 'bag: 0 of 5 questions at 0 of 2 key frames; answers rest on nothing'


def test_questions_are_read_from_the_bag(bag, standin, tmp_path, capsys):
    frame, = read_questions(bag)
    assert len(frame.questions) == len(frame.choices) > 20 and len(frame.choices[0]) == 30
    silent = write_bag(NuScenes(standin), tmp_path / 'silent', questions=None, progress=False)
    with pytest.raises(BagError, match='has no questions: no topic /labelled_questions'):
        read_questions(silent)
    assert main(['evaluate', '--bag', str(silent)]) == 2
    assert 'write it with `mpnp convert`' in capsys.readouterr().err


def environment(ros) -> dict[str, str]:
    """Of a command in the domain of the test."""
    return {**os.environ, **ros.environment, 'PYTHONUNBUFFERED': '1'}


def command(bag: Path, *more: str) -> list[str]:
    """The command line."""
    return [sys.executable, '-m', 'mpnp_ros.cli.main', 'evaluate', '--bag', str(bag), *more]


class StandIn:
    """A robot, its nodes and a bag; the fusion node hears encoders later than the command does.

    hears: first pass of which its tokens are heard, by modality.
    """

    def __init__(self, hears: dict[str, int]) -> None:
        self.hears, self.passes, self.asked = hears, 0, []
        self.node, self._callbacks = self, {}

    def create_subscription(self, kind: type, topic: str, callback, qos: object) -> None:
        self._callbacks[topic] = callback

    def play(self) -> None:
        """Play the bag once more."""
        self.passes += 1
        stamp = SimpleNamespace(stamp=SimpleNamespace(sec=self.passes, nanosec=0))
        for name in self.hears:
            self._callbacks[f'tokens/{name}'](SimpleNamespace(header=stamp))
        self._callbacks[TOPIC](SimpleNamespace(header=stamp, sample_token='sample'))

    def set(self, name: str, value: bool) -> None:
        if not value:
            self.play()

    def modalities(self) -> dict[str, SimpleNamespace]:
        return {name: SimpleNamespace(encoder='e' if self.passes >= first else '')
                for name, first in self.hears.items()}

    def ask(self, text: str, choices: tuple[str, ...], timeout: float):
        from mpnp_ros.msg import Answer

        from mpnp_ros.conversions.messages import from_nanoseconds

        heard = [name for name, first in self.hears.items() if self.passes >= first]
        self.asked.append((self.passes, heard))
        answer = Answer(text='yes', status=Answer.OK if heard else Answer.NO_SENSOR, used_modalities=heard)
        for _ in heard:
            answer.modality_stamps.append(from_nanoseconds(self.passes * 10 ** 9))
        return answer


@pytest.mark.ros
@pytest.mark.parametrize(('hears', 'kinds', 'said', 'warned'), [
    ({'camera': 1}, [ANSWERED] * 2, [(1, ['camera'])] * 2, ''),
    ({'camera': 2, 'lidar': 1}, [ANSWERED] * 2, [(2, ['camera', 'lidar'])] * 2, ''),
    ({'camera': 9, 'lidar': 1}, [ANSWERED] * 2, [(2, ['lidar'])] * 2,
     'no tokens of camera reach the fusion node'),
    ({'camera': 9}, [LOST] * 2, [], ''),
])
def test_questions_wait_for_tokens_to_reach_the_fusion_node(hears, kinds, said, warned, monkeypatch, capsys):
    robot = StandIn(hears)
    monkeypatch.setattr(command_of_bags, 'SETTLING', .1)
    monkeypatch.setattr(command_of_bags, 'NodeParameters', lambda *where: robot)
    asker = BagAsker(robot, list(hears), lambda: None, lambda: False, 1.)
    frame = FrameQuestions('sample', (QUESTION, QUESTION), ((), ()))
    made = BagReport('bag', 1, 2)
    show = iter([robot.play])
    asker.ask_all([frame], Majority({}, {}), made, lambda *progress: next(show, lambda: None)())
    assert [outcome.kind for outcome in made.outcomes] == kinds and robot.asked == said
    assert warned in capsys.readouterr().err
    for reason in made.reasons(LOST):
        assert reason == 'no tokens of camera have reached the fusion node; see its diagnostics'


@pytest.mark.ros
@pytest.mark.timeout(300)
def test_a_system_that_runs_is_asked_and_left_as_it_was(ros, bag, tiny_system):
    from mpnp_ros.msg import ModalityStates
    from rclpy.qos import DurabilityPolicy, QoSProfile

    states = ros.collect('/modalities', ModalityStates,
                         QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    overlays = [part for file in source_files('config/nuscenes.yaml')
                for part in ('--params-file', str(file))]
    for node in ('camera_encoder', 'fusion'):
        ros.run([sys.executable, '-m', *node_program(node), '--ros-args', *overlays,
                 '--params-file', str(tiny_system), '-p', 'use_sim_time:=true'], environment(ros))
    states.wait(timeout=PATIENCE)
    done = subprocess.run(command(bag, '--running', '--per-frame', '6', '--json', '--timeout', '90'),
                          env=environment(ros), text=True, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data['key_frames'], data['questions']) == ({'asked': 1, 'of': 1}, {'asked': 6, 'of': 6})
    assert data['answered'] + data['unknown'] + data['refused'] + data['lost'] == 6
    assert data['answered'] and data['modalities'] == ['camera'] and data['latency']['p95'] > 0
    assert data['accuracy']['all']['n'] == 6 and data['accuracy']['all']['blind'] is not None
    assert 'evaluate: question 6 of 6' in done.stderr
    assert not any(state.pinned for state in states.messages[-1].modalities)


@pytest.mark.ros
@pytest.mark.timeout(300)
def test_ctrl_c_ends_the_nodes_and_prints_what_was_measured(ros, bag, tiny_system):
    own = {**environment(ros), 'ROS_DOMAIN_ID': os.environ['MPNP_TEST_OTHER_DOMAIN']}
    asking = subprocess.Popen(
        command(bag, '--modalities', 'lidar', '--params-file', str(tiny_system), '--rate', '2'), env=own,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    before = ''
    for line in asking.stderr:
        before += line
        if re.search('question [1-9]', line):
            break
    asking.send_signal(signal.SIGINT)
    output, errors = asking.communicate(timeout=PATIENCE)
    assert asking.returncode == 130, before + errors
    assert 'at 1 of 1 key frames; answers rest on lidar' in output and 'question about' in output

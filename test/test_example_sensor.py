"""The sensor of examples/toy_sensor, installed as any other package; nothing here is changed for it."""
from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import yaml

from mpnp_ros.cli.launching import node_command
from mpnp_ros.cli.node_processes import Placement, listeners, node_program, system_processes
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import save_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.registry import Encoder, create_encoder, create_judge, find_sensor, sensors
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.evaluation import evaluate
from mpnp_ros.training.trainer import Trainer, TrainerConfig

if TYPE_CHECKING:
    from ros_harness import RosHarness

EXAMPLE = Path(__file__).parents[1] / 'examples/toy_sensor'
NAME, SONARS, ANSWERS = 'sonar', ('front', 'left', 'back', 'right'), ('yes', 'no')
QUESTION = 'is there a car?'


@pytest.fixture(scope='module')
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that pip has installed the example into, on the path of this process."""
    source, folder = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('installed')
    for file in [*EXAMPLE.glob('*.toml'), *EXAMPLE.glob('toy_sensor/*.py')]:
        copy = source / file.relative_to(EXAMPLE)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index',
                    '--no-build-isolation', '--target', folder, source], check=True)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split('.')[0] == 'toy_sensor']:
        del sys.modules[name]


@pytest.fixture
def encoder(installed: Path) -> Encoder:
    """Its encoder, by its name."""
    return create_encoder(NAME, {'device': 'cpu'})


def with_path(folder: Path) -> dict[str, str]:
    """The environment variable that puts a folder on the path of a process."""
    return {'PYTHONPATH': os.pathsep.join([str(folder), os.environ.get('PYTHONPATH', '')])}


def frame(distances: dict[str, float], stamp_ns: int = 1):
    """Echoes of a ring of four sonars at these distances, metres."""
    from toy_sensor.encoder import Echo, SonarFrame

    echoes = []
    for name, distance in distances.items():
        turned = math.tau / 4 * SONARS.index(name)
        rotation = np.array([[math.cos(turned), -math.sin(turned), 0],
                             [math.sin(turned), math.cos(turned), 0], [0, 0, 1]])
        echoes.append(Echo(name, distance, .1, 4., rotation, stamp_ns))
    return SonarFrame(tuple(echoes))


def dataset(encoder: Encoder, frames: int = 24) -> TokenDataset:
    """Frames in which something is near, or nothing is, and a question about it."""
    drawn, tokens, examples = np.random.default_rng(0), {}, []
    for number in range(frames):
        near = number % 2 == 0
        low, high = (.2, .8) if near else (3., 4.)
        tokens[str(number)] = {NAME: encoder.encode(frame(dict(zip(SONARS, drawn.uniform(low, high, 4),
                                                                   strict=True))))}
        examples.append(Example(QUESTION, 'yes' if near else 'no', ANSWERS, 'exist', 0, str(number)))
    return TokenDataset(tokens, tuple(examples))


def train(method: Method, encoder: Encoder) -> None:
    """Give the method links to the sonars and train them for some steps."""
    torch.manual_seed(0)
    method.plug(method.new_link(NAME, encoder.fingerprint, encoder.token_width, last=2, hidden=16))
    Trainer(method, TrainerConfig(steps=60, batch=16, warm_up=5, learning_rate=2e-2,
                                  modality_dropout=0.)).fit(dataset(encoder))


def test_it_is_found_among_the_others(installed):
    assert list(sensors()) == ['audio', 'camera', 'detections', 'imu', 'lidar', 'radar', NAME]
    assert find_sensor(NAME).node == 'toy_sensor.node:SonarNode'
    assert node_program('sonar_encoder') == ['mpnp_ros.nodes.encoder', NAME]


def test_one_token_for_each_sonar_in_its_direction(encoder):
    tokens = encoder.encode(frame({'front': 1., 'left': math.inf, 'right': .5}))
    np.testing.assert_allclose(tokens.values, [[.5, 1, 1], [0, 0, 1], [2 / 3, 1, 1]], rtol=1e-6)
    np.testing.assert_allclose(tokens.azimuth, [0, math.pi / 2, -math.pi / 2], atol=1e-6)
    assert tokens.sources == ('front', 'left', 'right')
    assert create_encoder(NAME, {'scale': 2.}).fingerprint != encoder.fingerprint


def test_covered_and_silent_sonars_are_told(installed):
    judge = create_judge(NAME)
    assert judge.judge(frame({'front': 1., 'left': 2.})).quality == 1
    health = judge.judge(frame({'front': .05}, 5_000_000_000))
    assert health.quality == 0 and health.concerns == ('front is covered', 'left is silent (5.0 s)')


def test_its_links_are_trained_and_answer(encoder, tiny_lm):
    method = create_method('mpnp', tiny_lm())
    train(method, encoder)
    data = dataset(encoder)
    assert evaluate(method, data).value > .9
    answer = method.answer(method.prepare(QUESTION, ANSWERS), data.frames['0'])
    assert answer.text == 'yes' and answer.used == (NAME,)


def test_it_starts_with_the_others_and_no_source_waits_for_it(installed):
    names = [spec.name for spec in system_processes(['sonar', 'camera'], Placement(), adaptation=False)]
    assert names == ['camera_encoder', 'sonar_encoder', 'fusion']
    assert listeners([NAME, 'lidar']) == ['/lidar_top', 'question']
    assert node_command('sonar_encoder') == {
        'executable': sys.executable, 'arguments': ['-m', 'mpnp_ros.nodes.encoder', NAME]}
    assert node_command('lidar_encoder') == {'package': 'mpnp_ros', 'executable': 'lidar_encoder'}


def test_a_fusion_node_listens_to_it_by_default(installed):
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    program = ('import mpnp_ros.nodes.fusion as fusion, mpnp_ros.nodes.adaptation as adaptation\n'
               'print(fusion.PARAMETERS().modalities, adaptation.PARAMETERS().modalities)')
    done = subprocess.run([sys.executable, '-c', program], env={**os.environ, **with_path(installed)},
                          capture_output=True, text=True, check=True)
    assert done.stdout.count("('audio', 'camera', 'detections', 'imu', 'lidar', 'radar', 'sonar')") == 2


@pytest.mark.ros
@pytest.mark.timeout(400)
def test_bringup_starts_its_node_and_an_answer_rests_on_it(installed, encoder, tiny_lm_folder,
                                                           ros_harness: RosHarness, tmp_path):
    from geometry_msgs.msg import TransformStamped
    from mpnp_ros.msg import ModalityTokens, Question
    from mpnp_ros.srv import Ask
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from ros_harness import wait_until
    from sensor_msgs.msg import Range
    from tf2_msgs.msg import TFMessage

    method = create_method('mpnp', load_language_model(tiny_lm_folder, 'cpu', 'float32'))
    train(method, encoder)
    save_link(method.links()[NAME], tmp_path / 'links')
    parameters = {'/**/sonar_encoder': {'sonars': list(SONARS), 'encoder.device': 'cpu', 'threads': 1},
                  '/**/fusion': {'llm': str(tiny_lm_folder), 'device': 'cpu', 'dtype': 'float32',
                                 'threads': 1, 'links': [str(tmp_path / 'links')], 'link_store': ''}}
    (tmp_path / 'robot.yaml').write_text(yaml.safe_dump(
        {node: {'ros__parameters': values} for node, values in parameters.items()}))

    mark = ros_harness.mark()
    mounts = TFMessage()
    for place, sonar in enumerate(SONARS):
        mount = TransformStamped(child_frame_id=f'{sonar}_sonar')
        mount.header.frame_id = 'base_link'
        mount.transform.rotation.z, mount.transform.rotation.w = (math.sin(math.tau / 8 * place),
                                                                  math.cos(math.tau / 8 * place))
        mounts.transforms.append(mount)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros_harness.publisher('/tf_static', TFMessage, latched).publish(mounts)
    publishers = {sonar: ros_harness.publisher(f'/toy/{sonar}/range', Range) for sonar in SONARS}
    tokens = ros_harness.collect('/toy/tokens/sonar', ModalityTokens)

    def publish(distance: float) -> None:
        for sonar, publisher in publishers.items():
            message = Range(min_range=.1, max_range=4., range=distance, field_of_view=.5)
            message.header.frame_id = f'{sonar}_sonar'
            message.header.stamp = ros_harness.node.get_clock().now().to_msg()
            publisher.publish(message)

    def answer(distance: float) -> Ask.Response | None:
        publish(distance)
        reply = ros_harness.call(Ask, '/toy/ask', Ask.Request(
            question=Question(text=QUESTION, choices=list(ANSWERS)))).answer
        expected = 'yes' if distance < 1 else 'no'
        return reply if list(reply.used_modalities) == [NAME] and reply.text == expected else None

    environment = {**os.environ, **ros_harness.environment, **with_path(installed)}
    system = ros_harness.run(
        [sys.executable, '-m', 'mpnp_ros.cli.main', 'bringup', '--modalities', NAME, '--no-adaptation',
         '--namespace', 'toy', '--params-file', str(tmp_path / 'robot.yaml')], environment)
    try:
        system.wait_for_output('nodes are ready', 180)
        ros_harness.publish_until(lambda: publish(.5), tokens)
        assert tokens.messages[-1].encoder == encoder.fingerprint
        assert sorted(tokens.messages[-1].sources) == sorted(SONARS)
        near = wait_until(lambda: answer(.5), 'an answer about something near')
        far = wait_until(lambda: answer(3.5), 'an answer about nothing near')
        assert near.status == near.OK and far.status == far.OK
    finally:
        system.stop()
        ros_harness.clean(mark)

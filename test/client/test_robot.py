"""`mpnp_ros.client` against a fusion node and an adaptation node in processes of their own."""
from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

import rclpy
from mpnp_ros.msg import Adaptation, Answer, Event, ModalityTokens
from mpnp_ros.srv import ListQuestions

from mpnp_ros.cli.main import main
from mpnp_ros.client import AsyncRobot, NotRunningError, RequestError, Robot, node_reports
from mpnp_ros.conversions.messages import to_message
from mpnp_ros.errors import CancelledError, ConfigurationError
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import save_link
from mpnp_ros.methods.link_store import LinkStore, default_store
from mpnp_ros.methods.registry import create_method
from mpnp_ros.nodes.worker import Ticker
from mpnp_ros.tokens import ModalityTokens as Tokens

pytestmark = [pytest.mark.ros, pytest.mark.timeout(300)]
NAMESPACE, WIDTH, PATIENCE = '/test', 8, 150.
CHOICES = ['yes', 'no', 'car']
LONG = {'question': 'what is to the front left of the truck?', 'max_new_tokens': 1000}


@pytest.fixture(scope='module')
def system(module_ros, tiny_lm_folder, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A fusion node with links to a camera that looks five times a second, and an adaptation node."""
    method = create_method('mpnp', load_language_model(tiny_lm_folder, 'cpu', 'float32'))
    folders = [tmp_path_factory.mktemp('links') / version for version in ('first', 'second')]
    for folder in folders:
        save_link(method.new_link('camera', 'camera encoder', WIDTH, last=2), folder)
    model = {'llm': str(tiny_lm_folder), 'device': 'cpu', 'modalities': ['camera']}
    module_ros.start('mpnp_ros.nodes.fusion', namespace=NAMESPACE, parameters={
        **model, 'dtype': 'float32', 'threads': 1, 'choices': '', 'links': [str(folders[0])]})
    module_ros.start('mpnp_ros.nodes.adaptation', namespace=NAMESPACE,
                     parameters={**model, 'initial_links': ['']})
    publisher = module_ros.publisher('tokens/camera', ModalityTokens)

    def look() -> None:
        now = module_ros.node.get_clock().now().nanoseconds
        publisher.publish(to_message(Tokens(
            'camera', 'camera encoder', np.ones((4, WIDTH), np.float32),
            np.linspace(-3, 3, 4, dtype=np.float32), stamp_ns=now)))

    camera = Ticker('camera', .2, look)
    yield SimpleNamespace(ros=module_ros, folders=folders)
    camera.close()


@pytest.fixture(scope='module')
def robot(system) -> Iterator[Robot]:
    """The robot, once answers rest on its camera."""
    with Robot(NAMESPACE, timeout=PATIENCE) as robot:
        wait(lambda: list(robot.ask('is it there?', CHOICES).used_modalities) == ['camera'])
        yield robot


def wait(condition: Callable[[], object]) -> None:
    """Until it is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(.05)


def test_a_question_is_answered_at_once_and_bit_by_bit(robot):
    answer = robot.ask('is the car moving?', CHOICES)
    assert answer.status == Answer.OK and answer.text in CHOICES and list(answer.choices) == CHOICES
    *updates, last = robot.ask_stream('what is ahead?', max_new_tokens=8)
    assert {update.stage for update in updates} <= {'waiting', 'reading', 'answering'}
    assert all(update.answer is None for update in updates) and last.answer.question == 'what is ahead?'
    assert last.text == last.answer.text and last.stage == 'answered'


def test_what_is_rejected_says_why_and_carries_the_answer(robot):
    with pytest.raises(RequestError, match='2000') as error:
        robot.ask('x' * 3000)
    assert error.value.response.status == Answer.REJECTED
    with pytest.raises(RequestError, match='2000'):
        next(robot.watch('x' * 3000))


def test_a_standing_question_is_answered_until_one_looks_away(robot, system):
    heard: list[Answer] = []
    with Robot(NAMESPACE) as other:
        listening = threading.Thread(target=lambda: heard.append(next(other.watch(timeout=PATIENCE))))
        listening.start()
        answers = []
        for answer in robot.watch('is it moving?', CHOICES):
            answers.append(answer)
            if len(answers) >= 3 and heard:
                break
        listening.join()
    assert len({answer.id for answer in answers}) == 1 and answers[-1].id == heard[0].id
    assert len({answer.header.stamp.nanosec for answer in answers}) == len(answers)
    wait(lambda: not system.ros.call(ListQuestions, 'list_questions', ListQuestions.Request()).questions)


def test_events_are_heard_until_one_looks_away(robot, system):
    events = robot.events('is it moving?', CHOICES, CHOICES, begin=.5)
    event = next(events)
    events.close()
    assert (event.kind, event.question, list(event.used_modalities)) == (
        Event.BEGINS,
        'is it moving?',
        ['camera'],
    )
    wait(lambda: not system.ros.call(ListQuestions, 'list_questions', ListQuestions.Request()).questions)
    with pytest.raises(RequestError, match='no choice'):
        next(robot.events('is it moving?', ['blue'], CHOICES))


def test_the_past_is_asked(robot):
    counts: list[int] = []
    robot.ask('is it?', CHOICES)
    result = robot.ask_past(
        'is it moving?', CHOICES, progress=lambda feedback: counts.append(feedback.moments)
    )
    assert result.success and result.moments == counts[-1] and result.spans[0].answer in CHOICES
    with pytest.raises(RequestError, match='not understood') as error:
        robot.ask_past('who won')
    assert not error.value.response.success


def test_modalities_are_plugged_unplugged_and_released(robot):
    assert robot.modalities()['camera'].plugged
    assert not robot.unplug('camera').plugged
    assert robot.ask('is it?', CHOICES).status == Answer.NO_SENSOR
    assert robot.plug('camera').pinned
    assert not robot.release('camera').pinned
    with pytest.raises(RequestError, match='sonar'):
        robot.plug('sonar')


def test_links_are_listed_and_rolled_back(robot, system):
    first, second = map(str, system.folders)
    assert [link.path for link in robot.links()] == [first]
    assert robot.load_links(second).path == second
    with pytest.raises(RequestError, match='cannot be read'):
        robot.load_links('/nowhere')
    assert {link.path: link.active for link in robot.links()} == {first: False, second: True}
    assert robot.rollback('camera').path == first
    with pytest.raises(RequestError, match='camera'):
        robot.rollback('camera')


def test_the_command_puts_links_into_use_and_takes_them_back(robot, system, tmp_path, tiny_lm_folder, capsys):
    method = create_method('mpnp', load_language_model(tiny_lm_folder, 'cpu', 'float32'))
    LinkStore(tmp_path / 'own').save(method.new_link('camera', 'camera encoder', WIDTH, last=2))
    before = robot.ask('is it?', CHOICES)
    there = ['--namespace', NAMESPACE, '--timeout', str(PATIENCE)]
    assert main(['links', 'use', str(tmp_path / 'own'), *there]) == 0
    assert 'the fusion node says: camera links 000001 are in use' in capsys.readouterr().out
    own = robot.ask('is it?', CHOICES)
    assert own.links_version == 'camera=000001' != before.links_version
    assert own.probabilities != before.probabilities
    assert default_store(NAMESPACE).current('camera').version == '000001'
    assert main(['links', 'rollback', 'camera', *there]) == 0
    again = robot.ask('is it?', CHOICES)
    assert (again.links_version, again.probabilities) == (before.links_version, before.probabilities)
    assert default_store(NAMESPACE).current('camera') is None
    LinkStore(tmp_path / 'other').save(method.new_link('sonar', 'sonar encoder', WIDTH, last=2))
    assert main(['links', 'use', str(tmp_path / 'other' / 'sonar' / '000001'), *there]) == 1
    assert 'the parameter modalities has only camera' in capsys.readouterr().err


def test_an_adaptation_that_comes_to_nothing_says_why(robot):
    with pytest.raises(RequestError) as error:
        robot.adapt(['sonar'])
    assert str(error.value) == error.value.response.message and not error.value.response.links
    assert isinstance(robot.adaptation(PATIENCE), Adaptation)


def test_what_is_not_running_is_named_with_the_remedy(system, monkeypatch):
    monkeypatch.setattr(node_reports, 'HEARD_WITHIN', .1)
    with Robot('/nowhere', timeout=.1) as nowhere:
        for call in (lambda: nowhere.ask('is it?'), nowhere.modalities, nowhere.links,
                     lambda: next(nowhere.watch('is it?'))):
            with pytest.raises(NotRunningError, match='runs in namespace /nowhere of .*`mpnp bringup`'):
                call()
        with pytest.raises(NotRunningError, match='serves /nowhere/adapt; start the adaptation node'):
            nowhere.adapt()


def test_what_is_left_or_closed_is_cancelled_and_the_robot_goes_on(robot):
    for _ in robot.ask_stream(**LONG):
        break
    errors = []

    def listen(other: Robot) -> None:
        try:
            next(other.watch('is it?', CHOICES, period=1000.)), next(other.watch())
        except CancelledError as error:
            errors.append(str(error))

    with Robot(NAMESPACE) as other:
        listening = threading.Thread(target=listen, args=[other])
        listening.start()
        time.sleep(.5)
    listening.join(PATIENCE)
    assert errors == ['the robot has been closed']
    with pytest.raises(CancelledError):
        other.ask('is it?')
    assert robot.ask('is it?', CHOICES).status == Answer.OK


def test_asyncio(robot):
    async def main() -> None:
        async with AsyncRobot(NAMESPACE, timeout=PATIENCE) as several:
            answers = await asyncio.gather(*(several.ask(f'is {number} there?', CHOICES)
                                             for number in range(3)))
            assert [answer.question for answer in answers] == [f'is {number} there?' for number in range(3)]
            asking = asyncio.create_task(several.ask(**LONG))
            await asyncio.sleep(.01)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            async for answer in several.watch('is it moving?', CHOICES):
                assert answer.text in CHOICES
                break
            assert 'camera' in await several.modalities()

    asyncio.run(main())


def test_a_node_of_ones_own(robot, system):
    with Robot(node=system.ros.node, timeout=PATIENCE) as own:
        assert own.ask('is it?', CHOICES).text in CHOICES and own.modalities()
    assert system.ros.node.get_clock().now()
    idle = rclpy.create_node('idle', context=system.ros.node.context, namespace=NAMESPACE)
    with Robot(node=idle) as own, pytest.raises(ConfigurationError, match='idle is in no executor'):
        own.ask('is it?')
    idle.destroy_node()
    with pytest.raises(ConfigurationError, match='namespace or a node'):
        Robot(NAMESPACE, node=system.ros.node)

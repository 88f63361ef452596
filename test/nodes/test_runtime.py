"""How nodes change state and end, and what they say on /diagnostics, with nodes in this process."""
from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn

from mpnp_ros.errors import WeightsError
from mpnp_ros.nodes import diagnostics as diagnostics_module
from mpnp_ros.nodes.diagnostics import ERROR, OK, WARN
from mpnp_ros.nodes.runtime import AUTOSTART, ManagedNode

SUCCESS = TransitionCallbackReturn.SUCCESS


class Recorder(ManagedNode):
    """Notes what is called; raises where told to."""

    def __init__(self, context, raising=()):
        super().__init__('recorder', (AUTOSTART,), context=context)
        self.calls, self.raising = [], dict(raising)

    def load(self):
        self.note('load')

    def start(self):
        self.note('start')

    def stop(self):
        self.note('stop')

    def release(self):
        self.note('release')

    def note(self, name):
        self.calls.append(name)
        if name in self.raising:
            raise self.raising[name]


@pytest.fixture
def recorder(ros):
    nodes = []

    def make(**raising):
        nodes.append(Recorder(ros.node.context, raising))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def test_every_transition_calls_its_step(recorder):
    node = recorder()
    for _ in range(3):
        for transition in (node.trigger_configure, node.trigger_activate, node.trigger_deactivate,
                           node.trigger_cleanup):
            assert transition() == SUCCESS
    assert node.calls == ['load', 'start', 'stop', 'release'] * 3


def test_what_a_failed_transition_began_is_undone_and_it_may_be_tried_again(recorder):
    node = recorder(load=WeightsError('no weights; install them'))
    assert node.trigger_configure() != SUCCESS
    assert node.calls == ['load', 'release']
    status = node.diagnostics.status()
    assert status.level == ERROR and status.message == 'cannot configure: no weights; install them'
    node.raising.clear()
    assert node.trigger_configure() == SUCCESS
    node.raising['start'] = ValueError('port taken')
    assert node.trigger_activate() != SUCCESS
    assert node.calls == ['load', 'release', 'load', 'start', 'stop']
    node.raising.clear()
    assert node.trigger_activate() == SUCCESS
    assert node.diagnostics.status().level == OK


def test_shutdown_stops_and_releases_from_any_state(recorder):
    node = recorder()
    node.trigger_configure()
    node.trigger_activate()
    node.trigger_shutdown()
    assert node.calls == ['load', 'start', 'stop', 'release']


def test_an_impossible_transition_is_answered_with_a_refusal(recorder):
    from lifecycle_msgs.srv import ChangeState
    node = recorder()
    request = ChangeState.Request()
    request.transition.label = 'activate'
    assert not node._service_change_state.callback(request, ChangeState.Response()).success
    assert node.calls == []


def test_warnings_are_counted_and_raise_the_level_for_a_while(recorder, monkeypatch, capfd):
    node = recorder()
    node.trigger_configure()
    for _ in range(3):
        node.diagnostics.warn('bad images', 'an image is bad')
    assert node.diagnostics.counters() == {'bad images': 3}
    assert (node.diagnostics.status().level, node.diagnostics.status().message) == (WARN, 'an image is bad')
    assert capfd.readouterr().err.count('an image is bad') == 1
    monkeypatch.setattr(diagnostics_module, 'RECENT', 0.0)
    assert (node.diagnostics.status().level, node.diagnostics.status().message) == (OK, 'inactive')


def test_sources_and_checks_are_asked_at_every_publication(recorder, ros):
    from ros_harness import wait_until
    node = recorder()
    arrays = ros.collect('/diagnostics', DiagnosticArray, 10)
    node.diagnostics.add_source(lambda: {'rate': 2.5})
    node.diagnostics.add_check(lambda: 'nothing comes on /a')
    node.diagnostics.count('answers', 2)

    def published():
        node.diagnostics.publish()
        return [status for array in arrays.messages for status in array.status if 'recorder' in status.name]

    status = wait_until(published, 'diagnostics')[-1]
    assert {pair.key: pair.value for pair in status.values} == {'rate': '2.500', 'answers': '2'}
    assert (status.name, status.level, status.message) == ('recorder: recorder', WARN, 'nothing comes on /a')

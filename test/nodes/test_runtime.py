"""How nodes change state and end, and what they say on /diagnostics, with nodes in this process."""
from __future__ import annotations

import logging
import threading
import time

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import TransitionCallbackReturn

from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.nodes import diagnostics as diagnostics_module
from mpnp_ros.nodes import runtime
from mpnp_ros.nodes.diagnostics import ERROR, OK, WARN, Concerns
from mpnp_ros.nodes.runtime import ManagedNode, ManagedOptions

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Recorder(ManagedNode):
    """Notes what is called; raises where told to."""

    def __init__(self, context, raising=()):
        super().__init__('recorder', ManagedOptions, context=context)
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


def ask(node, label='', number=0):
    """Ask for a transition as a lifecycle manager does; returns whether it succeeded."""
    from lifecycle_msgs.srv import ChangeState
    request = ChangeState.Request()
    request.transition.label, request.transition.id = label, number
    return node._service_change_state.callback(request, ChangeState.Response()).success


@pytest.mark.parametrize('before, asked, said', [
    ([], {'label': 'activate'}, "'activate' is not possible in state 'unconfigured'; "
                                'possible: configure, shutdown'),
    (['configure', 'activate'], {'label': 'activate'}, "'activate' is not possible in state 'active'; "
                                                       'possible: deactivate, shutdown'),
    (['configure'], {'number': 1}, "'configure' is not possible in state 'inactive'; "
                                   'possible: activate, cleanup, shutdown'),
    ([], {'label': 'activte'}, "'activte' is not possible in state 'unconfigured'; "
                               'possible: configure, shutdown'),
    ([], {'number': 99}, "'99' is not possible in state 'unconfigured'; possible: configure, shutdown"),
])
def test_an_impossible_transition_is_refused_in_one_line(recorder, capfd, before, asked, said):
    node = recorder()
    assert all(ask(node, transition) for transition in before)
    calls, _ = list(node.calls), capfd.readouterr()
    assert not ask(node, **asked)
    assert node.calls == calls
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].endswith(f'[recorder]: transition refused: {said}')


def test_what_is_triggered_in_the_process_is_refused_alike(recorder):
    node = recorder()
    with pytest.raises(ConfigurationError, match="'deactivate' is not possible in state 'unconfigured'"):
        node.trigger_deactivate()


def test_a_transition_in_the_midst_of_another_is_refused(recorder):
    node, refused = recorder(), []
    node.load = lambda: refused.append(ask(node, 'activate'))
    assert node.trigger_configure() == SUCCESS
    assert refused == [False]
    assert ask(node, 'activate')


def test_a_node_that_ends_refuses_transitions_and_waits_for_the_running_one(recorder):
    node, began, go_on = recorder(), threading.Event(), threading.Event()
    node.load = lambda: (began.set(), go_on.wait(30))
    loading = threading.Thread(target=node.trigger_configure)
    loading.start()
    began.wait(30)
    assert not node.close(.01)
    go_on.set()
    loading.join()
    assert not ask(node, 'activate')
    assert node.close(30.)
    assert node.calls == ['stop', 'release']


def test_a_step_that_cannot_be_undone_leaves_the_node_in_its_state(recorder):
    node = recorder(load=ValueError('no'), release=ValueError('neither'))
    assert node.trigger_configure() == FAILURE
    assert isinstance(node.failure, ValueError) and str(node.failure) == 'no'
    node.raising.clear()
    assert node.trigger_configure() == SUCCESS


def test_what_is_done_while_configuring_is_on_diagnostics(recorder):
    node, shown = recorder(), []

    def load():
        shown.append(node.diagnostics.status())
        logging.getLogger('mpnp_ros.llm.weights').warning('converting the model, once')
        threading.Thread(target=lambda: logging.getLogger('mpnp_ros').warning('another thread')).start()
        shown.append(node.diagnostics.status())

    node.load = load
    assert node.trigger_configure() == SUCCESS
    assert [(status.level, status.message) for status in shown] == [
        (OK, 'configuring'), (OK, 'configuring: converting the model, once')]
    assert node.diagnostics.status().message == 'inactive'


def test_a_source_of_diagnostics_that_fails_costs_nothing_but_its_values(recorder):
    node = recorder()
    node.diagnostics.add_source(lambda: {'rate': None.rate})
    node.diagnostics.add_check(lambda: None.text)
    node.diagnostics.count('answers')
    assert [pair.key for pair in node.diagnostics.status().values] == ['answers', 'state']


def test_entities_made_and_destroyed_while_data_flows_break_nothing(ros):
    """Subscriptions and timers come and go under the hands of the executor that waits for them."""
    import rclpy
    from rclpy.event_handler import SubscriptionEventCallbacks
    from std_msgs.msg import String
    node = rclpy.create_node('coming_and_going', context=ros.node.context, namespace='/test')
    executor, ended = runtime._Executor(num_threads=4, context=ros.node.context), threading.Event()
    executor.add_node(node)
    failures = []

    def spin():
        try:
            executor.spin()
        except Exception as error:
            failures.append(error)

    spinning = threading.Thread(target=spin)
    spinning.start()
    publisher = ros.publisher('coming_and_going', String)
    group = MutuallyExclusiveCallbackGroup()
    came = []

    def flow():
        while not ended.wait(.002):
            publisher.publish(String(data='x'))

    flowing = threading.Thread(target=flow)
    flowing.start()
    for _ in range(60):
        subscription = node.create_subscription(
            String, 'coming_and_going', came.append, 5, callback_group=group,
            event_callbacks=SubscriptionEventCallbacks(message_lost=lambda event: None))
        timer = node.create_timer(.001, lambda: None, callback_group=group)
        time.sleep(.01)
        node.destroy_timer(timer)
        node.destroy_subscription(subscription)
    subscription = node.create_subscription(String, 'coming_and_going', came.append, 5, callback_group=group)
    before = len(came)
    from ros_harness import wait_until
    wait_until(lambda: len(came) > before + 5, 'messages after all that')
    ended.set()
    flowing.join()
    assert executor.end(spinning, 30.)
    node.destroy_node()
    assert failures == []


def test_a_timer_that_is_cancelled_as_it_becomes_due_breaks_nothing(ros):
    import rclpy
    node = rclpy.create_node('timers', context=ros.node.context, namespace='/test')
    executor = runtime._Executor(num_threads=4, context=ros.node.context)
    timer = node.create_timer(3600., lambda: None)
    timer.cancel()
    assert executor._take_timer(timer) is None
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    assert executor.end(spinning, 30.)
    node.destroy_node()


def test_a_message_that_cannot_be_read_is_dropped_and_the_next_one_is_read(ros, monkeypatch):
    import rclpy
    from rclpy.executors import MultiThreadedExecutor
    from std_msgs.msg import String
    take, raised = MultiThreadedExecutor._take_subscription, []

    def failing(self, subscription):
        if subscription.topic_name.endswith('unreadable') and not raised:
            raised.append(take(self, subscription))
            raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'invalid start byte')
        return take(self, subscription)

    monkeypatch.setattr(MultiThreadedExecutor, '_take_subscription', failing)
    node = rclpy.create_node('reader', context=ros.node.context, namespace='/test')
    executor = runtime._Executor(num_threads=4, context=ros.node.context)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    came = []
    node.create_subscription(String, 'unreadable', came.append, 5,
                             callback_group=MutuallyExclusiveCallbackGroup())
    publisher = ros.publisher('unreadable', String)
    ros.wait_for_subscriber(publisher)
    from ros_harness import wait_until
    wait_until(lambda: publisher.publish(String(data='x')) or time.sleep(.05) or came, 'a message')
    assert raised
    assert executor.end(spinning, 30.)
    node.destroy_node()


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


def test_a_warning_that_lasts_is_said_once_and_hides_no_state(recorder):
    node = recorder()
    assert node.diagnostics.status().message == 'starting', 'it is configured without further orders'
    lasting = Concerns(node.diagnostics)
    lasting.set('mount', 'the mount is unknown')
    lasting.set('calibration', 'no calibration')
    status = node.diagnostics.status()
    assert (status.level, status.message) == (WARN, 'the mount is unknown; no calibration')
    assert {pair.key: pair.value for pair in status.values}['state'] == 'starting'


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
    assert {pair.key: pair.value for pair in status.values} == {
        'rate': '2.500', 'answers': '2', 'state': 'starting'}
    assert (status.name, status.level, status.message) == ('recorder: recorder', WARN, 'nothing comes on /a')


def test_a_short_callback_is_over_when_it_was_passed_on_and_a_long_one_runs_beside():
    pool, free = runtime._PromptPool(2), threading.Event()
    try:
        assert any(pool.submit(int, '7').done() for _ in range(20))  # a busy machine may be late
        long = pool.submit(free.wait, 60)
        assert not long.done()
        free.set()
        assert long.result(60)
    finally:
        free.set()
        pool.shutdown()

"""A signal ends a node at any moment of its start: at once, with 0, without a traceback or another step."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.cli.node_processes import all_nodes, node_program
from mpnp_ros.nodes import signals

pytestmark = pytest.mark.ros
ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
BOUND = 20.
"""Seconds within which a process must have ended: a hang takes longer, a busy machine does not."""
SLOW = """
import signal, sys, threading, time
from mpnp_ros.nodes import signals
from mpnp_ros.nodes.runtime import ManagedNode, ManagedOptions, PlainNode, run_node
from mpnp_ros.options import Options

class Slow(ManagedNode):
    def __init__(self):
        if {where!r} == 'construction':
            print('busy', flush=True); time.sleep(60)
        super().__init__('slow', ManagedOptions)
    def load(self):
        if {where!r} == 'load':
            print('busy', flush=True); time.sleep(60)
        if {where!r} == 'short load':
            print('busy', flush=True); time.sleep(.5)
        if {where!r} == 'another thread':
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM); time.sleep(60)
    def start(self):
        print('started', flush=True)
        if {where!r} == 'start':
            print('busy', flush=True); time.sleep(60)
    def stop(self):
        if {where!r} == 'stop':
            print('busy', flush=True); time.sleep(60)

class Plain(PlainNode):
    def __init__(self):
        super().__init__('slow', Options)
    def begin(self):
        print('busy', flush=True); time.sleep(60)

begin = threading.Thread.start
def slowly(thread):
    if {where!r} == 'executor' == thread.name:
        print('busy', flush=True); time.sleep(60)
    begin(thread)

threading.Thread.start = slowly
sys.exit(run_node(Plain if {where!r} == 'begin' else Slow))
"""


def start(*command):
    return subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, env={**os.environ, 'PYTHONUNBUFFERED': '1'})


def own(line):
    """Whether a line is the node's; Fast DDS says it where processes open a port at the same moment."""
    return 'RTPS_TRANSPORT_SHM' not in line


def next_line(process):
    return next(filter(own, process.stdout), '')


def ended(process):
    """Return exit code and output of a process that has been told to end."""
    try:
        output, _ = process.communicate(timeout=BOUND)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f'it runs on: {process.communicate()[0]}') from None
    return process.returncode, ''.join(filter(own, output.splitlines(keepends=True)))


@pytest.mark.parametrize('where', ['construction', 'executor', 'load', 'start', 'begin'])
def test_what_cannot_be_interrupted_does_not_keep_a_node_from_ending(ros, where):
    processes = {number: start('-c', SLOW.format(where=where)) for number in ALL}
    for number, process in processes.items():
        assert next_line(process) == ('started\n' if where == 'start' else 'busy\n')
        process.send_signal(number)
    for process in processes.values():
        code, output = ended(process)
        assert code == 0 and 'Traceback' not in output and 'never retrieved' not in output
        assert 'started' not in output


def test_a_node_is_not_activated_after_the_signal(ros):
    process = start('-c', SLOW.format(where='short load'))
    assert next_line(process) == 'busy\n'
    process.send_signal(signal.SIGINT)
    assert ended(process) == (0, '')


def test_a_signal_that_does_not_wake_the_main_thread_ends_a_node_too(ros):
    """One that another thread takes, or that comes when the main thread is about to wait, is such."""
    assert ended(start('-c', SLOW.format(where='another thread'))) == (0, '')


def test_a_second_signal_of_any_kind_ends_at_once(ros):
    process = start('-c', SLOW.format(where='load').replace('from mpnp_ros.nodes.runtime',
                                                            'import mpnp_ros.nodes.runtime as runtime\n'
                                                            'runtime.LOADING = 30.; runtime.LEAVING = 40.\n'
                                                            'runtime.ManagedNode.patience = 40.\n'
                                                            'from mpnp_ros.nodes.runtime'))
    assert next_line(process) == 'busy\n'
    process.send_signal(signal.SIGINT)
    time.sleep(signals.ONE + .7)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (128 + signal.SIGTERM, '')


@pytest.mark.parametrize('node', all_nodes())
def test_a_signal_amid_the_imports_ends_a_node(node):
    """The import of the first heavy package waits here, as one from a slow disk would, in short turns."""
    program = node_program(node)
    code = ('import importlib.abc, runpy, sys, time\n'
            'class Slow(importlib.abc.MetaPathFinder):\n'
            '    def find_spec(self, name, path, target=None):\n'
            '        if name in ("numpy", "rclpy", "torch"):\n'
            '            print("importing", flush=True)\n'
            '            for _ in range(1200): time.sleep(.05)\n'
            'sys.meta_path.insert(0, Slow())\n'
            f'sys.orig_argv = [sys.executable, "-m", *{program}]\n'
            f'sys.argv = ["-m", *{program[1:]}]\n'
            f'runpy.run_module({program[0]!r}, run_name="__main__", alter_sys=False)\n')
    processes = {number: start('-c', code) for number in ALL}
    for number, process in processes.items():
        assert next_line(process) == 'importing\n'
        process.send_signal(number)
    assert [ended(process) for process in processes.values()] == [(0, '')] * len(ALL)


def test_an_executable_heeds_signals_before_it_imports_its_node():
    code = ('import time, mpnp_ros.nodes.executables as executables\n'
            'def slow(name):\n'
            '    print("importing", flush=True)\n'
            '    for _ in range(1200): time.sleep(.05)\n'
            'executables.import_module = slow\n'
            'executables.fusion()\n')
    process = start('-c', code)
    assert next_line(process) == 'importing\n'
    process.send_signal(signal.SIGINT)
    assert ended(process) == (0, '')


def test_importing_the_nodes_leaves_the_signals_of_another_program_alone():
    code = ('import signal, mpnp_ros.nodes.runtime\n'
            'assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n'
            'assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n')
    assert subprocess.run([sys.executable, '-c', code], timeout=60).returncode == 0


def test_an_ignored_hangup_stays_ignored():
    code = ('import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n'
            'from mpnp_ros.nodes import signals; signals.heed()\n'
            'assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN\n')
    assert subprocess.run([sys.executable, '-c', code], timeout=60).returncode == 0


def test_the_end_may_be_asked_for_before_it_is_waited_for_and_by_any_thread():
    end = signals.End()
    for _ in range(100_000):  # more than a pipe holds
        end.ask()
    end.wait()
    assert end.asked
    end.close()
    other = signals.End()
    threading.Timer(.05, other.ask).start()
    assert not other.asked
    other.wait()
    assert other.asked
    other.close()


def test_a_command_line_of_a_node_is_known():
    assert signals.is_node(['python', '-X', 'dev', '-m', 'mpnp_ros.nodes.fusion', '-m'], 'mpnp_ros.nodes')
    assert not signals.is_node(['python', '-m', 'pytest', 'mpnp_ros.nodes.fusion'], 'mpnp_ros.nodes')
    assert not signals.is_node(['python', '-m'], 'mpnp_ros.nodes')

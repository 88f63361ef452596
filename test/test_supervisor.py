"""Processes run as one: output, restart with back-off, clean end."""
from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.supervisor import (
    ENDED,
    FAILED,
    RUNNING,
    WAITING,
    PrefixedLines,
    ProcessSpec,
    RestartPolicy,
    Supervisor,
    tie,
)

POLITE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print('told to end', flush=True), sys.exit()))
print('up', flush=True)
while True: signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
while True: signal.pause()
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])
print('child', child.pid, flush=True)
child.wait()
"""


def python(name: str, code: str, **environment: str) -> ProcessSpec:
    """A Python process that starts fast."""
    return ProcessSpec(name, [sys.executable, '-S', '-c', code], environment)


class Log(list):
    """Collects (name, line)."""

    def __call__(self, name: str, line: str) -> None:
        self.append((name, line))

    def wait_for(self, name: str, start: str, seconds: float = 10.) -> str:
        """The first line of a process that starts so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for who, line in list(self):
                if who == name and line.startswith(start):
                    return line
            time.sleep(.01)
        raise AssertionError(f'{name} did not print {start!r}: {list(self)}')


def poll_until(supervisor: Supervisor, reached, seconds: float = 10.) -> None:
    """Poll until ``reached()``."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, [(c.spec.name, c.state) for c in supervisor.children]
        supervisor.poll()
        time.sleep(.01)


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_children_are_told_once_and_their_last_words_are_passed_on():
    log = Log()
    with Supervisor([python('a', POLITE), python('b', POLITE)], write=log) as supervisor:
        log.wait_for('a', 'up')
        log.wait_for('b', 'up')
        assert supervisor.poll()
        pids = [child.pid for child in supervisor.children]
    assert log.count(('a', 'told to end')) == log.count(('b', 'told to end')) == 1
    assert not any(map(alive, pids))
    assert [child.state for child in supervisor.children] == [ENDED, ENDED]


def test_a_child_that_ignores_signals_is_killed(monkeypatch):
    monkeypatch.setattr('mpnp_ros.supervisor.GRACE', ((15, .1), (15, .1), (9, 5.)))
    log = Log()
    with Supervisor([python('a', STUBBORN)], write=log) as supervisor:
        log.wait_for('a', 'up')
        pid = supervisor['a'].pid
    assert not alive(pid)


def test_a_hurry_goes_on_to_the_next_signal(monkeypatch):
    monkeypatch.setattr('mpnp_ros.supervisor.GRACE', ((15, 60.), (15, 60.), (9, 5.)))
    log, hurry = Log(), iter([True, True, False])
    with Supervisor([python('a', STUBBORN)], write=log, hurry=lambda: next(hurry)) as supervisor:
        log.wait_for('a', 'up')
        pid = supervisor['a'].pid
    assert not alive(pid)


def test_children_that_hang_are_ended_at_the_same_time(monkeypatch):
    """Not one after the other: ten of them would take ten times as long."""
    monkeypatch.setattr('mpnp_ros.supervisor.GRACE', ((15, .1), (15, .1), (9, 5.)))
    log = Log()
    specs = [python(name, STUBBORN) for name in 'abc']
    sent = []
    with Supervisor(specs, write=log) as supervisor:
        for child in supervisor.children:
            log.wait_for(child.spec.name, 'up')
            monkeypatch.setattr(child, 'send', lambda number, name=child.spec.name, send=child.send: (
                sent.append((number, name)), send(number)))
    assert sent[:9] == [(number, name) for number in (15, 15, 9) for name in 'abc']


def test_a_child_that_is_still_starting_ends_without_a_traceback():
    log = Log()
    for _ in range(5):
        with Supervisor([python('a', 'import time; time.sleep(60)')], write=log):
            pass
    assert not log


HELD = """
import signal, sys, time
print('up', flush=True)
time.sleep(.5)
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux tells a child of its parent')
def test_sigint_waits_until_a_node_lets_it_in():
    """At once after the start, when Python itself would answer with a traceback."""
    process = subprocess.Popen([*tie(hold_sigint=True), sys.executable, '-c', HELD], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'up\n'
    process.send_signal(2)
    assert process.communicate(timeout=30) == ('', '')
    assert process.returncode == 7


SUPERVISED = """
import signal, sys
from mpnp_ros.supervisor import ProcessSpec, Supervisor
code = "import signal; print('up', flush=True); signal.pause()"
log = lambda name, line: print(supervisor['a'].pid, line, flush=True)
supervisor = Supervisor([ProcessSpec('a', [sys.executable, '-S', '-c', code])], write=log)
with supervisor:
    signal.pause()
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux tells a child of its parent')
def test_children_end_with_a_supervisor_that_is_killed():
    parent = subprocess.Popen([sys.executable, '-c', SUPERVISED], stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline().split()[0])
        assert alive(child)
        parent.kill()
    end = time.monotonic() + 10.
    while alive(child):
        assert time.monotonic() < end, f'{child} outlives its supervisor'
        time.sleep(.01)


def test_grandchildren_end_too():
    log = Log()
    with Supervisor([python('a', PARENT)], write=log):
        grandchild = int(log.wait_for('a', 'child').split()[1])
        assert alive(grandchild)
    end = time.monotonic() + 10.
    while alive(grandchild):  # killed, and a moment later gone
        assert time.monotonic() < end, f'{grandchild} outlives its parent'
        time.sleep(.01)


def test_the_environment_is_added_to_ours(monkeypatch):
    monkeypatch.setenv('FROM_PARENT', 'one')
    log = Log()
    show = "import os; print(os.environ['FROM_PARENT'], os.environ['ADDED'], flush=True)"
    with Supervisor([python('a', show, ADDED='two')], write=log):
        assert log.wait_for('a', 'one') == 'one two'


def test_a_crashed_child_is_restarted_with_back_off_and_then_given_up():
    states, policy = [], RestartPolicy(limit=2, delay=.05)
    with Supervisor([python('a', 'raise SystemExit(1)')], policy, write=Log(),
                    changed=lambda child: states.append(child.state)) as supervisor:
        poll_until(supervisor, lambda: supervisor['a'].state == FAILED)
        assert not supervisor.poll()
    assert states == [RUNNING, WAITING, RUNNING, WAITING, RUNNING, FAILED]
    assert supervisor['a'].returncode == 1


def test_a_killed_child_comes_back_while_the_others_run_on():
    log = Log()
    specs = [python('a', POLITE), python('b', POLITE)]
    with Supervisor(specs, RestartPolicy(delay=.01), write=log) as supervisor:
        first, other = supervisor['a'].pid, supervisor['b'].pid
        os.kill(first, 9)
        poll_until(supervisor, lambda: supervisor['a'].restarts == 1)
        assert supervisor['a'].pid not in (None, first)
        assert supervisor['b'].pid == other


def test_no_restart_after_success():
    with Supervisor([python('a', 'pass')], write=Log()) as supervisor:
        poll_until(supervisor, lambda: supervisor['a'].state == ENDED)
        assert not supervisor.poll()
        assert supervisor['a'].restarts == 0


def test_a_child_that_is_given_up_is_not_restarted():
    with Supervisor([python('a', 'raise SystemExit(1)')], RestartPolicy(delay=0.), write=Log()) as supervisor:
        poll_until(supervisor, lambda: supervisor['a'].state == WAITING)
        supervisor.give_up(supervisor['a'])
        assert not supervisor.poll()
        assert supervisor['a'].state == FAILED


def test_the_count_of_restarts_starts_anew_after_steady_running():
    now = [0.]
    policy = RestartPolicy(limit=1, delay=0., steady=60.)
    with Supervisor([python('a', POLITE)], policy, write=Log(), clock=lambda: now[0]) as supervisor:
        for _ in range(3):
            now[0] += 61.
            pid = supervisor['a'].pid
            os.kill(pid, 9)
            poll_until(supervisor, lambda pid=pid: supervisor['a'].pid not in (None, pid))


def test_the_pause_doubles_up_to_its_limit():
    policy = RestartPolicy(delay=1., longest=5.)
    assert [policy.pause(count) for count in range(4)] == [1., 2., 4., 5.]


def test_a_command_that_does_not_exist_is_named_and_nothing_is_left_running():
    log, pids = Log(), []
    specs = [python('a', POLITE), ProcessSpec('b', ['/nowhere/executable'])]
    with pytest.raises(ConfigurationError, match='b cannot be started.*nowhere'), Supervisor(
            specs, write=log, changed=lambda child: pids.append(child.pid)):
        pass
    assert pids[0] and not alive(pids[0])


def test_lines_carry_a_padded_name(capsys):
    write = PrefixedLines(['fusion', 'camera_encoder'])
    write('fusion', 'ready')
    write('camera_encoder', 'ready')
    assert capsys.readouterr().out == '[fusion]         ready\n[camera_encoder] ready\n'

"""Signals at each stage of a command, in real processes."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mpnp_ros.cli import signals

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
LOADING = "print('up', flush=True); work()"
COMMAND = """
import sys, time
from types import SimpleNamespace
from mpnp_ros.cli import main as cli

def work():  # in short turns: Python may heed a signal that comes just before it waits only after it
    for _ in range(1200):
        time.sleep(.05)

def load(command):
    {loading}
    return SimpleNamespace(__doc__='', add_arguments=lambda parser: None, run=run)

def run(arguments):
    try:
        print('up', flush=True)
        work()
    finally:
        print('in order', flush=True)

cli.Command.load = load
sys.argv = ['mpnp', 'docs']
code = cli.main()
{after}
sys.exit(code)
"""
IGNORING = ['sh', '-c', 'trap "" {}; exec "$@"', 'sh']


def start(code: str, ignored: str = '') -> subprocess.Popen[str]:
    """Start a process that says that it is up; it inherits a signal as ignored."""
    before = [word.format(ignored) for word in IGNORING] if ignored else []
    process = subprocess.Popen([*before, sys.executable, '-c', code], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'up\n', process.stderr.read()
    return process


def end(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Send a signal; return exit code, output and error output."""
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


@pytest.mark.parametrize(('number', 'code'), [(INT, 130), (TERM, 143), (HUP, 129)])
def test_a_command_is_told_by_any_signal_and_puts_things_in_order(number, code):
    process = start(COMMAND.format(loading='pass', after=''))
    assert end(process, number) == (code, 'in order\n', '')


def test_sigint_that_is_inherited_as_ignored_is_heeded():
    process = start(COMMAND.format(loading='pass', after=''), ignored='INT')
    assert end(process, INT) == (130, 'in order\n', '')


def test_sighup_stays_ignored_as_nohup_wants_it():
    process = start(COMMAND.format(loading='pass', after=''), ignored='HUP')
    process.send_signal(HUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(.5)
    assert end(process, TERM)[0] == 143


@pytest.mark.parametrize(('number', 'code'), [(INT, 130), (TERM, 143), (HUP, 129)])
def test_while_a_command_is_imported_the_process_ends_without_a_word(number, code):
    process = start(COMMAND.format(loading=LOADING, after=''))
    assert end(process, number) == (code, '', '')


@pytest.mark.parametrize(('arguments', 'command_line', 'right'), [
    (['/usr/bin/mpnp', 'ask'], ['python', '/usr/bin/mpnp', 'ask'], True),
    (['-m', 'ask'], ['python', '-m', 'mpnp_ros.cli.main', 'ask'], True),
    (['-m'], ['python', '-m', 'mpnp_ros.nodes.fusion'], False), (['/usr/bin/ros2'], ['ros2'], False),
    ([''], ['python'], False), ([], ['python'], False)])
def test_a_process_knows_whether_it_is_the_command(arguments, command_line, right):
    assert signals.is_command(arguments, command_line) is right


def test_after_the_command_too():
    process = start(COMMAND.format(loading='pass', after=LOADING).replace('        work()\n', ''))
    assert process.stdout.readline() == 'in order\n'
    assert process.stdout.readline() == 'up\n'
    assert end(process, INT) == (130, '', '')


def test_signals_can_be_noted_and_nothing_else_happens():
    with signals.noted() as numbers:
        for number in (HUP, INT, TERM):
            os.kill(os.getpid(), number)
        assert sorted(numbers) == sorted((HUP, INT, TERM))


def test_a_signal_that_is_put_off_comes_at_the_end():
    done = []
    with signals.raised():
        with pytest.raises(signals.Interrupted, match='SIGTERM') as caught, signals.put_off():
            os.kill(os.getpid(), TERM)
            done.append(True)
        assert done == [True]
    assert (caught.value.number, caught.value.code) == (TERM, 143)


def test_handlers_are_as_before_afterwards():
    before = [signal.getsignal(number) for number in signals.NUMBERS]
    with signals.at_once(), signals.raised(), signals.noted():
        pass
    assert [signal.getsignal(number) for number in signals.NUMBERS] == before


def test_a_forked_child_ends_as_if_nothing_had_been_set():
    """A pool of workers is ended by SIGTERM, and must not print a traceback for it."""
    told, tell = os.pipe()
    with signals.raised():
        pid = os.fork()
        if not pid:
            os.write(tell, b'.')
            for _ in range(1200):  # in short turns, as above
                time.sleep(.05)
            os._exit(0)
        os.read(told, 1)
        os.kill(pid, TERM)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == TERM
    os.close(told)
    os.close(tell)

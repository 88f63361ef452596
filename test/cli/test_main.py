"""The mpnp command: table of subcommands, exit codes, messages."""
from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest

from mpnp_ros import __version__
from mpnp_ros.cli import main as cli
from mpnp_ros.errors import DatasetError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command under test."""
    parser.add_argument('--depth', type=int, default=3)


def command_that(run, monkeypatch) -> None:
    """Make ``mpnp docs`` call ``run``."""
    module = SimpleNamespace(__doc__='Test.', add_arguments=add_arguments, run=run)
    monkeypatch.setattr(cli.Command, 'load', lambda self: module)


def test_passes_arguments_and_exit_code(monkeypatch):
    command_that(lambda arguments: arguments.depth, monkeypatch)
    assert cli.main(['docs', '--depth', '7']) == 7


def test_named_error_is_one_line_and_exit_code_2(monkeypatch, capsys):
    def run(arguments):
        raise DatasetError('no table sample.json; give the folder that holds v1.0-*')
    command_that(run, monkeypatch)
    assert cli.main(['docs']) == 2
    assert capsys.readouterr().err == 'mpnp docs: no table sample.json; give the folder that holds v1.0-*\n'


def test_debug_shows_the_traceback(monkeypatch):
    def run(arguments):
        raise DatasetError('broken')
    command_that(run, monkeypatch)
    with pytest.raises(DatasetError):
        cli.main(['docs', '--debug'])


def test_interrupt_is_130(monkeypatch):
    def run(arguments):
        raise KeyboardInterrupt
    command_that(run, monkeypatch)
    assert cli.main(['docs']) == 130


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit, match='0'):
        cli.main(['--help'])
    text = capsys.readouterr().out
    assert all(command.name in text and command.summary in text for command in cli.COMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit, match='0'):
        cli.main(['--version'])
    assert capsys.readouterr().out == f'mpnp_ros {__version__}\n'


def test_unknown_command(capsys):
    with pytest.raises(SystemExit, match='2'):
        cli.main(['explode'])
    assert 'doctor' in capsys.readouterr().err

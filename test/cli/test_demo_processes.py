"""The demo's nodes as processes."""
from __future__ import annotations

import sys
import time

import pytest
import yaml

pytest.importorskip('rclpy', reason='rclpy is not installed: the tables of the nodes cannot be read')

from mpnp_ros.cli.demo_processes import PARAMETERS, Processes
from mpnp_ros.cli.docs import parameter_tables
from mpnp_ros.cli.session import NotAnsweringError
from mpnp_ros.supervisor import ProcessSpec


def test_the_demos_parameters_exist_and_are_in_range():
    tables = parameter_tables()
    for node, values in PARAMETERS.items():
        table = {entry.name: entry for entry in tables[node]}
        assert [table[name].problem(value) for name, value in values.items()] == [None] * len(values)


def test_parameters_are_the_worlds_the_demos_and_the_users(tmp_path):
    user = tmp_path / 'user.yaml'
    user.write_text('{}')
    processes = Processes(tmp_path / 'nodes.log', [user])
    files = [path.name for path in processes._placement.params_files]
    assert files == ['world.yaml', 'nodes.yaml', 'user.yaml']
    written = yaml.safe_load((tmp_path / 'nodes.yaml').read_text())
    assert written['/**/world']['ros__parameters']['hold'] is True


def test_a_node_that_has_ended_is_named_with_its_last_words(tmp_path):
    processes = Processes(tmp_path / 'nodes.log')
    code = 'print("[ERROR] [1.0] [fusion]: the links are gone"); raise SystemExit(2)'
    with processes._run([ProcessSpec('fusion', [sys.executable, '-c', code])]), \
            pytest.raises(NotAnsweringError, match='fusion ended with exit code 2 .the links are gone.; see'):
        for _ in range(1000):
            processes.check()
            time.sleep(.02)
    processes.check()
    assert '[fusion] [ERROR]' in processes.log.read_text()

"""What runs on a robot needs neither the simulator nor the benchmarks: a process in which both are hidden."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HIDING = """
import json, sys


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('mpnp_world', 'bench'):
            raise ModuleNotFoundError(f'{name} is hidden', name=name)


sys.meta_path.insert(0, Hidden())
given = json.loads(sys.argv[1])
"""
IMPORTS = """
from importlib import import_module

for name in given:
    import_module(name)
"""
COMMANDS = """
from mpnp_ros.cli import doctor
from mpnp_ros.cli.doctor import CHECKS
from mpnp_ros.cli.main import COMMANDS, main

for command in COMMANDS:
    if not command.simulator:
        command.load()
assert doctor.checks() == CHECKS
codes = [main([command.name]) for command in COMMANDS if command.simulator]
codes.append(main(['bringup', '--world', '3']))
assert codes == [2, 2, 2], codes
main(['--help'])
"""
NODES = """
import rclpy
from mpnp_ros.nodes.fusion import FusionNode
from mpnp_ros.modalities.radar.node import RadarNode

rclpy.init(args=['test', '--ros-args', *(part for rule in given for part in ('-p', rule))])
for make in (RadarNode, FusionNode):
    node = make()
    node.trigger_configure()
    assert node._state_machine.current_state[1] == 'inactive', node.failure
    node.close(30.)
    node.destroy_node()
rclpy.try_shutdown()
"""


def run(program: str, given: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program that finds neither package."""
    done = subprocess.run([sys.executable, '-c', HIDING + program, json.dumps(given)], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.timeout(240)
def test_every_module_can_be_imported():
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    files = [file.relative_to(ROOT).with_suffix('') for file in (ROOT / 'mpnp_ros').rglob('*.py')]
    run(IMPORTS, sorted('.'.join(file.parts).removesuffix('.__init__') for file in files))


def test_commands_of_the_simulator_say_that_it_is_not_there():
    done = run(COMMANDS, [])
    for command in ('demo', 'world', 'bringup'):
        assert f'mpnp {command}: the simulator is not installed on this machine' in done.stderr
    assert '  bringup ' in done.stdout and '  demo ' not in done.stdout and '  world ' not in done.stdout


@pytest.mark.ros
@pytest.mark.timeout(240)
def test_an_encoder_and_the_fusion_node_are_configured(ros_harness, tiny_lm_folder):
    run(NODES, [f"llm:='{tiny_lm_folder}'", 'device:=cpu', 'dtype:=float32', 'threads:=1', "links:=['']",
                "link_store:=''", 'encoder.device:=cpu', 'encoder.dtype:=float32'])

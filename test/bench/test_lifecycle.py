"""Nodes that are configured, activated, deactivated and cleaned up again and again while data flows."""
from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from bench import lifecycle, starts

pytestmark = pytest.mark.ros
CYCLES = 25


@pytest.fixture(scope='module')
def parameters(tmp_path_factory):
    return lifecycle.tiny_networks(tmp_path_factory.mktemp('networks'))


@pytest.mark.timeout(400)
@pytest.mark.parametrize('node', lifecycle.NODES)
def test_a_node_outlasts_its_life_cycle_while_data_flows(ros, parameters, node):
    report = lifecycle.run(node, parameters[node], CYCLES)
    assert report.failed == [] and report.lines == []
    loads = [load for cycle, load in sorted(report.loads.items()) if cycle > CYCLES / 5]
    assert max(load.threads for load in loads) - min(load.threads for load in loads) <= 4  # of the executor
    assert max(load.descriptors for load in loads) - min(load.descriptors for load in loads) <= 2
    assert report.growth < 200., report.loads  # what stays of every cycle; bench/lifecycle tells more


@pytest.mark.timeout(300)
@pytest.mark.parametrize('moment', [0., 1.5])
@pytest.mark.parametrize('node', starts.NODES)
def test_a_node_that_is_told_to_end_while_it_starts_leaves_nothing(ros, node, moment):
    from mpnp_ros.cli.node_processes import Placement, node_process
    spec = node_process(node, Placement('/starts'))
    number = starts.SIGNALS[starts.NODES.index(node) % 3]
    end = starts.start_and_end(spec.command, spec.environment, moment, number)
    assert end.verdict(starts.HUNG - 1) == ''

"""Two systems on one network, each from one command: what is theirs stays theirs."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from mpnp_ros.msg import ModalityTokens
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from mpnp_ros.conversions.pointclouds import Points, from_points

pytestmark = pytest.mark.ros
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ROBOTS = {'r1': 0., 'r2': np.pi / 2}
"""How the LiDAR of each robot is mounted: yaw in rad."""
PATIENCE = 120.


def start(robot: str, params: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], list[str]]:
    """`mpnp bringup` of a robot whose shared topics are its own, and its output so far."""
    rules = [f'/{topic}:=/{robot}/{topic}' for topic in ('tf_static', 'diagnostics', 'clock')]
    command = [sys.executable, '-m', 'mpnp_ros.cli.main', 'bringup', '--namespace', robot, '--no-adaptation',
               '--modalities', 'lidar', '--use-sim-time', '--params-file', str(params),
               *(part for rule in rules for part in ('--remap', rule))]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    lines: list[str] = []
    threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, '')), daemon=True).start()
    return process, lines


def mount(yaw: float) -> TFMessage:
    """base_link to the LiDAR."""
    transform = TransformStamped()
    transform.header.frame_id, transform.child_frame_id = 'base_link', 'lidar_top'
    transform.transform.rotation.w, transform.transform.rotation.z = np.cos(yaw / 2), np.sin(yaw / 2)
    return TFMessage(transforms=[transform])


def sweep() -> PointCloud2:
    """A ring of points."""
    azimuth = np.linspace(-np.pi, np.pi, 500, endpoint=False)
    points = np.stack([9 * np.cos(azimuth), 9 * np.sin(azimuth), np.zeros(500)], axis=1).astype(np.float32)
    return from_points(Points(points, np.ones(500, np.float32)), 'lidar_top', 10 ** 9)


@pytest.mark.timeout(300)
def test_mounts_clocks_and_diagnostics_of_two_robots_stay_apart(ros, tiny_system):
    from ros_harness import wait_until

    mounts, clouds, tokens, reports, clocks = {}, {}, {}, {}, {}
    for robot, yaw in ROBOTS.items():
        mounts[robot] = ros.publisher(f'/{robot}/tf_static', TFMessage, LATCHED)
        mounts[robot].publish(mount(yaw))
        clouds[robot] = ros.publisher(f'/{robot}/lidar_top', PointCloud2)
        clocks[robot] = ros.publisher(f'/{robot}/clock', Clock)
        tokens[robot] = ros.collect(f'/{robot}/tokens/lidar', ModalityTokens)
        reports[robot] = ros.collect(f'/{robot}/diagnostics', DiagnosticArray, 10)
    environment = {**os.environ, **ros.environment}
    robots = {robot: start(robot, tiny_system, environment) for robot in ROBOTS}
    try:
        for robot, (_, lines) in robots.items():
            wait_until(lambda lines=lines: any('nodes are ready' in line for line in lines),
                       f'{robot} ready', PATIENCE)
            ros.wait_for_subscriber(clocks[robot], 2)
        for robot in ROBOTS:
            ros.publish_until(lambda robot=robot: clouds[robot].publish(sweep()), tokens[robot])
        first, second = (np.array(tokens[robot].messages[-1].azimuth) for robot in ROBOTS)
        turned = np.angle(np.exp(1j * (second - first)))
        np.testing.assert_allclose(turned, np.full(len(turned), np.pi / 2), atol=1e-3)
        for robot in ROBOTS:
            reports[robot].wait()
            names = {status.name.split('/')[0] for message in reports[robot].messages
                     for status in message.status}
            assert names == {robot}
        # Nodes that a test before this one killed are still in the graph for a while.
        node = ros.node
        wait_until(lambda: not (node.count_publishers('/diagnostics') or node.count_subscribers('/clock')
                                or node.count_subscribers('/tf_static')), 'nothing outside', PATIENCE)
    finally:
        for process, _ in robots.values():
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(PATIENCE) for process, _ in robots.values()]
    assert codes == [0, 0], ''.join(line for _, lines in robots.values() for line in lines)

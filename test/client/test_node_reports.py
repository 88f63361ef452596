"""What the commands know of the nodes of a robot."""
from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from mpnp_ros.client.node_reports import NodeReports

diagnostics = pytest.importorskip('diagnostic_msgs.msg', reason='no ROS 2 on this machine')


class Graph:
    """The node of a process that has just begun: it hears of others little by little."""

    def __init__(self):
        self.nodes, self.hear = [], None

    def get_namespace(self):
        return '/r1'

    def create_subscription(self, kind, topic, callback, depth, callback_group):
        self.hear = callback

    def get_node_names_and_namespaces(self):
        return list(self.nodes)

    def comes(self, name):
        self.nodes.append((name, '/r1'))

    def reports(self, name):
        self.hear(SimpleNamespace(status=[diagnostics.DiagnosticStatus(
            name=f'r1/{name}: {name}', message='active')]))


def later(*steps):
    """Do one thing after the other, a fifth of a second apart."""
    for number, step in enumerate(steps, 1):
        threading.Timer(.2 * number, *step).start()


def test_nodes_that_the_graph_shows_late_are_waited_for():
    graph = Graph()
    reports = NodeReports(graph)
    graph.reports('fusion')
    later((graph.comes, ['fusion']), (graph.comes, ['camera_encoder']), (graph.reports, ['camera_encoder']))
    reports.wait(30.)
    assert [report.name for report in reports] == ['camera_encoder', 'fusion']


def test_a_node_without_a_report_is_not_waited_for_forever():
    graph = Graph()
    graph.comes('fusion')
    reports = NodeReports(graph)
    reports.wait(.1)
    assert not list(reports) and reports.running() == ['fusion'] and not reports.is_starting('fusion')

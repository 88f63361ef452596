"""The table of names is what the nodes really have on the graph: nothing more, nothing less."""
from __future__ import annotations

import contextlib
import importlib.util
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from rclpy.node import NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rosbags.rosbag2 import StoragePlugin, Writer

from mpnp_ros.bags.messages import message_types
from mpnp_ros.cli.node_processes import node_program
from mpnp_ros.endpoints import (
    ACTS,
    CALLS,
    LATCHED,
    PUBLISHES,
    RELIABLE,
    SENSOR_DATA,
    SERVES,
    SUBSCRIBES,
)
from mpnp_ros.modalities.audio import yamnet_weights
from mpnp_ros.nodes.interface_table import ENDPOINTS as OF_ROBOT
from mpnp_ros.nodes.interface_table import EVERY_NODE
from mpnp_world.node import ENDPOINTS as OF_WORLD
from mpnp_world.sensors.rig import CAMERAS, RADARS

pytestmark = pytest.mark.ros
ENDPOINTS = (*OF_ROBOT, *OF_WORLD)
NAMESPACE = '/table'
TOKENS = {'tokens/audio', 'tokens/camera', 'tokens/detections', 'tokens/imu', 'tokens/lidar', 'tokens/radar'}
FILLED_IN = {
    ('fusion', 'tokens/<modality>'): TOKENS,
    ('adaptation', 'tokens/<modality>'): TOKENS,
    ('adaptation', '<labelled_topic>'): {'labelled_questions'},
    ('audio_encoder', '<topic>'): {'mic/audio_stamped'},
    ('audio_encoder', '<topic without stamps>'): set(),
    ('audio_encoder', '<topic of Foxglove>'): set(),
    ('audio_encoder', '<info_topic>'): {'mic/audio_info'},
    ('camera_encoder', '<image_topic>'): {'cam_front/image_rect/compressed'},
    ('camera_encoder', '<camera_info_topic>'): {'cam_front/camera_info'},
    ('camera_encoder', '<points_topic>'): {'lidar_top'},
    ('camera_encoder', '<odometry_topic>'): {'odom'},
    ('imu_encoder', '<topic>'): {'imu'},
    ('lidar_encoder', '<topic>'): {'lidar_top'},
    ('lidar_encoder', '<odometry_topic>'): {'odom'},
    ('radar_encoder', '<topic>'): {'radar_front'},
    ('detections_encoder', '<topic>'): {'detections'},
    ('detections_encoder', '<topic of boxes in images>'): set(),
    ('detections_encoder', '<camera_info_topic>'): set(),
    ('detections_encoder', '<topic of markers>'): set(),
    ('detections_encoder', '<odometry_topic>'): {'odom'},
    ('replay', '<topics of the bag>'): {'/text'},
    ('world', '/<camera>/image_rect/compressed'): {f'/{name.lower()}/image_rect/compressed'
                                                   for name in CAMERAS},
    ('world', '/<camera>/camera_info'): {f'/{name.lower()}/camera_info' for name in CAMERAS},
    ('world', '/<radar>'): {f'/{name.lower()}' for name in RADARS},
}
VISION = importlib.util.find_spec('vision_msgs') is not None
SOUND = importlib.util.find_spec('audio_common_msgs') is not None and yamnet_weights.is_installed()
RAYS = importlib.util.find_spec('embreex') is not None  # the world needs them
TYPES = {'<as in the bag>': 'std_msgs/msg/String'}
OF_EVERY_ROS_NODE = {'/rosout', '/parameter_events', '/clock'}
RELIABILITY = {SENSOR_DATA: ReliabilityPolicy.BEST_EFFORT, RELIABLE: ReliabilityPolicy.RELIABLE,
               LATCHED: ReliabilityPolicy.RELIABLE}


@pytest.fixture(autouse=True)
def skip_an_absent_world(request: pytest.FixtureRequest) -> None:
    """Skip what asks for the world where it cannot run."""
    if not RAYS and 'world' in request.node.name:
        pytest.skip('embreex is not installed: the world has no rays')
    if not VISION and 'detections_encoder' in request.node.name:
        pytest.skip('vision_msgs is not installed')
    if not SOUND and 'audio_encoder' in request.node.name:
        pytest.skip('audio_common_msgs or the weights of sounds are not installed')


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of one message on /text."""
    types, folder = message_types(), tmp_path_factory.mktemp('table') / 'bag'
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        text = types.types['std_msgs/msg/String']('once')
        connection = writer.add_connection('/text', 'std_msgs/msg/String', typestore=types)
        writer.write(connection, 10 ** 18, types.serialize_cdr(text, 'std_msgs/msg/String'))
    return folder


@pytest.fixture(scope='module')
def graph(module_ros, own_cache, tiny_lm_folder, tiny_detector, bag):
    """All nodes, running, seen by a node of the test's own."""
    parameters = {
        'fusion': {'llm': str(tiny_lm_folder), 'device': 'cpu', 'dtype': 'float32'},
        'camera_encoder': {'encoder.tokens': 'detections', 'encoder.detector': str(tiny_detector),
                           'encoder.device': 'cpu', 'cameras': ['cam_front'], 'points_topic': 'lidar_top',
                           'publish_objects': VISION},
        'lidar_encoder': {'encoder.backbone': 'polar', 'encoder.head': 'lidar-objects-driving-world',
                          'topic': 'lidar_top', 'publish_objects': VISION},
        'radar_encoder': {'radars': ['radar_front']}, 'imu_encoder': {'topic': 'imu'},
        **({'detections_encoder': {'topic': 'detections', 'type': 'boxes'}} if VISION else {}),
        **({'audio_encoder': {'topic': 'mic/audio_stamped', 'type': 'stamped'}} if SOUND else {}),
        'adaptation': {'llm': str(tiny_lm_folder), 'automatic': False},
        'replay': {'bag': str(bag), 'paused': True}, **({'world': {'paused': True}} if RAYS else {})}
    for node, values in parameters.items():
        module_ros.start(' '.join(node_program(node)), namespace=NAMESPACE, parameters=values)
    for node in ('fusion', 'camera_encoder', 'imu_encoder', 'lidar_encoder', 'radar_encoder',
                 *(['detections_encoder'] if VISION else []), *(['audio_encoder'] if SOUND else [])):
        module_ros.wait_for_state(f'{NAMESPACE}/{node}', 'active')
    end = time.monotonic() + 30
    topics = ['/text', f'{NAMESPACE}/adaptation', *(['/odom'] if RAYS else [])]
    while not all(map(module_ros.node.count_publishers, topics)):
        assert time.monotonic() < end, 'the replay, the world or the adaptation node does not publish'
        time.sleep(.05)
    return module_ros.node


def expected(node: str, kind: str) -> dict[str, str]:
    """Resolved name -> type, as the table has it."""
    return {resolved(name): TYPES.get(endpoint.type, endpoint.type)
            for endpoint in (*ENDPOINTS, *EVERY_NODE) if endpoint.node in (node, '') and endpoint.kind == kind
            for name in FILLED_IN.get((node, endpoint.name), {endpoint.name})}


def resolved(name: str) -> str:
    """Name in the test's namespace."""
    return name if name.startswith('/') else f'{NAMESPACE}/{name}'


def seen(graph, node: str, kind: str) -> dict[str, str]:
    """Resolved name -> type, as the graph has it, without what every ROS node has."""
    ask = {PUBLISHES: graph.get_publisher_names_and_types_by_node,
           SUBSCRIBES: graph.get_subscriber_names_and_types_by_node,
           SERVES: graph.get_service_names_and_types_by_node,
           CALLS: graph.get_client_names_and_types_by_node}[kind]
    own = f'{NAMESPACE}/{node}/'
    named = expected(node, kind)
    return {name: types[0] for name, types in ask(node, NAMESPACE)
            if name in named or name not in OF_EVERY_ROS_NODE and not name.startswith(own)
            and '/_action/' not in name}


@pytest.mark.parametrize('node', ['audio_encoder', 'camera_encoder', 'detections_encoder', 'imu_encoder',
                                  'lidar_encoder', 'radar_encoder', 'fusion', 'adaptation', 'replay',
                                  'world'])
@pytest.mark.parametrize('kind', [PUBLISHES, SUBSCRIBES, SERVES, CALLS])
def test_names_and_types(graph, node, kind):
    end = time.monotonic() + 20  # until the node and all of its names have been discovered
    while time.monotonic() < end:
        with contextlib.suppress(NodeNameNonExistentError):
            if seen(graph, node, kind) == expected(node, kind):
                return
        time.sleep(.1)
    assert seen(graph, node, kind) == expected(node, kind)


@pytest.mark.parametrize('endpoint', [entry for entry in ENDPOINTS if entry.qos],
                         ids=lambda entry: f'{entry.node}-{entry.name}')
def test_quality_of_service(graph, endpoint):
    for name in FILLED_IN.get((endpoint.node, endpoint.name), {endpoint.name}):
        ask = graph.get_publishers_info_by_topic if endpoint.kind == PUBLISHES else \
            graph.get_subscriptions_info_by_topic
        found = [info.qos_profile for info in ask(resolved(name)) if info.node_name == endpoint.node]
        assert found, name
        assert {profile.reliability for profile in found} == {RELIABILITY[endpoint.qos]}
        latched = {profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in found}
        assert latched == {endpoint.qos == LATCHED}


def test_actions(graph):
    for endpoint in ENDPOINTS:
        if endpoint.kind == ACTS:
            services = dict(graph.get_service_names_and_types_by_node(endpoint.node, NAMESPACE))
            sending = services[resolved(f'{endpoint.name}/_action/send_goal')]
            assert sending == [f'{endpoint.type}_SendGoal']

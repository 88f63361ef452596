"""Topics, services and actions of nodes as docs/reference/interfaces.md shows them; qualities of service."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.qos import QoSProfile

PUBLISHES, SUBSCRIBES, SERVES, CALLS, ACTS = 'publishes', 'subscribes', 'serves', 'calls', 'action'
SENSOR_DATA, RELIABLE, LATCHED = 'best effort', 'reliable', 'reliable, latched'
OBJECTS = '{modality}_encoder/objects'
"""Topic of the objects that an encoder detects."""
GROUNDING_MARKERS, GROUNDING_BOXES = 'grounding/markers', 'grounding/boxes'
"""Topics of what an answer rests on."""


@dataclass(frozen=True)
class Endpoint:
    """One topic, service or action of one node.

    kind: PUBLISHES, SUBSCRIBES, SERVES, CALLS (a service of another node) or ACTS.  name: relative to the
    node's namespace unless it begins with a slash; ``<...>`` stands for what parameters fill in.  type: such
    as ``mpnp_ros/msg/Answer``.  qos: of a topic.
    """

    node: str
    kind: str
    name: str
    type: str
    note: str
    qos: str = ''


def qos_profile(quality: str, depth: int = 1) -> QoSProfile:
    """Return the QoS profile of a topic.

    quality: SENSOR_DATA, RELIABLE or LATCHED.  depth: messages that are kept, for LATCHED of each publisher.
    """
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.BEST_EFFORT if quality == SENSOR_DATA else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if quality == LATCHED else DurabilityPolicy.VOLATILE)


def object_endpoints(modality: str, only: str) -> tuple[Endpoint, ...]:
    """Return the further endpoints of an encoder node that detects objects; only: when it does so."""
    node = f'{modality}_encoder'
    return (
        Endpoint(node, SUBSCRIBES, '<odometry_topic>', 'nav_msgs/msg/Odometry',
                 f'pose of the robot, by which it is told what moves; only with {only}', SENSOR_DATA),
        Endpoint(node, SUBSCRIBES, '/tf', 'tf2_msgs/msg/TFMessage', 'the same', SENSOR_DATA),
        Endpoint(node, PUBLISHES, OBJECTS.format(modality=modality), 'vision_msgs/msg/Detection3DArray',
                 f'the objects, for RViz and Foxglove; only with {only}', RELIABLE))


def encoder_endpoints(modality: str, inputs: tuple[tuple[str, str, str], ...], mounted: str,
                      tokens: str) -> tuple[Endpoint, ...]:
    """Return the endpoints of an encoder node.

    inputs: topic, type and note of each input.  mounted: what is mounted, such as 'the cameras'.  tokens:
    how often tokens are published.
    """
    node = f'{modality}_encoder'
    return (
        *(Endpoint(node, SUBSCRIBES, topic, kind, note, SENSOR_DATA) for topic, kind, note in inputs),
        Endpoint(node, SUBSCRIBES, '/tf_static', 'tf2_msgs/msg/TFMessage',
                 f'mounting of {mounted}; `/tf` too for frames that are not on it', LATCHED),
        Endpoint(node, PUBLISHES, 'encoders', 'mpnp_ros/msg/EncoderInfo',
                 'loaded encoder, its options that are not at their defaults, its topics', LATCHED),
        Endpoint(node, PUBLISHES, f'tokens/{modality}', 'mpnp_ros/msg/ModalityTokens', tokens, SENSOR_DATA))

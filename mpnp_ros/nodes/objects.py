"""What an encoder detects, as boxes for RViz, Foxglove and others."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpnp_ros.conversions.detections import BOXES, message_class, to_detections_3d
from mpnp_ros.endpoints import OBJECTS, RELIABLE, qos_profile
from mpnp_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpnp_ros.detection.detections import Detections


class ObjectsPublisher:
    """Publishes the objects of an encoder while somebody listens; without vision_msgs it says so once."""

    def __init__(self, node: Node, modality: str) -> None:
        self._node = node
        self._publisher: Any = None
        try:
            self._publisher = node.create_publisher(
                message_class(BOXES), OBJECTS.format(modality=modality), qos_profile(RELIABLE))
        except ConfigurationError as error:
            node.get_logger().info(f'objects are not published: {error}')

    def publish(self, detections: Detections) -> None:
        """Publish the objects of one moment."""
        if self._publisher and self._publisher.get_subscription_count():
            self._publisher.publish(to_detections_3d(detections))

    def destroy(self) -> None:
        """Stop publishing."""
        if self._publisher:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

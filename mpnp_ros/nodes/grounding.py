"""What answers rest on, for RViz, Foxglove and others."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visualization_msgs.msg import MarkerArray

from mpnp_ros.conversions.detections import IMAGE_BOXES, message_class
from mpnp_ros.conversions.grounding import grounding_boxes, grounding_markers
from mpnp_ros.endpoints import GROUNDING_BOXES, GROUNDING_MARKERS, RELIABLE, qos_profile
from mpnp_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpnp_ros.msg import Answer


class GroundingPublisher:
    """Publishes what each answer rests on while somebody listens; without vision_msgs only as markers."""

    def __init__(self, node: Node) -> None:
        quality = qos_profile(RELIABLE)
        self._ways: list[tuple[Any, Any]] = [
            (node.create_publisher(MarkerArray, GROUNDING_MARKERS, quality), grounding_markers)]
        try:
            boxes = node.create_publisher(message_class(IMAGE_BOXES), GROUNDING_BOXES, quality)
        except ConfigurationError as error:
            node.get_logger().info(f'what answers rest on in images is not published: {error}')
        else:
            self._ways.append((boxes, grounding_boxes))

    def publish(self, answer: Answer) -> None:
        """Publish what an answer rests on, so that the markers of the answer before disappear."""
        for publisher, convert in self._ways:
            if publisher.get_subscription_count():
                publisher.publish(convert(answer))

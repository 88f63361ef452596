"""Test of the transport of camera images between processes: publish some and count the received ones.

As a program (``python -m mpnp_ros.cli.transport_probe``) it is the publisher.
"""
from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from array import array

from mpnp_ros.cli.session import ros_session
from mpnp_ros.transport import additions

WIDTH, HEIGHT, CHANNELS = 1600, 900, 3
COUNT, PERIOD = 20, .1
DISCOVERY, LEAVING = 15., 1.


def images_received() -> int:
    """Return how many of COUNT images, 4.3 MB each at 10 Hz and best effort, arrive from another process."""
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    topic = f'mpnp_doctor_{uuid.uuid4().hex[:8]}'
    received = []
    with ros_session() as node:
        node.create_subscription(Image, topic, lambda image: received.append(len(image.data)),
                                 qos_profile_sensor_data)
        publisher = subprocess.Popen([sys.executable, '-m', 'mpnp_ros.cli.transport_probe', topic],
                                     env={**os.environ, **additions(os.environ)})
        try:
            publisher.wait(DISCOVERY + COUNT * PERIOD * 2 + LEAVING)
        except subprocess.TimeoutExpired:
            pass
        finally:
            publisher.kill()
            publisher.wait()
        time.sleep(PERIOD)
    return received.count(WIDTH * HEIGHT * CHANNELS)


def publish_images(topic: str) -> None:
    """Wait for a subscriber of ``topic``, then publish COUNT images."""
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    image = Image(width=WIDTH, height=HEIGHT, step=WIDTH * CHANNELS, encoding='rgb8',
                  data=array('B', bytes(WIDTH * HEIGHT * CHANNELS)))
    with ros_session() as node:
        publisher = node.create_publisher(Image, topic, qos_profile_sensor_data)
        end = time.monotonic() + DISCOVERY
        while not publisher.get_subscription_count() and time.monotonic() < end:
            time.sleep(.02)
        for _ in range(COUNT):
            time.sleep(PERIOD)
            publisher.publish(image)
        time.sleep(LEAVING)


if __name__ == '__main__':
    publish_images(sys.argv[1])

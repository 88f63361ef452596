"""Count sensor messages that reach the encoders, by outcome.

    python -m bench.transport --seconds 30

Six cameras publish raw images of 1600 x 900 at 10 Hz and a LiDAR publishes 35,000 points at 20 Hz, from their
own process.  The camera encoder and the LiDAR encoder run a small network with random weights, so that the
transport dominates; with --pretrained they run their default networks.  Counts come from ``/diagnostics`` of
the encoders. The stamps of tokens are compared with those of the sensors.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.common.jobs import isolate
from bench.common.page import markdown_table
from bench.common.program import program_parser
from mpnp_ros.errors import MpnpError
from mpnp_ros.nodes.worker import OUTCOMES
from mpnp_ros.transport import transport_environment

CAMERAS = ('cam_front', 'cam_front_left', 'cam_front_right', 'cam_back', 'cam_back_left', 'cam_back_right')
WIDTH, HEIGHT, CAMERA_RATE = 1600, 900, 10.
POINTS, LIDAR_RATE = 35_000, 20.
COLUMNS = ('received', *OUTCOMES, 'waiting')
STARTUP_TIMEOUT = SHUTDOWN_TIMEOUT = 60.


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; with ``--publish`` publish sensor data and write its stamps."""
    parser = program_parser('transport', __doc__)
    parser.add_argument('--seconds', type=float, default=30., help='duration of publishing, s')
    parser.add_argument('--domain', type=int, default=100, help='ROS domain of the measurement')
    parser.add_argument('--pretrained', action='store_true', help='run the pre-trained encoders')
    parser.add_argument('--publish', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.publish:
        options.publish.write_text(json.dumps(publish_sensors(options.seconds)))
        return 0
    isolate(options.domain)
    os.environ.update(transport_environment())
    published, counts, tokens = measure(options.seconds, options.pretrained)
    print(table({topic: len(stamps) for topic, stamps in published.items()}, counts))
    print(stamps_line(published, tokens))
    return 0


def measure(seconds: float, pretrained: bool = False,
            ) -> tuple[dict[str, list[int]], dict[str, dict[str, int]], dict[str, list[int]]]:
    """Run sensors and encoders.

    Returns the published stamps (ns) by topic, the counts of the encoders by topic, and the sensor stamps of
    tokens by modality.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        write_random_backbone(Path(folder))
        for sensor, parameters in encoder_parameters(None if pretrained else folder).items():
            stack.enter_context(running(sensor, parameters))
        counts = stack.enter_context(DiagnosticCounts(len(CAMERAS) + 1))
        log = Path(folder, 'published.json')
        command = [sys.executable, '-m', __spec__.name, '--publish', str(log), '--seconds', str(seconds)]
        counts.follow(subprocess.Popen(command))
        published = json.loads(log.read_text())
        return published, counts.settled(), counts.tokens


def encoder_parameters(backbone: str | None) -> dict[str, dict[str, object]]:
    """Parameters of the two encoder nodes by sensor.  backbone: folder of a small one; None: the default."""
    camera: dict[str, object] = {'transport': 'raw', 'image_topic': '{camera}/image_rect', 'cameras': CAMERAS}
    lidar: dict[str, object] = {'topic': 'lidar_top'}
    if backbone is not None:
        small = {'encoder.backbone': backbone, 'encoder.device': 'cpu', 'encoder.dtype': 'float32',
                 'encoder.blocks': [1, 2]}
        camera |= {**small, 'encoder.height': 128}
        lidar |= {**small, 'encoder.height': 32, 'encoder.width': 128}
    return {'camera': camera, 'lidar': lidar}


def write_random_backbone(folder: Path) -> None:
    """Write a vision transformer of two narrow blocks in the format of Hugging Face."""
    from transformers import ViTConfig, ViTModel
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                       image_size=32, patch_size=16)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder, safe_serialization=True)


@contextlib.contextmanager
def running(sensor: str, parameters: Mapping[str, object]) -> Iterator[None]:
    """Run the node of a sensor in its own process."""
    pairs = [part for key, value in parameters.items() for part in ('-p', f'{key}:={json.dumps(value)}')]
    process = subprocess.Popen([sys.executable, '-m', 'mpnp_ros.nodes.encoder', sensor, '--ros-args', *pairs])
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(SHUTDOWN_TIMEOUT)


class DiagnosticCounts:
    """Follows the encoders' counters on ``/diagnostics``."""

    def __init__(self, topics: int) -> None:
        self._topics = topics
        self._counts: dict[str, dict[str, int]] = {}
        self.tokens: dict[str, list[int]] = {}

    def __enter__(self) -> DiagnosticCounts:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from mpnp_ros.msg import ModalityTokens
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        rclpy.init(args=[])
        self._node = rclpy.create_node('transport_bench')
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._take, 50)
        qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        for topic in ('tokens/camera', 'tokens/lidar'):
            self._node.create_subscription(ModalityTokens, topic, self._take_tokens, qos)
        return self

    def __exit__(self, *_: object) -> None:
        from rclpy.utilities import try_shutdown
        self._node.destroy_node()
        try_shutdown()

    def follow(self, process: subprocess.Popen[bytes]) -> None:
        """Receive messages while a process runs."""
        import rclpy
        while process.poll() is None:
            rclpy.spin_once(self._node, timeout_sec=0.1)

    def settled(self) -> dict[str, dict[str, int]]:
        """All counts, once every topic is known and none has changed for three seconds."""
        import rclpy
        begun = steady = time.monotonic()
        before: dict[str, dict[str, int]] = {}
        while time.monotonic() - steady < 3. or len(self._counts) < self._topics:
            if time.monotonic() - begun > STARTUP_TIMEOUT:
                raise MpnpError(f'only {len(self._counts)} of {self._topics} topics are on /diagnostics '
                                f'after {STARTUP_TIMEOUT:g} s; are both encoders running?')
            rclpy.spin_once(self._node, timeout_sec=0.1)
            if self._counts != before:
                steady, before = time.monotonic(), json.loads(json.dumps(self._counts))
        return before

    def _take_tokens(self, message: Any) -> None:
        from mpnp_ros.conversions.messages import to_nanoseconds

        self.tokens.setdefault(message.modality, []).extend(map(to_nanoseconds, message.source_stamps))

    def _take(self, message: Any) -> None:
        for pair in message.status[0].values:
            topic, _, name = pair.key.rpartition(' ')
            if name in COLUMNS and topic.startswith('/'):
                self._counts.setdefault(topic, {})[name] = int(pair.value)


def publish_sensors(seconds: float) -> dict[str, list[int]]:
    """Wait for the encoders and publish for ``seconds``; returns the stamps (ns) of each topic."""
    import rclpy
    from sensor_msgs.msg import Image, PointCloud2

    from mpnp_ros.conversions.images import from_rgb
    from mpnp_ros.conversions.pointclouds import Points, from_points

    rclpy.init(args=[])
    node = rclpy.create_node('sensors')
    rng = np.random.default_rng(0)
    image = from_rgb(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    cloud = from_points(Points(rng.normal(0, 20, (POINTS, 3)).astype(np.float32),
                               rng.random(POINTS, dtype=np.float32)))
    streams = [(node.create_publisher(Image, f'/{camera}/image_rect', 5), image, camera, CAMERA_RATE)
               for camera in CAMERAS]
    streams.append((node.create_publisher(PointCloud2, '/lidar_top', 5), cloud, 'lidar_top', LIDAR_RATE))
    end = time.monotonic() + STARTUP_TIMEOUT
    while not all(publisher.get_subscription_count() for publisher, *_ in streams):
        if time.monotonic() > end:
            raise MpnpError('the encoders do not subscribe; check their output')
        time.sleep(0.1)
    time.sleep(2.)  # the encoders must discover the publishers too
    published: dict[str, list[int]] = {publisher.topic_name: [] for publisher, *_ in streams}
    begun = time.monotonic()
    due = {index: index * 0.002 for index in range(len(streams))}
    while (moment := min(due.values())) < seconds:
        index = min(due, key=due.__getitem__)
        publisher, message, frame_id, rate = streams[index]
        time.sleep(max(0., begun + moment - time.monotonic()))
        now = node.get_clock().now()
        message.header.stamp, message.header.frame_id = now.to_msg(), frame_id
        publisher.publish(message)
        published[publisher.topic_name].append(now.nanoseconds)
        due[index] += 1 / rate
    node.destroy_node()
    rclpy.shutdown()
    return published


def table(published: Mapping[str, int], counts: Mapping[str, Mapping[str, int]]) -> str:
    """The result as a Markdown table."""
    rows = [(f'`{topic}`', number, *(counts.get(topic, {}).get(name, 0) for name in COLUMNS))
            for topic, number in published.items()]
    return markdown_table(('topic', 'published', *COLUMNS), rows, numbers=True)


def stamps_line(published: Mapping[str, Sequence[int]], tokens: Mapping[str, Sequence[int]]) -> str:
    """A line with the number of sensor stamps of tokens that equal a published stamp."""
    sent = {stamp for stamps in published.values() for stamp in stamps}
    parts = [f'{modality}: {sum(stamp in sent for stamp in stamps)} of {len(stamps)}'
             for modality, stamps in sorted(tokens.items())]
    return f'stamps carried by tokens that are a sensor\'s own: {", ".join(parts)}'


if __name__ == '__main__':
    sys.exit(main())

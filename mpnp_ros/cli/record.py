"""Record a running robot, to review its answers and to train its links on them.

    mpnp record --output drive --duration 300
    mpnp record --output drive --question "Is the gate open?" --ask-rate 0.5

FOLDER becomes an ordinary rosbag2 bag with tokens/<modality>, questions, answers and corrections, transforms,
odometry, and images and calibrations of cameras at a low rate. Meanwhile the robot is asked questions about
objects around it, or those given. Recording ends after --duration, at --max-size or with Ctrl-C; exit code 0.
The next steps are `mpnp review`, `mpnp train --recording` and `mpnp evaluate --recording`.
"""
from __future__ import annotations

import struct
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpnp_ros.bags.recorder import BagRecorder
from mpnp_ros.cli.arguments import add_namespace, not_negative, positive
from mpnp_ros.cli.output import megabytes
from mpnp_ros.cli.session import connected
from mpnp_ros.cli.signals import interruptible
from mpnp_ros.endpoints import LATCHED, RELIABLE, SENSOR_DATA, qos_profile
from mpnp_ros.errors import BagError, ImageError, MpnpError, NotAnsweringError, RequestError
from mpnp_ros.node_names import checked_namespace
from mpnp_ros.progress import progress
from mpnp_ros.tokens import SECOND

if TYPE_CHECKING:
    from mpnp_ros.client.robot import Robot

TOKENS, IMAGE, COMPRESSED, CALIBRATION = (
    'mpnp_ros/msg/ModalityTokens', 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/CameraInfo')
QUALITIES = {
    TOKENS: (SENSOR_DATA, 20), 'mpnp_ros/msg/Answer': (RELIABLE, 100),
    'mpnp_ros/msg/Question': (RELIABLE, 100), 'mpnp_ros/msg/Feedback': (RELIABLE, 100),
    'mpnp_ros/msg/EncoderInfo': (LATCHED, 100),
    'nav_msgs/msg/Odometry': (SENSOR_DATA, 20), IMAGE: (SENSOR_DATA, 2), COMPRESSED: (SENSOR_DATA, 2),
    CALIBRATION: (SENSOR_DATA, 2)}
"""Quality of service and depth of the recorded types but for transforms, which have one for each topic."""
NAMED = {'mpnp_ros/msg/Answer': 'answer', 'mpnp_ros/msg/Question': 'question',
         'mpnp_ros/msg/Feedback': 'feedback', 'mpnp_ros/msg/EncoderInfo': 'encoders'}
"""Topics, relative to the namespace, of types of which others are not recorded."""
TRANSFORMS = 'tf2_msgs/msg/TFMessage'
LOOK, FLUSH = 1., 2.
"""Seconds between two looks for topics, and between two times that the bag is written out."""
ENCODER_LOOKS = 5
"""Number of looks after which images are recorded although no encoder has told what it reads."""
ANSWER_TIMEOUT = 20.
"""Seconds to wait for an answer."""
GONE = 30.
"""Seconds without tokens after which the robot counts as gone."""
GENERATED, JPEG_QUALITY, EARLY = 600, 90, .8
"""Number of generated questions; quality of raw images; share of the image period from which one is due."""
NOT_IMAGES = ('compressedDepth', 'theora', 'zstd', 'ffmpeg')
"""Last parts of topics of image_transport that hold no image files of colours."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--output', type=Path, required=True, metavar='FOLDER', help='bag to write')
    parser.add_argument('--duration', type=positive, metavar='S', help='end after so long (default: Ctrl-C)')
    parser.add_argument('--max-size', type=positive, default=1000., metavar='MB',
                        help='end at this size (default: %(default)g)')
    parser.add_argument('--image-rate', type=not_negative, default=1., metavar='HZ',
                        help='images of each camera a second; 0: none (default: %(default)g)')
    parser.add_argument('--images', nargs='+', default=[], metavar='TOPIC',
                        help='topics of images (default: those that encoders read, otherwise all)')
    parser.add_argument('--question', action='append', default=[], metavar='TEXT',
                        help='a question to ask in turn with the others given; repeatable (default: '
                             'generated questions about objects around the robot)')
    parser.add_argument('--ask-rate', type=not_negative, default=1., metavar='HZ',
                        help='questions asked a second; 0: none (default: %(default)g)')
    parser.add_argument('--seed', type=int, default=0, help='of the generated questions')
    parser.add_argument('--timeout', type=positive, default=60., metavar='S',
                        help='seconds to wait for the robot (default: %(default)g)')
    parser.add_argument('--quiet', action='store_true', help='print no progress')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Record; exit code 0.

    Raises NotAnsweringError where the robot is not there or has gone, and BagError for a full disk; what was
    recorded until then is kept.
    """
    questions = questions_to_ask(arguments.question, arguments.seed) if arguments.ask_rate else iter(())
    with connected('record', arguments.namespace, arguments.timeout) as robot:
        robot.modalities()
        recorder = BagRecorder(arguments.output, round(arguments.max_size * 1e6))
        failures: list[str] = []
        try:
            with interruptible() as cancelled, asking(robot, questions, arguments.ask_rate, failures):
                topics = RecordedTopics(robot.node, checked_namespace(arguments.namespace), recorder,
                                        arguments.images, arguments.image_rate)
                try:
                    keep_recording(topics, arguments, cancelled)
                finally:
                    topics.close()
        finally:
            recorder.close()
            print(summary(recorder, failures), flush=True)
    return 0


def questions_to_ask(given: Sequence[str], seed: int) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield questions with their choices for ever: those given, otherwise generated ones."""
    if given:
        return cycle([(text, ()) for text in given])
    from mpnp_ros.adaptation.job_prepare import unlabelled_questions

    return cycle([(question.question, question.choices)
                  for question in unlabelled_questions(seed, GENERATED)])


class RecordedTopics:
    """Subscriptions to what is recorded; log times are those of /clock where it is published.

    recorder: the bag that messages are written to.
    """

    def __init__(self, node: Any, namespace: str, recorder: BagRecorder, images: Sequence[str],
                 image_rate: float) -> None:
        """images: topics; empty: those that encoders read, otherwise all.  image_rate: Hz, by stamps."""
        self._node, self._namespace, self.recorder = node, namespace, recorder
        self._images, self._image_rate = tuple(map(node.resolve_topic_name, images)), image_rate
        self._subscriptions: dict[str, Any] = {}
        self._newest_image: dict[str, int] = {}
        self._encoders: set[str] = set()
        self._looks = 0
        self._refused: set[str] = set()
        self._clock: int | None = None
        self._tokens_at = time.monotonic()
        self._error: BagError | None = None
        self._closed = threading.Event()

    @property
    def token_age(self) -> float:
        """Return the seconds since tokens came, or since the start."""
        return time.monotonic() - self._tokens_at

    def look(self) -> None:
        """Subscribe to new topics, and raise the error of a message that could not be written."""
        if self._error is not None:
            raise self._error
        graph = {name: types[0] for name, types in self._node.get_topic_names_and_types() if types}
        if '/clock' not in self._subscriptions and self._node.count_publishers('/clock'):
            self._follow_clock()
        if '/clock' in self._subscriptions and self._clock is None:
            return  # latched messages would get the time of the system
        self._looks += 1
        for name, kind in graph.items():
            if name not in self._subscriptions and self._is_wanted(name, kind, graph):
                self._subscribe(name, kind)

    def close(self) -> None:
        """End all subscriptions."""
        self._closed.set()
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)

    def _is_wanted(self, name: str, kind: str, graph: dict[str, str]) -> bool:
        if kind == TRANSFORMS:
            return name in ('/tf', '/tf_static', f'{self._namespace}/tf', f'{self._namespace}/tf_static')
        if kind not in QUALITIES or not name.startswith(f'{self._namespace}/'):
            return False
        if kind == TOKENS:
            return name.startswith(f'{self._namespace}/tokens/')
        if kind in NAMED:
            return name == f'{self._namespace}/{NAMED[kind]}'
        if kind == CALIBRATION:  # of a camera whose images are recorded
            return any(calibration_topic(topic) == name for topic in self._subscriptions)
        return kind not in (IMAGE, COMPRESSED) or self._is_image(name, graph)

    def _is_image(self, name: str, graph: dict[str, str]) -> bool:
        """Return whether images of a topic are recorded; of those in both forms, the image files."""
        if not self._image_rate or name.rpartition('/')[2] in NOT_IMAGES:
            return False
        if self._images:
            return name in self._images
        if not self._encoders and self._looks <= ENCODER_LOOKS and f'{self._namespace}/encoders' in graph:
            return False  # until the encoders have told what they read
        if self._encoders and not {name, f'{name}/compressed', name.removesuffix('/compressed')
                                   } & self._encoders:
            return False
        return graph.get(f'{name}/compressed') != COMPRESSED

    def _follow_clock(self) -> None:
        from rosgraph_msgs.msg import Clock

        def hear(message: Any) -> None:
            self._clock = message.clock.sec * SECOND + message.clock.nanosec

        self._subscriptions['/clock'] = self._node.create_subscription(Clock, '/clock', hear,
                                                                       qos_profile(SENSOR_DATA))

    def _subscribe(self, name: str, kind: str) -> None:
        from importlib import import_module

        package, _, plain = kind.split('/')
        quality, depth = (LATCHED if name.endswith('_static') else SENSOR_DATA, 100) \
            if kind == TRANSFORMS else QUALITIES[kind]
        self._subscriptions[name] = self._node.create_subscription(
            getattr(import_module(f'{package}.msg'), plain), name, partial(self._take, name, kind),
            qos_profile(quality, depth), raw=True)

    def _take(self, name: str, kind: str, data: bytes) -> None:
        """Write one message; called on the executor's thread."""
        if self._closed.is_set() or self._error is not None:
            return
        try:
            if kind == TOKENS:
                self._tokens_at = time.monotonic()
            elif kind == 'mpnp_ros/msg/EncoderInfo':
                self._note_encoder(data)
            elif kind in (IMAGE, COMPRESSED, CALIBRATION):
                if not self._image_is_due(name, stamp_of(data)):
                    return
                if kind == IMAGE:
                    name, kind, data = f'{name}/compressed', COMPRESSED, as_image_file(data)
            stamp = time.time_ns() if self._clock is None else self._clock
            self.recorder.write(name, kind, stamp, data)
        except ImageError as error:
            if name not in self._refused:
                print(f'mpnp record: images on {name} are left out: {error}', file=sys.stderr, flush=True)
            self._refused.add(name)
        except BagError as error:
            self._error = error

    def _image_is_due(self, name: str, stamp: int) -> bool:
        newest = self._newest_image.get(name)
        if newest is not None and 0 <= stamp - newest < EARLY * SECOND / self._image_rate:
            return False
        self._newest_image[name] = stamp
        return True

    def _note_encoder(self, data: bytes) -> None:
        """Remember the topics that an encoder reads."""
        from rclpy.serialization import deserialize_message

        from mpnp_ros.msg import EncoderInfo

        self._encoders |= set(deserialize_message(data, EncoderInfo).topics)


def calibration_topic(image_topic: str) -> str:
    """Return the topic of the calibration of a camera, which is beside its images."""
    return f'{image_topic.removesuffix("/compressed").rpartition("/")[0]}/camera_info'


def stamp_of(data: bytes) -> int:
    """Return the stamp, nanoseconds, of a serialised message that begins with a header."""
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return int(seconds) * SECOND + int(nanoseconds)


def as_image_file(data: bytes) -> bytes:
    """Return a serialised sensor_msgs/Image as a CompressedImage of a JPEG file.  Raises ImageError."""
    from io import BytesIO

    from PIL import Image
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import Image as ImageMessage

    from mpnp_ros.conversions.images import from_encoded, to_rgb

    message, file = deserialize_message(data, ImageMessage), BytesIO()
    Image.fromarray(to_rgb(message)).save(file, 'JPEG', quality=JPEG_QUALITY)
    compressed = from_encoded(file.getvalue())
    compressed.header = message.header
    return bytes(serialize_message(compressed))


@contextmanager
def asking(robot: Robot, questions: Iterator[tuple[str, Sequence[str]]], rate: float,
           failures: list[str]) -> Iterator[None]:
    """Ask questions on a thread of its own; the answers are heard as all others are.

    rate: Hz; slower where answers take longer.  failures: grows by why a question was not answered.
    """
    ended = threading.Event()

    def ask() -> None:
        due = time.monotonic()
        for text, choices in questions:
            if ended.wait(max(0., due - time.monotonic())):
                return
            due = max(due, time.monotonic() - 1 / rate) + 1 / rate
            try:
                robot.ask(text, choices, timeout=ANSWER_TIMEOUT)
            except (RequestError, NotAnsweringError) as error:
                failures.append(str(error))
            except MpnpError:  # the robot has been closed
                return

    thread = threading.Thread(target=ask, name='mpnp record', daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def keep_recording(topics: RecordedTopics, arguments: Namespace, cancelled: Callable[[], bool]) -> None:
    """Record until the end of the duration, the size or a signal.

    Raises NotAnsweringError if the robot has gone, BagError for a full disk.
    """
    recorder, begun = topics.recorder, time.monotonic()
    looked = flushed = -LOOK
    with progress('record', 's', arguments.quiet) as show:
        while not cancelled() and not recorder.is_full:
            passed = time.monotonic() - begun
            if arguments.duration and passed >= arguments.duration:
                break
            if passed - looked >= LOOK:
                topics.look()
                looked = passed
                show(round(passed), round(arguments.duration or 0), in_short(recorder))
            if passed - flushed >= FLUSH:
                recorder.flush()
                flushed = passed
            if topics.token_age > GONE:
                raise NotAnsweringError(
                    f'no tokens have come for {GONE:g} s, so the robot counts as gone; {arguments.output} '
                    'keeps what was recorded. `mpnp status` shows the sensors')
            time.sleep(.05)


def in_short(recorder: BagRecorder) -> str:
    """Return what a recording holds in a few words."""
    counts = recorder.counts
    tokens = {name.rpartition('/tokens/')[2]: count for name, count in counts.items() if '/tokens/' in name}
    moments = ', '.join(f'{count} of {name}' for name, count in sorted(tokens.items())) or 'none'
    answers, images = (sum(count for name, count in counts.items() if name.endswith(end))
                       for end in ('/answer', '/compressed'))
    return f'tokens: {moments}; {answers} answers, {images} images, {megabytes(recorder.bytes)}'


def summary(recorder: BagRecorder, failures: Sequence[str]) -> str:
    """Return the last words of a recording."""
    lines = [f'{recorder.folder}: {in_short(recorder)}']
    if recorder.is_full:
        lines.append(f'it ended at --max-size, {megabytes(recorder.max_bytes)}')
    if failures:
        lines.append(f'{len(failures)} questions were not answered, the last one because {failures[-1]}')
    if any(name.endswith('/answer') for name in recorder.counts):
        lines.append(f'review the answers: mpnp review {recorder.folder}')
    return '\n'.join(lines)

"""What a fusion node says of itself, for commands that report it."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ros_harness import RosHarness

    from mpnp_ros.tokens import ModalityTokens


@pytest.fixture
def pretend_robot(monkeypatch) -> Callable[..., None]:
    """Lets commands talk to a robot that has these methods, by name, and no node."""
    class Pretender:
        def __init__(self, namespace: str, **options: object) -> None:
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            pass

    def pretend(**methods: Callable[..., object]) -> None:
        monkeypatch.setattr('mpnp_ros.client.robot.Robot', type('Robot', (Pretender,), methods))

    return pretend


@pytest.fixture
def write_recording(tmp_path: Path) -> Callable[..., Path]:
    """Give a function: (tokens, answers, image, feedback) -> folder of a recording with an image a moment.

    tokens: in any order.  answers: fields of Answer messages, and `stamp_ns` and `used`, the modalities;
    their ids are 0, 1, ...  feedback: fields of Feedback messages, and `stamp_ns`.
    """
    from mpnp_ros.msg import Answer, Feedback
    from rclpy.serialization import serialize_message

    from mpnp_ros.bags.recorder import BagRecorder
    from mpnp_ros.conversions.images import from_encoded
    from mpnp_ros.conversions.messages import from_nanoseconds, to_message

    def write(tokens: Sequence[ModalityTokens], answers: Sequence[dict[str, object]],
              image: bytes = b'\xff\xd8\xff image',
              feedback: Sequence[dict[str, object]] = ()) -> Path:
        recorder = BagRecorder(tmp_path / 'drive', 10 ** 8)
        for known in sorted(tokens, key=lambda known: known.stamp_ns):
            recorder.write(f'/tokens/{known.modality}', 'mpnp_ros/msg/ModalityTokens', known.stamp_ns,
                           serialize_message(to_message(known)))
        for stamp in sorted({known.stamp_ns for known in tokens}):
            recorder.write('/front/compressed', 'sensor_msgs/msg/CompressedImage', stamp + 5,
                           serialize_message(from_encoded(image, 'front', stamp)))
        for number, entries in enumerate(answers):
            fields = dict(entries)
            stamp = from_nanoseconds(fields.pop('stamp_ns'))
            used = list(fields.pop('used', ['camera']))
            message = Answer(id=str(number), used_modalities=used, modality_stamps=[stamp] * len(used),
                             modality_ages=[.1] * len(used), **fields)
            message.header.stamp = stamp
            recorder.write('/answer', 'mpnp_ros/msg/Answer', 10 ** 18 + number, serialize_message(message))
        for entries in feedback:
            fields = dict(entries)
            stamp = from_nanoseconds(fields.pop('stamp_ns', 0))
            message = Feedback(**fields)
            message.header.stamp = stamp
            recorder.write('/feedback', 'mpnp_ros/msg/Feedback', 2 * 10 ** 18, serialize_message(message))
        recorder.close()
        return recorder.folder

    return write


@pytest.fixture
def report(ros: RosHarness) -> Iterator[Callable[..., Callable[[], None]]]:
    """Give a function: text -> what a fusion node says of itself, until it is called or the test ends."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    from mpnp_ros.nodes.worker import Ticker

    with contextlib.ExitStack() as left:
        def begin(text: str, level: int = 0, namespace: str = '/test', state: str = '') -> Callable[[], None]:
            node = rclpy.create_node('fusion', context=ros.node.context, namespace=namespace)
            left.callback(node.destroy_node)
            publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
            message = DiagnosticArray(status=[DiagnosticStatus(
                name=f'{namespace[1:]}/fusion: fusion', message=text, level=bytes([level]),
                values=[KeyValue(key='state', value=state or text)])])
            ticker = Ticker('report', .2, lambda: publisher.publish(message))
            left.callback(ticker.close)
            return ticker.close

        yield begin

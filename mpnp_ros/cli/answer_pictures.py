"""What an answer rests on, drawn into the newest images of its views."""
from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image
    from rclpy.node import Node

WAIT, POLL = 5., .05
"""Seconds to wait for the encoders and for an image, and between two looks."""
FULL = 100_000
"""Pixels that no image has: decode it whole."""
COLOUR, PAPER = (60, 230, 110), (0, 0, 0)
IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


def save_pictures(node: Node, answer: Any, folder: Path, wait: float = WAIT) -> dict[str, str]:
    """Write FOLDER/VIEW.png for each view in which the answer rests on boxes.

    node: spun by another thread.  wait: seconds for the encoders, and for an image of each view.  The images
    are the newest, which may be later than what the answer rests on.  Returns the path of each view, or why
    there is none.
    """
    views: dict[tuple[str, str], list[Any]] = {}
    for token in answer.grounding:
        if len(token.box) == 4:
            views.setdefault((token.modality, token.source), []).append(token)
    topics = _image_topics(node, {modality for modality, _ in views}, wait) if views else {}
    said = {}
    for (modality, view), tokens in views.items():
        topic = next((name for name in topics.get(modality, ()) if view in name.split('/')), '')
        image = _newest(node, topic, wait) if topic else None
        if image is None:
            said[view] = f'no image comes on {topic}' if topic else f'no topic of the encoder names {view}'
            continue
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f'{view}.png'
        draw_grounding(image, tokens).save(path)
        said[view] = str(path)
    return said


def draw_grounding(image: Image.Image, tokens: Sequence[Any]) -> Image.Image:
    """Return an RGB image with the box of each token, and what was counted in it with its weight."""
    from PIL import ImageDraw, ImageFont

    from mpnp_ros.conversions.grounding import grounding_text

    picture = image.convert('RGB')
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(max(11, picture.height // 40))
    heaviest = max(token.weight for token in tokens) or 1.
    for token in sorted(tokens, key=lambda token: token.weight):
        left, top, right, bottom = token.box
        pen.rectangle((left, top, right, bottom), outline=COLOUR,
                      width=1 + round(3 * token.weight / heaviest))
        pen.text((left + 3, max(0., top - 2)), grounding_text(token), COLOUR, font,
                 'ls' if top > font.getbbox('0')[3] else 'la', stroke_width=1, stroke_fill=PAPER)
    return picture


def _image_topics(node: Node, modalities: set[str], wait: float) -> dict[str, tuple[str, ...]]:
    """Return the topics of images that the encoders of some modalities read."""
    from mpnp_ros.endpoints import LATCHED, qos_profile
    from mpnp_ros.msg import EncoderInfo

    found: dict[str, tuple[str, ...]] = {}

    def hear(message: Any) -> None:
        found[message.modality] = tuple(message.topics)

    subscription = node.create_subscription(EncoderInfo, 'encoders', hear, qos_profile(LATCHED, 100))
    end = time.monotonic() + wait
    while not modalities <= set(found) and time.monotonic() < end:
        time.sleep(POLL)
    node.destroy_subscription(subscription)
    return found


def _newest(node: Node, topic: str, wait: float) -> Image.Image | None:
    """Return the next image on a topic; None if none comes."""
    import sensor_msgs.msg

    from mpnp_ros.conversions.images import to_image_file, to_rgb
    from mpnp_ros.endpoints import SENSOR_DATA, qos_profile
    from mpnp_ros.modalities.camera.images import decode

    kinds = dict(node.get_topic_names_and_types()).get(topic, ())
    kind = next((name for name in kinds if name in IMAGES), IMAGES[topic.endswith('/compressed')])
    images: list[Any] = []
    subscription = node.create_subscription(getattr(sensor_msgs.msg, kind.rpartition('/')[2]), topic,
                                            images.append, qos_profile(SENSOR_DATA))
    end = time.monotonic() + wait
    while not images and time.monotonic() < end:
        time.sleep(POLL)
    node.destroy_subscription(subscription)
    if not images:
        return None
    message = images[0]
    file = to_rgb(message) if kind == IMAGES[0] else to_image_file(message)
    return decode(file, (FULL, FULL)).image

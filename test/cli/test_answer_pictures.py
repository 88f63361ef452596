"""What an answer rests on, drawn into images."""
from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.msg import Answer, EncoderInfo, Grounding
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image as ImageMessage

from mpnp_ros.cli.answer_pictures import COLOUR, draw_grounding, save_pictures
from mpnp_ros.conversions.images import from_rgb

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
pytestmark = pytest.mark.ros
CAR = Grounding(modality='camera', source='front', sort='car', expected=.9, weight=.6,
                box=[30., 20., 70., 50.])
FAR = Grounding(modality='camera', source='front', sort='car', expected=.4, weight=.1, box=[80., 0., 90., 9.])
GREY = np.full((60, 100, 3), 90, np.uint8)


def test_boxes_are_drawn_where_they_are():
    drawn = np.asarray(draw_grounding(Image.fromarray(GREY), [CAR, FAR]))
    green = (drawn == COLOUR).all(-1)
    assert green[50, 30:71].all() and green[20:51, 30].all() and green[:8, 80].all()
    assert (drawn[35:45, 40:60] == 90).all()


def test_pictures_of_views_are_written_and_why_others_are_not(ros, tmp_path):
    encoders = ros.publisher(ros.node.resolve_topic_name('encoders'), EncoderInfo, LATCHED)
    encoders.publish(EncoderInfo(modality='camera', topics=['/front/image_raw', '/rear/image_raw']))
    images, done = ros.publisher('/front/image_raw', ImageMessage), threading.Event()

    def send() -> None:
        while not done.wait(.05):
            images.publish(from_rgb(GREY))

    sending = threading.Thread(target=send)
    sending.start()
    rear = Grounding(modality='camera', source='rear', sort='car', weight=.2, box=[0., 0., 9., 9.])
    side = Grounding(modality='camera', source='side', sort='car', weight=.1, box=[0., 0., 9., 9.])
    try:
        said = save_pictures(ros.node, Answer(grounding=[CAR, rear, side]), tmp_path / 'made', 2.)
    finally:
        done.set()
        sending.join()
    assert said == {'front': str(tmp_path / 'made/front.png'), 'rear': 'no image comes on /rear/image_raw',
                    'side': 'no topic of the encoder names side'}
    assert Image.open(said['front']).size == (100, 60)
    assert save_pictures(ros.node, Answer(), tmp_path) == {}

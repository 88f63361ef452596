"""The picture of real key frames: what tokens tell of objects, and what is drawn."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.cli.exchanges import Exchange
from mpnp_ros.conversions.messages import to_message
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens
from mpnp_world.demo.drive import BOTH, Sight
from mpnp_world.demo.real_drive import RealAnswers, RealMoment, find_drive
from mpnp_world.demo.real_picture import draw_real, found_objects, image_boxes

Shares = dict[tuple[str, str | None], float]


def tokens_of(modality: str, *objects: tuple[Shares, float, float]) -> ModalityTokens:
    """Tokens of objects: probabilities by channel, direction in degrees and distance in metres."""
    values = np.zeros((len(objects), len(CHANNELS)), np.float32)
    for row, (shares, *_) in enumerate(objects):
        for channel, share in shares.items():
            values[row, CHANNELS.index(channel)] = share
    return ModalityTokens(
        modality, 'an encoder', values, np.radians([degrees for _, degrees, _ in objects]).astype(np.float32),
        sources=('cam_front',), source_index=np.zeros(len(objects), np.uint16), source_stamps_ns=(1,),
        stamp_ns=1, distance=np.array([metres for *_, metres in objects], np.float32))


CAR = {('car', 'moving'): .6, ('car', 'parked'): .1, ('truck', 'parked'): .1}
CONE = {('traffic cone', None): .5}


def test_an_object_is_what_it_likeliest_is():
    car, cone = found_objects(tokens_of('camera', (CAR, 90., 10.), (CONE, -180., 5.)))
    assert (car.category, car.source) == ('car', 'cam_front')
    assert car.probability == pytest.approx(.8) and car.moves == pytest.approx(6 / 7)
    assert car.place == pytest.approx((0., 10.), abs=1e-5) and car.label == 'car 80% moves'
    assert math.isnan(cone.moves) and cone.label == 'traffic cone 50%'


def test_tokens_that_count_by_sector_tell_of_no_single_objects():
    counts = tokens_of('camera', (CAR, 0., 10.))
    sectors = ModalityTokens('camera', 'another', counts.values, counts.azimuth, sources=('cam_front',),
                             source_index=np.zeros(1, np.uint16), source_stamps_ns=(1,), stamp_ns=1)
    assert found_objects(sectors) == []


def test_images_are_not_looked_at_with_another_encoder(standin):
    frame = find_drive(standin, whole=False).frames[0]
    assert image_boxes(frame, tokens_of('camera', (CAR, 0., 10.)), {'tokens': 'columns'}) == {}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB')).astype(int)


def test_the_picture_shows_what_is_found_and_whether_answers_are_right(standin, tmp_path):
    drive = find_drive(standin, whole=False)

    def drawn(answer: str, *lidar: tuple) -> np.ndarray:
        exchanges = [Exchange(f'{kind}?', kind, 'yes', 'no', answer, .5, BOTH, .1)
                     for kind in ('exist', 'count')]
        moment = RealMoment(drive.frames[0], Sight(1, tokens={
            'camera': to_message(tokens_of('camera', (CAR, 0., 10.))),
            'lidar': to_message(tokens_of('lidar', *lidar))}),
            dict.fromkeys(drive.trials, exchanges), ['no', 'no'])
        return pixels(draw_real(RealAnswers(drive, [moment]), {'tokens': 'columns'}, tmp_path / 'real.png'))

    right, wrong = drawn('yes', (CAR, 0., 10.)), drawn('no', (CAR, 0., 10.), (CAR, 120., 20.))
    assert right.shape == (1240, 1600, 3)
    above = (slice(680, 1220), slice(16, 540))
    assert (right[above] != wrong[above]).any(axis=-1).sum() > 30
    said = (slice(720, 800), slice(1056, 1590))
    assert (right[said][..., 1] > right[said][..., 0] + 40).sum() > 20
    assert (wrong[said][..., 0] > wrong[said][..., 1] + 40).sum() > 20

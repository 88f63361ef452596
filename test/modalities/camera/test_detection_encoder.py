from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpnp_ros.detection.clusters import clusters_of
from mpnp_ros.detection.detectors.base import best
from mpnp_ros.detection.lift import DEPTH
from mpnp_ros.errors import ConfigurationError, ImageError
from mpnp_ros.modalities.camera.calibration import facing
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS

CONFIG = CameraConfig(tokens='detections')
MATRIX = np.array([[100., 0, 79.5], [0, 100, 44.5], [0, 0, 1]])
CAR = [CHANNELS.index(('car', status)) for status in ('moving', 'parked', 'stopped')]


class Stub:
    """A detector that sees one car, as far away as the lower edge of its box says."""

    classes, sha256, size = ('person', 'car'), 'stub', (160, 90)

    def __init__(self, foot=54.5, score=.9):
        self.foot, self.score, self.sizes = foot, score, []

    def detect(self, image):
        self.sizes.append(image.shape[1::-1])
        scale = image.shape[1] / 160
        tall = 1.65 / 1.5 * (self.foot - 44.5)
        box = np.array([[69.5, self.foot - tall, 89.5, self.foot]])
        return best(box * scale, np.array([[0., self.score]]), image)


def front(picture, **given):
    return CameraFrame((CameraView('cam_front', picture, MATRIX, **{'rotation': facing(0.), **given}),),
                       'base_footprint')


@pytest.fixture
def encoder():
    return CameraDetectionEncoder(CONFIG, Stub())


def test_a_box_is_a_token_with_its_place_and_doubt(encoder, picture):
    tokens = encoder.encode(front(picture, stamp_ns=5))
    assert tokens.values.shape == (1, 24) == (1, encoder.token_width)
    assert tokens.values.sum() == pytest.approx(.98, abs=1e-5)
    assert tokens.values[0, CAR].sum() == pytest.approx(.98, abs=1e-5)
    assert tokens.azimuth == pytest.approx([0], abs=1e-6)
    assert tokens.distance == pytest.approx([15 + DEPTH['car']], rel=.01)
    assert (tokens.sources, tokens.source_index.tolist()) == (('cam_front',), [0])
    assert (tokens.encoder, tokens.stamp_ns, tokens.frame_id) == (encoder.fingerprint, 5, 'base_footprint')
    assert encoder.channels == CHANNELS and tokens.max_distance == 30


def test_tokens_say_what_the_detector_cannot_know_and_where_nothing_looks(encoder, picture):
    tokens = encoder.encode(front(picture))
    told = {name for (name, _), known in zip(CHANNELS, tokens.known, strict=True) if known}
    assert told == {'pedestrian', 'car'}  # that a car may be a truck tells too little of trucks
    assert tokens.looked.sum() == 14 and encoder.limits['max_distance'] == 30
    assert encoder.limits['known'].tolist() == tokens.known.tolist()


def test_the_position_of_the_camera_counts_and_has_a_default(encoder, picture):
    default = encoder.encode(front(picture)).distance
    assert default == encoder.encode(front(picture, position=np.array([0, 0, 1.5]))).distance
    low = replace(CONFIG, camera_height=.75)
    assert CameraDetectionEncoder(low, Stub()).encode(front(picture)).distance < .95 * default
    ahead = encoder.encode(front(picture, position=np.array([2., 0, 1.5]))).distance
    assert ahead == pytest.approx(default + 2, abs=1e-4)
    level = encoder.encode(front(picture, position=np.array([2., 0, 0.]))).distance
    assert level == pytest.approx(ahead, abs=1e-4)  # a base frame that is not on the ground
    with pytest.raises(ImageError, match="'cam_front': its position in the base frame is not three"):
        encoder.encode(front(picture, position=np.full(3, np.nan)))


def test_what_is_beyond_the_distance_counts_by_its_doubt(picture):
    far = CameraDetectionEncoder(CONFIG, Stub(foot=47.5)).encode(front(picture))
    assert not far.values.any() and np.isnan(far.azimuth).all()
    edge = CameraDetectionEncoder(CONFIG, Stub(foot=49.9)).encode(front(picture))
    assert .2 < edge.values.sum() < .8


def test_points_of_a_lidar_tell_the_distance(encoder, picture):
    ground = np.array([[x, y, 0.] for x in range(4, 30) for y in range(-10, 11)])
    points = np.array([[18., side, height] for side in (-.5, 0, .5) for height in (.6, 1., 1.4)])
    whole, few = (clusters_of(np.concatenate([ground, part])) for part in (points, points[:2]))
    found = encoder.detect(front(picture), whole, min_points=5)
    assert found.distance == pytest.approx([18 + .8 * DEPTH['car']], abs=.01)
    assert len(encoder.detect(front(picture), few, min_points=5)) == 0


def test_a_file_that_is_decoded_small_gives_the_same_boxes(picture):
    from io import BytesIO

    from PIL import Image
    stream = BytesIO()
    Image.fromarray(picture).resize((640, 360)).save(stream, 'JPEG')
    view = front(stream.getvalue()).views[0]
    view = replace(view, intrinsics=np.array([[400., 0, 319.5], [0, 400, 179.5], [0, 0, 1]]))
    stub = Stub()
    found = CameraDetectionEncoder(CONFIG, stub).detect(CameraFrame((view,)))
    assert stub.sizes == [(160, 90)] and found.boxes[0, 3] == pytest.approx(218)
    CameraDetectionEncoder(replace(CONFIG, windows=2), stub).detect(CameraFrame((view,)))
    assert stub.sizes[1:] == [(640, 360), (252, 252), (252, 252)]


def test_the_fingerprint_covers_what_decides_tokens_and_nothing_else(encoder):
    def made(**given):
        stub = Stub()
        stub.sha256 = given.pop('sha256', 'stub')
        return CameraDetectionEncoder(replace(CONFIG, **given), stub).fingerprint
    assert made() == encoder.fingerprint == made(detector='elsewhere', columns=9, backbone='x', device='cpu')
    changed = [made(**given) for given in (
        {'sha256': 'other'}, {'windows': 1}, {'min_score': .3}, {'camera_height': 1.}, {'max_distance': 20.},
        {'calibration': (0., 1.)}, {'class_map': 'nuscenes'})]
    assert len({*changed, made()}) == 8


def test_wrong_options_and_images_are_said(picture):
    with pytest.raises(ConfigurationError, match='calibration must have'):
        CameraConfig(calibration=(.5, .1))
    with pytest.raises(ConfigurationError, match='no class map'):
        CameraDetectionEncoder(replace(CONFIG, class_map='none'), Stub())
    encoder = CameraDetectionEncoder(CONFIG, Stub())
    with pytest.raises(ImageError, match='no views'):
        encoder.encode(CameraFrame(()))
    with pytest.raises(ImageError, match="view 'cam_front'"):
        encoder.encode(front(b'none'))


def test_a_detector_of_transformers_by_the_registration(tiny_detector, picture):
    encoder = create_encoder('camera', {'tokens': 'detections', 'detector': str(tiny_detector),
                                        'device': 'cpu'})
    tokens = encoder.encode(front(picture))
    assert tokens.count == 1 and tokens.encoder == encoder.fingerprint


def test_the_real_key_frame(key_frame):
    from mpnp_ros.errors import WeightsError
    from mpnp_ros.modalities.camera.registration import camera_frame
    try:
        encoder = create_encoder('camera', {'tokens': 'detections', 'device': 'cpu'})
    except WeightsError as error:
        pytest.skip(str(error))
    frame = camera_frame(key_frame)
    assert {view.name: view.position.tolist() for view in frame.views} == {
        name.lower(): item.extrinsics.translation.tolist() for name, item in key_frame.cameras.items()}
    found = encoder.detect(frame)
    truck = next(item for item in key_frame.objects if item.category == 'truck' and item.distance < 30)
    near = np.hypot(*(found.position - truck.centre[:2]).T).argmin()
    assert CATEGORIES[found.categories[near].argmax()] == 'truck'
    assert found.distance[near] == pytest.approx(truck.distance, rel=.2)
    assert found.looked.all()

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bench import real_frames
from bench.real_matching import MatchCounts, iou, match, visible
from mpnp_ros.detection.boxes import CategoryBoxes
from mpnp_ros.detection.detections import Detections
from mpnp_ros.detection.detectors.base import COCO, Boxes
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
from mpnp_ros.modalities.camera.registration import camera_frame
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.vocabulary import CATEGORIES


class Nothing:
    classes, sha256, size = COCO, 'nothing', (320, 180)

    def detect(self, image):
        return Boxes(np.zeros((0, 4), np.float32), np.zeros((0, len(COCO)), np.float32))


@pytest.fixture
def encoder():
    return CameraDetectionEncoder(CameraConfig(tokens='detections', class_map='coco'), Nothing())


@pytest.fixture
def seen(standin, encoder):
    """A generated key frame, its cameras, and the boxes of what is in each image."""
    frame = next(NuScenes(standin).key_frames(NuScenes(standin).scenes[0]))
    images = camera_frame(frame)
    cameras = tuple(encoder.camera(view) for view in images.views)
    boxes = []
    for camera in cameras:
        inside = [(item, box) for item in frame.objects if (box := visible(item, camera)) is not None]
        shares = np.eye(len(CATEGORIES))[[CATEGORIES.index(item.category) for item, _ in inside]]
        boxes.append(CategoryBoxes(np.array([box for _, box in inside]).reshape(-1, 4),
                                   np.ones(len(inside)), shares.reshape(-1, len(CATEGORIES))))
    return frame, images, cameras, tuple(boxes)


def test_true_boxes_are_matched_to_their_objects(encoder, seen):
    frame, images, cameras, boxes = seen
    found = encoder.lift(images, boxes, cameras)
    matches = match(found, frame.objects, cameras)
    assert 0 < len(matches.seen) <= len(frame.objects)
    matched = [item for item in matches.object_of if item is not None]
    assert len({item.instance for item in matched}) == len(matched) >= .7 * len(found)
    tally = MatchCounts()
    tally.add(matches, Scope(30., 0))
    assert tally.rows()[-1]['category'] == 'all' and tally.errors()['direction_median'] < 3


def test_the_best_pair_comes_first_and_the_rest_by_place(seen):
    frame, _, cameras, _ = seen
    item = frame.objects[0]
    place = np.array(item.centre[:2])
    none = Detections(np.stack([place + 1.5, place + .5]), np.ones(2), np.eye(10)[[0, 0]],
                      source_index=np.zeros(2, np.uint16), sources=('cam',))
    assert match(none, [item], cameras).object_of == [None, item]
    far = replace(none, position=none.position + 10)
    assert match(far, [item], cameras).object_of == [None, None]
    assert iou(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])) == pytest.approx(1 / 3)


def test_a_page_gathers_runs(standin, encoder, tmp_path):
    run = real_frames.measure(standin, encoder, None, 0)
    assert (run['frames'], run['streets']) == (1, 1)
    rule = run['right']['rule, camera']
    assert rule['questions'] == run['questions'] and 0 < rule['all'] < 100
    page = tmp_path / 'page.md'
    for name in ('first', 'second'):
        real_frames.add_to_page(page, 'standin', name, run)
        if name == 'first':
            page.write_text(f'{page.read_text()}\n## mpnp evaluate\n\nOwn words.\n')
    text = page.read_text()
    assert text.count('## mpnp evaluate') == 1 and text.endswith('\n\n## mpnp evaluate\n\nOwn words.\n')
    assert text.count('| rule, camera, turned away |') == 2 and '## standin: 1 key frame of 1 street' in text
    assert list(json.loads(page.with_suffix('.json').read_text())['standin']) == ['first', 'second']

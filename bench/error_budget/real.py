"""Views of real key frames: what a detector finds, with distances by camera or by LiDAR."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.error_budget.measure import View
from bench.error_budget.parts import Seen, seen_by_detector
from bench.real_frames import BY_CAMERA, BY_LIDAR, ENCODER, HEADINGS, SCOPE, with_lidar
from bench.real_matching import Matches, match
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.detection.lift import Camera
from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
from mpnp_ros.modalities.camera.registration import camera_frame
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.training.evaluation import majority_answers
from mpnp_ros.training.key_frames import question_dataset
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects


def real_views(root: Path, encoder: CameraDetectionEncoder, detector: str) -> Iterator[View]:
    """Yield the views of a detector on a nuScenes root.  detector: its name on the page."""
    tables = NuScenes(root)
    frames = [frame for scene in tables.scenes for frame in tables.key_frames(scene['name'])]
    views: dict[str, dict[str, Seen]] = {BY_CAMERA: {}, BY_LIDAR: {}}
    for frame in frames:
        for way, seen in seen_in_frame(frame, encoder).items():
            views[way][frame.token] = seen
    examples = question_dataset(frames, [TrueObjects(SCOPE)], HEADINGS, per_kind=2000, scope=SCOPE).examples
    majority = majority_answers(examples, examples)
    for way, view in views.items():
        if view:
            yield View(f'{root.name}, {detector}, distances by {way}', view, examples, majority,
                       scenes=len(tables.scenes))


def seen_in_frame(frame: KeyFrame, encoder: CameraDetectionEncoder) -> dict[str, Seen]:
    """Return what is seen in a key frame, by the source of distances."""
    images = camera_frame(frame)
    boxes, cameras = zip(*(encoder.look(view) for view in images.views), strict=True)
    made = {BY_CAMERA: _seen(encoder.lift(images, boxes, cameras), frame, cameras)}
    if frame.lidar is not None:
        dense, every = (with_lidar(frame, encoder, boxes, least) for least in (SCOPE.min_points, 0))
        made[BY_LIDAR] = _seen(dense, frame, cameras, match(every, frame.objects, cameras))
    return made


def _seen(detections: Detections, frame: KeyFrame, cameras: tuple[Camera, ...],
          every: Matches | None = None) -> Seen:
    tokens = detection_tokens(detections, OBJECTS, ENCODER, SCOPE.max_distance)
    return seen_by_detector(match(detections, frame.objects, cameras), SCOPE, tokens, every)

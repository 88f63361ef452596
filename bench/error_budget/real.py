"""Views of real key frames: what a detector finds, by where distances and statuses come from."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.error_budget.measure import EncoderView
from bench.error_budget.parts import SeenFrame, seen_by_detector
from bench.real_frames import BY_CAMERA, BY_LIDAR, ENCODER, HEADINGS, WITH_MOTION, DriveMotion, with_lidar
from bench.real_matching import Matches, match
from bench.real_sweeps import SensorMoment, moments_of
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.detection.lift import Camera
from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.training.evaluation import majority_answers
from mpnp_ros.training.key_frames import question_dataset
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects

MEASURED = (BY_LIDAR, WITH_MOTION[BY_LIDAR])
"""Ways in which boxes with too few LiDAR points are left out."""


def real_views(root: Path, encoder: CameraDetectionEncoder, detector: str) -> Iterator[EncoderView]:
    """Yield the views of a detector on a nuScenes root.  detector: its name on the page."""
    tables = NuScenes(root)
    frames = []
    views: dict[str, dict[str, SeenFrame]] = {way: {} for way in (*WITH_MOTION, *WITH_MOTION.values())}
    for scene in tables.scenes:
        motion = DriveMotion()
        for moment in moments_of(tables, scene['name']):
            made = seen_at(moment, motion, encoder)
            if moment.key_frame is not None:
                frames.append(moment.key_frame)
                for way, seen in made.items():
                    views[way][moment.key_frame.token] = seen
    examples = question_dataset(frames, [TrueObjects(NEARBY)], HEADINGS, per_kind=2000, scope=NEARBY).examples
    majority = majority_answers(examples, examples)
    for way, view in views.items():
        if view:
            yield EncoderView(f'{root.name}, {detector}, {way}', view, examples, majority,
                       scenes=len(tables.scenes))


def seen_at(moment: SensorMoment, motion: DriveMotion,
            encoder: CameraDetectionEncoder) -> dict[str, SeenFrame]:
    """Return what is seen in a key frame, by the way; of other moments the motion only is followed."""
    boxes, cameras = encoder.look_at(moment.images)
    found = {BY_CAMERA: encoder.lift(moment.images, boxes, cameras)} if cameras else {}
    found = motion.follow(moment, encoder, found, boxes, cameras)
    frame = moment.key_frame
    if frame is None:
        return {}
    every = None
    if BY_LIDAR in found:
        every = match(with_lidar(frame, encoder, boxes, 0), frame.objects, cameras)
    return {way: _seen(detections, moment, cameras, every if way in MEASURED else None)
            for way, detections in found.items()}


def _seen(detections: Detections, moment: SensorMoment, cameras: tuple[Camera, ...], every: Matches | None,
          ) -> SeenFrame:
    assert moment.key_frame is not None  # the caller has checked
    tokens = detection_tokens(detections, OBJECTS, ENCODER, NEARBY.max_distance)
    return seen_by_detector(match(detections, moment.key_frame.objects, cameras), NEARBY, tokens, every)

"""Measure radar, LiDAR and camera on real frames with a 4-D radar, of the Astyx HiRes 2019 data set.

    python -m bench.radar_frames --data DATA [--detector DETECTOR]

DATA holds radar_6455, lidar_vlp16, camera_front, calibration and groundtruth_obj3d, as published.  Boxes are
annotated where the camera looks, so objects and tokens in the front sector count only.  The frames are apart:
no earlier sweep and no pose, so that nothing is known of motion but what the radar measures.
"""
from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from bench.common.figures import FAINT, INK, new_figure, save_png
from bench.common.page import RESULTS, markdown_table, write_page
from bench.common.program import exit_code, program_parser
from bench.common.timing import machine_text
from bench.real_frames import ENCODER, HEADINGS, LinkAnswers, scores
from mpnp_ros.detection.clusters import clusters_of
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.detection_encoder import FULL, CameraDetectionEncoder
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, decode
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.detection_encoder import LidarDetectionEncoder
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.modalities.radar.config import RadarConfig
from mpnp_ros.modalities.radar.doppler import MOVES, OwnMotion, doppler_scan, folded, own_motion
from mpnp_ros.modalities.radar.encoder import RadarEncoder
from mpnp_ros.modalities.radar.frames import RadarFrame
from mpnp_ros.modalities.radar.moving import RadarMovingEncoder
from mpnp_ros.poses import Transform
from mpnp_ros.progress import progress
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.rule import parse_question, rule_answer
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS
from mpnp_ros.tokens import SECTORS, ModalityTokens
from mpnp_ros.training.comparison import AWAY, nothing_seen
from mpnp_ros.training.dataset import Example
from mpnp_ros.training.evaluation import majority_answers
from mpnp_ros.training.key_frames import heading_of, question_dataset, sample_of, turn_tokens
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects

SPAN = 10.3
"""Metres/second after which speeds of this radar begin anew, found by the speeds of what stands."""
POWER_OFFSET = 50.0
"""dB taken from the strength of returns: the median return is near 0 dBsm then."""
FRONT = math.radians(28.0)
"""The sector on both sides of straight ahead that the camera sees."""
MOVING_REACH = 60.0
"""Metres within which moving objects are looked for."""
REACH = NEARBY.max_distance
"""Metres within which objects are asked about."""
CLASSES = {'Car': 'car', 'Person': 'pedestrian', 'Truck': 'truck', 'Bus': 'bus', 'Trailer': 'trailer',
              'Cyclist': 'bicycle', 'Motorcyclist': 'motorcycle'}
"""Classes of the data set; boxes of others are left out."""
AROUND = 0.3
"""Metres around a box within which returns are of its object."""
SAME = 2.0
"""Metres between the places of an object and of what is said, at most."""
TYPES = ('exist', 'count', 'object')
View = Mapping[str, ModalityTokens]


@dataclass(frozen=True, eq=False)
class AstyxFrame:
    """One frame; points are in its base frame: below the radar, on the ground.

    radar: [N, 3] metres.  speed: [N] metres/second, positive for what goes away.  power: [N] dB.
    lidar: [M, 4] x y z and intensity up to 255.  camera: its image.  objects: in the base frame.  boxes:
    rotation and half size of each object, [3, 3] and [3].
    """

    name: str
    radar: np.ndarray
    speed: np.ndarray
    power: np.ndarray
    lidar: np.ndarray
    camera: CameraView
    objects: tuple[AnnotatedObject, ...]
    boxes: tuple[tuple[np.ndarray, np.ndarray], ...]

    @cached_property
    def motion(self) -> OwnMotion | None:
        """Return the motion of the vehicle by its radar."""
        return own_motion(self.rays, self.speed, SPAN)

    @property
    def rays(self) -> np.ndarray:
        """Return the horizontal parts of the unit vectors from the radar to its points, [N, 2]."""
        return self.radar[:, :2] / np.linalg.norm(self.radar - [0, 0, self.camera_height], axis=1)[:, None]

    @property
    def camera_height(self) -> float:
        """Return the metres of camera and radar above the ground; they are side by side."""
        assert self.camera.position is not None  # read_frame has set it
        return float(self.camera.position[2])

    def inside(self, points: np.ndarray, place: int) -> np.ndarray:
        """Return which points [N, 3] are of an object, bool [N]."""
        rotation, half = self.boxes[place]
        return np.asarray((np.abs((points - self.objects[place].centre) @ rotation) < half + AROUND).all(1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page; returns the exit code."""
    parser = program_parser('radar_frames', __doc__)
    parser.add_argument('--data', type=Path, required=True, help='folder of the data set')
    parser.add_argument('--detector', default='centernet', help='as encoder.detector of the camera')
    parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER',
                        help='folder for radar_frames.md and .json (default: %(default)s)')
    given = parser.parse_args(arguments)
    return exit_code('radar_frames', lambda: run(given.data, given.detector, given.output))


def run(data: Path, detector: str, output: Path) -> None:
    """Measure all frames."""
    names = sorted(file.stem for file in (data / 'groundtruth_obj3d').glob('*.json'))
    height = float(np.median([sensor_height(data, name) for name in names]))
    frames = [read_frame(data, name, height) for name in names]
    radar, lidar = RadarEncoder(RadarConfig()), LidarDetectionEncoder(LidarConfig())
    camera = CameraDetectionEncoder(CameraConfig(tokens='detections', detector=detector))
    movers = RadarMovingEncoder(RadarConfig(tokens='moving', doppler_span=SPAN, max_distance=MOVING_REACH))
    found: dict[str, dict[str, Detections]] = {'LiDAR': {}, 'camera': {}, 'camera + LiDAR': {}}
    moving: dict[str, Detections] = {}
    views: dict[str, dict[str, ModalityTokens]] = {'radar': {}}
    with progress('encoding') as show:
        for done, frame in enumerate(frames, 1):
            images, clusters = CameraFrame((frame.camera,)), clusters_of(frame.lidar[:, :3])
            looked = camera.look_at(images)
            found['LiDAR'][frame.name] = ahead(lidar.detect(LidarFrame(
                frame.lidar[:, :3], frame.lidar[:, 3], translation=np.zeros(3))))
            found['camera'][frame.name] = ahead(camera.lift(images, *looked))
            found['camera + LiDAR'][frame.name] = ahead(camera.lift(images, *looked, clusters))
            scan = doppler_scan(frame.radar - [0, 0, height], frame.speed, frame.power - POWER_OFFSET, SPAN,
                                name='radar', translation=np.array([0, 0, height]))
            moving[frame.name] = ahead(movers.detect(RadarFrame((scan,))))
            tokens = radar.encode(RadarFrame((scan,)))
            inside = (np.abs(tokens.azimuth) < FRONT)[:, None]
            views['radar'][frame.name] = replace(tokens, values=tokens.values * inside, modality=OBJECTS,
                                                 encoder=ENCODER)
            show(done, len(frames), frame.name)
    for name, of in found.items():
        reader = ('lidar', lidar.fingerprint) if name == 'LiDAR' else (OBJECTS, ENCODER)
        views[name] = {key: detection_tokens(each, *reader, REACH) for key, each in of.items()}
    results = {'machine': machine_text(), 'detector': detector, 'frames': len(frames), 'height': height,
               'radar': radar_figures(frames), 'moving': moving_figures(frames, moving),
               'head': sector_precision(frames, views['radar']),
               'found': {name: found_figures(frames, each) for name, each in found.items()},
               'answers': answered(frames, views)}
    print(write_report(results, frames, output))


def sensor_height(data: Path, name: str) -> float:
    """Return the metres of the radar above the ground before it, by the LiDAR."""
    points = transformed(read_table(data / 'lidar_vlp16' / f'{name}.txt', 1)[:, :3], mounts(data, name)[1][0])
    near = (np.abs(points[:, 1]) < 3) & (points[:, 0] > 4) & (points[:, 0] < 15) & (points[:, 2] < -.5)
    return -float(np.median(points[near, 2])) if near.any() else math.nan


def mounts(data: Path, name: str) -> list[tuple[np.ndarray, Mapping[str, Any]]]:
    """Return the transform [4, 4] to the frame of the radar, and the rest, of radar, LiDAR and camera."""
    sensors = json.loads((data / 'calibration' / f'{name}.json').read_text())['sensors']
    return [(np.array(sensor['calib_data']['T_to_ref_COS']), sensor['calib_data']) for sensor in sensors]


def read_frame(data: Path, name: str, height: float) -> AstyxFrame:
    """Read a frame; height: metres of the radar above the ground."""
    _, (to_radar, _), (camera, calibration) = mounts(data, name)
    radar = read_table(data / 'radar_6455' / f'{name}.txt', 2)
    lidar = read_table(data / 'lidar_vlp16' / f'{name}.txt', 1)
    up = np.array([0, 0, height])
    points = transformed(lidar[:, :3], to_radar) + up
    objects, boxes = [], []
    annotated = json.loads((data / 'groundtruth_obj3d' / f'{name}.json').read_text())['objects']
    for place, entry in enumerate(annotated):
        centre = np.array(entry['center3d']) + up
        if entry['classname'] not in CLASSES or abs(math.atan2(centre[1], centre[0])) > FRONT:
            continue
        w, x, y, z = entry['orientation_quat']
        rotation, half = Rotation.from_quat([x, y, z, w]), np.array(entry['dimension3d']) / 2
        boxes.append((rotation.as_matrix(), half))
        mine = (np.abs((points - centre) @ boxes[-1][0]) < half + AROUND).all(1)
        length, width, tall = entry['dimension3d']
        objects.append(AnnotatedObject(
            f'{name}/{place}', CLASSES[entry['classname']], None, tuple(centre.tolist()),
            (length, width, tall), float(rotation.as_euler('zyx')[0]), num_lidar_pts=int(mine.sum())))
    image = next((data / 'camera_front').glob(f'{name}.*')).read_bytes()
    return AstyxFrame(
        name, radar[:, :3] + up, -radar[:, 3], radar[:, 4], np.column_stack([points, lidar[:, 3]]),
        CameraView('front', image, np.array(calibration['K']), camera[:3, :3], position=camera[:3, 3] + up),
        tuple(objects), tuple(boxes))


def read_table(path: Path, head: int) -> np.ndarray:
    """Return the numbers of a text file behind its first lines."""
    return np.loadtxt(path, skiprows=head, ndmin=2)


def transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return points [N, 3] behind a transform [4, 4]."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def ahead(detections: Detections) -> Detections:
    """Return the objects in the front sector; elsewhere there are none, as is asked."""
    return replace(detections.select(np.abs(detections.azimuth) < FRONT), looked=np.ones(SECTORS, bool))


def radar_figures(frames: Sequence[AstyxFrame]) -> dict[str, Any]:
    """Return what the radar measures: own motion, and returns of objects by distance."""
    rows = [(item.distance, int(frame.inside(frame.radar, place).sum())) for frame in frames
            for place, item in enumerate(frame.objects)]
    bands = {}
    for low, high in ((0, 15), (15, 30), (30, 60), (60, 150)):
        hit = [count for far, count in rows if low <= far < high]
        bands[f'{low}-{high} m'] = {'objects': len(hit), 'with a return': sum(count > 0 for count in hit),
                                    'with 5 returns': sum(count > 4 for count in hit),
                                    'median returns': float(np.median(hit)) if hit else 0.}
    told = [moves(frame, place) for frame in frames for place in range(len(frame.objects))]
    known = [frame.motion for frame in frames if frame.motion is not None]
    return {'bands': bands, 'own motion known': len(known),
            'share that agrees': float(np.median([motion.share for motion in known])),
            'speeds': [round(float(motion.velocity[0]), 1) for motion in known],
            'objects that move': told.count(True), 'objects that stand': told.count(False)}


def moves(frame: AstyxFrame, place: int) -> bool | None:
    """Return whether an object moves by its returns; None where there are fewer than 5."""
    inside = frame.inside(frame.radar, place)
    if frame.motion is None or inside.sum() < 5:
        return None
    over_ground = folded(frame.speed + frame.rays @ frame.motion.velocity, SPAN)
    return bool(abs(np.median(over_ground[inside])) > MOVES)


def moving_figures(frames: Sequence[AstyxFrame], found: Mapping[str, Detections]) -> dict[str, int]:
    """Return how many objects that move by their returns are found, and what is said rightly.

    What is said lies on an annotated object where it is at most a metre outside of its box.
    """
    counts = dict.fromkeys(('objects', 'found', 'said', 'true'), 0)
    for frame in frames:
        detections, taken = found[frame.name], set[int]()
        for position in detections.position:
            for place in set(range(len(frame.boxes))) - taken:
                rotation, half = frame.boxes[place]
                away = np.append(position - frame.objects[place].centre[:2], 0.)
                if (np.abs(away @ rotation) < half + 1).all():
                    taken.add(place)
                    break
        counts['said'] += len(detections)
        counts['true'] += len(taken)
        moving = {place for place, item in enumerate(frame.objects)
                  if moves(frame, place) and item.distance < MOVING_REACH}
        counts['objects'] += len(moving)
        counts['found'] += len(moving & taken)
    return counts


def sector_precision(frames: Sequence[AstyxFrame], view: View) -> dict[str, float]:
    """Return how the head's counts of all objects within reach rank the sectors ahead."""
    said, true, expected = [], [], 0.
    for frame in frames:
        tokens = view[frame.name]
        front = np.abs(tokens.azimuth) < FRONT
        there = np.zeros(len(front), bool)
        for item in frame.objects:
            if item.distance < REACH:
                apart = np.angle(np.exp(1j * (tokens.azimuth - math.atan2(item.centre[1], item.centre[0]))))
                there[np.abs(apart).argmin()] = True
        said += tokens.values[front].sum(1).tolist()
        true += there[front].tolist()
        expected += float(tokens.values.sum())
    order = np.argsort(-np.array(said), kind='stable')
    hit = np.array(true)[order]
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return {'average precision': float((precision * hit).sum() / hit.sum()), 'chance': float(np.mean(true)),
            'expected': expected, 'true': float(sum(item.distance < REACH for frame in frames
                                                   for item in frame.objects))}


def found_figures(frames: Sequence[AstyxFrame], found: Mapping[str, Detections]) -> dict[str, int]:
    """Return how many objects are found within reach, and what is said rightly, at a probability of 0.5."""
    counts = dict.fromkeys(('objects', 'found', 'right category', 'said', 'true'), 0)
    for frame in frames:
        detections = found[frame.name]
        detections = detections.select((detections.existence >= .5) & (detections.distance < REACH + SAME))
        objects = [item for item in frame.objects
                   if item.distance < REACH + SAME and item.num_lidar_pts >= NEARBY.min_points]
        apart = np.hypot(*(detections.position[:, None] - np.array(
            [item.centre[:2] for item in objects]).reshape(-1, 2)[None]).transpose(2, 0, 1))
        pairs: dict[int, int] = {}
        for row, column in sorted(np.ndindex(*apart.shape), key=lambda pair: apart[pair]):
            if apart[row, column] < SAME and row not in pairs and column not in pairs.values():
                pairs[row] = column
        near = [column for column in pairs.values() if objects[column].distance < REACH]
        kinds = detections.categories.argmax(1) if len(detections) else []
        counts['objects'] += sum(item.distance < REACH for item in objects)
        counts['found'] += len(near)
        counts['right category'] += sum(
            objects[column].distance < REACH and CATEGORIES[kinds[row]] == objects[column].category
            for row, column in pairs.items())
        within = detections.distance < REACH
        counts['said'] += int(within.sum())
        counts['true'] += sum(bool(within[row]) for row in pairs)
    return counts


def answered(frames: Sequence[AstyxFrame], views: Mapping[str, View]) -> dict[str, dict[str, Any]]:
    """Return percent right of questions about objects ahead, by row; no question names a status."""
    still = Transform.about_z(0.)
    key_frames = [KeyFrame(frame.name, frame.name, '', place, still, {}, None, {}, frame.objects)
                  for place, frame in enumerate(frames)]
    data = question_dataset(key_frames, [TrueObjects(NEARBY)], HEADINGS, per_kind=2000, scope=NEARBY)
    asked = [example for example in data.examples
             if (meaning := parse_question(example.question)) and meaning.type in TYPES
             and meaning.thing.status is None]
    objects = LinkAnswers()
    links = {'LiDAR': LinkAnswers('lidar', next(iter(views['LiDAR'].values())).encoder)}
    blind = nothing_seen(next(iter(views['camera'].values())))
    rows = {'majority of each text': scores(asked, majority_answers(asked, asked)),
            'links, blind': scores(asked, objects(asked, lambda example: blind)),
            'links, true objects': scores(asked, objects(
                asked, lambda example: data.frames[example.frame][OBJECTS]))}
    names = [frame.name for frame in frames]
    half = len(names) // 2
    ways = {'': (names, 0.), ', turned away': (names, AWAY),
            ', another frame': (names[half:] + names[:half], 0.)}
    for name, view in views.items():
        for way, (seen, turn) in ways.items():
            see = seer({mine: view[other] for mine, other in zip(names, seen, strict=True)}, turn)
            rows[f'rule, {name}{way}'] = scores(
                asked, [rule_answer(example.question, see(example), CHANNELS) for example in asked])
            rows[f'links, {name}{way}'] = scores(asked, links.get(name, objects)(asked, see))
    return rows


def seer(view: View, turn: float) -> Callable[[Example], ModalityTokens]:
    """Return what gives the tokens for a question; turn: radians by which they are turned away."""
    def see(example: Example) -> ModalityTokens:
        heading = heading_of(example.frame) * math.tau / HEADINGS
        return turn_tokens(view[sample_of(example.frame)], heading + turn)
    return see


PAGE = """# A real 4-D radar, a LiDAR of another make and a camera

Output of `python -m bench.radar_frames --data DATA --detector {detector}` on {machine}; the
figures are in [radar_frames.json](radar_frames.json).

DATA holds {frames} frames of the Astyx HiRes 2019 data set (Meyer and Kuschk, EuRAD 2019): an Astyx 6455
HiRes radar, a VLP-16 LiDAR of which every third column is kept, and one camera, on roads near Munich by day.
The frames are apart, so there is no earlier sweep and no pose. Boxes are annotated where the camera looks:
objects and tokens count within {front:.0f} degrees of straight ahead only.
Nothing was trained on these frames. Some numbers were chosen on them: the span of the radar's speeds ({span}
m/s), what is taken from the strength of its returns ({offset:g} dB), and of `encoder.tokens: moving` how near
returns of one object are, how many they are, and how probable it is. That links learn on streets
of which half are emptied was decided with these answers in view.

![One frame from above](radar_frames.png)

In the picture what drives ahead of the vehicle has speeds near 0 or 10 m/s, because these begin anew.

## What the radar measures

{bands}

The returns of things that stand tell how the vehicle moves in {known} of {frames} frames; of the median frame
{agree:.0f} % of the returns agree. It drives at {low:.0f} to {high:.0f} m/s, although the speeds of
returns begin anew after {span} m/s. By that, {moving} of the annotated objects with 5 returns move and
{standing} stand; the data set does not say which do.

With `encoder.tokens: moving` the encoder gives one token for each group of returns that move together. Within
{moving_reach:g} m it finds {movers[found]} of the {movers[objects]} objects that move; of the {movers[said]}
that it tells of, {movers[true]} lie on an annotated object. What moves is known here from the same radar:
objects that cross its line of sight are in neither number.

The shipped head, which counts (`encoder.tokens: counts`), knows nothing like it: the simulated radar has some
50 returns a scan, this one thousands. It ranks the sectors of 5 degrees that hold an object with an average
precision of {ap:.2f} (chance {chance:.2f}) and expects {expected:.0f} objects where there are {true:.0f}.
**So what moves is read from such a radar, but its counts are of no use**; a head would have to be trained on
it. The answers below are by these counts.

## What LiDAR and camera find

Objects within {reach:g} m with {points} points of the LiDAR or more, at a probability of 0.5, and at most
{same:g} m away. *camera + LiDAR*: boxes of `{detector}` with the distances of clusters. The LiDAR's head was
trained in the simulated world.

{found}

## Answers

{count} questions about objects ahead in six headings, none about statuses; intervals are over frames. Turned
away: the same tokens turned by 120 degrees. Another frame: the tokens of a frame elsewhere.

{answers}
"""


def write_report(results: Mapping[str, Any], frames: Sequence[AstyxFrame], output: Path) -> Path:
    """Write page, figures and picture."""
    radar, head, rows = results['radar'], results['head'], results['answers']
    text = PAGE.format(
        detector=results['detector'], machine=results['machine'], frames=results['frames'],
        front=math.degrees(FRONT), span=SPAN, offset=POWER_OFFSET,
        bands=markdown_table(('distance', *next(iter(radar['bands'].values()))), [
            (band, *(f'{value:g}' for value in row.values())) for band, row in radar['bands'].items()]),
        known=radar['own motion known'], agree=100 * radar['share that agrees'],
        low=min(radar['speeds']), high=max(radar['speeds']), moving=radar['objects that move'],
        standing=radar['objects that stand'], ap=head['average precision'], chance=head['chance'],
        moving_reach=MOVING_REACH, movers=results['moving'],
        expected=head['expected'], true=head['true'], reach=REACH, points=NEARBY.min_points, same=SAME,
        found=markdown_table(('sensor', 'objects', 'found', 'right category', 'said', 'true'), [
            (name, *(str(value) for value in row.values())) for name, row in results['found'].items()]),
        count=rows['links, blind']['questions'],
        answers=markdown_table(('answers', 'all', *TYPES, '95 %'), [
            (name, *(f'{row[key]:.1f}' if key in row else '-' for key in ('all', *TYPES)),
             '-'.join(f'{end:.0f}' for end in row['interval'])) for name, row in rows.items()]))
    return write_page(output / 'radar_frames.md', text, results, lambda path: draw(frames, path))


def draw(frames: Sequence[AstyxFrame], path: Path) -> None:
    """Draw a frame with moving objects: its image, and the returns of its radar from above."""
    driving = [(frame, frame.motion) for frame in frames if frame.motion and frame.motion.velocity[0] > MOVES]
    shown, motion = max(driving, key=lambda pair: sum(
        moves(pair[0], place) is True for place in range(len(pair[0].objects))))
    over_ground = folded(shown.speed + shown.rays @ motion.velocity, SPAN)
    moving = np.abs(over_ground) > MOVES
    figure = new_figure(10, 8)
    above, below = figure.subplots(2, 1, height_ratios=(2, 3))
    above.imshow(np.asarray(decode(shown.camera.image, (FULL, FULL), CameraConfig.max_pixels).image))
    above.set_axis_off()
    below.scatter(*shown.radar[~moving, :2].T, s=2, color=FAINT)
    points = below.scatter(*shown.radar[moving, :2].T, s=5, c=over_ground[moving], cmap='coolwarm',
                           vmin=-SPAN / 2, vmax=SPAN / 2)
    for item, (rotation, half) in zip(shown.objects, shown.boxes, strict=True):
        corners = np.array([(1, 1, 0), (1, -1, 0), (-1, -1, 0), (-1, 1, 0), (1, 1, 0)]) * half @ rotation.T
        below.plot(*(corners + item.centre)[:, :2].T, color=INK, lw=1)
    below.set(xlim=(0, 80), ylim=(-20, 20), aspect='equal', xlabel='ahead of the radar, m', ylabel='left, m',
              title=f'frame {shown.name}: the vehicle drives at {motion.velocity[0]:.1f} m/s; grey: stands')
    figure.colorbar(points, ax=below, label=f'speed over ground, modulo {SPAN} m/s')
    save_png(figure, path)


if __name__ == '__main__':
    sys.exit(main())

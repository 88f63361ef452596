"""Measure object detections of cameras, and answers that rest on them, on real key frames.

    python -m bench.real_frames --root ROOT [ROOT ...] [--detector DETECTOR] [--windows N]
                                [--page docs/results/real_frames.md]

What the detector finds of the annotated objects, and how many questions are answered rightly from its tokens:
by a fixed rule, and by the shipped links to object counts on the language model.  Distances come from the
camera alone, or from the clusters of LiDAR points that boxes cover; whether objects move is a guess, or is
seen in the sweeps and images between key frames.  Beside them are the most frequent answer of each text, and
the same tokens turned by 120 degrees.  A page gathers the runs: each adds its rows to the figures there.
"""
from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.real_matching import RANGES, MatchCounts, MotionCounts, match
from bench.real_sweeps import SensorMoment, moment_of, moments_of
from mpnp_ros.detection.boxes import CategoryBoxes
from mpnp_ros.detection.classes import CHANNEL_COUNT
from mpnp_ros.detection.clusters import ClusterTracker, clusters_of
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.detection.lift import Camera
from mpnp_ros.detection.motion import MotionTracker
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import copied_link
from mpnp_ros.methods.link_store import shipped_link
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.comparison import AWAY, nothing_seen
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.evaluation import answers_of, bootstrap, majority_answers
from mpnp_ros.training.key_frames import heading_of, question_dataset, sample_of, turn_tokens
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects

HEADINGS = 6
ENCODER = TrueObjects(NEARBY).fingerprint
"""What the shipped links to object counts read."""
TYPES = ('exist', 'count', 'object', 'status', 'comparison')
BY_CAMERA, BY_LIDAR = 'camera', 'LiDAR in boxes'
BY_HAND = '## mpnp evaluate'
"""Where the part of the page begins that this program does not write."""
WITH_MOTION = {BY_CAMERA: 'camera + motion', BY_LIDAR: 'camera + LiDAR + motion'}
"""The same ways with statuses by motion, over all sweeps."""
View = dict[str, ModalityTokens]
"""Sample token -> the tokens of a key frame."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, nargs='+', required=True, help='nuScenes roots, each apart')
    parser.add_argument('--detector', default=CameraConfig.detector, help='as encoder.detector of the camera')
    parser.add_argument('--width', type=int, default=0, help='as encoder.detector_width')
    parser.add_argument('--name', help='of the detector on the page; default: the last part of --detector')
    parser.add_argument('--class-map', default='coco')
    parser.add_argument('--windows', type=int, default=0)
    parser.add_argument('--min-score', type=float, default=CameraConfig.min_score)
    parser.add_argument('--questions', type=int, default=0, help='for links, of each type; 0: all, -1: none')
    parser.add_argument('--threads', type=int, default=2, help='of the language model')
    parser.add_argument('--page', type=Path, help='Markdown page; its figures are written beside it')
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    encoder = CameraDetectionEncoder(CameraConfig(
        tokens='detections', device='cpu', detector=given.detector, class_map=given.class_map,
        detector_width=given.width, windows=given.windows, min_score=given.min_score))
    answering = None if given.questions < 0 else LinkAnswers()
    name = (f'{given.name or Path(given.detector).name}{f" {given.width} wide" if given.width else ""}, '
            f'{given.windows} windows')
    for root in given.root:
        run = measure(root, encoder, answering, given.questions, given.threads)
        print(text_of(root.name, {name: run}), flush=True)
        if given.page:
            add_to_page(given.page, root.name, name, run)
    return 0


def measure(root: Path, encoder: CameraDetectionEncoder, answering: LinkAnswers | None,
            questions: int, threads: int = 1) -> dict[str, Any]:
    """Return all figures of one root; threads: of the language model."""
    tables = NuScenes(root)
    frames, spent = [], []
    ways = (*WITH_MOTION, *WITH_MOTION.values())
    views: dict[str, View] = {way: {} for way in ways}
    tallies = {way: MatchCounts() for way in ways}
    moved = {way: MotionCounts() for way in WITH_MOTION.values()}
    torch.set_num_threads(1)  # as an encoder node on two cores does
    for scene in tables.scenes:
        motion = DriveMotion()
        for moment in moments_of(tables, scene['name']):
            started = time.process_time()
            seen, cameras = encoder.look_at(moment.images)
            found = {BY_CAMERA: encoder.lift(moment.images, seen, cameras)} if cameras else {}
            spent += [time.process_time() - started] if moment.key_frame else []
            found = motion.follow(moment, encoder, found, seen, cameras)
            if moment.key_frame is None:
                continue
            frames.append(moment.key_frame)
            for way, detections in found.items():
                views[way][moment.key_frame.token] = detection_tokens(detections, OBJECTS, ENCODER,
                                                                      NEARBY.max_distance)
                matches = match(detections, moment.key_frame.objects, cameras)
                tallies[way].add(matches, NEARBY)
                if way in moved:
                    moved[way].add(matches, NEARBY.max_distance)
    torch.set_num_threads(threads)
    dataset = question_dataset(frames, [TrueObjects(NEARBY)], HEADINGS, per_kind=2000, scope=NEARBY)
    return {
        'frames': len(frames), 'streets': len(tables.scenes), 'questions': len(dataset.examples),
        'cpu_seconds': float(np.median(spent)), 'encoder': encoder.fingerprint,
        'found': {way: {'rows': tally.rows(), **tally.errors()} for way, tally in tallies.items()
                  if way in WITH_MOTION and views[way]},
        'motion': {way: counts.figures() for way, counts in moved.items() if counts.rows},
        'right': answers(dataset, {way: view for way, view in views.items() if view}, answering, questions)}


class DriveMotion:
    """What is seen of motion up to a moment of a drive."""

    def __init__(self) -> None:
        self._clusters = ClusterTracker()
        self._boxes = {way: MotionTracker() for way in WITH_MOTION}

    def follow(self, moment: SensorMoment, encoder: CameraDetectionEncoder, found: Mapping[str, Detections],
               seen: tuple[CategoryBoxes, ...], cameras: tuple[Camera, ...]) -> dict[str, Detections]:
        """Return what is found in a moment, with distances by LiDAR, and with motion, by the way."""
        made = dict(found)
        if moment.cloud is not None:
            clusters = self._clusters.follow(clusters_of(moment.cloud), moment.stamp_ns, moment.ego)
            if cameras:
                made[BY_LIDAR] = encoder.lift(moment.images, seen, cameras, clusters, NEARBY.min_points)
        for way in list(made):
            made[WITH_MOTION[way]] = self._boxes[way].follow(made[way], moment.ego)
        return made


def with_lidar(frame: KeyFrame, encoder: CameraDetectionEncoder, seen: tuple[CategoryBoxes, ...],
               min_points: int = NEARBY.min_points) -> Detections:
    """Return the objects of a key frame with distances from its sweep, of boxes with so many points.

    Cameras are moved by the way of the vehicle between their stamps and that of the sweep.
    """
    moment = moment_of(frame)
    assert moment.cloud is not None  # the caller has checked
    cameras = tuple(encoder.camera(view) for view in moment.images.views)
    return encoder.lift(moment.images, seen, cameras, clusters_of(moment.cloud), min_points)


def answers(dataset: TokenDataset, views: dict[str, View], answering: LinkAnswers | None,
            questions: int) -> dict[str, dict[str, Any]]:
    """Return the accuracy of each way to answer."""
    examples = dataset.examples
    made = {'majority of each text': scores(examples, majority_answers(examples, examples))}
    asked = dataset.evened(questions).examples if questions > 0 else examples
    blind = nothing_seen(next(iter(views[BY_CAMERA].values())))
    if answering:
        made['links, blind'] = scores(asked, answering(asked, lambda example: blind))
    for way, view in views.items():
        for turned in (False, True):
            name = f'{way}, turned away' if turned else way

            def see(example: Example, view: View = view, turn: float = AWAY * turned) -> ModalityTokens:
                heading = heading_of(example.frame) * math.tau / HEADINGS
                return turn_tokens(view[sample_of(example.frame)], heading + turn)

            made[f'rule, {name}'] = scores(
                examples, [rule_answer(example.question, see(example), CHANNELS) for example in examples])
            if answering:
                made[f'links, {name}'] = scores(asked, answering(asked, see))
    return made


class LinkAnswers:
    """Answers by the shipped links to a modality, by default to object counts.

    encoder: of its tokens; where no links were trained with it they are a copy of those to object counts.
    """

    def __init__(self, modality: str = OBJECTS, encoder: str = ENCODER) -> None:
        lm = load_language_model('smollm2-135m-instruct')
        self._modality, self._method = modality, create_method('mpnp', lm)
        stored = shipped_link(modality, encoder, CHANNEL_COUNT, OBJECTS)
        assert stored is not None  # links to object counts are shipped
        self._method.plug(copied_link(stored.path, modality, encoder))
        self._book = PreparedQuestions(self._method, QuestionFiles())

    def __call__(self, examples: Sequence[Example], see: Callable[[Example], ModalityTokens],
                 ) -> list[str | None]:
        """Return the answer to every question from the tokens that ``see`` gives."""
        return answers_of(self._method, examples, self._book, lambda example: {self._modality: see(example)})


def scores(examples: Sequence[Example], given: Sequence[str | None]) -> dict[str, Any]:
    """Return percent right of all and by type, and an interval: 95 % bootstrap over key frames."""
    right = [answer == example.answer for example, answer in zip(examples, given, strict=True)]
    of_type = defaultdict(list)
    for example, good in zip(examples, right, strict=True):
        of_type[example.type].append(good)
    interval = bootstrap((sample_of(example.frame), good)
                         for example, good in zip(examples, right, strict=True))
    return {'questions': len(examples), 'all': 100 * float(np.mean(right)),
            **{name: 100 * float(np.mean(of_type[name])) for name in TYPES if of_type[name]},
            'interval': [100 * end for end in interval]}


def add_to_page(page: Path, root: str, name: str, run: dict[str, Any]) -> None:
    """Add a run to the figures beside a page, and write the page anew; its part of BY_HAND stays."""
    figures = page.with_suffix('.json')
    gathered = json.loads(figures.read_text()) if figures.is_file() else {}
    gathered.setdefault(root, {})[name] = run
    figures.write_text(json.dumps(gathered, indent=1) + '\n', encoding='utf-8')
    parts = [HEAD, *(text_of(each, runs) for each, runs in gathered.items())]
    _, mark, by_hand = (page.read_text('utf-8') if page.is_file() else '').partition(BY_HAND)
    page.write_text('\n'.join([*parts, mark + by_hand] if mark else parts), encoding='utf-8')


HEAD = """# Real frames: what cameras detect, and the answers from it

Output of `python -m bench.real_frames --root ROOT ... --page docs/results/real_frames.md`, one run for each
detector, on 2 cores without a GPU.  Processor time is that of decoding, detecting and placing in the median
frame of six images, with one thread; other programs ran on the machine, and a quiet one takes less.  Nothing
was trained or tuned on these frames.

The key frames of one street are near copies of each other, and each is asked about in six headings: read
differences, not levels.  Intervals are over key frames and too narrow for that reason.

Questions are those of the generator: objects within 30 m with 5 points or more. Turned away: the same
tokens turned by 120 degrees. Blind: links without anything seen. Camera: distances from the ground and the
height of boxes. LiDAR in boxes: distances from the clusters of LiDAR points that boxes cover; boxes that
cover fewer than 5 points are left out. How often objects move is a guess that was made beforehand; so is the
table that makes probabilities of scores. With motion: it is seen in the sweeps and images up to a key frame
whether an object moves. How much badly measured distances may say of that was chosen among several values on
pandaset_002 itself, after a first run with distances by camera (NanoDet-Plus-m: 74.0 % right). So the rows
with motion are not a test of that choice.

CenterNet without windows and NanoDet-Plus-m have the links of 1 December 2026, for which half of the painted
streets were emptied; that was decided with these answers in view (docs/lab/experiments.md, section 7). Runs
without motion were measured with earlier links, and before there were clusters: their distances by LiDAR are
medians of the points in boxes.
Where links answered fewer questions than the rule, these are a draw that is even over types.

What was known of pandaset_002 before: the share of true boxes above two scores when that table was written;
and one key frame, in which parts of one car in neighbouring images were seen to count twice. Before that
was mended, rule and links had 51.4 and 53.6 % there with CenterNet and distances by camera.

That images are 1024 pixels wide for NanoDet-g was set before it was run. On pandaset_002 its links answered
from the camera alone, on the nuScenes key frame 376 of the questions. CenterNet has become a quarter faster
since its time was measured here; docs/guide/detectors.md has times that can be compared.
"""


def text_of(root: str, runs: dict[str, dict[str, Any]]) -> str:
    """Return the Markdown of all runs on one root."""
    first = next(iter(runs.values()))
    lines = [f'## {root}: {first["frames"]} key frame{"s" * (first["frames"] != 1)} of {first["streets"]} '
             f'street{"s" * (first["streets"] != 1)}, {first["questions"]} questions', '']
    lines += ['| answers | ' + ' | '.join(('questions', 'all', *TYPES, '95 %')) + ' |',
              '|---|' + '---|' * (len(TYPES) + 3)]
    for detector, run in runs.items():
        lines.append(f'| **{detector}**, {run["cpu_seconds"]:.2f} s of processor time a frame |'
                     + ' |' * (len(TYPES) + 3))
        for name, row in run['right'].items():
            cells = ' | '.join(f'{row[key]:.1f}' if key in row else '-' for key in ('all', *TYPES))
            lines.append(f'| {name} | {row["questions"]} | {cells} | {row["interval"][0]:.0f}-'
                         f'{row["interval"][1]:.0f} |')
    spans = [f'{low}-{high} m' for low, high in RANGES]
    for detector, run in runs.items():
        for way, found in run['found'].items():
            if 'objects' not in found:
                continue
            lines += ['', f'Found by {detector}, {way}: found of those in an image (of the right category), '
                          f'and true ones of what is said to be within {NEARBY.max_distance:g} m (expected '
                          'by the probabilities).', '',
                      '| category | ' + ' | '.join(spans) + ' | true of said |', '|---|' + '---|' * 4]
            lines += [f'| {row["category"]} | ' + ' | '.join(row[span] for span in spans)
                      + f' | {row["true of said"]} |' for row in found['rows']]
            lines += ['', f'Distance of {found["objects"]} objects within {NEARBY.max_distance:g} m, '
                          f'logarithm of the ratio: median {found["distance_median"]:.3f}, '
                          f'90 % {found["distance_90"]:.3f}, bias '
                          f'{found["distance_bias"]:+.3f}.  Direction: median '
                          f'{found["direction_median"]:.1f}, 90 % {found["direction_90"]:.1f} degrees.']
    moved = [(detector, way, row) for detector, run in runs.items()
             for way, row in run.get('motion', {}).items()]
    if moved:
        lines += ['', 'Moving or not, of objects found within 30 m that have a status:', '',
                  '| detector | way | objects | right | by the guess | Brier score | of the guess |',
                  '|---|---|---|---|---|---|---|']
        lines += [f'| {detector} | {way} | {row["objects"]} | {row["right"]:.1f} % | {row["prior"]:.1f} % | '
                  f'{row["brier"]:.3f} | {row["prior_brier"]:.3f} |' for detector, way, row in moved]
    return '\n'.join([*lines, ''])


if __name__ == '__main__':
    raise SystemExit(main())

"""Measure which errors of an encoder cost answers: the error budget of docs/results/error_budget.md.

    python -m bench.error_budget --study STUDY [--page docs/results/error_budget.md]
    python -m bench.error_budget --root ROOT [ROOT ...] [--detector DETECTOR] [--name NAME] [--page ...]

One kind of error is repaired by truth at a time, and all kinds but one.  With --study the encoders are those
of the simulated world, on the held-out scenes in the work folder of bench.study, which are made if they are
missing; with --root a detector on real key frames.  A page gathers the views.
"""
from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from bench.common.program import add_recipe, exit_code, program_parser
from bench.error_budget.measure import EncoderView, measure
from bench.error_budget.real import real_views
from bench.error_budget.report import add_to_page, in_words
from bench.real_frames import LinkAnswers
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.training.dataset import TokenDataset


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the page; returns the exit code."""
    parser = program_parser('error_budget', __doc__)
    parser.add_argument('--study', type=Path, metavar='FOLDER', help='work folder of bench.study')
    add_recipe(parser)
    parser.add_argument('--root', type=Path, nargs='+', default=[], help='nuScenes roots, each apart')
    parser.add_argument('--detector', default='centernet', help='as encoder.detector of the camera encoder')
    parser.add_argument('--name', help='of the detector on the page; default: the last part of --detector')
    parser.add_argument('--class-map', default='coco')
    parser.add_argument('--questions', type=int, default=100,
                        help='for links, of each type; -1: links answer none (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--page', type=Path, help='Markdown page; its figures are written beside it')
    given = parser.parse_args(arguments)
    if not given.study and not given.root:
        parser.error('give --study, --root or both')
    torch.set_num_threads(given.threads)
    return exit_code('error_budget', lambda: run(given))


def run(given: Namespace) -> None:
    """Measure each view."""
    answering: dict[str, LinkAnswers] = {}
    for view in views(given):
        few = TokenDataset({}, ()) if given.questions < 0 else TokenDataset(
            {example.frame: {} for example in view.examples}, view.examples).evened(given.questions)
        if few.examples and view.modality not in answering:
            encoder = next(iter(view.tokens(()).values())).encoder
            answering = {view.modality: LinkAnswers(view.modality, encoder)}  # one: each has a language model
        figures = measure(view, few.examples, answering.get(view.modality) if few.examples else None,
                          lambda line: print(line, flush=True))
        print(f'{view.name}: {in_words(figures)}', flush=True)
        if given.page:
            add_to_page(given.page, view.name, figures)


def views(given: Namespace) -> Iterator[EncoderView]:
    """Yield the views that the options ask for."""
    if given.study:
        from bench.error_budget.world import world_views  # needs the world; real frames do not
        from bench.study.study import RECIPE, Study, StudyConfig

        study = Study(StudyConfig.load(given.recipe or RECIPE), given.study, {
            name: create_encoder(name) for name in ('camera', 'lidar')})
        yield from world_views(study)
    if given.root:
        encoder = CameraDetectionEncoder(CameraConfig(
            tokens='detections', device='cpu', detector=given.detector, class_map=given.class_map))
        for root in given.root:
            yield from real_views(root, encoder, given.name or Path(given.detector).name)


if __name__ == '__main__':
    sys.exit(main())

"""Train a head on the boxes of nuScenes roots: object counts by direction, or single objects.

Features are computed once and cached. Scenes are held out by seed: day and night twins of the simulated world
stay on one side. Ctrl-C or SIGTERM stops; the same command resumes from its checkpoint, written after every
epoch and at the end. To use the head, set `encoder.head` to its folder, and `encoder.tokens: objects` for the
camera or `encoder.backbone: polar` for the LiDAR.

With `--form detections` the head finds single objects and what moves, by an earlier sweep or earlier images.
Roots need sweeps between key frames, as of `mpnp world generate --sweeps lidar camera --sweep-rate 2`, or key
frames half a second apart.

    mpnp pretrain --root world --modality lidar --output heads/lidar
    mpnp pretrain --root random --modality lidar --form detections --output heads/lidar-objects

`--start HEAD` trains a head that finds objects further, such as a shipped one on boxes of your own.
"""
from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.cli.signals import (
    CANCELLED,
    checkpoint_folder,
    end_encoding,
    forget_checkpoint,
    interruptible,
)
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.head_training import HeadTraining, PretrainingConfig
from mpnp_ros.modalities.registry import find_sensor, sensors
from mpnp_ros.progress import progress

if TYPE_CHECKING:
    from mpnp_ros.modalities.head_training import HeadInput
    from mpnp_ros.questions.key_frame import KeyFrame
    from mpnp_ros.training.detection_data import DetectionDataset
    from mpnp_ros.training.head_data import SectorDataset
    from mpnp_ros.training.head_run import PretrainingReport

LICENCE = 'Apache-2.0 (trained on the embedded driving world)'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--root', type=Path, nargs='+', required=True, help='nuScenes roots')
    parser.add_argument('--modality', required=True,
                        choices=[name for name, sensor in sensors().items() if sensor.heads],
                        help='sensor of the head')
    parser.add_argument('--form', choices=('sectors', 'detections'), default='sectors',
                        help='sectors: counts by direction; detections: single objects, of camera '
                             'and LiDAR (default: %(default)s)')
    parser.add_argument('--output', type=Path, required=True, metavar='FOLDER', help='folder of the head')
    parser.add_argument('--start', metavar='HEAD',
                        help='shipped head, or folder of a head, that training begins with; of the form '
                             'detections (default: none)')
    parser.add_argument('--scenes', nargs='+', metavar='SCENE',
                        help='names or tokens of scenes (default: all)')
    parser.add_argument('--config', type=Path, metavar='YAML',
                        help='options by sensor, such as `lidar: {epochs: 8}` (default: those of the sensor)')
    PretrainingConfig.add_arguments(parser, ['epochs', 'seed', 'dtype'])
    parser.add_argument('--checkpoint', type=Path, metavar='FOLDER',
                        help='folder from which a stopped run resumes (default: a hidden folder beside '
                             '--output, removed at the end)')
    parser.add_argument('--features-only', action='store_true',
                        help='only fill the cache; several processes can share the work by --scenes')
    parser.add_argument('--licence', default=LICENCE, help='licence of the head (default: %(default)s)')
    parser.add_argument('--device', default='auto',
                        help='device of the backbone: auto, cpu or cuda (default: %(default)s)')
    parser.add_argument('--quiet', action='store_true', help='print no progress')


def run(arguments: Namespace) -> int:
    """Read, train, measure, save; exit code 0, or 130 where Ctrl-C stopped the training."""
    from mpnp_ros.modalities.heads import save_head
    from mpnp_ros.training.detection_trainer import pretrain_detections
    from mpnp_ros.training.head_run import new_head
    from mpnp_ros.training.head_trainer import pretrain

    config = recipe(arguments)
    source = head_training(arguments.modality, arguments.form).inputs(arguments.device)
    checkpoint = arguments.checkpoint or checkpoint_folder(
        arguments.output, config, arguments.modality, arguments.form, arguments.root, arguments.scenes,
        arguments.start)
    head = new_head(source, config, arguments.form, arguments.start)
    with interruptible() as cancelled:
        dataset = read(arguments, source, config, cancelled)
        if arguments.features_only:
            return 0
        train, validation = dataset.split(config.validation, config.seed)
        trained: Callable[..., PretrainingReport] = \
            pretrain if arguments.form == 'sectors' else pretrain_detections
        print(f'{len(train)} training frames, {len(validation)} validation frames, which select the best '
              f'epoch ({scenes_text(validation)})')
        with progress('training', quiet=arguments.quiet) as show:
            report = trained(head, train, validation, config, lambda step: show(
                step.step, step.steps, f'loss {step.loss:.3f}, validation {step.validation or 0:.3f}'),
                cancelled, checkpoint)
    print(describe(report))
    if report.stopped == 'cancelled':
        print(f'stopped after step {report.steps}; the same command resumes from {checkpoint}',
              file=sys.stderr)
        return CANCELLED
    manifest = save_head(arguments.output, head, licence=arguments.licence, accuracy=report.scores.to_dict(),
                         known=report.known, calibration=report.calibration,
                         provenance=provenance(arguments, config, train))
    if arguments.checkpoint is None:
        forget_checkpoint(checkpoint)
    print(f'{arguments.output}: {manifest.kind} head {manifest.sha256[:12]}')
    return 0


def recipe(arguments: Namespace) -> PretrainingConfig:
    """Return the options of the sensor, or its section of the YAML file, and the command line over them."""
    config = PretrainingConfig.load(arguments.config, arguments.modality) if arguments.config else \
        head_training(arguments.modality, arguments.form).options
    return config.changed(**PretrainingConfig.given(arguments))


def head_training(modality: str, form: str) -> HeadTraining:
    """Return how heads of a sensor are trained; raises ConfigurationError where it has none of a form."""
    heads = find_sensor(modality).heads
    if form not in heads:
        raise ConfigurationError(f'the {modality} has no heads of the form {form}; there are '
                                 f'{", ".join(heads) or "none"}')
    return heads[form]


def read(arguments: Namespace, source: HeadInput, config: PretrainingConfig,
         cancelled: Callable[[], bool]) -> SectorDataset | DetectionDataset:
    """Return all key frames of the scenes, with cached or new inputs."""
    from mpnp_ros.training.detection_data import detection_dataset
    from mpnp_ros.training.head_data import sector_dataset

    frames = list(chain.from_iterable(key_frames(root, arguments.scenes) for root in arguments.root))
    with progress('reading', 'key frame', arguments.quiet) as show:
        def made(done: int) -> None:
            show(done, len(frames))
            end_encoding(cancelled, done, len(frames))

        if arguments.form == 'detections':
            return detection_dataset(frames, source, config, progress=made)
        return sector_dataset(frames, source, config.scope, progress=made)


def key_frames(root: Path, scenes: list[str] | None) -> Iterator[KeyFrame]:
    """Yield the key frames of some scenes of a root, or of all."""
    from mpnp_ros.nuscenes.tables import NuScenes

    tables = NuScenes(root)
    for scene in scenes or [record['token'] for record in tables.scenes]:
        yield from tables.key_frames(scene)


def describe(report: PretrainingReport) -> str:
    """Return cost and scores of the training in a few lines."""
    untold = [f'\n  {": ".join(filter(None, channel))}: {score}'
              for channel, score in report.scores.channels.items() if channel not in report.known]
    return (f'{report.steps} steps in {report.seconds:.0f} s, ended by {report.stopped}, '
            f'loss {report.losses[-1] if report.losses else 0:.3f}\n{report.scores.table()}'
            + (f'\nchannels marked as unknown in tokens, because the scores do not support them:'
               f'{"".join(untold)}' if untold else ''))


def provenance(arguments: Namespace, config: PretrainingConfig,
               train: SectorDataset | DetectionDataset) -> str:
    """Return the provenance for the manifest in one line."""
    from mpnp_ros.modalities.heads import find_head, read_manifest

    roots = ', '.join(root.resolve().name for root in arguments.root)
    after = ''
    if arguments.start:
        first = find_head(arguments.start)
        after = f'; it began with {first.name} ({read_manifest(first).sha256[:12]})'
    return (f'mpnp pretrain on {roots}: {arguments.modality}, {len(train)} frames, at most {config.epochs} '
            f'epochs, seed {config.seed}{after}')


def scenes_text(dataset: SectorDataset | DetectionDataset) -> str:
    """Return the first scenes of a data set as text."""
    names = sorted(set(dataset.scenes))
    return ', '.join(names[:6]) + (f' and {len(names) - 6} more' if len(names) > 6 else '')

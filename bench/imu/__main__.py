"""Train the head of the IMU, and measure it on drives that it was not trained on.

    pip install --no-deps pntos-cobra-datasets-ros==0.1.0
    python -m bench.imu train --drive DB3 --output heads/imu-drive
    python -m bench.imu measure --drive DB3 --robot husky_test1.bag --imu /imu/data
        --odometry /husky_velocity_controller/odom --mount -1.5708 0 1.5708

DB3 is the file cobra_gps_ins_example_data_0.db3 of that package: 43 minutes of a car, 100 readings a
second, with an inertial navigation system as the reference.  It is split by time: windows of 300 seconds
take turns for training (TRAINING), choices (VALIDATION) and tests (TEST).  Drives of the simulated world are
by seed.

--robot: a ROS 1 or ROS 2 bag with sensor_msgs/Imu and nav_msgs/Odometry, which is the reference.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.common.page import RESULTS, markdown_table
from bench.common.program import exit_code, program_parser
from bench.imu.drives import ImuDrive, cobra_drive, robot_drive, world_drive
from bench.imu.measuring import NAMES, GroupResult, bump_precision, live_windows, measured
from bench.imu.training import TrainingPlan, trained, training_windows
from bench.imu.windows import Window, plain_window, random_part, varied_window
from mpnp_ros.modalities.heads import Head, HeadManifest, load_head, save_head
from mpnp_ros.modalities.imu.channels import CHANNELS
from mpnp_ros.modalities.imu.network import MotionNetwork
from mpnp_ros.progress import progress

PART = 300.0
TRAINING, VALIDATION, TEST = (0, 3, 4, 6, 7), (1,), (2, 5, 8)
"""Which parts of PART seconds of the drive are for what."""
TRAINING_SEEDS, TEST_SEEDS = range(100, 124), range(300, 312)
"""Seeds of drives of the world."""
LICENCE = 'Apache-2.0 (trained on pntos-cobra-datasets-ros 0.1.0, Apache-2.0, and the embedded driving world)'
HELD_OUT = 200
"""Varied windows of the parts for choices."""

Results = dict[str, dict[str, GroupResult]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = program_parser('imu', __doc__ or '')
    commands = parser.add_subparsers(dest='command', required=True)
    train_parser = commands.add_parser('train', help='train a head')
    train_parser.add_argument('--output', type=Path, required=True, metavar='FOLDER',
                              help='folder of the head')
    for name, text in (('windows', 'varied windows'), ('steps', 'steps of the optimizer'),
                       ('seed', 'random seed')):
        train_parser.add_argument(f'--{name}', type=int, default=getattr(TrainingPlan, name),
                                  help=f'{text} (default: %(default)s)')
    train_parser.add_argument('--workers', type=int, default=2, help='processes (default: %(default)s)')
    measure_parser = commands.add_parser('measure', help='measure a head and write docs/results/imu.md')
    measure_parser.add_argument('--head', default='imu-drive', help='head (default: %(default)s)')
    measure_parser.add_argument('--robot', type=Path, action='append', default=[], metavar='BAG')
    measure_parser.add_argument('--imu', default='/imu/data', metavar='TOPIC',
                                help='(default: %(default)s)')
    measure_parser.add_argument('--odometry', default='/odom', metavar='TOPIC', help='(default: %(default)s)')
    measure_parser.add_argument('--mount', type=float, nargs=3, metavar=('YAW', 'PITCH', 'ROLL'),
                                help='of the IMU of the robots; measures with it and without it')
    measure_parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER')
    for each in (train_parser, measure_parser):
        each.add_argument('--drive', type=Path, metavar='DB3', required=each is train_parser)
    options = parser.parse_args(arguments)
    return exit_code('imu', lambda: train(options) if options.command == 'train' else measure(options))


def parts_of(drive: ImuDrive, numbers: Sequence[int]) -> list[tuple[float, float]]:
    """Return start and end of some parts of a drive; neighbouring parts are joined."""
    end = float(drive.times[-1])
    spans: list[tuple[float, float]] = []
    for number in numbers:
        start = number * PART
        if start < end:
            begin = spans.pop()[0] if spans and spans[-1][1] == start else start
            spans.append((begin, min(end, start + PART)))
    return spans


def train(options: argparse.Namespace) -> int:
    """Train a head and write its folder."""
    plan = TrainingPlan(windows=options.windows, steps=options.steps, seed=options.seed)
    drive = cobra_drive(options.drive)
    with progress('driving', 'drive') as show:
        worlds = []
        for place, seed in enumerate(TRAINING_SEEDS, 1):
            worlds.append(world_drive(seed))
            show(place, len(TRAINING_SEEDS))
    with progress('varying', 'window') as show:
        windows = training_windows(drive, parts_of(drive, TRAINING), worlds, plan, options.workers, show)
    random = np.random.default_rng(plan.seed + 1)
    span = parts_of(drive, VALIDATION)
    held = [window for _ in range(HELD_OUT)
            if len((window := varied_window(drive, *random_part(span, random), random)).truth) > 1]
    network = trained(windows, held, plan)
    found = measured(network, list(live_windows(drive, span)))
    accuracy = {f'{name}, parts for choices': result.accuracy / 100 for name, result in found.items()}
    shape = {'hidden': plan.hidden}
    manifest = HeadManifest('imu', CHANNELS, 1.0, 0, '', {}, shape, form='motion')
    provenance = (f'python -m bench.imu train on {drive.name}, parts {TRAINING}, and world seeds '
                  f'{TRAINING_SEEDS.start} to {TRAINING_SEEDS.stop - 1}: {len(windows)} windows, '
                  f'{plan.steps} steps, seed {plan.seed}')
    saved = save_head(options.output, Head(manifest, network), licence=LICENCE, accuracy=accuracy,
                      provenance=provenance)
    print(f'{options.output}: imu head {saved.sha256[:12]}')
    for name, result in found.items():
        print(f'{name}: {result.accuracy:.1f} % (majority {result.majority:.1f} %)')
    return 0


def measure(options: argparse.Namespace) -> int:
    """Measure a head, print and write the page."""
    network = load_head(options.head, 'imu').network
    assert isinstance(network, MotionNetwork)
    torch.set_num_threads(1)
    results: Results = {}
    bumps: dict[str, tuple[float, float]] = {}
    for name, windows, has_bumps in cases(options):
        results[name] = measured(network, windows)
        if has_bumps:
            bumps[name] = bump_precision(network, windows)
        for group, result in results[name].items():
            print(f'{name}, {group}: {result.accuracy:.1f} % (majority {result.majority:.1f} %, balanced '
                  f'{result.balanced:.1f} %, ECE {result.calibration_error:.1f})')
    write(options.output / 'imu.md', results, bumps)
    return 0


def cases(options: argparse.Namespace) -> Iterator[tuple[str, list[Window], bool]]:
    """Yield the cases to measure: name, windows, and whether bumps are known."""
    if options.drive is not None:
        drive = cobra_drive(options.drive)
        parts = parts_of(drive, TEST)
        yield 'car', list(live_windows(drive, parts)), False
        yield 'car, 25 Hz', list(live_windows(slower(drive, 4), parts)), False
        random = np.random.default_rng(7)
        yield 'car, varied', [window for _ in range(500) if len(
            (window := varied_window(drive, *random_part(parts, random), random)).truth) > 1], True
    random = np.random.default_rng(8)
    worlds = [world_drive(seed) for seed in TEST_SEEDS]
    yield 'world', [plain_window(drive, 0.0, now) for drive in worlds for now in np.arange(4, 60, 2.0)], True
    yield 'world, scenes of 20 s', [plain_window(drive, now, now + random.uniform(4, 20)) for drive in worlds
                                    for now in np.arange(0, 40, 2.0)], True
    for bag in options.robot:
        drive = robot_drive(bag, options.imu, options.odometry, options.mount)
        whole = [(float(drive.times[0]), float(drive.times[-1]))]
        yield bag.stem, list(live_windows(drive, whole, 1.0)), False
        yield f'{bag.stem}, without orientation', list(
            live_windows(replace(drive, orientation=None), whole, 1.0)), False
        if drive.mount is not None:
            yield f'{bag.stem}, mounting known', list(live_windows(drive, whole, 1.0, True)), False


def slower(drive: ImuDrive, step: int) -> ImuDrive:
    """Return a drive with every n-th reading, as a slower IMU without a filter would give."""
    return replace(drive, times=drive.times[::step], rotation=drive.rotation[::step],
                   acceleration=drive.acceleration[::step])


def write(page: Path, results: Results, bumps: dict[str, tuple[float, float]]) -> None:
    """Write the page and its numbers as JSON."""
    import json

    rows = [[name, *(text for group in NAMES for text in cells(found.get(group)))]
            for name, found in results.items()]
    heads = ['drive', *(f'{group} {what}' for group in NAMES for what in ('right', 'majority', 'ECE'))]
    parts = [HEADER, markdown_table(heads, rows, numbers=True), '', '## Bumps', '', markdown_table(
        ['drive', 'average precision', 'share of seconds with a bump'],
        [[name, f'{precision:.1f}', f'{share:.1f}'] for name, (precision, share) in bumps.items()],
        numbers=True)]
    parts += ['', '## Confusion', '', 'Rows: what was true; columns: what was most probable; seconds.', '']
    for name, found in results.items():
        for group, result in found.items():
            counts = result.confusion.tolist()
            table = [[title, *row] for title, row in zip(NAMES[group], counts, strict=True)]
            parts += [f'{name}, {group}:', '', markdown_table(['', *NAMES[group]], table, numbers=True), '']
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text('\n'.join(parts).rstrip('\n') + '\n', encoding='utf-8')
    page.with_suffix('.json').write_text(json.dumps({
        'groups': {name: {group: result.to_dict() for group, result in found.items()}
                   for name, found in results.items()},
        'bumps': {name: {'average_precision': precision, 'share': share}
                  for name, (precision, share) in bumps.items()}}, indent=1) + '\n', encoding='utf-8')


def cells(result: GroupResult | None) -> tuple[str, str, str]:
    """Return accuracy, majority and calibration error as text."""
    if result is None:
        return '-', '-', '-'
    return f'{result.accuracy:.1f}', f'{result.majority:.1f}', f'{result.calibration_error:.1f}'


HEADER = """# Own motion from an IMU

<!-- written by python -m bench.imu measure -->

Percentages of seconds whose most probable class is the true one, beside the share of the most frequent class,
and the expected calibration error in points (ten bins). The classes and their borders are in
[robot.md](../guide/robot.md#own-motion-from-an-imu). A window ends every two seconds of a drive, every second
of a robot's, and holds the readings of up to 120 seconds before; its last second is judged.

    pip install --no-deps pntos-cobra-datasets-ros==0.1.0
    python -m bench.imu train --drive DB3 --output heads/imu-drive
    python -m bench.imu measure --drive DB3 --robot husky_test1.bag --imu /imu/data \\
        --odometry /husky_velocity_controller/odom --mount -1.5708 0 1.5708

- **car**: parts of the drive that were not trained on (minutes 10 to 15, 25 to 30, 40 to 43). The reference
  is an inertial navigation system. Below 2 m/s the turn is not judged unless the car stands.
- **car, 25 Hz**: every fourth reading.
- **car, varied**: the same parts as other IMUs, mountings and robots of 0.04 to 1.6 times the size would give
  them.
- **world**: drives of held-out seeds, from their beginning, and in pieces that begin while driving.
- **husky_test1**: a Husky whose IMU is mounted turned, at 30 Hz (robot_localization, test1.bag). The
  reference is its wheel odometry, which slips in turns. Nothing was trained or chosen on it. The mounting is
  found from the readings unless the name says that it is known.

The pace is judged where the encoder says that it is known.
"""


if __name__ == '__main__':
    sys.exit(main())

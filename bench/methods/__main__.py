"""Compare all methods of connecting a sensor to the language model on the embedded driving world.

    python -m bench.methods --study study --work methods --output docs/results
    python -m bench.methods --work methods_easy --config bench/methods/methods_easy.yaml

The sensor is true objects, or a LiDAR at night as in the paper's runtime switch (--config
bench/methods/methods_lidar.yaml). Links are untrained at first. All methods train on the same tokens and
questions within a budget of multiply-accumulates, all costs counted, and answer the same questions about
held-out scenes. The questions are those of a study, or of a task that the configuration describes. Every
training runs in its own process. Finished trainings stay in the work folder, and the same command resumes
there. The program writes a page, figures and a picture.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common.jobs import Job, Workers
from bench.common.page import console
from bench.common.program import FAILED, add_recipe, add_work_options, exit_code, program_parser
from bench.methods.data import BenchData, identity, prepare_data
from bench.methods.page import results_table, write_report
from bench.methods.plan import BLIND, MethodsConfig, Run
from bench.methods.report import MethodsReport
from bench.study.study import RECIPE, Study, StudyConfig
from mpnp_ros.cli.signals import CANCELLED, interruptible
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.training.recipe import counting_options
from mpnp_ros.training.true_objects import OBJECTS

TRAINING, ANSWERING = 'bench.methods.train', 'bench.methods.answering'
CONFIG = Path(__file__).with_name('methods_objects.yaml')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run missing trainings, write the page and print the table; exit code 1 if a method failed."""
    parser = program_parser('methods', __doc__)
    parser.add_argument('--study', type=Path, metavar='FOLDER',
                        help='work folder of bench.study; not for a configuration with a task')
    add_work_options(parser, 'trainings', 'page, figures and picture', study=False)
    add_recipe(parser)
    parser.add_argument('--config', type=Path, metavar='YAML',
                        help='benchmark configuration (default: bench/methods/methods_objects.yaml)')
    parser.add_argument('--methods', nargs='+', metavar='NAME',
                        help='methods to run (default: all of the configuration)')
    parser.add_argument('--workers', type=int, default=2, help='parallel trainings, each with one thread')
    options = parser.parse_args(arguments)
    with interruptible() as stopped:
        return exit_code('methods', lambda: run(options, stopped))


def run(options: argparse.Namespace, stopped: Callable[[], bool]) -> int:
    """Run the missing trainings and timings, then report; stops between two polls of the jobs."""
    config = MethodsConfig.load(options.config or CONFIG)
    study = None if config.task.types else study_of(config, options)
    data = prepare_data(study, config, options.work / 'data')
    runs = list(config.runs(options.methods or tuple(config.methods), options.seeds or config.seeds,
                            identity(study, config)))
    workers = Workers(options.workers, stopped)
    done = train(workers, runs, options.work, data)
    seeing = {row: jobs for row, jobs in done.items() if row != BLIND}
    answering = time_answers(workers, seeing, options.work, data)
    if stopped():
        print('stopped; run the same command to resume')
        return CANCELLED
    if not seeing:
        raise ConfigurationError('no method was trained; see the reasons above')
    report = MethodsReport.of([json.loads(job.result.read_bytes()) for jobs in done.values() for job in jobs],
                              BenchData.load(data), config, answering, workers.failed)
    console(160).print(results_table(report))
    print(write_report(report, config, options.output))
    return FAILED if workers.failed else 0


def study_of(config: MethodsConfig, options: argparse.Namespace) -> Study:
    """The study with the encoder of the modality; true objects need no encoder.

    Raises ConfigurationError if no study is given.
    """
    if options.study is None:
        raise ConfigurationError(f'{config.name} takes its questions from a study; give --study, the work '
                                 'folder of bench.study')
    encoders = {} if config.modality == OBJECTS else {
        config.modality: create_encoder(config.modality, counting_options()[config.modality])}
    return Study(StudyConfig.load(options.recipe or RECIPE), options.study, encoders)


def train(workers: Workers, runs: Sequence[Run], work: Path, data: Path) -> dict[str, list[Job]]:
    """The finished jobs of each row, one per seed."""
    jobs = {}
    for run in runs:
        folder = work / 'runs' / run.name
        run.save(folder)
        jobs[run.row, run.seed] = Job(f'{run.row}, seed {run.seed}', folder,
                                      (TRAINING, str(folder), str(data)))
    workers.work(jobs.values())
    done: dict[str, list[Job]] = {}
    for (row, _), job in jobs.items():
        if job.result.is_file():
            done.setdefault(row, []).append(job)
    return done


def time_answers(workers: Workers, done: Mapping[str, Sequence[Job]], work: Path,
                 data: Path) -> dict[str, Any]:
    """Answer times of the first seed of every method; empty if they could not be measured."""
    if not done or workers.stopped():
        return {}
    folders = sorted(str(jobs[0].folder) for jobs in done.values())
    folder = work / f'answering-{hashlib.sha256(" ".join(folders).encode()).hexdigest()[:8]}'
    job = Job('answering', folder, (ANSWERING, str(folder), str(data), *folders))
    workers.work([job])
    return json.loads(job.result.read_bytes()) if job.result.is_file() else {}


if __name__ == '__main__':
    sys.exit(main())

"""Compare all methods of connecting a sensor to the language model on the embedded driving world.

    python -m bench.methods --study study --work methods --output docs/results

The sensor is true objects, or a LiDAR at night as in the paper's runtime switch (--config
bench/methods/methods_lidar.yaml). Links are untrained at first. All methods train on the same tokens and
questions within the same budget of multiply-accumulates, all costs counted, and answer the same questions
about held-out scenes. Every training runs in its own process. Finished trainings stay in the work folder, and
the same command resumes there. The program writes a page, figures and a picture.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.methods.data import BenchData, identity, prepare_data
from bench.methods.page import terminal_table, write_page
from bench.methods.plan import BLIND, MethodsConfig, Run
from bench.methods.processes import Job, Workers
from bench.methods.report import MethodsReport
from bench.study.study import RECIPE, Study, StudyConfig
from mpnp_ros.cli.interruption import CANCELLED, interruptible
from mpnp_ros.errors import ConfigurationError, MpnpError
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.training.recipe import counting_options
from mpnp_ros.training.true_objects import OBJECTS

TRAINING, ANSWERING = 'bench.methods.run', 'bench.methods.answering'
FAILED = 1
CONFIG = Path(__file__).with_name('methods_objects.yaml')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run missing trainings, write the page and print the table; exit code 1 if a method failed."""
    options = _parser().parse_args(arguments)
    try:
        with interruptible() as stopped:
            return _bench(options, stopped)
    except MpnpError as error:
        print(f'methods: {error}', file=sys.stderr)
        return FAILED


def _bench(options: argparse.Namespace, stopped: Callable[[], bool]) -> int:
    config = MethodsConfig.load(options.config or CONFIG)
    study = _study(config, options)
    data = prepare_data(study, config, options.work / 'data')
    runs = list(config.runs(options.methods or tuple(config.methods), options.seeds or config.seeds,
                            study.config.language_model, identity(study, config)))
    workers = Workers(options.workers, stopped)
    done = _train(workers, runs, options.work, data)
    seeing = {row: jobs for row, jobs in done.items() if row != BLIND}
    answering = _answering(workers, seeing, options.work, data)
    if stopped():
        print('stopped; run the same command to resume')
        return CANCELLED
    if not seeing:
        raise ConfigurationError('no method was trained; see the reasons above')
    report = MethodsReport.of([json.loads(job.result.read_bytes()) for jobs in done.values() for job in jobs],
                              BenchData.load(data), config, answering, workers.failed)
    Console(width=None if sys.stdout.isatty() else 160).print(terminal_table(report))
    print(write_page(report, config, options.output))
    return FAILED if workers.failed else 0


def _study(config: MethodsConfig, options: argparse.Namespace) -> Study:
    """The study with the encoder of the modality; true objects need no encoder."""
    encoders = {} if config.modality == OBJECTS else {
        config.modality: create_encoder(config.modality, counting_options()[config.modality])}
    recipe = StudyConfig.load(options.recipe or RECIPE)
    return Study(recipe, options.study, encoders)


def _train(workers: Workers, runs: Sequence[Run], work: Path, data: Path) -> dict[str, list[Job]]:
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


def _answering(workers: Workers, done: Mapping[str, Sequence[Job]], work: Path, data: Path) -> dict[str, Any]:
    """Answer times of the first seed of every method; empty if they could not be measured."""
    if not done or workers.stopped():
        return {}
    folders = sorted(str(jobs[0].folder) for jobs in done.values())
    folder = work / f'answering-{hashlib.sha256(" ".join(folders).encode()).hexdigest()[:8]}'
    job = Job('answering', folder, (ANSWERING, str(folder), str(data), *folders))
    workers.work([job])
    return json.loads(job.result.read_bytes()) if job.result.is_file() else {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m bench.methods', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--study', type=Path, required=True, help='work folder of bench.study')
    parser.add_argument('--work', type=Path, required=True, help='folder in which trainings are kept')
    parser.add_argument('--output', type=Path, default=Path('docs/results'), metavar='FOLDER',
                        help='folder for page, figures and picture (default: docs/results)')
    parser.add_argument('--config', type=Path, metavar='YAML',
                        help='benchmark configuration (default: bench/methods/methods_objects.yaml)')
    parser.add_argument('--recipe', type=Path, metavar='YAML',
                        help='recipe of the study (default: bench/study/study.yaml)')
    parser.add_argument('--methods', nargs='+', metavar='NAME',
                        help='methods to run (default: all of the configuration)')
    parser.add_argument('--seeds', type=int, nargs='+',
                        help='seeds to run (default: those of the configuration)')
    parser.add_argument('--workers', type=int, default=2, help='parallel trainings, each with one thread')
    return parser


if __name__ == '__main__':
    sys.exit(main())

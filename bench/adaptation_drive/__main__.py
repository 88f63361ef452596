"""Run the day-to-night drive on a ROS system; write docs/results/adaptation.json, .md and .png.

    python -m bench.adaptation_drive --study study --work drives --output docs/results

The robot starts with the shipped links to its camera.  It adapts to the LiDAR during the drive: once from
labelled questions at night, once distilled from the camera by day.  Every seed is a drive through other
streets.  The adapted links then answer the questions about the held-out scenes of the study (rendered if they
are missing) and are compared with the shipped links to a LiDAR, which were trained offline.  Finished drives
are kept and not repeated.
"""
from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.common.accuracy import percent, right_answers
from bench.common.program import add_work_options, program_parser
from bench.common.timing import machine_text
from bench.study.study import RECIPE, Study, StudyConfig
from mpnp_ros.cli.node_processes import own_domain
from mpnp_ros.cli.session import ros_session
from mpnp_ros.files import write_file
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.link_store import LinkStore, StoredLink, shipped_links
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.questions.balance import Majority
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.training.evaluation import answers_of
from mpnp_ros.training.recipe import counting_options
from mpnp_ros.training.true_objects import OBJECTS
from mpnp_world.demo.drive import BOTH, CAMERA, LIDAR, PHASES, Drive, count_majority, drive_through
from mpnp_world.demo.processes import QUESTIONS_A_KIND, SEED, Processes
from mpnp_world.demo.robot import LiveVehicle
from mpnp_world.demo.screen import make_view

READY = 300.
SCENES_APART = 100
SEEDS = (0, 1, 2)
BEGUN = (CAMERA, OBJECTS)
"""Shipped links that the robot begins with: without those to a LiDAR, which it has to start from these."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the missing drives, evaluate all of them and write the page."""
    from bench.adaptation_drive.page import write_report

    parser = program_parser('adaptation_drive', __doc__)
    add_work_options(parser, 'drives', 'adaptation.json, .md and .png')
    parser.add_argument('--supervision', nargs='+', choices=tuple(PHASES), default=list(PHASES))
    parser.add_argument('--note', default='', help='remark for the page, e.g. on the machine')
    parser.add_argument('--questions', type=int, default=576,
                        help='questions of each drive, about, besides those until links are adapted')
    options = parser.parse_args(arguments)
    own_domain()
    majority = count_majority(NEARBY, QUESTIONS_A_KIND)
    seeds, begun = options.seeds or SEEDS, [shipped_links()[name] for name in BEGUN]
    for seed in seeds:
        for supervision in options.supervision:
            run = options.work / f'{supervision}-{seed}'
            if not is_driven(run, begun):
                drive_once(seed, supervision, options.questions, run, majority, begun)
    found = [json.loads((options.work / f'{supervision}-{seed}' / 'drive.json').read_bytes())
             for supervision in options.supervision for seed in seeds]
    held = HeldOutEvaluation(options.study, options.work)
    page = write_report(found, held, options.output, machine_text(), len(held.study.test.examples),
                        options.note)
    print(f'wrote {page}')
    return 0


def is_driven(run: Path, begun: Sequence[StoredLink]) -> bool:
    """Whether a folder holds a finished drive that began with these links."""
    path = run / 'drive.json'
    return path.is_file() and json.loads(path.read_bytes()).get('begun') == [link.sha256 for link in begun]


def drive_once(seed: int, supervision: str, questions: int, run: Path, majority: Majority,
               begun: Sequence[StoredLink]) -> None:
    """Run one drive; its links and its log stay in the folder `run`.

    begun: the links to the camera, which are in use, and others that those to the LiDAR may start from.
    """
    from rich.console import Console

    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    paths = [link.path for link in begun]
    processes = Processes(run / 'nodes.log', (), paths[:1], paths, supervision, SEED + SCENES_APART * seed)
    with ExitStack() as stack:
        node = stack.enter_context(ros_session())
        stack.enter_context(processes.robot())
        processes.plug_in([CAMERA])
        robot = LiveVehicle(node, processes)
        with processes.world():
            robot.wait_until_ready([CAMERA], READY)
            with make_view(Console(width=160), robot.diary) as view:
                drive = drive_through(robot, PHASES[supervision], questions, majority, view)
    written = {**as_dict(drive, seed, supervision), 'begun': [link.sha256 for link in begun]}
    write_file(run / 'drive.json', json.dumps(written).encode())


class HeldOutEvaluation:
    """Accuracy of links on the study's questions about held-out scenes, in percent."""

    def __init__(self, folder: Path, work: Path) -> None:
        encoders = {name: create_encoder(name, counting_options()[name]) for name in BOTH}
        self.study = Study(StudyConfig.load(RECIPE), folder, encoders)
        self.work = work

    def shipped(self, modality: str, light: str) -> float:
        """The accuracy with the shipped links to one modality, in one light."""
        return self._percent(shipped_links()[modality].path, modality, light)

    def adapted(self, seed: int, supervision: str) -> dict[str, float]:
        """The accuracy with the LiDAR alone at night, by version.

        The first version is the tried one, the last the trained one.
        """
        store = LinkStore(self.work / f'{supervision}-{seed}' / 'state' / 'links')
        return {link.version: self._percent(link.path, LIDAR, 'night') for link in store.list(LIDAR)}

    def _percent(self, link: Path, modality: str, light: str) -> float:
        method = create_method('mpnp', self.study.lm)
        method.plug(load_link(link, lm=self.study.lm))
        test = self.study.test
        answers = answers_of(method, test.examples, self.study.book, test.see(light, (modality,)))
        return percent(right_answers(test.examples, answers))


def as_dict(drive: Drive, seed: int, supervision: str) -> dict[str, Any]:
    """A drive as plain data."""
    moments = [{'seconds': moment.seconds, 'phase': moment.phase.name, 'light': moment.phase.light,
                'right': [exchange.is_right for exchange in moment.exchanges],
                'guessed': [exchange.guess == exchange.truth for exchange in moment.exchanges],
                'latency': [exchange.latency for exchange in moment.exchanges],
                'training': [exchange.training for exchange in moment.exchanges],
                'used': sorted({name for exchange in moment.exchanges for name in exchange.used})}
               for moment in drive.moments]
    phases = {phase.name: {'title': phase.title, 'asked': score.asked, 'right': score.right,
                           'guessed': score.guessed} for phase, score in drive.scores()}
    return {'seed': seed, 'supervision': supervision, 'moments': moments, 'skipped': drive.skipped,
            'events': [asdict(event) for event in drive.events],
            'adaptations': [asdict(costs) for costs in drive.adaptations], 'phases': phases}


if __name__ == '__main__':
    sys.exit(main())

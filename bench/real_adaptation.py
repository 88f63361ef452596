"""Adapt links on the first half of a real drive; measure them on its second half and on another scene.

    python -m bench.real_adaptation --root DRIVE --other ROOT --work FOLDER --output docs/results

The robot begins with copies of the shipped links to objects, as the fusion node makes them.  The adaptation
node without ROS trains them in its own processes, with its budget, its held-out questions and its check: on
labelled questions about the key frames of the first half, or without labels, taught by the other sensor.
Finished runs are kept and not repeated.
"""
from __future__ import annotations

import random
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from bench.common.accuracy import estimate, percent, right_answers
from bench.common.figures import BLUE, FAINT, GREEN, INK, LIGHT, SKY, new_figure, plain, save_png
from bench.common.jobs import kept
from bench.common.page import markdown_table, write_page
from bench.common.program import add_work_options, exit_code, program_parser
from bench.common.timing import machine_text
from mpnp_ros.adaptation.adapter import AdaptationManager
from mpnp_ros.adaptation.job import TRAINED, JobResult
from mpnp_ros.adaptation.job_builder import ModelChoice, Request
from mpnp_ros.adaptation.known import LinkInUse
from mpnp_ros.adaptation.moments import LABELLED as WITH_ANSWERS
from mpnp_ros.adaptation.moments import BufferedQuestion
from mpnp_ros.adaptation.options import AdapterConfig
from mpnp_ros.adaptation.policy import DISTILLED, HEALTHY, LABELLED, ModalityCondition
from mpnp_ros.errors import DatasetError
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link import Link, TokenBatch
from mpnp_ros.methods.link_files import copied_link, load_link
from mpnp_ros.methods.link_store import StoredLink, name_of, shipped_links
from mpnp_ros.methods.mpnp.link import LatentLink, fuse
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.rule import parse_question, rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.questions.wording import turned_question
from mpnp_ros.tokens import SECOND, ModalityTokens
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.comparison import AWAY
from mpnp_ros.training.dataset import Example, Frame, TokenDataset
from mpnp_ros.training.evaluation import answers_of, majority_answers
from mpnp_ros.training.key_frames import heading_of, question_dataset, sample_of, turn_tokens
from mpnp_ros.training.true_objects import OBJECTS

ENCODERS: Mapping[str, Mapping[str, Any]] = {
    'camera': {'tokens': 'detections'},
    'lidar': {'backbone': 'polar', 'head': 'lidar-objects-driving-world'}}
WAYS: Mapping[str, tuple[str, ...]] = {
    'camera': ('camera',), 'LiDAR': ('lidar',), 'camera + LiDAR': ('camera', 'lidar')}
TEACHERS = {'camera': 'lidar', 'LiDAR': 'camera'}
"""The modality that teaches the modality of a way without labels."""
HEADINGS = 6
LATER, ELSEWHERE = 'second half', 'other scene'
LASTING = 40.
"""Seconds over which the moments of the first half are spread in the replay buffer.

It holds out the last of every four blocks of ten seconds.
"""
SEEDS, QUESTIONS = (0, 1, 2), (75, 300)
LLM = 'smollm2-135m-instruct'
PAUSE = .2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the missing adaptations, and write the page."""
    parser = program_parser('real_adaptation', __doc__)
    add_work_options(parser, 'the links and figures of finished runs', 'real_adaptation.json, .md and .png',
                     study=False)
    parser.add_argument('--root', type=Path, required=True, help='nuScenes root of the drive')
    parser.add_argument('--other', type=Path, required=True, help='nuScenes root of another scene')
    parser.add_argument('--questions', type=int, nargs='+', default=QUESTIONS, metavar='N',
                        help='labelled questions of a run (default: 75 300)')
    parser.add_argument('--tested', type=int, default=300, metavar='N',
                        help='most questions of each type about the second half (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=AdapterConfig.steps,
                        help='as the parameter of the adaptation node (default: %(default)s)')
    parser.add_argument('--budget', type=float, default=AdapterConfig.budget_duration, metavar='S',
                        help='as budget_duration of the adaptation node (default: %(default)g)')
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    scenes = read_scenes(given.root, given.other, given.tested)
    bench = RealAdaptation(scenes, given.work, given.steps, given.budget)
    runs = bench.runs(given.questions, given.seeds or SEEDS)
    results = summary(scenes, runs)
    page = write_report(given.output, results, machine_text())
    print(f'wrote {page}')
    return 0


@dataclass(frozen=True, eq=False)
class RealScenes:
    """Questions about the first half of a drive, and those that links are measured on.

    lived: all questions about the first half.  stamps: its key frames -> when the robot remembers them.
    tests: by LATER and ELSEWHERE.
    """

    lived: TokenDataset
    stamps: Mapping[str, int]
    tests: Mapping[str, TokenDataset]

    def labelled(self, count: int, seed: int) -> dict[str, list[BufferedQuestion]]:
        """Return a draw of different labelled questions by key frame, as asked of the drive's own heading."""
        pool: dict[tuple[str, str], str] = {}
        for example in self.lived.examples:
            text = turned_question(example.question, -heading_of(example.frame))
            if text is not None:
                pool[sample_of(example.frame), text] = example.answer
        if count > len(pool):
            raise DatasetError(f'the first half has {len(pool)} different questions, not {count}')
        drawn: dict[str, list[BufferedQuestion]] = defaultdict(list)
        choices = self.lived.examples[0].choices
        for sample, text in random.Random(seed).sample(sorted(pool), count):
            drawn[sample].append(BufferedQuestion.read(text, pool[sample, text], choices, WITH_ANSWERS))
        return drawn


def read_scenes(root: Path, other: Path, tested: int) -> RealScenes:
    """Encode the key frames of both roots and ask about them in six headings.

    tested: most questions of each type about the second half.  Raises DatasetError for a root with less than
    two key frames.
    """
    encoders = [create_encoder(name, {'device': 'cpu', **options}) for name, options in ENCODERS.items()]

    def frames_of(folder: Path) -> list[KeyFrame]:
        tables = NuScenes(folder)
        return [frame for scene in tables.scenes for frame in tables.key_frames(scene['name'])]

    def asked(frames: Sequence[KeyFrame]) -> TokenDataset:
        return question_dataset(frames, encoders, HEADINGS, per_kind=2000, scope=NEARBY)

    drive = frames_of(root)
    if len(drive) < 2:
        raise DatasetError(f'{root} has no two key frames; give a drive')
    half = len(drive) // 2
    stamps = {frame.token: round((number + .5) / half * LASTING * SECOND)
              for number, frame in enumerate(drive[:half])}
    return RealScenes(asked(drive[:half]), stamps,
                  {LATER: asked(drive[half:]).evened(tested), ELSEWHERE: asked(frames_of(other))})


@dataclass(frozen=True)
class AdaptationRun:
    """One adaptation.

    way: one of WAYS.  questions: number of labelled ones; 0: taught by the other sensor; -1: none, the links
    as they begin.
    """

    way: str
    questions: int = -1
    seed: int = 0

    @property
    def file(self) -> str:
        """The name of its file in the work folder."""
        return f'{"-".join(WAYS[self.way])}-{self.questions}-{self.seed}'


class RealAdaptation:
    """Adapts links, and measures them.

    steps, budget: options of the adaptation node.
    """

    def __init__(self, scenes: RealScenes, work: Path, steps: int, budget: float) -> None:
        self.scenes, self.work, self.steps, self.budget = scenes, work, steps, budget
        work.mkdir(parents=True, exist_ok=True)
        self.lm = load_language_model(LLM, 'cpu')
        self.source = str(shipped_links()[OBJECTS].path)
        reader = create_method('mpnp', self.lm)
        reader.plug(load_link(self.source, lm=self.lm))
        self.book = PreparedQuestions(reader, QuestionFiles())

    def runs(self, questions: Sequence[int],
             seeds: Sequence[int]) -> list[tuple[AdaptationRun, dict[str, Any]]]:
        """Return all runs with their figures; those that are missing are made."""
        wanted = [AdaptationRun(way) for way in WAYS]
        wanted += [AdaptationRun(way, 0) for way in TEACHERS]
        wanted += [AdaptationRun(way, count, seed) for seed in seeds for count in questions for way in WAYS]
        found = []
        for run in wanted:
            found.append((run, kept(self.work / f'{run.file}.json', partial(self._measure, run))))
            print(described(*found[-1]), flush=True)
        return found

    def _measure(self, run: AdaptationRun) -> dict[str, Any]:
        """Return the result of the node, and the right answers of the links that are then in use."""
        names = WAYS[run.way]
        links = {name: copied_link(self.source, name, self._encoder(name)) for name in names}
        result: JobResult | None = None
        if run.questions >= 0:
            result = self._adapt(run)
            if result.status == TRAINED:
                links = {name: load_link(path, lm=self.lm) for name, path in result.links.items()}
        return {'result': asdict(result) if result else None,
                'right': {test: self._right(links, data) for test, data in self.scenes.tests.items()}}

    def _adapt(self, run: AdaptationRun) -> JobResult:
        """Let the adaptation node live through the first half, and train."""
        names, folder = WAYS[run.way], self.work / run.file
        seen = names if run.questions else (*names, TEACHERS[run.way])
        shutil.rmtree(folder, ignore_errors=True)
        config = AdapterConfig(automatic=False, steps=self.steps, budget_duration=self.budget, seed=run.seed,
                               min_paired_moments=len(self.scenes.stamps), niceness=0)
        manager = AdaptationManager(config, folder, ModelChoice(LLM, device='cpu'), plugged,
                                    starts=[link.path for link in shipped_links().values()])
        asked = self.scenes.labelled(run.questions, run.seed) if run.questions else {}
        for key, frame in self.scenes.lived.frames.items():
            sample = sample_of(key)
            if heading_of(key) == 0:
                manager.buffer.add({name: frame[name] for name in seen}, asked.get(sample, []),
                                   self.scenes.stamps[sample])
                for name in seen:
                    manager.seen(frame[name])
        version = name_of(self.source)
        manager.conditions(ModalityCondition(name, HEALTHY, self._encoder(name), 1., links_version=version)
                           for name in seen)
        manager.in_use(LinkInUse(name, version, '', self._encoder(name)) for name in seen)
        try:
            done = manager.adapt(Request(names, LABELLED if run.questions else DISTILLED))
            while not done.done():
                manager.tick()
                time.sleep(PAUSE)
            return done.result()
        finally:
            manager.close()

    def _encoder(self, name: str) -> str:
        """Return the fingerprint of an encoder."""
        return next(iter(self.scenes.lived.frames.values()))[name].encoder

    def _right(self, links: Mapping[str, Link], data: TokenDataset) -> dict[str, list[int]]:
        """Return right answers by what they rest on: the links, those turned away, the rule."""
        method = create_method('mpnp', self.lm)
        for link in links.values():
            method.plug(link)
        frames = {key: {name: frame[name] for name in links} for key, frame in data.frames.items()}
        away = {key: {name: turn_tokens(tokens, AWAY) for name, tokens in frame.items()}
                for key, frame in frames.items()}
        counted = {key: corrected(links, frame) for key, frame in frames.items()}
        answers = {
            'links': answers_of(method, data.examples, self.book, lambda example: frames[example.frame]),
            'turned away': answers_of(method, data.examples, self.book, lambda example: away[example.frame]),
            'rule': [rule_answer(parse_question(example.question), counted[example.frame], CHANNELS)
                     for example in data.examples]}
        return {name: right_answers(data.examples, given) for name, given in answers.items()}


def plugged(link: StoredLink) -> Future[None]:
    """Take links as a fusion node does that refuses none."""
    done: Future[None] = Future()
    done.set_result(None)
    return done


@torch.no_grad()
def corrected(links: Mapping[str, Link], frame: Frame) -> ModalityTokens:
    """Return the counts of a frame as the links count: corrected by their worth, and fused."""
    parts = []
    for name, link in links.items():
        assert isinstance(link, LatentLink) and link.worth is not None  # the shipped links count
        parts.append((link.count(TokenBatch.stack([frame[name]])), link.worth, link.gates.max()))
    counts = fuse(parts).counts
    return ModalityTokens(OBJECTS, 'corrected', counts.numbers[0].numpy(),
                          counts.azimuth[0].numpy().astype(np.float32))


def described(run: AdaptationRun, figures: Mapping[str, Any]) -> str:
    """Return a run with its accuracies as a line."""
    result = figures['result']
    how = {-1: 'as they begin', 0: f'taught by the other sensor, {run.seed}'}.get(
        run.questions, f'{run.questions} questions, seed {run.seed}')
    shares = '; '.join(f'{test}: ' + ', '.join(
        f'{name} {percent(right):.1f}' for name, right in rows.items())
        for test, rows in figures['right'].items())
    ended = (f'; {result["status"]} after {result["steps"]} steps and {result["seconds"]:.0f} s, held out '
             f'{result["start_accuracy"]:.3f} -> {result["accuracy"]:.3f}' if result else '')
    return f'{run.way}, {how}: {shares}{ended}'


def summary(scenes: RealScenes, runs: Sequence[tuple[AdaptationRun, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the figures of the page: of the tests without links, and of each way to adapt over its seeds."""
    begun = {run.way: figures['right'] for run, figures in runs if run.questions < 0}
    gathered: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for run, figures in runs:
        gathered[run.way, run.questions].append(figures)
    rows = []
    for (way, questions), found in gathered.items():
        results = [figures['result'] for figures in found if figures['result']]
        tests: dict[str, Any] = {}
        for test, data in scenes.tests.items():
            groups = groups_of(data)
            tests[test] = {}
            for name, before in begun[way][test].items():
                right = np.array([figures['right'][test][name] for figures in found])
                gain = estimate(right - np.array(before), groups)
                tests[test][name] = {'percent': 100 * float(right.mean()), 'gain': gain.mean,
                                     'gain_ci95': gain.ci95, 'seeds': (100 * right.mean(1)).tolist()}
        rows.append({'way': way, 'questions': questions, 'tests': tests, 'costs': costs_of(results)})
    return {'tests': {test: without_links(scenes.lived, data) for test, data in scenes.tests.items()},
            'lived': {'questions': len(scenes.lived.examples), 'key_frames': len(scenes.stamps)},
            'rows': rows}


def groups_of(data: TokenDataset) -> np.ndarray:
    """Return what is resampled for intervals: key frames, or headings if there is only one."""
    samples = [sample_of(example.frame) for example in data.examples]
    several = len(set(samples)) > 1
    return np.array(samples if several else [example.frame for example in data.examples])


def costs_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of what the node reports of some trainings, and how many gave links."""
    if not results:
        return {}
    mean = {name: fmean(result[name] for result in results) for name in (
        'seconds', 'steps', 'macs', 'peak_bytes', 'questions', 'held_out', 'start_accuracy', 'accuracy')}
    return {'runs': len(results), 'offered': sum(result['status'] == TRAINED for result in results), **mean}


def without_links(lived: TokenDataset, data: TokenDataset) -> dict[str, Any]:
    """Return what is known of a test without links.

    majority: the most frequent answer of each text.  remembered: the most frequent answer to the same text in
    the same heading in the first half, of the questions that were asked there.
    """
    known: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for example in lived.examples:
        known[example.question, heading_of(example.frame)][example.answer] += 1

    def remembered(example: Example) -> Counter[str] | None:
        return known.get((example.question, heading_of(example.frame)))

    asked_before = [example for example in data.examples if remembered(example)]
    answers = [answers.most_common(1)[0][0] for example in asked_before if (answers := remembered(example))]
    return {'questions': len(data.examples), 'types': Counter(example.type for example in data.examples),
            'key_frames': len({sample_of(key) for key in data.frames}),
            'majority': percent(right_answers(data.examples, majority_answers(data.examples, data.examples))),
            'asked_before': len(asked_before),
            'remembered': percent(right_answers(asked_before, answers)) if asked_before else None}


PAGE = """# Adapting on real frames

Output of `python -m bench.real_adaptation --root DRIVE --other ROOT --work FOLDER --output docs/results` on
{machine}; all figures are in [real_adaptation.json](real_adaptation.json).

**These links were trained on real frames**: on the first half of pandaset_002, {key_frames} key frames of 4 s
of a drive. They are measured on its second half, and on nuscenes_keyframe, another scene with other sensors.
**Both halves are one street a few seconds apart**: most objects of the second half were in the first one. So
the other scene is the honest test; it is a single key frame in six headings.

A robot begins with copies of the shipped links to objects. The adaptation node, without ROS, trains them with
its own budget, held-out questions and check. The camera is read by CenterNet with distances of its own, the
LiDAR by `lidar-objects-driving-world`; neither was trained on real frames. What moves is a guess for the
camera.

## Accuracy, percent right

{accuracy}

In brackets the gain over the links as they begin, with its 95 % interval: over seeds and key frames, of the
other scene over headings. Rule: the fixed rule on the counts as these links correct them.

{controls}

- *Majority*: the most frequent answer of each text in the test itself.
- *Remembered*: the most frequent answer of the first half to the same text in the same heading, of those
  questions of the test that it was asked too ({asked_before} of {asked} in the second half). It sees nothing
  of the test.

{verdict}

![adaptation on real frames](real_adaptation.png)

## What the node reports

Means over runs. Questions are those of the training, in six headings; the node keeps a fourth of the time for
its check. *Held out* is the accuracy there, with the links at the start and at the end. Links that fail the
check are not offered; the robot keeps those it has, and so does the table above.

{costs}

By itself the node trains with {automatic:,} labelled questions, or {paired} moments that another sensor saw
as well. Here training was requested, and the moments were remembered 5 s apart, so that some are held out.
"""


def write_report(folder: Path, results: Mapping[str, Any], machine: str) -> Path:
    """Write real_adaptation.json, .md and .png; returns the path of the page."""
    tests = results['tests']
    measured = [(test, name) for test in tests for name in ('links', 'turned away', 'rule')]
    accuracy = markdown_table(
        ('sensors', 'trained on', *(f'{test}: {name}' for test, name in measured)),
        [(row['way'], trained_on(row), *(accuracy_cell(row, *place) for place in measured))
         for row in results['rows']])
    controls = markdown_table(('without links', *tests), [
        (name, *('-' if test[name] is None else f'{test[name]:.4g}' for test in tests.values()))
        for name in ('questions', 'majority', 'remembered')])
    costs = markdown_table(
        ('sensors', 'trained on', 'offered', 'questions', 'held out', 'steps', 's', 'TMAC', 'memory, MB'),
        [(row['way'], trained_on(row), f'{cost["offered"]} of {cost["runs"]}', f'{cost["questions"]:.0f}',
          f'{100 * cost["start_accuracy"]:.0f} -> {100 * cost["accuracy"]:.0f} % of {cost["held_out"]:.0f}',
          f'{cost["steps"]:.0f}', f'{cost["seconds"]:.0f}', f'{cost["macs"] / 1e12:.2f}',
          f'{cost["peak_bytes"] / 1e6:.0f}') for row in results['rows'] if (cost := row['costs'])])
    defaults = AdapterConfig()
    text = PAGE.format(
        machine=machine, key_frames=results['lived']['key_frames'], accuracy=accuracy, controls=controls,
        asked_before=tests[LATER]['asked_before'], asked=tests[LATER]['questions'], verdict=verdict(results),
        costs=costs, automatic=defaults.min_labelled_questions, paired=defaults.min_paired_moments)
    return write_page(folder / 'real_adaptation.md', text, results, lambda path: draw(path, results))


def trained_on(row: Mapping[str, Any]) -> str:
    """Return what the links of a row were trained on, in words."""
    if row['questions'] < 0:
        return 'nothing: as they begin'
    return f'{row["questions"]} questions' if row['questions'] else f'the {TEACHERS[row["way"]]}, no labels'


def accuracy_cell(row: Mapping[str, Any], test: str, name: str) -> str:
    """Return an accuracy with its gain."""
    entry = row['tests'][test][name]
    if row['questions'] < 0:
        return f'{entry["percent"]:.1f}'
    low, high = entry['gain_ci95']
    return f'{entry["percent"]:.1f} ({entry["gain"]:+.1f} [{low:+.1f}, {high:+.1f}])'


def verdict(results: Mapping[str, Any]) -> str:
    """Return the gains of the links with most labelled questions in words."""
    most = max(row['questions'] for row in results['rows'])
    sentences = []
    for row in results['rows']:
        if row['questions'] == most:
            gains = {test: row['tests'][test]['links'] for test in results['tests']}
            parts = [f'{gain["gain"]:+.1f} on the {test} ({surely(gain["gain_ci95"])})'
                     for test, gain in gains.items()]
            sentences.append(f'- {row["way"]}: {", ".join(parts)}.')
    return '\n'.join([f'What {most} labelled questions add to the answers of the links:', '', *sentences])


def surely(interval: Sequence[float]) -> str:
    """Return what an interval says of a gain."""
    low, high = interval
    return 'a gain' if low > 0 else 'a loss' if high < 0 else 'within the noise'


def draw(path: Path, results: Mapping[str, Any]) -> None:
    """Draw the accuracy of the links as they begin and after each training."""
    tests, ways = list(results['tests']), list(WAYS)
    counts = sorted({row['questions'] for row in results['rows']} - {-1, 0})
    colours = {-1: LIGHT, 0: SKY, **dict(zip(counts, (GREEN, BLUE, INK), strict=False))}
    figure = new_figure(11, 4.2)
    for axes, test in zip(figure.subplots(1, len(tests), sharey=True), tests, strict=True):
        for place, questions in enumerate(colours):
            rows = [row for row in results['rows'] if row['questions'] == questions]
            bars = axes.bar([ways.index(row['way']) + (place - (len(colours) - 1) / 2) * .2 for row in rows],
                            [row['tests'][test]['links']['percent'] for row in rows], .19,
                            color=colours[questions], label={-1: 'as they begin', 0: 'no labels'}.get(
                                questions, f'{questions} questions'))
            axes.bar_label(bars, fmt='%.0f', fontsize=8, color=INK)
        axes.axhline(results['tests'][test]['majority'], color=FAINT, ls='--', lw=1, label='majority')
        axes.set_xticks(range(len(ways)), ways)
        axes.set(title=test, ylim=(30, 80), ylabel='percent right')
        plain(axes)
    axes.legend(frameon=False, fontsize=8, loc='upper right')
    figure.tight_layout()
    save_png(figure, path)


if __name__ == '__main__':
    sys.exit(exit_code('real_adaptation', main))

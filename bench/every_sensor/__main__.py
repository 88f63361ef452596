"""Answer questions about objects, own motion and sounds with every set of five sensors; write a page.

    python -m bench.every_sensor --work every_sensor --output docs/results

Held-out streets of the simulated world are driven by day and at night in turn.  Camera, LiDAR, radar, IMU and
microphones see the same moments through their default encoders, and the shipped links read them.  Each of the
31 sets of sensors answers the same questions.  Nothing is trained.  Scenes and answers are kept in the work
folder, and the same command resumes there.  The program writes every_sensor.md, .json and .png.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.common.accuracy import Estimate, estimate, percent, right_answers
from bench.common.figures import BLUE, FAINT, GREEN, GRID, INK, ORANGE, new_figure, plain, save_png
from bench.common.jobs import kept
from bench.common.page import RESULTS, markdown_table, write_page
from bench.common.program import exit_code, program_parser
from bench.common.timing import machine_text
from bench.every_sensor.moments import HEARD, KEY_FRAMES, SCENES, moments
from mpnp_ros.cli.evaluate_links import with_links
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.registry import DEFAULT_METHOD, create_method
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.progress import progress
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.evaluation import answers_of, majority_answers

SENSORS = {'camera': {'tokens': 'objects', 'head': 'camera-objects-driving-world'},
           'lidar': {'backbone': 'polar', 'head': 'lidar-objects-driving-world'},
           'radar': {}, 'imu': {}, 'audio': {}}
"""Sensors with the options of their encoders."""
SUBJECTS = {'objects': BLUE, 'motion': GREEN, 'sounds': ORANGE}
OWN = {'camera': 'objects', 'lidar': 'objects', 'radar': 'objects', 'imu': 'motion', 'audio': 'sounds'}
"""The subject that each sensor tells of."""
SETS = [chosen for size in range(len(SENSORS) + 1) for chosen in combinations(SENSORS, size)]
NONE = 'none'
PAGE = """# Every set of sensors

Output of `python -m bench.every_sensor --work every_sensor --output docs/results` on {machine}; the figures
are in [every_sensor.json](every_sensor.json). It is a synthetic world: none of this is accuracy on real
sensors. {moments} moments of {scenes} held-out streets, half of them at night, were seen by camera, LiDAR,
radar, IMU and four microphones through their default encoders, and read by the shipped links; the radar is
read by a copy of the links to true objects. Nothing was trained on these streets. Answers are chosen from all
{choices} answers of all subjects by the frozen language model.

## What each sensor tells of

Percent right of the questions about the subject of each sensor, with that sensor alone, with all five, and
with all but those that tell of the subject.

{own}

*none*: the frozen language model without any sensor, which was never trained on these questions. *majority*:
the most frequent answer, of each text in the other streets for objects, and of each type of question for own
motion and sounds.

## All {sets} sets

Percent right, in brackets the 95 % interval of the bootstrap over streets. The questions: {objects} about
objects up to 30 m away, drawn evenly by type; {motion} about own motion and {sounds} about sirens and horns,
in free words, drawn evenly by type and answer. A siren counts as audible within {siren:g} m, a horn within
{horn:g} m.

{table}

![every set of sensors](every_sensor.png)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the moments, answer with every set of sensors, and write the page; returns the exit code."""
    parser = program_parser('every_sensor', __doc__)
    parser.add_argument('--work', type=Path, required=True, metavar='FOLDER',
                        help='folder that keeps scenes and answers')
    parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER',
                        help='folder for every_sensor.md, .json and .png (default: %(default)s)')
    parser.add_argument('--of-each', type=int, default=120, metavar='N',
                        help='questions of each type (default: %(default)s)')
    given = parser.parse_args(arguments)

    def run() -> None:
        encoders = {name: create_encoder(name, options) for name, options in SENSORS.items()}
        data = moments(given.work, encoders, given.of_each)
        method = with_links(create_method(DEFAULT_METHOD, load_language_model()), None, [*encoders.values()])
        book = PreparedQuestions(method, QuestionFiles())
        (given.work / 'answers').mkdir(exist_ok=True)
        right: dict[str, list[int]] = {}
        with progress('answering') as show:
            for number, chosen in enumerate(SETS, 1):
                def answer(chosen: tuple[str, ...] = chosen) -> list[int]:
                    def see(example: Example) -> dict[str, Any]:
                        return {name: data.frames[example.frame][name] for name in chosen}
                    return right_answers(data.examples, answers_of(method, data.examples, book, see))
                name = ' + '.join(chosen) or NONE
                right[name] = kept(given.work / 'answers' / f'{name}.json', answer)
                show(number, len(SETS), name)
        print(write_report(data, right, given.output))
    return exit_code('every_sensor', run)


def write_report(data: TokenDataset, right: Mapping[str, Sequence[int]], output: Path) -> Path:
    """Write page, figures and picture.  right: 1 or 0 for each question, by set of sensors."""
    subject_of = np.array([_subject(example) for example in data.examples])
    scenes = np.array([example.frame.partition('/')[0] for example in data.examples])
    shares = {name: {subject: estimate(np.array([answers], float)[:, subject_of == subject],
                                       scenes[subject_of == subject]) for subject in SUBJECTS}
              for name, answers in right.items()}
    majority = dict(majorities(data.examples, scenes, subject_of))
    everything = ' + '.join(SENSORS)
    own = []
    for sensor, subject in OWN.items():
        others = ' + '.join(name for name in SENSORS if OWN[name] != subject)
        own.append((sensor, subject, shares[sensor][subject], shares[everything][subject],
                    shares[others][subject], shares[NONE][subject], f'{majority[subject]:.1f}'))
    counted = {subject: int((subject_of == subject).sum()) for subject in SUBJECTS}
    text = PAGE.format(
        machine=machine_text(), moments=len(data.frames), scenes=len(SCENES), sets=len(SETS) - 1,
        choices=len(data.examples[0].choices), **counted, **HEARD,
        own=markdown_table(('sensor', 'subject', 'alone', 'all five', 'all others', NONE, 'majority'),
                           own),
        table=markdown_table(('sensors', *SUBJECTS), [
            (name, *row.values()) for name, row in shares.items()]))
    results = {'machine': machine_text(), 'threads': torch.get_num_threads(), 'questions': counted,
               'moments_of_a_street': KEY_FRAMES, 'majority': majority,
               'right': {name: {subject: {'mean': share.mean, 'ci95': share.ci95}
                                for subject, share in row.items()} for name, row in shares.items()}}
    return write_page(output / 'every_sensor.md', text, results, lambda path: draw(shares, majority, path))


def draw(shares: Mapping[str, Mapping[str, Estimate]], majority: Mapping[str, float], path: Path) -> None:
    """Draw the accuracies above a matrix of the sets; dashed: the majority."""
    figure = new_figure(12, 6.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for subject, colour in SUBJECTS.items():
        for place, row in enumerate(shares.values()):
            above.plot((place, place), row[subject].ci95, color=colour, lw=1.2, alpha=.5)
        above.plot(range(len(shares)), [row[subject].mean for row in shares.values()], 'o', color=colour,
                   ms=6, label=f'questions about {"own motion" if subject == "motion" else subject}')
        above.axhline(majority[subject], color=colour, lw=1, ls=(0, (4, 4)))
    above.set_ylim(0, 100)
    above.set_ylabel('right, %; dashed: majority', color=INK)
    above.grid(axis='y', color=GRID)
    above.legend(frameon=False, ncols=3, loc='lower right', bbox_to_anchor=(1, 1))
    for level, sensor in enumerate(SENSORS):
        plugged = [sensor in name.split(' + ') for name in shares]
        below.scatter(range(len(plugged)), [level] * len(plugged), s=48,
                      color=[INK if there else GRID for there in plugged])
    below.set_yticks(range(len(SENSORS)), list(SENSORS))
    below.set_ylim(len(SENSORS) - .5, -.5)
    below.set_xticks([])
    below.set_xlabel('sets of plugged sensors; the first is none', color=FAINT)
    for axes in (above, below):
        plain(axes)
    below.spines[['left', 'bottom']].set_visible(False)
    figure.tight_layout()
    save_png(figure, path)


def _subject(example: Example) -> str:
    name = example.type.partition(':')[0]
    return name if name in SUBJECTS else 'objects'


def majorities(examples: Sequence[Example], scenes: np.ndarray, subject_of: np.ndarray,
               ) -> Iterator[tuple[str, float]]:
    """Percent right of the most frequent answer: of each text in other scenes, or of each type of question.

    scenes, subject_of: text [N] of each example.  Answers of a type about own motion and sounds are balanced
    over all scenes, so other scenes mislead.
    """
    for subject in SUBJECTS:
        places = np.flatnonzero(subject_of == subject).tolist()
        asked = [examples[place] if subject == 'objects' else
                 replace(examples[place], question=examples[place].type) for place in places]
        right = []
        if subject == 'objects':
            for scene in sorted(set(of := scenes[places].tolist())):
                mine, others = ([example for example, known in zip(asked, of, strict=True)
                                 if (known == scene) is own] for own in (True, False))
                right += right_answers(mine, majority_answers(others, mine))
        else:
            right = right_answers(asked, majority_answers(asked, asked))
        yield subject, percent(right)


if __name__ == '__main__':
    sys.exit(main())

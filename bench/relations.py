r"""Measure questions that relate two other things to each other, NuScenes-QA's questions with one hop.

    mpnp world generate --output streets --seeds 45000:45008 --light day --key-frames 40 --interval 0.5 \
                        --sensors lidar --sweeps lidar --sweep-rate 2
    python -m bench.relations --root streets

"Are there any cars to the front left of the moving truck?" is answered in steps by the shipped links, which
were trained on no such question, from true objects and from a LiDAR.  Nothing is trained.
"""
from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bench.common.accuracy import Estimate, estimate
from bench.common.figures import BLUE, LIGHT, bars_with_intervals, new_figure, save_png
from bench.common.page import RESULTS, markdown_table, write_page
from bench.common.program import exit_code, program_parser
from bench.common.timing import machine_text
from bench.events import true_objects
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.link_store import shipped_links
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import Tokens
from mpnp_ros.methods.registry import DEFAULT_METHOD, create_method
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.progress import progress
from mpnp_ros.questions.generator import NEARBY, LabelledQuestion, scene_questions
from mpnp_ros.questions.relations import related_question
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.serving.relations import reply_in_steps
from mpnp_ros.training.comparison import AWAY, nothing_seen
from mpnp_ros.training.key_frames import encode, turn_tokens
from mpnp_ros.training.true_objects import OBJECTS

LIDAR = 'lidar'
APART, OF_A_FRAME, PER_KIND = 8, 12, 8
"""Key frames from one that is asked about to the next, and questions about each, drawn from so many a
kind."""
PAGE = """# One thing beside another

Output of `python -m bench.relations --root {root}` on {machine}; the figures are in
[relations.json](relations.json). The root was made with `mpnp world generate` as the help of the program
says. It is a simulated world: none of this is accuracy on nuScenes.

{count} questions about {frames} key frames of {scenes} streets relate two other things to each other, such
as "What is the status of the car to the front left of the moving bus?" (one hop in NuScenes-QA), within
{reach:g} m and with at least {points} LiDAR points. No link was trained on such questions, and nothing was
trained on these streets. In steps: the frozen model says whether there is such a bus, the tokens that this
answer rests on tell where, all tokens are moved there, and it is asked for the car to the front left.

Percent right, in brackets the 95 % interval of the bootstrap over streets.

{table}

*directly*: the same links are asked the question as it is. *turned away*: in steps, by tokens turned by 120
degrees. *blind*: asked directly, by links to a LiDAR that sees nothing. *majority*: the most frequent answer
to each type in the other streets. "Unknown", where no such anchor is seen, is wrong; of the answers from the
LiDAR that are not "unknown", {told:.1f} % are right ({unknown} of {count} are).

![Accuracy of each row](relations.png)
"""


@dataclass(frozen=True)
class AskedInStreet:
    """A question about a key frame.  frames: tokens by modality."""

    scene: int
    question: LabelledQuestion
    frames: Mapping[str, Tokens]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page; returns the exit code."""
    parser = program_parser('relations', __doc__)
    parser.add_argument('--root', type=Path, required=True, help='nuScenes root with LiDAR and annotations')
    parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER',
                        help='folder for relations.md, .json and .png (default: %(default)s)')
    return exit_code('relations', lambda: run(parser.parse_args(arguments)))


def run(options: argparse.Namespace) -> None:
    """Ask all questions in all ways, and write the page."""
    method = create_method(DEFAULT_METHOD, load_language_model('smollm2-135m-instruct', dtype='float32'))
    shipped = shipped_links()
    for name in (OBJECTS, LIDAR):
        method.plug(load_link(shipped[name].path, lm=method.lm))
    asked = list(questions(NuScenes(options.root), method))
    ways: dict[str, Callable[[AskedInStreet], str]] = {
        'true objects, in steps': lambda entry: in_steps(method, entry, entry.frames[OBJECTS]),
        'LiDAR, in steps': lambda entry: in_steps(method, entry, entry.frames[LIDAR]),
        'true objects, directly': lambda entry: directly(method, entry, entry.frames[OBJECTS]),
        'LiDAR, directly': lambda entry: directly(method, entry, entry.frames[LIDAR]),
        'LiDAR, in steps, turned away': lambda entry: in_steps(method, entry, {
            name: turn_tokens(frame, AWAY) for name, frame in entry.frames[LIDAR].items()}),
        'blind': lambda entry: directly(method, entry, {
            name: nothing_seen(frame) for name, frame in entry.frames[LIDAR].items()})}
    answers: dict[str, list[str]] = {}
    with progress('asking', 'way') as show:
        for number, (way, answer) in enumerate(ways.items()):
            show(number, len(ways))
            answers[way] = [answer(entry) for entry in asked]
    answers['majority'] = majority(asked)
    print(write_report(options.output / 'relations.md', asked, answers, options.root.name))


def questions(root: NuScenes, method: Method) -> Iterator[AskedInStreet]:
    """Yield related questions about some key frames of each scene."""
    encoder, scope = create_encoder(LIDAR), replace(NEARBY, anchors=True)
    for number, scene in enumerate(root.scenes):
        for frame in list(root.key_frames(scene))[::APART]:
            objects = replace(true_objects(frame), encoder=method.links()[OBJECTS].config.encoder)
            frames = {OBJECTS: {OBJECTS: objects}, LIDAR: {LIDAR: encode(frame, encoder)}}
            related = [question for question in scene_questions(frame, 0, PER_KIND, scope)
                       if related_question(question.text)]
            random.Random(0).shuffle(related)
            yield from (AskedInStreet(number, question, frames) for question in related[:OF_A_FRAME])


def in_steps(method: Method, entry: AskedInStreet, tokens: Tokens) -> str:
    """Return the answer in steps; empty where it is unknown."""
    reply = reply_in_steps(method, entry.question.text, ANSWERS, tokens)
    return reply.text if reply else ''


def directly(method: Method, entry: AskedInStreet, tokens: Tokens) -> str:
    """Return the answer to the question as it is."""
    return method.answer(method.prepare(entry.question.text, ANSWERS), tokens).text


def majority(asked: Sequence[AskedInStreet]) -> list[str]:
    """Return for each question the most frequent answer to its type in the other scenes."""
    answers = []
    for entry in asked:
        others = Counter(other.question.answer for other in asked
                         if other.scene != entry.scene and other.question.type == entry.question.type)
        answers.append(others.most_common(1)[0][0] if others else '')
    return answers


def write_report(page: Path, asked: Sequence[AskedInStreet], answers: Mapping[str, Sequence[str]],
                 root: str) -> Path:
    """Write page, figures and picture; returns the path of the page."""
    types = sorted({entry.question.type for entry in asked})
    scenes = np.array([entry.scene for entry in asked])
    true = [entry.question.answer for entry in asked]
    right = {way: np.array([[answer == wanted for answer, wanted in zip(given, true, strict=True)]])
             for way, given in answers.items()}
    whole = {way: estimate(each, scenes) for way, each in right.items()}
    of_type = {name: np.array([entry.question.type == name for entry in asked]) for name in types}
    rows = [[way, str(whole[way]), *(f'{100 * each[:, of_type[name]].mean():.1f}' for name in types)]
            for way, each in right.items()]
    heads = ['', 'all', *(f'{name} ({of_type[name].sum()})' for name in types)]
    told = np.array([bool(answer) for answer in answers['LiDAR, in steps']])
    text = PAGE.format(
        root=root, machine=machine_text(), count=len(asked),
        frames=len({id(entry.frames) for entry in asked}), scenes=len(set(scenes.tolist())),
        reach=NEARBY.max_distance, points=NEARBY.min_points,
        table=markdown_table(heads, rows), told=100 * right['LiDAR, in steps'][0, told].mean(),
        unknown=int((~told).sum()))
    return write_page(page, text, {
        way: {**asdict(found), 'right': right[way][0].astype(int).tolist()} for way, found in whole.items()},
        lambda path: draw(path, whole))


def draw(path: Path, whole: Mapping[str, Estimate]) -> None:
    """Draw the accuracy of each row."""
    figure = new_figure(9, 3.2)
    bars_with_intervals(figure.subplots(), [(way, found, BLUE if way.endswith('in steps') else LIGHT)
                                            for way, found in whole.items()], .7)
    figure.tight_layout()
    save_png(figure, path)


if __name__ == '__main__':
    sys.exit(main())

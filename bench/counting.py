"""Measure the accuracy of counting links on true objects, certain and uncertain.

    python -m bench.counting --links LINK [--root NUSCENES] [--output counting.json]
        [--own-words test/questions/own_words.txt] [--beyond test/questions/beyond.txt]

Without --root: painted frames of held-out streets of the embedded world, and optionally questions in free
words (--own-words) and questions that counts cannot answer (--beyond).  With --root: true objects of key
frames in nuScenes form.  Each accuracy comes with the majority answer, the fixed rule on the same tokens, and
both on tokens that are turned by 120 degrees.  The expected calibration error is that of answers about frames
as in training: a quarter certain, a quarter with uncertain statuses, half with everything uncertain.  All
answers use the language model.
"""
from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.common.program import program_parser
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.phrasing import Meaning, say
from mpnp_ros.questions.rule import parse_question, rule_answer
from mpnp_ros.questions.vocabulary import ANSWERS, CHANNELS
from mpnp_ros.questions.wording import Description
from mpnp_ros.serving.coverage import CAN_ANSWER
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.calibration import calibration_error
from mpnp_ros.training.dataset import Example, Frame, TokenDataset
from mpnp_ros.training.evaluation import answers_of, majority_answers, replies_of
from mpnp_ros.training.key_frames import question_dataset, turn_tokens
from mpnp_ros.training.painted_frames import DOUBTS, Painter
from mpnp_ros.training.painted_questions import PaintedDataset, painted_questions
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects
from mpnp_world.dataset.objects_only import object_key_frames

SEEDS = range(40_000, 40_040)
SURE = 0.6
AWAY = math.radians(120)
CATEGORY = np.array([category for category, _ in CHANNELS])

Rows = dict[str, dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the figures; returns the exit code."""
    parser = program_parser('counting', __doc__)
    parser.add_argument('--links', type=Path, required=True, help='folder of links to true objects')
    parser.add_argument('--root', type=Path, help='nuScenes root with annotations')
    parser.add_argument('--own-words', type=Path, metavar='FILE',
                        help='questions in free words with their meanings')
    parser.add_argument('--beyond', type=Path, metavar='FILE', help='questions that counts cannot answer')
    parser.add_argument('--frames', type=int, default=600, help='painted frames (default: %(default)s)')
    parser.add_argument('--of-each-type', type=int, default=300,
                        help='questions per type (default: %(default)s)')
    parser.add_argument('--calibration', type=int, default=3000, metavar='N',
                        help='frames and questions per type of the calibration error (default: %(default)s)')
    parser.add_argument('--turns', type=int, default=6, help='headings per key frame (default: %(default)s)')
    parser.add_argument('--output', type=Path, help='JSON file for all figures')
    given = parser.parse_args(arguments)
    lm = load_language_model('smollm2-135m-instruct')
    method = create_method('mpnp', lm)
    link = load_link(given.links, lm=lm)
    method.plug(link)
    book = PreparedQuestions(method, QuestionFiles())
    rows: dict[str, Rows] = {}
    if given.root:
        rows = real(method, book, link.config.encoder, given)
    else:
        rows = painted(method, book, link.config.encoder, given)
    for name, row in rows.items():
        print(f'{name:24}' + '  '.join(f'{who} {table(shares)}' for who, shares in row.items()))
    if given.output:
        given.output.write_text(json.dumps(rows, indent=1))
    return 0


def real(method: Method, book: PreparedQuestions, encoder: str, given: argparse.Namespace) -> dict[str, Rows]:
    """Accuracies on all key frames of a root, by view."""
    root = NuScenes(given.root)
    frames = [frame for scene in root.scenes for frame in root.key_frames(scene['name'])]
    data = question_dataset(frames, [TrueObjects(NEARBY)], given.turns, scope=NEARBY)
    everything, data = data.examples, data.evened(given.of_each_type)
    print(f'{len(data.examples)} questions about {len(data.frames)} frames with '
          f'{np.mean([frame[OBJECTS].values.sum() for frame in data.frames.values()]):.1f} things each')
    views: dict[str, Callable[[ModalityTokens], ModalityTokens]] = {
        'hard': lambda tokens: tokens, f'statuses {SURE:.0%} sure': less_sure,
        'away': lambda tokens: turn_tokens(tokens, AWAY)}
    said = [parse_question(example.question) for example in data.examples]
    return {name: measure(method, book, encoder, data, said, view, everything)
            for name, view in views.items()}


def painted(method: Method, book: PreparedQuestions, encoder: str,
            given: argparse.Namespace) -> dict[str, Rows]:
    """Accuracies on painted frames, in the words of the templates and in free words."""
    base = list(object_key_frames(SEEDS, 6, 4., progress=False))
    rows: dict[str, Rows] = {}
    for place, doubt in enumerate(DOUBTS):
        painter = Painter(base, NEARBY, 100 + place)
        data = painted_questions((painter.paint(index, doubt, whole=True) for index in range(given.frames)),
                                 place, of_each_type=given.of_each_type, free=0.)
        said = [data.meanings[example.question] for example in data.dataset.examples]
        rows[doubt] = measure(method, book, encoder, data.dataset, said)
        if doubt == 'hard':
            for name, held_out in (('free words', False), ('held-out words', True)):
                rows[name] = measure(method, book, encoder, reworded(data, held_out), said)
            rows['away'] = measure(method, book, encoder, data.dataset, said,
                                   lambda tokens: turn_tokens(tokens, AWAY))
            seen = [replace(frame[OBJECTS], encoder=encoder) for frame in data.dataset.frames.values()]
            rows |= words_of_people(method, given.own_words, given.beyond, seen)
    if method.links()[OBJECTS].doubt is None:  # links that pool by the question have no temperature
        return rows
    painter = Painter(base, NEARBY, 100 + len(DOUBTS))
    data = painted_questions(map(painter.paint, range(given.calibration)), len(DOUBTS),
                             of_each_type=given.calibration, free=0.)
    return rows | {'calibration error': calibration(method, book, encoder, data.dataset)}


def measure(method: Method, book: PreparedQuestions, encoder: str, data: TokenDataset,
            meanings: Sequence[Meaning | None],
            view: Callable[[ModalityTokens], ModalityTokens] = lambda tokens: tokens,
            majority_of: Sequence[Example] = ()) -> Rows:
    """Accuracies by type in percent: of the majority answer of each text, of the rule and of the links.

    majority_of: the examples that define the majority; default: `data`, which overestimates the majority of
    rare texts.
    """
    seen = as_seen(data, encoder, view)
    answers: dict[str, Sequence[str | None]] = {
        'majority': majority_answers(majority_of or data.examples, data.examples),
        'rule': [rule_answer(meaning, seen[example.frame][OBJECTS], CHANNELS)
                 for example, meaning in zip(data.examples, meanings, strict=True)],
        'links': answers_of(method, data.examples, book, lambda example: seen[example.frame])}
    return {who: shares(data.examples, given) for who, given in answers.items()}


def as_seen(data: TokenDataset, encoder: str,
            view: Callable[[ModalityTokens], ModalityTokens] = lambda tokens: tokens) -> dict[str, Frame]:
    """The frames of true objects, labelled as tokens of the encoder of the links."""
    return {key: {OBJECTS: replace(view(frame[OBJECTS]), encoder=encoder)}
            for key, frame in data.frames.items()}


def calibration(method: Method, book: PreparedQuestions, encoder: str, data: TokenDataset) -> Rows:
    """Expected calibration errors in percent by type, with and without the temperature of the links."""
    seen = as_seen(data, encoder)
    doubt, found = method.links()[OBJECTS].doubt, {}
    fitted = {name: tensor.clone() for name, tensor in doubt.state_dict().items()}
    for name, tensors in (('without temperature', {key: tensor * 0 for key, tensor in fitted.items()}),
                          ('with', fitted)):
        doubt.load_state_dict(tensors)
        replies = replies_of(method, data.examples, book, lambda example: seen[example.frame])
        sure: dict[str, list[tuple[float, bool]]] = defaultdict(list)
        for example, reply in zip(data.examples, replies, strict=True):
            assert reply is not None  # nothing cancels
            for kind in ('all', example.type):
                sure[kind].append((reply.confidence, reply.text == example.answer))
        found[name] = {
            kind: round(100 * calibration_error([confidence for confidence, _ in pairs],
                                                [right for _, right in pairs]), 1)
            for kind, pairs in sure.items()}
    return found


def words_of_people(method: Method, own_words: Path | None, beyond: Path | None,
                    frames: Sequence[ModalityTokens]) -> dict[str, Rows]:
    """Accuracies by type in percent, and the shares of questions that are called unknown.

    A line of own_words: words | type | category: status | direction | reach | second thing.
    """
    rng, right, unknown = random.Random(0), defaultdict(list), defaultdict(list)
    for line in _lines(own_words):
        text, kind, thing, direction, reach, second = (part.strip() for part in line.split('|'))
        meaning = Meaning(kind, _described(thing), direction or None, _described(second) if second else None,
                          float(reach) if reach else None)
        by_answer = defaultdict(list)
        for frame in frames:
            if _is_definite(meaning, frame) and (len(frame.distance) or not reach):
                answer = rule_answer(meaning, frame, CHANNELS)
                assert answer is not None  # only for a text can it be None
                by_answer[answer].append(frame)
        asked = method.prepare(text, ANSWERS)
        for answer in rng.choices(sorted(by_answer), k=6):
            reply = method.answer(asked, {OBJECTS: rng.choice(by_answer[answer])})
            right['all'].append(reply.text == answer)
            right[kind].append(reply.text == answer)
        unknown['of own words'].append(reply.answerable < CAN_ANSWER)
    for text in _lines(beyond):
        reply = method.answer(method.prepare(text, ANSWERS), {OBJECTS: frames[0]})
        unknown['of what counts cannot answer'].append(reply.answerable < CAN_ANSWER)
    own = {'links': {name: percent(values) for name, values in right.items()}} if right else {}
    return {'own words': own,
            'called unknown': {name: {'all': percent(values)} for name, values in unknown.items()}}


def _lines(path: Path | None) -> list[str]:
    return [line for line in path.read_text('utf-8').splitlines() if line[:1] != '#'] if path else []


def _is_definite(meaning: Meaning, frame: ModalityTokens) -> bool:
    """Whether the "the ..." of a question is exactly one thing in a frame."""
    alone = Meaning('count', meaning.thing, meaning.direction, reach=meaning.reach)
    if meaning.type not in ('exist', 'count') and rule_answer(alone, frame, CHANNELS) != '1':
        return False
    return meaning.second is None or rule_answer(Meaning('count', meaning.second), frame, CHANNELS) == '1'


def _described(text: str) -> Description:
    category, _, status = text.partition(': ')
    return Description(category, status or None)


def percent(values: Sequence[bool]) -> float:
    """The share of True in percent, rounded to one digit."""
    return round(100 * float(np.mean(values)), 1)


def shares(examples: Sequence[Example], answers: Sequence[str | None]) -> dict[str, float]:
    """Accuracies of all examples and by type, in percent."""
    right: dict[str, list[bool]] = defaultdict(list)
    for example, answer in zip(examples, answers, strict=True):
        right['all'].append(answer == example.answer)
        right[example.type].append(answer == example.answer)
    return {name: percent(values) for name, values in right.items()}


def less_sure(tokens: ModalityTokens) -> ModalityTokens:
    """Tokens whose objects have their status with probability SURE; the other statuses share the rest."""
    same = CATEGORY[:, None] == CATEGORY[None]
    others = same & ~np.eye(len(CATEGORY), dtype=bool)
    spread = others / np.maximum(others.sum(1, keepdims=True), 1)
    share = np.where(others.any(1), SURE, 1.)
    values = tokens.values * share + (tokens.values * (1 - share)) @ spread
    return replace(tokens, values=values.astype(np.float32))


def reworded(data: PaintedDataset, held_out: bool) -> TokenDataset:
    """The same questions in free words.  held_out: use words that do not occur in training."""
    rng = random.Random(int(held_out))
    return replace(data.dataset, examples=tuple(
        replace(example, question=say(data.meanings[example.question], rng, held_out))
        for example in data.dataset.examples))


def table(of: Mapping[str, float]) -> str:
    """A line of text: the accuracy of all, then by type."""
    types = ' '.join(f'{name} {value:.0f}' for name, value in sorted(of.items()) if name != 'all')
    return f'{of["all"]:.1f} ({types})'


if __name__ == '__main__':
    sys.exit(main())

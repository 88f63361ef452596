"""What is measured: rests on the sensor, faithfulness, milliseconds, calibration, errors that are given."""
from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from bench.common.timing import Summary, take_turns
from bench.influence.cases import BLINDNESS, FIRST, SECOND, Case, draws, sight, without_tokens
from mpnp_ros.methods.method import Method, total_variation
from mpnp_ros.methods.questions import Reply
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.serving.coverage import not_known
from mpnp_ros.training.calibration import calibration_error

SENSORS = {'one sensor': (FIRST,), 'two sensors': (FIRST, SECOND)}
CONFIDENT, HALF = 0.8, 0.5
BATCH, DRAWN = 32, 100
REFUSED = (0., 0.5, 0.6, 0.7, 0.8, 0.9)
NAMED = (1, 3, 12)
"""Numbers of the heaviest tokens that are removed."""


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """The area under the ROC curve, 0..1; ties count one half; NaN without both kinds."""
    ranks, found = rankdata(scores), np.asarray(positive, bool)
    ones, zeros = int(found.sum()), int((~found).sum())
    if not ones or not zeros:
        return float('nan')
    return float((ranks[found].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def rests_on_sensor(method: Method, cases: Sequence[Case]) -> dict[str, Any]:
    """How well influence and support tell sensors that see what is asked from blind ones, by their AUROC.

    Each sensor is blind with probability one half.  One that sees less than half of what is asked, but is not
    blind, is left out; what it sees is known from its tokens and the meaning of the question.  `text`: the
    distance to the answer of the text alone instead, as if the gates of a single sensor were closed.
    """
    results: dict[str, Any] = {}
    for title, names in SENSORS.items():
        rows: list[tuple[str, tuple[float, float, float]]] = []
        for case, tokens, how in draws(cases, names, 1):
            asked = method.prepare(case.question, ANSWERS)
            reply = method.answer(asked, tokens, influence=True)
            told = reply.influence
            assert told is not None  # the method closes gates
            text = method.answer(asked, {}).probabilities
            for name in names:
                if not how[name] and sight(tokens[name], case.meaning) < HALF:
                    continue
                rows.append((how[name], (told.of[name], told.alone[name],
                                         total_variation(reply.probabilities, text))))
        for kind in ('all', *BLINDNESS):
            chosen = [row for row in rows if kind == 'all' or row[0] in ('', kind)]
            sees = [not row[0] for row in chosen]
            scores = {'influence': 0, 'support': 1} | ({'text': 2} if len(names) == 1 else {})
            results.setdefault(title, {})[kind] = {'n': len(chosen)} | {
                name: round(auroc([row[1][place] for row in chosen], sees), 4)
                for name, place in scores.items()}
    return results


def faithfulness(method: Method, cases: Sequence[Case], seed: int = 0) -> dict[str, Any]:
    """How much an answer changes without the tokens that it names, and without as many others.

    The change is a total variation distance.  Others are drawn at random from the rest.
    """
    rng, results = random.Random(seed), {}
    for title, names in SENSORS.items():
        changes: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for case in cases:
            tokens = {name: case.tokens[name] for name in names}
            asked = method.prepare(case.question, ANSWERS)
            reply = method.answer(asked, tokens)
            order = [(entry.modality, entry.token) for entry in reply.grounding]
            rest = [(name, token) for name in names for token in range(tokens[name].count)
                    if (name, token) not in order]
            for count in NAMED:
                heaviest = order[:count]
                if len(heaviest) < min(count, 2) or len(rest) < len(heaviest):
                    continue
                named, others = (
                    total_variation(reply.probabilities,
                                    method.answer(asked, without_tokens(tokens, gone)).probabilities)
                    for gone in (heaviest, rng.sample(rest, len(heaviest))))
                changes[count].append((named, others))
        results[title] = {str(count): {
            'n': len(pairs), 'named': round(float(np.mean([named for named, _ in pairs])), 4),
            'others': round(float(np.mean([others for _, others in pairs])), 4),
            'more': round(float(np.mean([(named > others) + (named == others) / 2
                                         for named, others in pairs])), 4)}
            for count, pairs in changes.items() if pairs}
    return results


def milliseconds(method: Method, cases: Sequence[Case], rounds: int) -> dict[str, Any]:
    """Times of an answer to a standing question with and without influence, taking turns in one process.

    `cpu`: CPU milliseconds of the process, which other programs on the machine disturb less.
    """
    results = {}
    case = cases[0]
    asked = method.prepare(case.question, ANSWERS)
    for title, names in SENSORS.items():
        frames = [{name: other.tokens[name] for name in names} for other in cases[:50]]
        spent: dict[str, list[float]] = defaultdict(list)

        def answer(number: int, influence: bool, frames: list[Any] = frames,
                   spent: dict[str, list[float]] = spent) -> None:
            started = time.process_time()
            method.answer(asked, frames[number % len(frames)], influence)
            spent['with' if influence else 'without'].append(time.process_time() - started)

        walls = take_turns({'without': lambda number: answer(number, False),
                            'with': lambda number: answer(number, True)}, rounds, 10)
        results[title] = {name: {'wall p50': round(Summary.of(walls[name]).p50, 2),
                                 'cpu p50': round(Summary.of(spent[name][10:]).p50, 2)} for name in walls}
    return results


def replies_to(method: Method, cases: Sequence[Case], names: Sequence[str], blind: bool,
               ) -> list[tuple[Case, Reply, bool]]:
    """The reply to each case, and whether it is called unknown; blind: blind sensors at random, see draws."""
    found = []
    for case, tokens, _ in draws(cases, names, 2):
        tokens = tokens if blind else {name: case.tokens[name] for name in names}
        reply = method.answer(method.prepare(case.question, ANSWERS), tokens)
        looked = {name: frame.sectors_looked_at() for name, frame in tokens.items()}
        found.append((case, reply, bool(not_known(reply.counted, reply.answerable, looked))))
    return found


def calibration(method: Method, cases: Sequence[Case], names: Sequence[str], blind: bool,
                ) -> dict[str, dict[str, float]]:
    """Expected calibration error in percentage points by type of question, of answers in batches.

    `chance`: what answers of the same confidences would have on average if each were right with the
    probability that it says; so many questions do not show less.
    """
    views = list(draws(cases, names, 3))
    by_type: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    order = sorted(range(len(views)), key=lambda place: len(views[place][0].question))
    for start in range(0, len(order), BATCH):
        chosen = [views[place] for place in order[start:start + BATCH]]
        asked = [method.prepare(case.question, ANSWERS) for case, _, _ in chosen]
        seen = [tokens if blind else {name: case.tokens[name] for name in names}
                for case, tokens, _ in chosen]
        for (case, _, _), reply in zip(chosen, method.answer_batch(asked, seen), strict=True):
            for kind in ('all', case.type):
                by_type[kind].append((reply.confidence, reply.text == case.answer))
    rng, found = np.random.default_rng(0), {}
    for kind, pairs in sorted(by_type.items()):
        sure = np.array([confidence for confidence, _ in pairs])
        drawn = [calibration_error(sure.tolist(), (rng.random(len(sure)) < sure).tolist())
                 for _ in range(DRAWN)]
        error = calibration_error(sure.tolist(), [right for _, right in pairs])
        found[kind] = {'error': round(100 * error, 1), 'chance': round(100 * float(np.mean(drawn)), 1)}
    return found


def errors(replies: Sequence[tuple[Case, Reply, bool]]) -> dict[str, Mapping[str, float]]:
    """Answers and errors a thousand questions: of all, of those not called unknown, and with refuse_below."""
    rows: dict[str, Mapping[str, float]] = {}
    for title, unknown, least in [('everything answered', False, 0.),
                                  *((f'refuse_below {least:g}' if least else 'unknown said', True, least)
                                    for least in REFUSED)]:
        given = [(reply.confidence, reply.text == case.answer) for case, reply, told in replies
                 if not (unknown and told) and reply.confidence >= least]
        wrong = [confidence for confidence, right in given if not right]
        rows[title] = {
            'answered': round(1000 * len(given) / len(replies)),
            'errors': round(1000 * len(wrong) / len(replies)),
            'confident errors': round(1000 * sum(sure >= CONFIDENT for sure in wrong) / len(replies)),
            'accuracy': round(100 * (1 - len(wrong) / len(given)), 1) if given else float('nan')}
    return rows

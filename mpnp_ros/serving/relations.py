"""Answers to questions that relate two other things to each other, in steps that need no relation.

First the anchor is asked for.  The tokens that this answer rests on tell where it is.  Then tokens are moved
so that the anchor is in the place of the vehicle, and the question is asked as if it were about the vehicle.
So the frozen model and the links answer questions with one hop without having been trained on any.  Sensors
must tell how far things are.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.grounding import MOST
from mpnp_ros.methods.questions import Grounding, Reply, Tokens
from mpnp_ros.questions.relations import (
    FROM_ANCHOR,
    FROM_BOTH,
    SAME_STATUS,
    RelatedQuestion,
    related_question,
    status_question,
    statuses_of,
)
from mpnp_ros.questions.vocabulary import STATUSES, lies
from mpnp_ros.tokens import ModalityTokens, sector_azimuths, sector_of

YES_NO = ('no', 'yes')
SOME = 0.05
"""Expected number from which a token may hold the anchor; the one that holds most does."""
SAME_PLACE = 2.0
"""Metres around the anchor within which tokens are taken for the anchor itself."""
RANGES = np.arange(4., 21., 4.)
"""Metres from the anchor at which it is decided whether a sensor looks there."""


@dataclass(frozen=True)
class Related:
    """The answer to a related question.

    unknown: why there is none, in words; then `reply` is None.  steps: the answers that led to it.
    """

    reply: Reply | None
    unknown: str = ''
    steps: tuple[Reply, ...] = ()


def placed(tokens: Tokens) -> dict[str, ModalityTokens]:
    """Return the tokens of modalities that tell how far things are."""
    return {name: frame for name, frame in tokens.items() if np.isfinite(frame.distance).any()}


def answer_related(method: Method, question: RelatedQuestion, choices: Sequence[str],
                   tokens: Tokens) -> Related | None:
    """Answer a related question with choices from the tokens of one frame, in several passes.

    The reply has no counts, which would be about other places than those named.  The weights of the tokens
    that it rests on are shared evenly between the steps.  None: the question must be asked as it is, because
    the method does not tell what its answers rest on, or a comparison has no yes and no.  Raises
    QuestionError.
    """
    if question.second is not None and not set(YES_NO) <= set(map(str.casefold, choices)):
        return None
    seen = placed(tokens)
    if not seen:
        return Related(None, 'unknown: the sensors in use do not tell how far things are, which a question '
                             'about the place of one thing beside another needs')

    def ask(text: str, answers: Sequence[str], frame: Tokens) -> Reply:
        return method.answer_each([method.prepare(text, answers)], [frame])[0]

    steps = [ask(question.whether, YES_NO, seen)]
    if not steps[0].grounding:
        return None
    anchor = _anchor(steps[0].grounding, seen)
    if anchor is None:
        return Related(None, f'unknown: no {question.anchor.singular} is seen whose place is known',
                       tuple(steps))
    others, kept = _others(seen, question, _positions(seen[anchor.modality])[anchor.token])
    if question.form == SAME_STATUS:
        status = question.anchor.status
        if status is None:
            steps.append(ask(status_question(question.anchor), statuses_of(question.anchor), seen))
            status = steps[-1].text
        steps.append(ask(question.of_status(status), choices, others))
    else:
        steps.append(ask(question.text, choices if question.second is None else STATUSES, others))
    rests_on = [[anchor], [replace(entry, token=int(kept[entry.modality][entry.token]))
                           for entry in steps[-1].grounding if entry.token < len(kept[entry.modality])]]
    reply = steps[-1]
    if question.second is not None:
        steps.append(ask(status_question(question.second), STATUSES, seen))
        reply = _compared(reply, steps[-1], choices)
        rests_on.append(list(steps[-1].grounding))
    return Related(replace(reply, used=tuple(sorted(seen)), counted=(), grounding=_shared(rests_on),
                           seconds=sum(step.seconds for step in steps)), '', tuple(steps))


def reply_in_steps(method: Method, text: str, choices: Sequence[str], tokens: Tokens) -> Reply | None:
    """Return the answer to a question in steps; None if it is no related one, or steps do not lead to it."""
    question = related_question(text) if choices and tokens else None
    found = answer_related(method, question, choices, tokens) if question else None
    return found.reply if found else None


def _shared(groups: Sequence[Sequence[Grounding]]) -> tuple[Grounding, ...]:
    """Return the heaviest tokens of several answers, each of which has the same weight."""
    told = [group for group in groups if group]
    weighed = [replace(entry, weight=entry.weight / sum(other.weight for other in group) / len(told))
               for group in told for entry in group]
    return tuple(sorted(weighed, key=lambda entry: -entry.weight)[:MOST])


def _anchor(grounding: Sequence[Grounding], tokens: Tokens) -> Grounding | None:
    """Return the token that holds most of the anchor, of those whose place is known; None without any."""
    located = [entry for entry in grounding if entry.expected >= SOME
               and np.isfinite(tokens[entry.modality].distance[entry.token:entry.token + 1]).all()]
    return max(located, key=lambda entry: entry.expected, default=None)


def _positions(frame: ModalityTokens) -> np.ndarray:
    """Return where tokens are, [P, 2] metres ahead and to the left; NaN where that is not known."""
    return frame.distance[:, None] * np.stack([np.cos(frame.azimuth), np.sin(frame.azimuth)], 1)


def _others(tokens: Tokens, question: RelatedQuestion,
            place: np.ndarray) -> tuple[dict[str, ModalityTokens], Mapping[str, np.ndarray]]:
    """Return the tokens of things beside the anchor, as the question needs them, and their indices.

    FROM_ANCHOR: the anchor is in the place of the vehicle.  FROM_BOTH: those in a direction from the anchor.
    place: of the anchor, [2] metres.
    """
    frames, kept = {}, {}
    for name, frame in tokens.items():
        offsets = _positions(frame) - place
        apart = np.hypot(*offsets.T)
        keep = apart > SAME_PLACE  # false where it is not known
        if question.form == FROM_BOTH:
            keep &= [bool(known) and lies(question.direction, x, y)
                     for known, (x, y) in zip(np.isfinite(apart), offsets, strict=True)]
        kept[name], looked = np.flatnonzero(keep), frame.sectors_looked_at()
        if question.form == FROM_ANCHOR:
            looked = _looked(looked, place)
            frame = replace(frame, azimuth=np.arctan2(offsets[:, 1], offsets[:, 0]).astype(np.float32),
                            distance=apart.astype(np.float32))
        frames[name] = _part(frame, kept[name], looked)
    return frames, kept


def _looked(looked: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return in which sectors around a place most of the points up to the last of RANGES are looked at.

    looked: the sectors around the vehicle, bool [SECTORS].
    """
    ahead, left = (place[axis] + np.outer(function(sector_azimuths()), RANGES)
                   for axis, function in enumerate((np.cos, np.sin)))
    return looked[sector_of(np.arctan2(left, ahead))].mean(1) > 0.5


def _part(frame: ModalityTokens, rows: np.ndarray, looked: np.ndarray) -> ModalityTokens:
    """Return some of the tokens with the sectors that are looked at; without any, one that counts nothing."""
    if not len(rows):
        return replace(frame, values=np.zeros_like(frame.values[:1]),
                       azimuth=np.full(1, math.nan, np.float32), distance=np.full(1, math.nan, np.float32),
                       source_index=frame.source_index[:1], boxes=frame.boxes[:1], looked=looked)
    parts = {name: getattr(frame, name)[rows] for name in ('source_index', 'boxes')
             if len(getattr(frame, name))}
    return replace(frame, values=frame.values[rows], azimuth=frame.azimuth[rows],
                   distance=frame.distance[rows], looked=looked, **parts)


def _compared(first: Reply, second: Reply, choices: Sequence[str]) -> Reply:
    """Return the answer whether two statuses are the same, from the probabilities of both.

    choices: yes and no, in any case, and perhaps others.
    """
    same = min(1., sum(one * other for one, other in zip(first.probabilities, second.probabilities,
                                                         strict=True)))
    shares = tuple({'yes': same, 'no': 1 - same}.get(choice.casefold(), 0.) for choice in choices)
    best = max(range(len(shares)), key=shares.__getitem__)
    return replace(first, text=choices[best], confidence=shares[best], probabilities=shares)

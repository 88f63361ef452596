"""Answers without a language model: a fixed rule that reads the question and adds up sector tokens.

The yardstick of learning.md: what the tokens themselves know.  It understands questions that follow no
relation between things; the others get no answer.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mpnp_ros.modalities.sector_head import Channel
from mpnp_ros.nuscenes.categories import MAX_COUNT, THING
from mpnp_ros.nuscenes.phrasing import Meaning
from mpnp_ros.nuscenes.relations import relation
from mpnp_ros.nuscenes.templates import Description
from mpnp_ros.nuscenes.wording import descriptions, read_question
from mpnp_ros.tokens import ModalityTokens

FORMS = ('any', 'me')
PRESENT = 0.5


def rule_answer(question: str, tokens: ModalityTokens, channels: Sequence[Channel]) -> str | None:
    """Answer a question of the package's templates from the expected numbers in tokens, None for others.

    tokens: values [sectors, C] in the order of ``channels``, with their azimuths.
    """
    parsed = parse_question(question)
    if parsed is None:
        return None
    return _ANSWERS[parsed.type](parsed, _Counts(tokens, channels))


def parse_question(question: str) -> Meaning | None:
    """The parts of a question, or None where it follows no template of the forms "any" and "me"."""
    wording = read_question(question)
    if wording is None or wording.kind[2] not in FORMS:
        return None
    parts = wording.slots
    names = [descriptions()[parts[slot]] for slot in ('things', 'thing', 'first', 'second') if slot in parts]
    return Meaning(wording.kind[0], names[0], parts.get('relation'), names[1] if names[1:] else None)


class _Counts:
    """Expected numbers, added up over directions and channels."""

    def __init__(self, tokens: ModalityTokens, channels: Sequence[Channel]) -> None:
        self.channels = channels
        self._values = tokens.values.astype(np.float64)
        self._directions = np.array([relation(np.cos(angle), np.sin(angle)) for angle in tokens.azimuth])

    def of(self, thing: Description, direction: str | None) -> np.ndarray:
        """The numbers [C] in a direction, 0 for channels that the description does not fit."""
        there = self._values if direction is None else self._values[self._directions == direction]
        fits = [thing.category in (THING, category) and thing.status in (None, status)
                for category, status in self.channels]
        return there.sum(0) * fits

    def likeliest(self, thing: Description, direction: str | None, part: int) -> str:
        """The category (part 0) or status (part 1) that most of the objects have."""
        totals: dict[str, float] = {}
        for channel, number in zip(self.channels, self.of(thing, direction), strict=True):
            if channel[part] is not None:
                totals[channel[part]] = totals.get(channel[part], 0.0) + number
        return max(totals, key=totals.__getitem__)


def _exist(parsed: Meaning, counts: _Counts) -> str:
    return _yes_no(counts.of(parsed.thing, parsed.direction).sum() > PRESENT)


def _count(parsed: Meaning, counts: _Counts) -> str:
    return str(min(MAX_COUNT, round(counts.of(parsed.thing, parsed.direction).sum())))


def _object(parsed: Meaning, counts: _Counts) -> str:
    return counts.likeliest(parsed.thing, parsed.direction, 0)


def _status(parsed: Meaning, counts: _Counts) -> str:
    return counts.likeliest(parsed.thing, parsed.direction, 1)


def _comparison(parsed: Meaning, counts: _Counts) -> str:
    return _yes_no(_status(parsed, counts) == counts.likeliest(parsed.second, None, 1))


_ANSWERS: dict[str, Callable[[Meaning, _Counts], str]] = {
    'exist': _exist, 'count': _count, 'object': _object, 'status': _status, 'comparison': _comparison}


def _yes_no(value: bool) -> str:
    return 'yes' if value else 'no'

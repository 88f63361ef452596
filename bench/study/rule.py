"""A fixed rule that answers from sector tokens without a language model.

A yardstick for links: what the tokens themselves know.  It understands questions that follow no
relation between things; the others get no answer.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mpnp_ros.modalities.heads import Channel
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.vocabulary import MAX_COUNT, THING, lies
from mpnp_ros.questions.wording import Description, descriptions, read_question
from mpnp_ros.tokens import ModalityTokens

FORMS = ('any', 'me')
PRESENT = 0.5


def rule_answer(question: str | Meaning, tokens: ModalityTokens, channels: Sequence[Channel]) -> str | None:
    """Answer a question of the package's templates from the expected numbers in tokens, None for others.

    question: its text, or its meaning.  tokens: values [P, C] in the order of ``channels``, with azimuths.
    """
    meaning = parse_question(question) if isinstance(question, str) else question
    return None if meaning is None else _ANSWERS[meaning.type](meaning, _Counts(tokens, channels))


def parse_question(question: str) -> Meaning | None:
    """Return the parts of a question, or None if it follows no template of the forms "any" and "me"."""
    wording = read_question(question)
    if wording is None or wording.kind[2] not in FORMS:
        return None
    parts = wording.slots
    names = [descriptions()[parts[slot]] for slot in ('things', 'thing', 'first', 'second') if slot in parts]
    return Meaning(wording.kind[0], names[0], parts.get('relation'), names[1] if names[1:] else None)


class _Counts:
    """Expected numbers, added up over directions, distances and channels."""

    def __init__(self, tokens: ModalityTokens, channels: Sequence[Channel]) -> None:
        self.channels, self._tokens = channels, tokens

    def of(self, thing: Description, direction: str | None, reach: float | None = None) -> np.ndarray:
        """Return the numbers [C] there, 0 for channels that do not match the description."""
        tokens = self._tokens
        there = np.ones(tokens.count, bool)
        if direction is not None:
            there = np.array([lies(direction, np.cos(angle), np.sin(angle)) for angle in tokens.azimuth])
        if reach is not None and len(tokens.distance):
            there &= ~(tokens.distance > reach)
        fits = [thing.category in (THING, category) and thing.status in (None, status)
                for category, status in self.channels]
        return tokens.values[there].astype(np.float64).sum(0) * fits

    def asked(self, meaning: Meaning) -> np.ndarray:
        """Return the numbers [C] of the objects in a question."""
        return self.of(meaning.thing, meaning.direction, meaning.reach)

    def likeliest(self, numbers: np.ndarray, part: int) -> str:
        """Return the category (part 0) or status (part 1) of most of the objects."""
        totals: dict[str, float] = {}
        for channel, number in zip(self.channels, numbers, strict=True):
            if channel[part] is not None:
                totals[channel[part]] = totals.get(channel[part], 0.0) + number
        return max(totals, key=totals.__getitem__)


def _exist(meaning: Meaning, counts: _Counts) -> str:
    return _yes_no(counts.asked(meaning).sum() > PRESENT)


def _count(meaning: Meaning, counts: _Counts) -> str:
    return str(min(MAX_COUNT, round(counts.asked(meaning).sum())))


def _object(meaning: Meaning, counts: _Counts) -> str:
    return counts.likeliest(counts.asked(meaning), 0)


def _status(meaning: Meaning, counts: _Counts) -> str:
    return counts.likeliest(counts.asked(meaning), 1)


def _comparison(meaning: Meaning, counts: _Counts) -> str:
    return _yes_no(_status(meaning, counts) == counts.likeliest(counts.of(meaning.second, None), 1))


_ANSWERS: dict[str, Callable[[Meaning, _Counts], str]] = {
    'exist': _exist, 'count': _count, 'object': _object, 'status': _status, 'comparison': _comparison}


def _yes_no(value: bool) -> str:
    return 'yes' if value else 'no'

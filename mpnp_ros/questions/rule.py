"""A fixed rule that answers from sector tokens without a language model, to compare links with.

It answers questions that follow no relation between things.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.vocabulary import MAX_COUNT, THING, Channel, lies
from mpnp_ros.questions.wording import Description, descriptions, read_question
from mpnp_ros.tokens import ModalityTokens

FORMS = ('any', 'me')
PRESENT = 0.5


def rule_answer(question: str | Meaning | None, tokens: ModalityTokens,
                channels: Sequence[Channel]) -> str | None:
    """Return the answer to a question of the package's templates by the expected numbers in tokens, or None.

    question: its text, or its meaning; None: of no template.  tokens: values [P, C] in the order of
    ``channels``, with azimuths.
    """
    meaning = parse_question(question) if isinstance(question, str) else question
    if meaning is None:
        return None
    counts = _Counts(tokens, channels)
    asked = counts.of(meaning.thing, meaning.direction, meaning.reach)
    if meaning.type == 'exist':
        return 'yes' if asked.sum() > PRESENT else 'no'
    if meaning.type == 'count':
        return str(min(MAX_COUNT, round(asked.sum())))
    if meaning.type == 'object':
        return counts.likeliest(asked, 0)
    status = counts.likeliest(asked, 1)
    if meaning.type == 'status':
        return status
    assert meaning.second is not None  # a comparison has one
    return 'yes' if status == counts.likeliest(counts.of(meaning.second, None), 1) else 'no'


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

    def likeliest(self, numbers: np.ndarray, part: int) -> str:
        """Return the category (part 0) or status (part 1) of most of the objects."""
        totals: dict[str, float] = {}
        for channel, number in zip(self.channels, numbers, strict=True):
            name = channel[part]
            if name is not None:
                totals[name] = totals.get(name, 0.0) + number
        return max(totals, key=totals.__getitem__)

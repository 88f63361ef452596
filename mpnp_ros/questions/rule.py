"""Fixed rules that answer from tokens without a language model, to compare links with.

Of things around the robot they answer questions that follow no relation between things; of own motion and
sounds, all.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.subjects import MOST_TELLING, NOTHING, UNKNOWN, States
from mpnp_ros.questions.vocabulary import MAX_COUNT, RELATIONS, THING, Channel, lies
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


def state_answer(meaning: Meaning, tokens: ModalityTokens, subject: States) -> str:
    """Return the most probable answer to a question about own motion or sounds.

    tokens: values [P, C] in the order of the channels of the subject; a sound is there at most once.
    """
    known = tokens.known if len(tokens.known) else np.ones(tokens.width, bool)
    told = [place for place, (category, status) in enumerate(subject.channels) if known[place]
            and meaning.thing.category in (THING, category) and meaning.thing.status in (None, status)]
    if not told:
        return UNKNOWN
    values = tokens.values[:, told].astype(np.float64)
    nowhere = np.isnan(tokens.azimuth)

    def towards(direction: str) -> np.ndarray:
        return np.array([not unplaced and lies(direction, np.cos(angle), np.sin(angle))
                         for angle, unplaced in zip(tokens.azimuth, nowhere, strict=True)])

    if meaning.type == 'status':
        return str(subject.channels[told[int(values.sum(0).argmax())]][1])
    if meaning.type == 'where':
        shares = {direction: float(values[towards(direction)].sum()) for direction in RELATIONS}
        return _most({**shares, UNKNOWN: 1 - sum(shares.values())})
    there, unplaced = values.sum(0), np.zeros(len(told))
    if meaning.direction is not None:
        there, unplaced = values[towards(meaning.direction)].sum(0), values[nowhere].sum(0)
    if meaning.type == 'object':
        loud = [category for category in MOST_TELLING for place, share in zip(told, there, strict=True)
                if subject.channels[place][0] == category and share > PRESENT]
        return loud[0] if loud else UNKNOWN if unplaced.max() > PRESENT else NOTHING
    yes = 1 - float(np.prod(1 - there.clip(0, 1)))
    unclear = float((1 - there.clip(0, 1)).prod() - (1 - (there + unplaced).clip(0, 1)).prod())
    return _most({'yes' if meaning.type == 'exist' else 'no': yes, UNKNOWN: unclear,
                  'no' if meaning.type == 'exist' else 'yes': 1 - yes - unclear})


def _most(shares: dict[str, float]) -> str:
    return max(shares, key=shares.__getitem__)


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

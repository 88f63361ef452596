"""Directions in which sensors look and questions ask, and counts behind an answer in words."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from mpnp_ros.methods.questions import Counted
from mpnp_ros.tokens import SECTOR

NEARLY_ALL = 0.95

DIRECTIONS: Mapping[str, tuple[int, int]] = {
    'front': (-30, 30), 'front left': (30, 90), 'back left': (90, 150), 'back': (150, 210),
    'back right': (210, 270), 'front right': (270, 330), 'left': (30, 150), 'right': (210, 330)}
"""Degrees counter-clockwise from ahead: the six of NuScenes-QA, and left and right as a whole."""

_PLACE = re.compile(r'\b(?:to|on|at|from|in) (?:the |my |our |your )?'
                    r'(?P<along>front|back|rear)?(?:[ -](?=left|right))?(?P<across>left|right)?\b')
_WORD = re.compile(r'\b(?P<word>behind|ahead|in front)\b')
_ASKER = re.compile(r'(?:me|us|you|myself|ourselves|yourself|the ego(?:[ -]?vehicle|[ -]?car)?|'
                    r'(?:the|this) robot|(?:my|our|your|this) (?:car|vehicle|robot))\b')

CAN_ANSWER = 0.5
"""Probability below which counts cannot answer a question."""
TOLD = 0.02
"""Least share of the asked region and channels that must be seen and known."""


def share(seen: np.ndarray, direction: str) -> float:
    """Return the visible share of a direction, 0..1.  direction: one of :data:`DIRECTIONS`."""
    first, last = ((edge + 180) // SECTOR for edge in DIRECTIONS[direction])
    return float(np.take(seen, range(first, last), mode='wrap').mean())


def ranges(seen: np.ndarray) -> str:
    """Return the visible ranges in words, such as ``from -35 to 35 deg``, ``all around`` or ``nothing``."""
    if seen.all() or not seen.any():
        return 'all around' if seen.all() else 'nothing'
    begins = np.flatnonzero(seen & ~np.roll(seen, 1))
    lengths = [int(np.argmin(np.roll(seen, -begin))) for begin in begins]
    edges = [(begin * SECTOR - 180, (begin + length) * SECTOR - 180)
             for begin, length in zip(begins.tolist(), lengths, strict=True)]
    return ' and '.join(f'from {begin} to {end} deg' for begin, end in edges)


def directions_asked(text: str) -> tuple[str, ...]:
    """Return the directions relative to the asker in a question, as keys of :data:`DIRECTIONS`.

    Recognised are the wordings of NuScenes-QA ("to the back left of me") and common others ("behind us", "on
    my left", "ahead").  Directions relative to another object ("behind the truck") are not among them.
    """
    words = ' '.join(text.casefold().split())
    found: dict[str, None] = {}
    for match in _PLACE.finditer(words):
        along, across = match['along'] or '', match['across'] or ''
        name = ' '.join(filter(None, ('back' if along == 'rear' else along, across)))
        # the asker's if followed by "of me", or by no other object
        rest = re.sub(r'^[ -](?:hand )?side\b', '', words[match.end():])
        if name and (not rest.startswith(' of ') or _ASKER.match(rest.removeprefix(' of '))):
            found[name] = None
    for match in _WORD.finditer(words):
        rest = words[match.end():]
        alone = re.match(r'\s*(?:$|[?.!,;:]|(?:and|or|now|there)\b)', rest)
        if alone or _ASKER.match(rest.removeprefix(' of').lstrip()) \
                or (match['word'] == 'ahead' and not rest.startswith(' of ')):
            found['back' if match['word'] == 'behind' else 'front'] = None
    return tuple(found)


def unseen(text: str, seen: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """Return why a direction of the question is not seen: (why there is no answer, what lowers its value).

    seen: visible sectors of each modality that an answer would use, of at least one.  At most one text is not
    empty.
    """
    together = np.logical_or.reduce(list(seen.values()))
    asked = directions_asked(text)
    shares = {name: share(together, name) for name in asked}
    sees = '; '.join(f'{name} sees {ranges(sectors)}' for name, sectors in sorted(seen.items()))
    if asked and not any(shares.values()):
        return f'no sensor looks to the {" or the ".join(asked)}: {sees}; add one that does', ''
    little = [f'{100 * part:.0f} % of the {name}' for name, part in shares.items() if part < NEARLY_ALL]
    if little:
        return '', f'only {" and ".join(little)} is seen: {sees}'
    return '', '' if asked or together.mean() >= NEARLY_ALL else f'not all around is seen: {sees}'


def direction_of(sectors: np.ndarray) -> str:
    """Return the region of a count: a direction, ranges, or empty for all around."""
    if sectors.all():
        return ''
    named = (name for name, (first, last) in DIRECTIONS.items()
             if share(sectors, name) == 1 and sectors.sum() == (last - first) // SECTOR)
    return next(named, ranges(sectors))


def not_known(counted: Sequence[Counted], answerable: float,
              looked: Mapping[str, np.ndarray] = MappingProxyType({})) -> str:
    """Return why an answer is unknown, empty if it is not.

    counted: by all sensors together first; each thing that the question asks about is one of these.
    answerable: probability that counts can answer the question.  looked: visible sectors of each modality.
    """
    if answerable < CAN_ANSWER:
        return ('unknown: nothing that the sensors in use tell answers this; ask what is where, how many '
                'there are or what they do; with an IMU how you move, with microphones what you hear')
    for count in counted:
        if count.modality == counted[0].modality and not count.covered > TOLD:
            return f'unknown: {_why_untold(count, looked)}; add one that does'
    return ''


def _why_untold(count: Counted, looked: Mapping[str, np.ndarray]) -> str:
    """Return why no sensor tells what a probe asks for: none looks there, or those that do cannot tell it."""
    there = sorted(name for name, sectors in looked.items()
                   if count.sectors.any() and sectors[count.sectors].mean() > TOLD)
    if looked and not there:
        sees = '; '.join(f'{name} sees {ranges(sectors)}' for name, sectors in sorted(looked.items()))
        where = direction_of(count.sectors)
        where = f'to the {where}' if where in DIRECTIONS else where
        return f'no sensor in use looks {where or "anywhere"} ({sees})'
    where = 'all around' if count.sectors.all() else 'there'
    who = f' ({", ".join(there)} {"looks" if len(there) == 1 else "look"} {where})' if there else ''
    return f'no sensor in use can tell a {count.sort}{"" if count.sectors.all() else " there"}{who}'

"""Parses questions in the wordings of the templates and adapts them to a turned vehicle."""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from mpnp_ros.nuscenes.templates import TEMPLATES, Description
from mpnp_ros.nuscenes.vocabulary import CATEGORIES, RELATIONS, STATUSES, THING

SIXTHS = ('front', 'front left', 'back left', 'back', 'back right', 'front right')
"""The relations counter-clockwise from ahead, 60 degrees each."""


@dataclass(frozen=True)
class Wording:
    """A parsed question: key of TEMPLATES, template and slots."""

    kind: tuple[str, int, str]
    template: str
    slots: Mapping[str, str]


def turned_question(text: str, sixths: int) -> str | None:
    """The question with the same answer for a vehicle turned left by `sixths` times 60 degrees.

    The front left then becomes the front.  None for relations to other things, which do not turn, and for
    unknown wordings, which may have directions.
    """
    wording = read_question(text)
    if wording is None:
        return None
    direction = wording.slots.get('relation')
    if direction is None:
        return text
    if 'anchor' in wording.slots:
        return None
    seen = SIXTHS[(SIXTHS.index(direction) - sixths) % len(SIXTHS)]
    return wording.template.format(**{**wording.slots, 'relation': seen})


@lru_cache(8192)
def read_question(text: str) -> Wording | None:
    """The parsed question; None if it does not follow a template."""
    for kind, template, pattern in _patterns():
        if match := pattern.fullmatch(text):
            return Wording(kind, template, match.groupdict())
    return None


@cache
def descriptions() -> Mapping[str, Description]:
    """All descriptions by singular and plural."""
    every = [Description(category, status)
             for category in (*CATEGORIES, THING) for status in (None, *STATUSES)]
    return {name: wording for wording in every for name in (wording.singular, wording.plural)}


@cache
def _patterns() -> tuple[tuple[tuple[str, int, str], str, re.Pattern[str]], ...]:
    things = '|'.join(map(re.escape, descriptions()))
    directions = '|'.join(RELATIONS)
    slots = {slot: f'(?P<{slot}>{things})' for slot in ('things', 'thing', 'first', 'second', 'anchor')}
    slots |= {slot: f'(?P<{slot}>{directions})' for slot in ('relation', 'relation2')}
    return tuple((kind, template, re.compile(_pattern(template, slots)))
                 for kind, templates in TEMPLATES.items() for template in templates)


def _pattern(template: str, slots: Mapping[str, str]) -> str:
    parts = re.split(r'\{(\w+)\}', template)
    return ''.join(slots[part] if place % 2 else re.escape(part) for place, part in enumerate(parts))

"""The wordings of NuScenes-QA questions (arXiv:2305.14836), with correct singular and plural; reads them too.

A template is a format string. Its slots: ``things`` and ``thing`` (a description in plural or singular),
``relation``, ``anchor`` (what the relation is relative to: "me" or "the ..."), ``a_anchor`` ("a ..."),
and ``first`` and ``second`` (the compared things).
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from mpnp_ros.questions.vocabulary import CATEGORIES, RELATIONS, STATUSES, THING

SIXTHS = ('front', 'front left', 'back left', 'back', 'back right', 'front right')
"""The relations counter-clockwise from ahead, 60 degrees each."""


@dataclass(frozen=True, order=True)
class Description:
    """The description of an object: a category or "thing", with or without a status."""

    category: str
    status: str | None = None

    @property
    def singular(self) -> str:
        """Return the singular, for example ``moving car`` or ``bicycle with rider``."""
        return self._with_status(self.category)

    @property
    def plural(self) -> str:
        """Return the plural, for example ``parked buses``."""
        return self._with_status(self.category + ('es' if self.category.endswith('s') else 's'))

    def _with_status(self, noun: str) -> str:
        if self.status is None:
            return noun
        return f'{noun} {self.status}' if self.status.endswith('rider') else f'{self.status} {noun}'


ANYTHING = Description(THING)

TYPES = ('exist', 'count', 'object', 'status', 'comparison')
"""What is asked: the first part of the keys of TEMPLATES."""
TEMPLATES: dict[tuple[str, int, str], tuple[str, ...]] = {
    ('exist', 0, 'any'): (
        'Are there any {things}?',
        'Are any {things} visible?',
    ),
    ('exist', 1, 'me'): (
        'Are there any {things} to the {relation} of me?',
        'Are any {things} to the {relation} of me visible?',
    ),
    ('exist', 1, 'anchor'): (
        'Are there any {things} to the {relation} of the {anchor}?',
        'There is a {anchor}; are there any {things} to the {relation} of it?',
    ),
    ('exist', 1, 'same'): (
        'Are there any other {things} of the same status as the {anchor}?',
        'Is there another {thing} of the same status as the {anchor}?',
        'There is a {anchor}; are there any other {things} of the same status as it?',
    ),
    ('count', 0, 'any'): (
        'How many {things} are there?',
        'What number of {things} are there?',
    ),
    ('count', 1, 'me'): (
        'How many {things} are there to the {relation} of me?',
        'What number of {things} are to the {relation} of me?',
    ),
    ('count', 1, 'anchor'): (
        'How many {things} are there to the {relation} of the {anchor}?',
        'What number of {things} are to the {relation} of the {anchor}?',
        'There is a {anchor}; how many {things} are to the {relation} of it?',
        'There is a {anchor}; what number of {things} are to the {relation} of it?',
    ),
    ('count', 1, 'same'): (
        'How many other {things} are there of the same status as the {anchor}?',
        'What number of other {things} are there of the same status as the {anchor}?',
        'There is a {anchor}; what number of other {things} are there of the same status as it?',
    ),
    ('object', 0, 'any'): (
        'The {thing} is what?',
        'There is a {thing}; what is it?',
        'What is the {thing}?',
    ),
    ('object', 1, 'me'): (
        'What is the {thing} that is to the {relation} of me?',
        'The {thing} that is to the {relation} of me is what?',
        'There is a {thing} that is to the {relation} of me; what is it?',
    ),
    ('object', 1, 'anchor'): (
        'What is the {thing} that is to the {relation} of the {anchor}?',
        'The {thing} that is to the {relation} of the {anchor} is what?',
        'There is a {thing} that is to the {relation} of the {anchor}; what is it?',
    ),
    ('object', 1, 'both'): (
        'What is the {thing} that is both to the {relation} of me and the {relation2} of the {anchor}?',
        'The {thing} that is both to the {relation} of me and the {relation2} of the {anchor} is what?',
    ),
    ('status', 0, 'any'): (
        'There is a {thing}; what status is it?',
        'What status is the {thing}?',
        'The {thing} is in what status?',
        'What is the status of the {thing}?',
    ),
    ('status', 1, 'me'): (
        'What status is the {thing} to the {relation} of me?',
        'What is the status of the {thing} to the {relation} of me?',
        'The {thing} that is to the {relation} of me is in what status?',
        'There is a {thing} to the {relation} of me; what status is it?',
    ),
    ('status', 1, 'anchor'): (
        'What status is the {thing} to the {relation} of the {anchor}?',
        'What is the status of the {thing} to the {relation} of the {anchor}?',
        'The {thing} that is to the {relation} of the {anchor} is in what status?',
        'There is a {thing} to the {relation} of the {anchor}; what status is it?',
    ),
    ('comparison', 0, 'any'): (
        'Do the {first} and the {second} have the same status?',
        'Does the {first} have the same status as the {second}?',
        'Is the status of the {first} the same as the {second}?',
    ),
    ('comparison', 1, 'me'): (
        'There is a {first} to the {relation} of me; is it the same status as the {second}?',
        'Does the {first} to the {relation} of me have the same status as the {second}?',
        'Is the status of the {first} to the {relation} of me the same as the {second}?',
    ),
    ('comparison', 1, 'anchor'): (
        'There is a {first} to the {relation} of the {anchor}; is it the same status as the {second}?',
        'Does the {first} to the {relation} of the {anchor} have the same status as the {second}?',
        'Is the status of the {first} to the {relation} of the {anchor} the same as the {second}?',
    ),
}
"""Wordings by question type, hops and form."""


@dataclass(frozen=True)
class Wording:
    """A parsed question: key of TEMPLATES, template and slots."""

    kind: tuple[str, int, str]
    template: str
    slots: Mapping[str, str]


def turned_question(text: str, sixths: int) -> str | None:
    """Return the question with the same answer for a vehicle turned left by `sixths` times 60 degrees.

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
    """Return the parsed question; None if it does not follow a template."""
    for kind, template, pattern in _patterns():
        if match := pattern.fullmatch(text):
            return Wording(kind, template, match.groupdict())
    return None


@cache
def descriptions() -> Mapping[str, Description]:
    """Return all descriptions by singular and plural."""
    every = [Description(category, status)
             for category in (*CATEGORIES, THING) for status in (None, *STATUSES)]
    return {name: wording for wording in every for name in (wording.singular, wording.plural)}


@cache
def _patterns() -> tuple[tuple[tuple[str, int, str], str, re.Pattern[str]], ...]:
    """Return (key of TEMPLATES, template, its pattern) for all templates."""
    things = '|'.join(map(re.escape, descriptions()))
    directions = '|'.join(RELATIONS)
    slots = {slot: f'(?P<{slot}>{things})' for slot in ('things', 'thing', 'first', 'second', 'anchor')}
    slots |= {slot: f'(?P<{slot}>{directions})' for slot in ('relation', 'relation2')}

    def pattern(template: str) -> re.Pattern[str]:
        parts = re.split(r'\{(\w+)\}', template)
        return re.compile(''.join(slots[part] if place % 2 else re.escape(part)
                                  for place, part in enumerate(parts)))

    return tuple((kind, template, pattern(template))
                 for kind, templates in TEMPLATES.items() for template in templates)

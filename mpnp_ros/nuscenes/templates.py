"""The wordings of NuScenes-QA questions (arXiv:2305.14836), with correct singular and plural.

A template is a format string. Its slots: ``things`` and ``thing`` (a description in plural or singular),
``relation``, ``anchor`` (what the relation is relative to: "me" or "the ..."), ``a_anchor`` ("a ..."),
and ``first`` and ``second`` (the compared things).
"""
from __future__ import annotations

from dataclasses import dataclass

from mpnp_ros.nuscenes.vocabulary import THING


@dataclass(frozen=True, order=True)
class Description:
    """The description of an object: a category or "thing", with or without a status."""

    category: str
    status: str | None = None

    @property
    def singular(self) -> str:
        """The singular, e.g. ``moving car`` or ``bicycle with rider``."""
        return self._with_status(self.category)

    @property
    def plural(self) -> str:
        """The plural, e.g. ``parked buses``."""
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

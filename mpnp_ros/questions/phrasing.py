"""Free wordings of the questions of NuScenes-QA.

A meaning is the content of a question, independent of its words.  :func:`say` draws words from the forms and
synonyms of data/phrasing.yaml: questions, requests and fragments, with and without capitals and question
marks, sometimes with a typing error.  Held-out words are used only on request, so that tests use words that
training does not.
"""
from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from mpnp_ros.questions.vocabulary import (
    CATEGORIES,
    RELATIONS,
    SIDES,
    STATUSES,
    STATUSES_OF_CATEGORY,
    THING,
)
from mpnp_ros.questions.wording import TYPES, Description

NEAR = 10.0
"""Reach of "near" and "close", metres."""

NUMBERS = {5: 'five', 8: 'eight', 10: 'ten', 12: 'twelve', 15: 'fifteen', 20: 'twenty', 25: 'twenty-five'}
REACHES = tuple(float(metres) for metres in NUMBERS)
"""Distances in questions, metres."""
METRES = ('m', 'metres', 'meters')
ANYWHERE = 'anywhere'
VEHICLES = ('moving', 'parked', 'stopped')
WALKER = Description('pedestrian', 'moving')


@dataclass(frozen=True)
class Meaning:
    """The content of a question about the things around the vehicle, or another subject.

    type: exist, count, object, status or comparison; for other subjects also absent, whether something is
    not there, and where, in which direction it is.  direction: one of the six of NuScenes-QA, left or
    right; None: all around.  reach: maximum distance of things, metres; None: unlimited.  second: thing to
    compare the status with, anywhere.
    """

    type: str
    thing: Description
    direction: str | None = None
    second: Description | None = None
    reach: float | None = None


@cache
def grammar() -> dict[str, Any]:
    """Return the tables of data/phrasing.yaml."""
    return yaml.safe_load(resources.files('mpnp_ros').joinpath('data/phrasing.yaml').read_text('utf-8'))


def say(meaning: Meaning, rng: random.Random, held_out: bool = False) -> str:
    """Return a random wording of a meaning; held_out: with a word or form that training never uses."""
    while True:
        wording = _Wording(rng)
        text = wording.of(meaning)
        if held_out != wording.parts.isdisjoint(grammar()['held_out']):
            return typed(text, rng)


def any_meaning(rng: random.Random) -> Meaning:
    """Return any meaning that a question about things can have.

    Categories, statuses and directions are drawn evenly, also those that are rare in streets.
    """
    kind = rng.choice(TYPES)
    direction = rng.choice((None, None, None, *RELATIONS, *SIDES))
    active = [category for category, statuses in STATUSES_OF_CATEGORY.items() if statuses]
    if kind == 'object':
        return Meaning(kind, Description(THING, rng.choice((None, None, *STATUSES))), direction)
    if kind == 'status':
        return Meaning(kind, Description(rng.choice((THING, THING, *active))), direction)
    if kind == 'comparison':
        return Meaning(kind, Description(rng.choice((THING, *active))), direction,
                       Description(rng.choice((THING, *active, *active))))
    category = rng.choice((THING, THING, *CATEGORIES))
    statuses = STATUSES_OF_CATEGORY.get(category, STATUSES)
    status = rng.choice(statuses) if statuses and rng.random() < 0.5 else None
    return Meaning(kind, Description(category, status), direction,
                   reach=rng.choice(REACHES) if rng.random() < 0.25 else None)


def say_beyond(rng: random.Random) -> str:
    """Return a random question that counts of road users cannot answer."""
    tables = grammar()
    thing, things = rng.choice(rng.choice(list(tables['nouns'].values())))
    untold, untolds = rng.choice(tables['untold'])
    place = rng.choice(rng.choice(list(tables['places'].values())))
    text = rng.choice(tables['beyond']).format(
        thing=thing, things=things, untold=untold, untolds=untolds, where=place,
        look=rng.choice(tables['looks']), person=rng.choice(tables['persons']),
        team=rng.choice(tables['events']), place=rng.choice(tables['destinations']), a=rng.randrange(20),
        b=rng.randrange(20), ago=rng.choice(tables['ago']))
    return typed(tidy(text), rng)


class _Wording:
    """One wording; parts: its forms and words."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.tables = rng, grammar()
        self.parts: set[str] = set()

    def of(self, meaning: Meaning) -> str:
        """Return the wording of a meaning, without typing errors."""
        thing = meaning.thing
        form = self._one_of(self.tables['forms'][self._kind(meaning)])
        noun, nouns = self._noun(thing)
        singular, plural = self._described(thing, noun, nouns)
        slots = {'where': self._where(meaning), 'noun': noun, 'nouns': nouns, 'thing': singular,
                 'things': plural}
        if thing.status:
            slots['status'] = self._one_of(self._behind(thing))
            slots['verb'], slots['verbs'] = self._verbs(thing)
        if meaning.second:
            other = 'other ' if meaning.second.category == thing.category else ''
            slots['second'] = other + self._described(meaning.second, *self._noun(meaning.second))[0]
        if meaning.type == 'status':  # possible statuses: as answers, in other words, and as verbs
            statuses = STATUSES_OF_CATEGORY.get(thing.category) or VEHICLES
            each = self.rng.sample(statuses, len(statuses))
            described = [Description(thing.category, status) for status in each]
            listed = {'statuses': each,
                      'alternatives': [self.rng.choice(self._behind(status)) for status in described],
                      'doings': [self._verbs(status)[0] for status in described]}
            slots |= {name: ', '.join(words[:-1]) + ' or ' + words[-1] for name, words in listed.items()}
        return tidy(form.format(**slots))

    def _kind(self, meaning: Meaning) -> str:
        """Return the name of the set of forms to draw from."""
        kind, thing, forms = meaning.type, meaning.thing, self.tables['forms']
        vague = f'{kind} {thing.category}'
        if f'{kind} bare' in forms and thing.status is None and self.rng.random() < 0.35:
            return f'{kind} bare'
        if (vague in forms or f'{vague} status' in forms and thing.status) and self.rng.random() < 0.35:
            kind = vague
        apart = [name for name in (f'{kind} status', f'{kind} verb') if name in forms and thing.status]
        if apart and (kind == vague or self.rng.random() < 0.5):
            kind = self.rng.choice(apart)
        return kind

    def _one_of(self, choices: list[str]) -> str:
        chosen = self.rng.choice(choices)
        self.parts.add(chosen)
        return chosen

    def _noun(self, thing: Description) -> tuple[str, str]:
        noun, nouns = self.rng.choice(self.tables['nouns'][thing.category])
        self.parts.add(noun)
        return noun, nouns

    def _behind(self, thing: Description) -> list[str]:
        """Wordings of a status behind its noun."""
        return self.tables['walking'] if thing == WALKER else self.tables['behind'][thing.status]

    def _verbs(self, thing: Description) -> tuple[str, str]:
        """Return a status as a verb, in plural and singular."""
        plural, singular = self.rng.choice(
            self.tables['verbs']['walking' if thing == WALKER else thing.status])
        self.parts.add(plural)
        return plural, singular

    def _described(self, thing: Description, noun: str, nouns: str) -> tuple[str, str]:
        """Return a description in singular and plural.

        Its status is before the noun, behind it, or in one word with it.
        """
        if thing.status is None:
            return noun, nouns
        names = self.tables['names'].get(f'{thing.category}: {thing.status}')
        if names and self.rng.random() < 0.3:
            name, plural = self.rng.choice(names)
            self.parts.add(name)
            return name, plural
        if self.rng.random() < 0.15:
            plural, singular = self._verbs(thing)
            return f'{noun} that {singular}', f'{nouns} that {plural}'
        if thing.status in self.tables['before'] and self.rng.random() < 0.6:
            before = self.tables['before'][thing.status]
            if thing == WALKER:
                before = ['moving', 'walking']
            word = self._one_of(before)
            return f'{word} {noun}', f'{word} {nouns}'
        word = self._one_of(self._behind(thing))
        if word.startswith('with'):
            return f'{noun} {word}', f'{nouns} {word}'
        return f'{noun} that is {word}', f'{nouns} that are {word}'

    def _where(self, meaning: Meaning) -> str:
        """Return direction and reach in either order."""
        place = self._one_of(self.tables['places'][meaning.direction or ANYWHERE])
        if meaning.reach is None:
            return place
        if meaning.reach == NEAR and self.rng.random() < 0.3:
            return f'{place if meaning.direction else ""} {self._one_of(self.tables["close"])}'
        whole = int(meaning.reach)
        number = NUMBERS[whole] if whole in NUMBERS and self.rng.random() < 0.3 else str(whole)
        reach = self._one_of(self.tables['reaches']).format(reach=f'{number} {self.rng.choice(METRES)}')
        return ' '.join([place, reach] if self.rng.random() < 0.7 else [reach, place])


def tidy(text: str) -> str:
    """Return a text with correct articles, spaces and first letter."""
    text = re.sub(r'\ba (?=[aeio])', 'an ', text)
    text = re.sub(r'\s+([?.,:;])', r'\1', ' '.join(text.split())).lstrip(',: ')
    text = re.sub(r'^Look(:| and)', r'Look around\1', text)
    return text[:1].upper() + text[1:]


def typed(text: str, rng: random.Random) -> str:
    """Return a text with random greetings, missing capitals or question mark, and typing errors."""
    if rng.random() < 0.06:
        text = rng.choice(grammar()['openings']) + text[:1].lower() + text[1:]
    if rng.random() < 0.08:
        mark = text[-1] if text[-1] in '?.' else ''
        text = text.removesuffix(mark) + rng.choice(grammar()['closings']) + mark
    if rng.random() < 0.25:
        text = text.lower()
    if rng.random() < 0.25:
        text = text.rstrip('?.')
    if rng.random() < 0.06:
        places = [match.start() for match in re.finditer(r'[a-z](?=[a-z])', text)]
        at = rng.choice(places)
        slip = rng.choice((text[at + 1] + text[at], text[at], text[at] * 2 + text[at + 1]))
        text = text[:at] + slip + text[at + 2:]
    return text

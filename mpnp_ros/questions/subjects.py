"""What questions can be about: objects, the robot's own motion, and sounds.

A subject has channels, which tokens count, closed answers, and many wordings for each meaning.  Links that
count learn one subject each (:mod:`mpnp_ros.training.reader_trainer`).  Own motion and sounds have few
meanings, which are listed; their wordings come from data/phrasing_motion.yaml and data/phrasing_sounds.yaml.
"""
from __future__ import annotations

import random
from abc import ABC, abstractmethod
from functools import cache, cached_property
from importlib import resources
from typing import Any

import yaml

from mpnp_ros.questions.phrasing import (
    Meaning,
    any_meaning,
    grammar,
    say,
    say_beyond,
    tidy,
    typed,
)
from mpnp_ros.questions.vocabulary import ANSWERS, CHANNELS, RELATIONS, SIDES, THING, Channel
from mpnp_ros.questions.wording import Description

UNKNOWN, NOTHING = 'unknown', 'nothing'
"""Answers: that tokens do not tell it, and that there is no sound."""
MOTION_CHANNELS: tuple[Channel, ...] = (
    ('speed', 'standing'), ('speed', 'slow'), ('speed', 'driving'), ('speed', 'fast'),
    ('turn', 'left'), ('turn', 'right'), ('turn', 'none'),
    ('pace', 'braking'), ('pace', 'steady'), ('pace', 'speeding up'), ('bump', None))
"""Own motion: slow is below 3 m/s, driving below 10 m/s.  Each group adds up to 1, bump is a probability."""
SOUND_CHANNELS: tuple[Channel, ...] = (
    ('siren', None), ('horn', None), ('engine', None), ('tyres', None), ('speech', None), ('alarm', None))
"""Sounds, each with the probability, or the expected number, of its sources."""
MOST_TELLING = ('siren', 'horn', 'alarm', 'speech', 'engine', 'tyres')
"""Of several sounds, the first of these is the answer to what is heard."""


class Subject(ABC):
    """What questions are about.

    name: also that of files and links.  channels: what tokens count.  answers: the closed list.  near: of
    questions that counts cannot answer, the share that is not about other subjects.
    """

    name: str
    channels: tuple[Channel, ...]
    answers: tuple[str, ...]
    near = 0.25

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Return the channels as links name them: "category: status" or "category"."""
        return tuple(category if status is None else f'{category}: {status}'
                     for category, status in self.channels)

    @abstractmethod
    def say(self, meaning: Meaning, rng: random.Random, held_out: bool = False) -> str:
        """Return a random wording; held_out: with a word or form that training never uses."""

    @abstractmethod
    def any_meaning(self, rng: random.Random) -> Meaning:
        """Return any meaning that a question about it can have."""

    @abstractmethod
    def say_near(self, rng: random.Random) -> str:
        """Return a random question that its counts cannot answer, in words close to its own."""

    def say_beyond(self, rng: random.Random) -> str:
        """Return a random question that its counts cannot answer; some are about the other subjects."""
        if rng.random() < self.near:
            return self.say_near(rng)
        other = rng.choice([subject for subject in SUBJECTS.values() if subject is not self])
        if other is OBJECTS and rng.random() < 0.4:
            return other.say_near(rng)
        return other.say(other.any_meaning(rng), rng)


class Objects(Subject):
    """The things around the robot, as in NuScenes-QA."""

    name, channels, answers, near = 'objects', CHANNELS, ANSWERS, 0.6

    def say(self, meaning: Meaning, rng: random.Random, held_out: bool = False) -> str:
        """See :func:`mpnp_ros.questions.phrasing.say`."""
        return say(meaning, rng, held_out)

    def any_meaning(self, rng: random.Random) -> Meaning:
        """See :func:`mpnp_ros.questions.phrasing.any_meaning`."""
        return any_meaning(rng)

    def say_near(self, rng: random.Random) -> str:
        """See :func:`mpnp_ros.questions.phrasing.say_beyond`."""
        return say_beyond(rng)


class States(Subject):
    """A subject of few meanings, all of which are listed."""

    def __init__(self, name: str, channels: tuple[Channel, ...], meanings: tuple[Meaning, ...],
                 answers: tuple[str, ...]) -> None:
        self.name, self.channels, self.meanings, self.answers = name, channels, meanings, answers

    @cached_property
    def tables(self) -> dict[str, Any]:
        """Return the tables of its grammar."""
        place = resources.files('mpnp_ros').joinpath(f'data/phrasing_{self.name}.yaml')
        return yaml.safe_load(place.read_text('utf-8'))

    def any_meaning(self, rng: random.Random) -> Meaning:
        """Return a meaning; types of questions are drawn evenly, and half of them have no direction."""
        kind, aimed = rng.choice(sorted({meaning.type for meaning in self.meanings})), rng.random() < 0.5
        return rng.choice([meaning for meaning in self.meanings if meaning.type == kind
                           and (aimed or meaning.direction is None)])

    def say(self, meaning: Meaning, rng: random.Random, held_out: bool = False) -> str:
        """See Subject."""
        while True:
            words = _Words(self.tables, meaning, rng)
            text = tidy(words.form().format_map(words))
            if held_out != words.parts.isdisjoint(self.tables['held_out']):
                return typed(text, rng)

    def say_near(self, rng: random.Random) -> str:
        """See Subject."""
        of_things = grammar()
        thing, things = rng.choice(rng.choice(list(of_things['nouns'].values())))
        place = rng.choice(rng.choice(list(of_things['places'].values())))
        text = rng.choice(self.tables['beyond']).format(thing=thing, things=things, place=place)
        return typed(tidy(text), rng)


class _Words(dict[str, str]):
    """The slots of a form, each filled when it is met; parts: the form and the words that were drawn."""

    def __init__(self, tables: dict[str, Any], meaning: Meaning, rng: random.Random) -> None:
        super().__init__()
        self.tables, self.meaning, self.rng = tables, meaning, rng
        self.parts: set[str] = set()

    def form(self) -> str:
        """Return a form of the meaning: of its type, of what it is about, or of both."""
        kind, thing, forms = self.meaning.type, self.meaning.thing, self.tables['forms']
        about = f'{kind} {thing.category}' + (f': {thing.status}' if thing.status else '')
        sets = [forms[name] for name in (kind, about) if name in forms]
        return self._drawn(self.rng.choice(sets if kind != 'exist' or thing.category != THING else sets[-1:]))

    def __missing__(self, slot: str) -> str:
        thing, direction = self.meaning.thing, self.meaning.direction
        if slot == 'where':
            return self.rng.choice(grammar()['places'][direction]) if direction else \
                self._drawn(self.tables['words']['nearby'])
        if slot in ('a', 'the'):
            return self._drawn(self.tables[slot][thing.category])
        return self._drawn(self.tables['words'][slot]).format_map(self)

    def _drawn(self, words: list[str]) -> str:
        chosen = self.rng.choice(words)
        self.parts.add(chosen)
        return chosen


def _motion_meanings() -> tuple[Meaning, ...]:
    states = [Description(category, status) for category, status in MOTION_CHANNELS]
    return (*(Meaning('exist', state) for state in states),
            Meaning('absent', Description('speed', 'standing')),
            *(Meaning('status', Description(group)) for group in ('speed', 'turn', 'pace')))


def _sound_meanings() -> tuple[Meaning, ...]:
    sorts = [Description(category) for category, _ in SOUND_CHANNELS]
    directions = (None, *RELATIONS, *SIDES)
    return (*(Meaning('exist', sort, direction) for sort in sorts for direction in directions),
            Meaning('exist', Description(THING)), Meaning('absent', Description(THING)),
            *(Meaning('where', sort) for sort in sorts),
            *(Meaning('object', Description(THING), direction) for direction in directions))


OBJECTS = Objects()
MOTION = States('motion', MOTION_CHANNELS, _motion_meanings(), (
    'yes', 'no', 'standing', 'slow', 'driving', 'fast', 'left', 'right', 'none', 'braking', 'steady',
    'speeding up', UNKNOWN))
SOUNDS = States('sounds', SOUND_CHANNELS, _sound_meanings(), (
    'yes', 'no', *(category for category, _ in SOUND_CHANNELS), NOTHING, *RELATIONS, UNKNOWN))
SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in (OBJECTS, MOTION, SOUNDS)}


@cache
def all_answers() -> tuple[str, ...]:
    """Return the answers of all subjects, each once; those of NuScenes-QA come first."""
    return tuple(dict.fromkeys(answer for subject in SUBJECTS.values() for answer in subject.answers))

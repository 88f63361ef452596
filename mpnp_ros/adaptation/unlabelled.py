"""Questions without answers about the surroundings of any vehicle."""
from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, islice, zip_longest

from mpnp_ros.adaptation.moments import ASKED, BufferedQuestion
from mpnp_ros.nuscenes.vocabulary import ANSWERS, CATEGORIES, RELATIONS, STATUSES_OF_CATEGORY, THING
from mpnp_ros.nuscenes.wording import ANYTHING, TEMPLATES, Description

FROM_THE_VEHICLE = ('any', 'me')
OF_THINGS = ('moving', 'parked', 'stopped', 'with rider', 'without rider')
"""Statuses that do not determine the category; only pedestrians stand."""


def unlabelled_questions(seed: int, count: int) -> list[BufferedQuestion]:
    """Different questions in the wordings of the templates, evenly over types and hops, without answers.

    None relates to another thing than the vehicle, so all of them turn with it.  At most `count`: where a
    kind has no more different questions (few comparisons follow no relation), the others go on.
    """
    rng = random.Random(seed)
    supplies = [_shuffled(kind, rng) for kind in TEMPLATES if kind[2] in FROM_THE_VEHICLE]
    one_of_each = chain.from_iterable(zip_longest(*supplies))
    return list(islice(filter(None, one_of_each), count))


def _shuffled(kind: tuple[str, int, str], rng: random.Random) -> list[BufferedQuestion]:
    relations = RELATIONS if kind[2] == 'me' else ('',)
    texts = sorted({template.format(relation=relation, **slots) for template in TEMPLATES[kind]
                    for relation in relations for slots in _slots(kind)})
    rng.shuffle(texts)
    return [BufferedQuestion(text, '', ANSWERS, kind[0], kind[1], ASKED) for text in texts]


def _slots(kind: tuple[str, int, str]) -> Iterator[dict[str, str]]:
    """Return the slots of a kind of question, as in questions.py."""
    if kind[0] == 'comparison':
        yield from _compared(near=kind[2] == 'me')
        return
    for name in _descriptions(kind[0]):
        if kind[2] == 'me' or name != ANYTHING:
            yield {'thing': name.singular, 'things': name.plural}


def _descriptions(kind: str) -> Iterator[Description]:
    things = [ANYTHING, *(Description(THING, status) for status in OF_THINGS)]
    if kind == 'object':
        yield from things
    elif kind == 'status':
        yield from (ANYTHING, *map(Description, _with_status()))
    else:
        yield from things
        yield from (Description(category, status) for category in CATEGORIES
                    for status in (None, *STATUSES_OF_CATEGORY[category]))


def _compared(near: bool) -> Iterator[dict[str, str]]:
    """near: the first object, in a direction; the second one may have the same category elsewhere."""
    names = _with_status()
    for place, first in enumerate((*names, *([THING] if near else []))):
        yield from ({'first': first, 'second': second} for second in (names if near else names[place + 1:]))


def _with_status() -> list[str]:
    return [category for category in CATEGORIES if STATUSES_OF_CATEGORY[category]]

"""Questions that relate two other things to each other, and the questions that lead to their answers.

NuScenes-QA (arXiv:2305.14836) calls them questions with one hop.  They are read in its wordings, and in
others that end in a place such as "behind the moving bus".
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from mpnp_ros.questions.vocabulary import RELATIONS, SIDES, STATUSES_OF_CATEGORY, THING
from mpnp_ros.questions.wording import TEMPLATES, Description, descriptions, read_question

FROM_ANCHOR, SAME_STATUS, FROM_BOTH = 'anchor', 'same', 'both'

_OTHER_PLACE = re.compile(r'\b(?:i|am|we|me|us|my|our|same|behind|ahead|beside|left|right|front|back|near)\b',
                          re.IGNORECASE)
"""Words of the asker, or of another place: where a question has some, it is not moved to the anchor."""


@dataclass(frozen=True)
class RelatedQuestion:
    """A question about things that are related to another one, its anchor.

    form: FROM_ANCHOR: in a direction from the anchor.  SAME_STATUS: of the status of the anchor.  FROM_BOTH:
    in one direction from the vehicle and in another from the anchor.
    anchor: the other thing.  direction: from the anchor.  text: the question about those things as the
    vehicle would ask it; of SAME_STATUS see :meth:`of_status`.  second: the thing that a comparison compares
    with.  things: those that a question of SAME_STATUS is about.
    """

    form: str
    anchor: Description
    direction: str
    text: str
    second: Description | None = None
    things: Description | None = None

    @property
    def whether(self) -> str:
        """The question that finds the anchor."""
        return TEMPLATES['exist', 0, 'any'][0].format(things=self.anchor.plural)

    def of_status(self, status: str) -> str:
        """Return the question about other things of a status, for SAME_STATUS."""
        assert self.things is not None  # questions of this form have some
        return self.text.format(things=Description(self.things.category, status).plural)


def status_question(thing: Description) -> str:
    """Return the question for the status of the only such thing."""
    return TEMPLATES['status', 0, 'any'][-1].format(thing=thing.singular)


def statuses_of(thing: Description) -> tuple[str, ...]:
    """Return the statuses that a thing can have."""
    if thing.category == THING:
        return tuple(dict.fromkeys(status for own in STATUSES_OF_CATEGORY.values() for status in own))
    return STATUSES_OF_CATEGORY[thing.category]


def related_question(text: str) -> RelatedQuestion | None:
    """Read a question; None if it relates no two other things to each other, or has another wording."""
    text = ' '.join(text.split())
    found = read_question(text)
    if found is None and (match := _place().fullmatch(text)) and not _OTHER_PLACE.search(match['question']):
        anchor = descriptions()[match['anchor'].casefold()]
        return RelatedQuestion(FROM_ANCHOR, anchor, '', f'{match["question"]} {match["where"]} me?')
    if found is None or found.kind[2] not in (FROM_ANCHOR, SAME_STATUS, FROM_BOTH):
        return None
    (kind, _, form), slots, known = found.kind, dict(found.slots), descriptions()
    anchor = known[slots['anchor']]
    if form == SAME_STATUS:
        things = known[slots.get('things') or slots['thing']]
        if not (statuses_of(anchor) and statuses_of(things)):
            return None
        return RelatedQuestion(form, anchor, '', TEMPLATES[kind, 0, 'any'][0], things=things)
    if form == FROM_BOTH:
        template = TEMPLATES[kind, 1, 'me'][0]
        return RelatedQuestion(form, anchor, slots['relation2'], template.format(**slots))
    if kind == 'comparison':
        first = TEMPLATES['status', 1, 'me'][1].format(thing=slots['first'], relation=slots['relation'])
        return RelatedQuestion(form, anchor, slots['relation'], first, known[slots['second']])
    template = TEMPLATES[kind, 1, 'me'][0]
    return RelatedQuestion(form, anchor, slots['relation'], template.format(**slots))


@cache
def _place() -> re.Pattern[str]:
    """Return the pattern of a question that ends in a place beside another thing."""
    things = '|'.join(re.escape(thing.singular) for thing in dict.fromkeys(descriptions().values()))
    towards = '|'.join((*RELATIONS, *SIDES))
    where = rf'(?:to|on) the (?:{towards}) of|behind|in front of|ahead of|left of|right of'
    return re.compile(rf'(?P<question>.+?) (?P<where>{where}) the (?P<anchor>{things})\s*\?*',
                      re.IGNORECASE)

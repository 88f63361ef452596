"""Questions about the past: what is asked of each remembered moment, and what is made of the answers.

"When was the last bus?" asks "Is there a bus?" of every moment, newest first, until the answer is yes.  The
links answer present questions only; this module does the grammar and the arithmetic of time.
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from enum import Enum

from mpnp_ros.errors import QuestionError

MINUTE, HOUR = 60., 3600.
UNITS = {'s': 1., 'sec': 1., 'second': 1., 'min': MINUTE, 'minute': MINUTE, 'h': HOUR, 'hour': HOUR}
NUMBERS = {
    'zero': 0, 'one': 1, 'two': 2, 'three': 3, 'four': 4, 'five': 5, 'six': 6, 'seven': 7, 'eight': 8,
    'nine': 9, 'ten': 10, 'a': 1, 'an': 1}
RECENT = 5.
"""Seconds over which something comes closer."""
_AMOUNT = rf'(?P<number>\d+(?:\.\d+)?|half an?|{"|".join(NUMBERS)})'
_SPAN = rf'(?:{_AMOUNT} )?(?P<unit>{"|".join(sorted(UNITS, key=len, reverse=True))})s?'
WINDOW = re.compile(rf',? ?(?:(?:in|within|during|over|for) the (?:last|past) {_SPAN})$')
AGO = re.compile(rf',? ?{_SPAN} ago$')


class Wanted(Enum):
    """What is made of the answers to the present question.

    HISTORY: all of them, as spans of time in which they stay the same.  LAST: when it was yes for the last
    time.  SINCE: since when it is yes.  EVER: whether it was yes at any time.  THEN: the answer at one
    moment.  CLOSER: whether the nearest such thing comes closer.  CHANGED: which sorts of things have come or
    gone.
    """

    HISTORY = 'history'
    LAST = 'last'
    SINCE = 'since'
    EVER = 'ever'
    THEN = 'then'
    CLOSER = 'closer'
    CHANGED = 'changed'


@dataclass(frozen=True)
class PastQuestion:
    """A question about the past.

    text: the question that each moment is asked; of CLOSER the thing, of CHANGED empty.  window: seconds
    before the newest moment that are looked at; inf: all.  ago: seconds before the newest moment, of THEN.
    """

    wanted: Wanted
    text: str
    window: float = math.inf
    ago: float = 0.


def past_question(text: str) -> PastQuestion:
    """Return what a text asks about the past; a present question is asked of all moments.

    Raises QuestionError if it speaks of the past in a way that is not understood.
    """
    said = re.sub(r'\s+', ' ', text).strip().rstrip('?.! ')
    lower, window, ago = said.lower(), math.inf, math.nan
    if found := WINDOW.search(lower):
        window = _seconds(found)
    elif found := AGO.search(lower):
        ago = _seconds(found)
    lower = lower[:found.start()] if found else lower
    asked = _understood(lower)
    if asked is None:
        raise QuestionError(
            f'"{text[:200]}" is not understood as a question about the past; ask "when was the last '
            'bus", "since when is there a bus ahead", "did a bus pass in the last minute", "how many '
            'cars were there 10 seconds ago", "is the bus coming closer" or "what changed"'
        )
    if math.isfinite(ago):
        if asked.wanted not in (Wanted.HISTORY, Wanted.EVER):
            raise QuestionError(
                f'"{text[:200]}" names one moment and asks about a time; leave out "ago", or ask '
                'what was there then'
            )
        return replace(asked, wanted=Wanted.THEN, ago=ago)
    default = {Wanted.CLOSER: RECENT, Wanted.CHANGED: MINUTE}.get(asked.wanted, math.inf)
    return replace(asked, window=window if math.isfinite(window) else default)


_THING = r'(?P<thing>.+?)'
_FORMS: tuple[tuple[Wanted, str], ...] = (
    (Wanted.CHANGED, r'what(?: has|\'s| is)? (?:changed|different|new)'),
    (
        Wanted.CLOSER,
        rf'(?:is|are) {_THING} (?:coming|getting|moving) (?:any )?(?:closer|nearer)(?: to (?:us|me|you))?',
    ),
    (Wanted.CLOSER, rf'(?:is|are) {_THING} approaching(?: (?:us|me|you))?'),
    (Wanted.LAST, rf'when (?:was|were) (?:there )?(?:the )?(?:last|latest) {_THING}'),
    (Wanted.LAST, rf'when (?:did|have) (?:you|we) last (?:see|seen|notice|noticed) {_THING}'),
    (Wanted.LAST, rf'when did (?:the )?last {_THING} (?:pass|appear|come|go)(?: by)?'),
    (Wanted.LAST, rf'when (?:was|were) there last {_THING}'),
    (Wanted.SINCE, rf'(?:since when|how long) (?:has|have) there been {_THING}'),
    (Wanted.SINCE, rf'(?:since when|how long) (?:is|are) there {_THING}'),
    (Wanted.EVER, rf'(?:was|were|has|have) there (?:ever )?(?:been )?{_THING}'),
    (Wanted.EVER, rf'did {_THING} (?:pass|appear|come|go|show up|drive)(?: by)?(?P<where> .+)?'),
    (Wanted.EVER, rf'has {_THING} (?:passed|appeared|come|gone|shown up|driven)(?: by)?(?P<where> .+)?'),
    (Wanted.EVER, rf'(?:have|did) (?:you|we) (?:ever )?(?:see|seen|notice|noticed) {_THING}'),
)
_HEARD = re.compile(r'(?:have|did) (?:you|we) (?:ever )?(?:hear|heard) (.+)')
_DONE = re.compile(r'did (?:we|you|the robot) .+')
_STATES = re.compile(r'(?:since when|how long) (?:has|have|is|are) (?P<thing>(?:the|a|an) .+?) (?:been )?'
                     r'(?P<state>moving|standing|parked|stopped|sitting|ahead|behind|(?:to|on|in) the .+)')
_PRESENT = re.compile(r'(?:is|are|how|what|which|where|do|does|can) .+')
_TENSE = {'was': 'is', 'were': 'are', 'did': 'do'}


def _understood(text: str) -> PastQuestion | None:
    """Return the question of a text in small letters without its time; None if no form fits."""
    for wanted, form in _FORMS:
        if found := re.fullmatch(form, text):
            parts = found.groupdict()
            if wanted is Wanted.CHANGED:
                return PastQuestion(wanted, '')
            if wanted is Wanted.CLOSER:
                return PastQuestion(wanted, re.sub(r'^(?:the|an?|any) ', '', parts['thing']))
            return PastQuestion(wanted, _is_there(f'{parts["thing"]}{parts.get("where") or ""}'))
    if found := _HEARD.fullmatch(text):
        return PastQuestion(Wanted.EVER, f'Do you hear {found[1]}?')
    if _DONE.fullmatch(text):
        return PastQuestion(Wanted.EVER, f'{text[0].upper()}{text[1:]}?')
    if found := _STATES.fullmatch(text):
        return PastQuestion(Wanted.SINCE, f'Is {found["thing"]} {found["state"]}?')
    present = re.sub(r'\b(?:was|were|did)\b', lambda past: _TENSE[past[0]], text, count=1)
    if _PRESENT.fullmatch(present):
        return PastQuestion(Wanted.HISTORY, f'{present[0].upper()}{present[1:]}?')
    return None


def _is_there(thing: str) -> str:
    """Return "bus", "a bus ahead", "any cars" or "two cars" as the question whether it is there."""
    first = thing.split()[0]
    if first in ('any', 'some', 'more') or first in NUMBERS and first not in ('a', 'an', 'one'):
        return f'Are there {thing}?'
    if first in ('a', 'an', 'one', 'the'):
        return f'Is there {re.sub("^the ", "a ", thing)}?'
    return f'Is there {"an" if first[0] in "aeiou" else "a"} {thing}?'


def _seconds(found: re.Match[str]) -> float:
    number, unit = found['number'], found['unit']
    amount = 1. if number is None else .5 if number.startswith('half') else \
        float(NUMBERS[number]) if number in NUMBERS else float(number)
    return amount * UNITS[unit]

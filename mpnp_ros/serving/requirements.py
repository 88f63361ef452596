"""Requirements of a question: how old data may be, what the answer must rest on, and how sure it must be."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mpnp_ros.methods.questions import Counted
from mpnp_ros.serving.coverage import TOLD
from mpnp_ros.serving.questions import Question


def too_old(question: Question, ages: Mapping[str, float]) -> dict[str, str]:
    """Return the modalities that are older than a question allows, each with that in words.

    ages: seconds of the data of each modality; NaN: not known, which is never young enough.
    """
    if not question.max_age:
        return {}
    return {name: f'{age:.2f} s old, {age - question.max_age:.2f} s over max_age {question.max_age:g} s'
            if math.isfinite(age) else f'of unknown age, and max_age is {question.max_age:g} s'
            for name, age in ages.items() if not age <= question.max_age}


def unmet(question: Question, used: Sequence[str], old: Mapping[str, str],
          absent: Mapping[str, str]) -> str:
    """Return why a question is refused before it is answered; empty if it is not.

    used: modalities that the answer would rest on.  old: see :func:`too_old`.  absent: modality -> why no
    answer uses it.
    """
    lacking = {name: old.get(name) or absent.get(name) or 'this node does not listen to it'
               for name in question.require if name not in used}
    if lacking:
        return f'refused: it must rest on {_listed(lacking)}'
    if old and not used:
        return f'refused: no data is young enough: {_listed(old)}'
    return ''


def not_met(question: Question, confidence: float, counted: Sequence[Counted]) -> str:
    """Return why an answer is refused; empty if it is not.

    counted: by all sensors together first, then by each of several.
    """
    first = {count.modality: count.covered for count in reversed(counted)}
    blind = {name: 'it does not see or cannot tell what is asked'
             for name in question.require if not first.get(name, 1.) > TOLD}
    if blind:
        return f'refused: it must rest on {_listed(blind)}'
    if confidence < question.refuse_below:
        return (f'refused: the confidence {confidence:.2f} is {question.refuse_below - confidence:.2f} below '
                f'refuse_below {question.refuse_below:g}')
    return ''


def _listed(reasons: Mapping[str, str]) -> str:
    return '; '.join(f'{name} ({reason})' for name, reason in reasons.items())

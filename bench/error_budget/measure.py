"""Accuracy of the rule and of the shipped links for every choice of repairs."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from bench.error_budget.parts import SeenFrame
from bench.error_budget.repairs import KINDS, PART_OF_STATUS, errors, repaired
from bench.real_frames import HEADINGS, LinkAnswers, scores
from mpnp_ros.questions.rule import parse_question, rule_answer
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS, RELATIONS, relation
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.comparison import AWAY
from mpnp_ros.training.dataset import Example
from mpnp_ros.training.key_frames import heading_of, sample_of, turn_tokens
from mpnp_ros.training.true_objects import OBJECTS

MIDDLES = np.radians([0, 60, -60, 120, -120, 180]).astype(np.float32)
"""Directions in the middle of RELATIONS."""
NOTHING, ALL = 'nothing', 'everything'
TOGETHER = (('missed', 'false'), ('missed', 'category'), ('missed', 'status'), ('category', 'status'),
            ('missed', 'category', PART_OF_STATUS), ('missed', 'category', 'status'),
            ('missed', 'false', 'category'), ('missed', 'false', 'category', 'status'),
            ('direction', '30 m border', '5-point border'))
"""Kinds that are repaired together."""


def only(kind: str) -> str:
    """Return the name of the case in which one kind is repaired."""
    return f'only {kind}'


def all_but(kind: str) -> str:
    """Return the name of the case in which one kind is not repaired."""
    return f'all but {kind}'


CASES: dict[str, tuple[str, ...]] = {
    NOTHING: (),
    **{only(kind): (kind,) for kind in (*KINDS, PART_OF_STATUS)},
    **{all_but(kind): tuple(other for other in KINDS if other != kind) for kind in KINDS},
    f'{all_but("status")}, with {PART_OF_STATUS}': (
        *(kind for kind in KINDS if kind != 'status'), PART_OF_STATUS),
    ALL: KINDS,
    **{', '.join(kinds): kinds for kinds in TOGETHER},
}
"""Name of a case -> the kinds that are repaired in it."""
BY_LINKS = (NOTHING, *map(only, KINDS), *map(all_but, KINDS), ALL)
"""Cases that links answer, too."""


@dataclass(frozen=True, eq=False)
class EncoderView:
    """An encoder, and questions about what it sees.

    seen: sample token -> its key frame in the heading in which it was recorded.  majority: an answer to each
    question without any sensor.  modality: of the links that read its tokens.
    """

    name: str
    seen: Mapping[str, SeenFrame]
    examples: tuple[Example, ...]
    majority: Sequence[str | None]
    modality: str = OBJECTS
    scenes: int = 1

    def tokens(self, kinds: Sequence[str]) -> dict[str, ModalityTokens]:
        """Return the tokens of every sample with some kinds repaired."""
        return {sample: repaired(seen, kinds).tokens() for sample, seen in self.seen.items()}

    def errors(self) -> dict[str, dict[str, float]]:
        """Return the expected number that is in error, over all key frames, by kind and category."""
        tallies = [errors(seen) for seen in self.seen.values()]
        return {kind: {category: sum(tally[kind][category] for tally in tallies) for category in CATEGORIES}
                for kind in tallies[0]}


def measure(view: EncoderView, few: Sequence[Example], answering: LinkAnswers | None,
            show: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Return all figures of a view.  few: the questions that links answer."""
    meanings = {text: parse_question(text) for text in {example.question for example in view.examples}}
    asked = set(few)
    right: dict[str, dict[str, Any]] = {'majority': scores(view.examples, view.majority)}
    same: dict[str, float] = {}
    links: dict[str, dict[str, Any]] = {}

    def answer(name: str, tokens: Mapping[str, ModalityTokens], by_links: bool, turn: float = 0.) -> None:
        see, summed = seeing(tokens, turn), seeing(tokens, turn, by_direction)
        given = [rule_answer(meanings[example.question], summed(example), CHANNELS)
                 for example in view.examples]
        right[name] = scores(view.examples, given)
        if answering and by_links:
            links[name] = scores(few, answering(few, see))
            same[name] = 100 * float(np.mean([said == example.answer for example, said in
                                              zip(view.examples, given, strict=True) if example in asked]))
        show(f'{view.name}: {name}: rule {right[name]["all"]:.1f}'
             + (f', links {links[name]["all"]:.1f} (rule {same[name]:.1f})' if name in links else ''))

    as_seen = view.tokens(())
    answer('turned away', as_seen, True, AWAY)
    if answering:
        blind = {sample: unseen(tokens) for sample, tokens in as_seen.items()}
        links['blind'] = scores(few, answering(few, seeing(blind)))
    for name, kinds in CASES.items():
        answer(name, view.tokens(kinds), name in BY_LINKS)
    return {'scenes': view.scenes, 'frames': len(view.seen), 'questions': len(view.examples),
            'links_asked': len(few), 'errors': view.errors(),
            'rule': right, 'rule_same': same, 'links': links}


def seeing(tokens: Mapping[str, ModalityTokens], turn: float = 0.,
           change: Callable[[ModalityTokens], ModalityTokens] = lambda tokens: tokens,
           ) -> Callable[[Example], ModalityTokens]:
    """Return what gives the tokens for a question in its heading, turned further by radians, and changed."""
    @cache
    def of(frame: str) -> ModalityTokens:
        heading = heading_of(frame) * math.tau / HEADINGS
        return change(turn_tokens(tokens[sample_of(frame)], heading + turn))

    return lambda example: of(example.frame)


def by_direction(tokens: ModalityTokens) -> ModalityTokens:
    """Return tokens added up by direction: all that the rule needs, as no question names a distance."""
    lies = np.array([RELATIONS.index(relation(math.cos(angle), math.sin(angle))) for angle in tokens.azimuth])
    values = np.array([tokens.values[lies == place].sum(0) for place in range(len(RELATIONS))])
    return replace(unseen(tokens), values=values, azimuth=MIDDLES, distance=np.zeros(0, np.float32))


def unseen(tokens: ModalityTokens) -> ModalityTokens:
    """Return tokens in which nothing is seen."""
    return replace(tokens, values=np.zeros((1, tokens.width), np.float32),
                   azimuth=np.full(1, math.nan, np.float32), distance=np.full(1, math.nan, np.float32))

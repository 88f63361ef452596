"""Labelled questions about a key frame, as in NuScenes-QA (arXiv:2305.14836).

A fact follows from the annotations, e.g. a count or a status. A question is a fact in a wording of
:mod:`~mpnp_ros.questions.wording`. "The ..." refers to an object with a unique description. Questions about
statuses are about objects that have one. Counts end at 10.
"""
from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.visible import seen_only
from mpnp_ros.questions.vocabulary import (
    CATEGORIES,
    MAX_COUNT,
    RELATIONS,
    STATUSES_OF_CATEGORY,
    THING,
    relation,
)
from mpnp_ros.questions.wording import ANYTHING, TEMPLATES, Description

ASKABLE = (
    *(Description(category, status) for category in CATEGORIES
      for status in (None, *STATUSES_OF_CATEGORY[category])),
    *(Description(THING, status)
      for status in (None, 'moving', 'parked', 'stopped', 'with rider', 'without rider')))
"""All descriptions in questions; "standing thing" is not one, because only pedestrians stand."""


@dataclass(frozen=True)
class Scope:
    """The objects of questions, and whether questions use relations between objects.

    max_distance: metres; default: range of cars in the nuScenes detection task.  min_points: LiDAR and radar
    points on an object.  anchors: use relations to things other than the vehicle.  seen_by: sensors of which
    one must see an object, as in :mod:`~mpnp_ros.questions.visible`; empty: hidden objects count as well.
    """

    max_distance: float = 50.0
    min_points: int = 1
    anchors: bool = True
    seen_by: tuple[str, ...] = ()


EVERYTHING = Scope()
NEARBY = Scope(max_distance=30., min_points=5, anchors=False)
"""Of the questions that the shipped links learned: within 30 m, as seen from the vehicle."""


@dataclass(frozen=True)
class LabelledQuestion:
    """A question about one key frame and its true answer, one of the 30 of NuScenes-QA.

    type: exist, count, object, status or comparison; hops: 0, or 1 with a relation.
    template: the wording with its slots open, see :mod:`~mpnp_ros.questions.wording`.
    """

    text: str
    answer: str
    type: str
    hops: int
    template: str
    sample_token: str


@dataclass(frozen=True)
class Fact:
    """A fact about a scene: key of TEMPLATES, slots and answer."""

    kind: tuple[str, int, str]
    answer: str
    slots: dict[str, str] = field(hash=False)

    def ask(self, rng: random.Random, sample_token: str) -> LabelledQuestion:
        """Return the fact as a question in a random wording."""
        template = rng.choice(TEMPLATES[self.kind])
        return LabelledQuestion(template.format(**self.slots), self.answer, self.kind[0], self.kind[1],
                                template, sample_token)


def askable(objects: Iterable[AnnotatedObject], scope: Scope = EVERYTHING) -> list[AnnotatedObject]:
    """Return the objects that are near enough and have the points of a scope; seen_by is not looked at."""
    return [item for item in objects if item.distance <= scope.max_distance
            and item.num_lidar_pts + item.num_radar_pts >= scope.min_points]


def objects_of(frame: KeyFrame, scope: Scope = EVERYTHING) -> list[AnnotatedObject]:
    """Return the objects of a key frame within the scope of questions."""
    return askable((seen_only(frame, scope.seen_by) if scope.seen_by else frame).objects, scope)


def scene_questions(frame: KeyFrame, seed: int = 0, per_kind: int = 6,
                    scope: Scope = EVERYTHING) -> list[LabelledQuestion]:
    """Return questions about a key frame, the same for the same ``seed``.

    There are at most ``per_kind`` of each type and hop count, spread over the possible answers. The choice
    depends on the turn of the frame, so turned copies have different questions. Frames of scenes without
    annotations have none.
    """
    if not frame.annotated:
        return []
    rng = random.Random(f'{seed}/{frame.token}/{frame.turn:.6f}')
    facts = SceneFacts(objects_of(frame, scope), scope.anchors)
    return [fact.ask(rng, frame.token) for fact in chosen_facts(facts, per_kind, rng)]


def chosen_facts(facts: Iterable[Fact], per_kind: int, rng: random.Random) -> list[Fact]:
    """Return at most ``per_kind`` facts of each type and hop count, spread over the possible answers."""
    kinds: dict[tuple[str, int], list[Fact]] = defaultdict(list)
    for fact in facts:
        kinds[fact.kind[:2]].append(fact)
    return [fact for group in kinds.values() for fact in _spread(group, per_kind, rng)]


def _spread(facts: Sequence[Fact], limit: int, rng: random.Random) -> list[Fact]:
    """Return up to ``limit`` facts, as even over answers and forms as possible."""
    piles: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        piles[fact.answer, fact.kind[2]].append(fact)
    for pile in piles.values():
        rng.shuffle(pile)
    chosen: list[Fact] = []
    answers: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    while piles and len(chosen) < limit:
        rarest = min(piles, key=lambda key: (answers[key[0]], forms[key[1]], len(piles[key])))
        chosen.append(piles[rarest].pop())
        answers[rarest[0]] += 1
        forms[rarest[1]] += 1
        if not piles[rarest]:
            del piles[rarest]
    return chosen


class SceneFacts:
    """Iterates all facts about a set of objects in the ego frame, in a fixed order.

    anchors: include relations between objects.
    """

    def __init__(self, objects: Sequence[AnnotatedObject], anchors: bool = True) -> None:
        self.objects, self.anchors = objects, anchors

    def __iter__(self) -> Iterator[Fact]:
        yield from _tallies(self.objects, 'any', {})
        for name, item in self._unique.items():
            slots = {'thing': name.singular}
            if _hides_category(name):
                yield Fact(('object', 0, 'any'), item.category, slots)
            if item.attribute and name.status is None:
                yield Fact(('status', 0, 'any'), item.attribute, slots)
        for anchor, anchor_slots, form in self._anchors():
            for direction, group in self._related_to(anchor).items():
                slots = {**anchor_slots, 'relation': direction}
                yield from _tallies(group, form, slots)
                alone = {ANYTHING: group[0]} if len(group) == 1 else {}
                for name, item in {**alone, **SceneFacts(group)._unique}.items():
                    yield from self._about(name, item, anchor, form, slots)
        named = [(category, item) for category, item in self._by_category.items() if item.attribute]
        for index, (first, item) in enumerate(named):
            for second, other in named[index + 1:]:
                yield Fact(('comparison', 0, 'any'), _yes_no(item.attribute == other.attribute),
                           {'first': first, 'second': second})
        if self.anchors:
            for name, item in self._unique.items():
                yield from self._same_status(name, item)
            yield from self._both()

    @cached_property
    def _unique(self) -> dict[Description, AnnotatedObject]:
        """Return the object of every description that fits exactly one."""
        fitting: dict[Description, list[AnnotatedObject]] = defaultdict(list)
        for item in self.objects:
            for description in _descriptions_of(item):
                fitting[description].append(item)
        return {name: fitting[name][0] for name in sorted(fitting, key=str)
                if len(fitting[name]) == 1 and name != ANYTHING}

    @cached_property
    def _by_category(self) -> dict[str, AnnotatedObject]:
        """Return the objects that are unique by category."""
        return {name.category: item for name, item in self._unique.items()
                if name.category != THING and name.status is None}

    def _anchors(self) -> Iterator[tuple[AnnotatedObject | None, dict[str, str], str]]:
        """Yield anchors of relations with their slots and form: the vehicle (None), then unique objects."""
        yield None, {}, 'me'
        for name, item in self._unique.items() if self.anchors else ():
            if name.category != THING:
                yield item, {'anchor': name.singular}, 'anchor'

    def _related_to(self, anchor: AnnotatedObject | None) -> dict[str, list[AnnotatedObject]]:
        """Return the other objects by direction from the anchor; None: the vehicle."""
        x, y = anchor.centre[:2] if anchor else (0.0, 0.0)
        groups: dict[str, list[AnnotatedObject]] = {name: [] for name in RELATIONS}
        for item in self.objects:
            if item is not anchor:
                groups[relation(item.centre[0] - x, item.centre[1] - y)].append(item)
        return groups

    def _about(self, name: Description, item: AnnotatedObject, anchor: AnnotatedObject | None, form: str,
               slots: dict[str, str]) -> Iterator[Fact]:
        """Yield facts about the object that is unique by ``name`` and a relation to ``anchor``."""
        if _hides_category(name):
            yield Fact(('object', 1, form), item.category, {**slots, 'thing': name.singular})
        if not item.attribute or name.status is not None:
            return
        yield Fact(('status', 1, form), item.attribute, {**slots, 'thing': name.singular})
        for other, compared in self._by_category.items():
            if compared.attribute and compared is not item and compared is not anchor:
                yield Fact(('comparison', 1, form), _yes_no(item.attribute == compared.attribute),
                           {**slots, 'first': name.singular, 'second': other})

    def _same_status(self, name: Description, anchor: AnnotatedObject) -> Iterator[Fact]:
        """Yield facts about the other objects of the same status as ``anchor``."""
        if not anchor.attribute or name.category == THING:
            return
        alike = [item for item in self.objects if item is not anchor and item.attribute == anchor.attribute]
        counts = Counter(item.category for item in alike)
        for category in (*CATEGORIES, THING):
            if category != THING and anchor.attribute not in STATUSES_OF_CATEGORY[category]:
                continue
            count = len(alike) if category == THING else counts[category]
            what = Description(category)
            slots = {'things': what.plural, 'thing': what.singular, 'anchor': name.singular}
            yield from _exist_and_count(count, 1, 'same', slots)

    def _both(self) -> Iterator[Fact]:
        """Yield facts about objects that are unique by directions from the vehicle and another object."""
        of_me = self._related_to(None)
        for anchor, slots, form in self._anchors():
            if form == 'me':
                continue
            for direction2, group2 in self._related_to(anchor).items():
                for direction, group in of_me.items():
                    common = [item for item in group2 if any(item is other for other in group)]
                    if len(common) == 1 and len(group) > 1 and len(group2) > 1:
                        yield Fact(('object', 1, 'both'), common[0].category,
                                   {**slots, 'thing': THING, 'relation': direction, 'relation2': direction2})


def _descriptions_of(item: AnnotatedObject) -> Iterator[Description]:
    for category in (item.category, THING):
        yield Description(category)
        if item.attribute:
            yield Description(category, item.attribute)


def _hides_category(name: Description) -> bool:
    return name.category == THING and name.status not in ('standing', 'not standing')


def _tallies(objects: Iterable[AnnotatedObject], form: str, slots: dict[str, str]) -> Iterator[Fact]:
    counts = Counter(name for item in objects for name in _descriptions_of(item))
    for name in ASKABLE:
        if form != 'any' or name != ANYTHING:
            yield from _exist_and_count(counts[name], 0 if form == 'any' else 1, form,
                                        {**slots, 'things': name.plural, 'thing': name.singular})


def _exist_and_count(count: int, hops: int, form: str, slots: dict[str, str]) -> Iterator[Fact]:
    yield Fact(('exist', hops, form), _yes_no(count > 0), slots)
    if count <= MAX_COUNT:
        yield Fact(('count', hops, form), str(count), slots)


def _yes_no(value: bool) -> str:
    return 'yes' if value else 'no'

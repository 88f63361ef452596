"""Painted frames: dense and empty streets for training, with tokens whose uncertainty is calibrated.

Thin frames are overlaid, turned at random, with rows of parked cars, queues and crowds among them.  Half of
these streets lose some or most of their objects again, so that a doubtful object may be the only one.  Then
tokens are painted: the belief of a sensor about every object (existence, category, status), missed and
imagined objects, unseen sectors and unknown channels.  Finally the true objects are drawn from the tokens, so
that every probability in them is right.
"""
from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpnp_ros.poses import Transform
from mpnp_ros.questions.generator import Fact, SceneFacts, Scope, askable, chosen_facts
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.phrasing import REACHES, Meaning
from mpnp_ros.questions.vocabulary import (
    CATEGORIES,
    CHANNELS,
    RELATIONS,
    SIDES,
    STATUSES_OF_CATEGORY,
    lies,
)
from mpnp_ros.questions.wording import TEMPLATES, descriptions
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_azimuths, sector_of
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects

VERSION = 2
"""Of what is painted: goes up whenever the same numbers of frames are painted otherwise."""
LAYERS = (1, 1, 2, 2, 3, 4, 5)
"""Numbers of thin frames to overlay, drawn evenly."""
EMPTIED, LEAST_LEFT = 0.5, 0.03
"""Share of the streets that are emptied, and the least probability with which their objects stay.

In dense streets a faint car mostly is one of several, and links that know nothing else count it
(docs/lab/experiments.md, section 7)."""
PLACE = {channel: place for place, channel in enumerate(CHANNELS)}
USUAL: dict[str | None, float] = {
    'moving': 0.35, 'parked': 0.5, 'stopped': 0.15, 'standing': 0.3, 'not standing': 0.05,
    'with rider': 0.5, 'without rider': 0.5}
"""Frequencies of statuses."""
SIZES = {'car': (4.5, 1.9, 1.7), 'truck': (8.0, 2.5, 3.2), 'bus': (11.0, 2.9, 3.3),
         'pedestrian': (0.7, 0.7, 1.8)}
ALIKE = (('car', 'truck', 'bus', 'trailer', 'construction vehicle'), ('bicycle', 'motorcycle', 'pedestrian'),
         ('barrier', 'traffic cone'))
"""Categories that sensors confuse."""
DOUBTS = ('hard', 'status', 'soft')


@dataclass(frozen=True, eq=False)
class PaintedFrame:
    """A frame with its true objects, and the tokens of a sensor.

    tokens: expected numbers in CHANNELS, one token for each object or for each sector.  doubt: one of DOUBTS.
    """

    frame: KeyFrame
    tokens: ModalityTokens
    doubt: str

    def asked(self, rng: random.Random, per_kind: int) -> list[tuple[Meaning, str, str]]:
        """Return meanings, their answers and a wording of the templates (empty where none fits).

        per_kind: maximum of each type and hop count, as many again of left and right, and of distances if the
        tokens have some.
        """
        def without_relations(objects: Sequence[AnnotatedObject]) -> Iterator[Fact]:
            return (fact for fact in SceneFacts(objects, anchors=False)
                    if fact.kind[2] == 'any' and fact.kind[0] != 'comparison')

        def question(fact: Fact, direction: str | None = None,
                     reach: float | None = None) -> tuple[Meaning, str, str]:
            named, slots = descriptions(), fact.slots
            first = named[slots.get('first') or slots.get('things') or slots['thing']]
            second = named[slots['second']] if 'second' in slots else None
            meaning = Meaning(fact.kind[0], first, slots.get('relation', direction), second, reach)
            free = direction is not None or reach is not None
            return meaning, fact.answer, '' if free else rng.choice(TEMPLATES[fact.kind]).format(**slots)

        objects = self.frame.objects
        asked = [question(fact) for fact in chosen_facts(SceneFacts(objects, anchors=False), per_kind, rng)]
        for side in SIDES:
            group = [item for item in objects if lies(side, *item.centre[:2])]
            asked += [question(fact, direction=side)
                      for fact in chosen_facts(without_relations(group), per_kind // 2, rng)]
        if len(self.tokens.distance):
            reach, direction = rng.choice(REACHES), rng.choice((None, *SIDES, *RELATIONS))
            group = [item for item in objects if item.distance <= reach
                     and (direction is None or lies(direction, *item.centre[:2]))]
            asked += [question(fact, direction=direction, reach=reach)
                      for fact in chosen_facts(without_relations(group), per_kind, rng)]
        return asked


class Painter:
    """Paints frames over thin ones, the same for the same seed."""

    def __init__(self, frames: Sequence[KeyFrame], scope: Scope, seed: int = 0) -> None:
        self.frames, self.scope, self.seed = frames, scope, seed
        self.encoder = TrueObjects(scope).fingerprint

    def paint(self, index: int, doubt: str = '', whole: bool = False) -> PaintedFrame:
        """Return the frame number `index`.

        doubt: one of DOUBTS; empty: a quarter of the frames is hard, a quarter of doubtful status, the rest
        soft.  whole: seen all around, with all channels known, one token for each object.
        """
        rng = random.Random(f'{self.seed}/{index}')
        draw = np.random.default_rng(rng.getrandbits(64))
        doubt = doubt or rng.choice(('hard', 'status', 'soft', 'soft'))
        belief = _Belief(doubt, draw)
        true, seen = [], []
        for item in self._street(rng):
            shares, drawn = belief.about(item)
            exists = draw.beta(belief.certainty, 0.6) if doubt == 'soft' else 1.
            there = draw.random() < exists
            if there:
                true.append(drawn)
            if not (doubt == 'soft' and there and draw.random() < belief.missing):
                seen.append((item, exists * shares))
        for item in self._imagined(draw) if doubt == 'soft' else ():
            shares, drawn = belief.about(item)
            exists = draw.beta(0.6, 4.)
            if draw.random() < exists:
                true.append(drawn)
            seen.append((item, exists * shares))
        known, looked = np.ones(len(CHANNELS), bool), np.ones(SECTORS, bool)
        if not whole and rng.random() < 0.25:
            unknown = rng.sample(CATEGORIES, rng.randrange(1, 5))
            known = np.array([category not in unknown for category, _ in CHANNELS])
        if not whole and rng.random() < 0.25:
            first, width = rng.randrange(SECTORS), rng.randrange(6, 60)
            looked[[(first + step) % SECTORS for step in range(width)]] = False
        haze, blur = None, 0.
        if not whole and rng.random() < 0.5:
            haze, blur = np.zeros((SECTORS, len(CHANNELS))), draw.uniform(0, 1.2) * (doubt != 'hard')
            if doubt == 'soft':
                haze = draw.gamma(0.3, draw.uniform(0, 4) / haze.size / 0.3, haze.shape)
                haze *= np.outer(looked, known)
                true += self._in_haze(draw, haze)
        frame = KeyFrame(f'{index:06d}', f'painted-{self.seed}-{index:06d}', '', self.frames[0].stamp_ns,
                         Transform.about_z(0.), {}, None, {}, tuple(true))
        distances = whole or rng.random() < 0.6
        return PaintedFrame(frame, _tokens(self.encoder, seen, known, looked, distances, haze, blur), doubt)

    def _street(self, rng: random.Random) -> list[AnnotatedObject]:
        """Return the objects of a street in the scope of questions, with unique names."""
        layers = [rng.choice(self.frames).turned(rng.random() * math.tau) for _ in range(rng.choice(LAYERS))]
        objects = [item for frame in layers for item in askable(frame.objects, self.scope)]
        if rng.random() < 0.4:
            objects += _row(rng)
        if rng.random() < 0.2:
            objects += _crowd(rng)
        if rng.random() < EMPTIED:
            left = LEAST_LEFT ** rng.random()
            objects = [item for item in objects if rng.random() < left]
        within = [item for item in objects if item.distance <= self.scope.max_distance]
        return [replace(item, instance=str(place)) for place, item in enumerate(within)]

    def _imagined(self, draw: np.random.Generator) -> list[AnnotatedObject]:
        """Return objects that may be detected although most of them do not exist."""
        items = []
        for number in range(draw.poisson(1.5)):
            angle, distance = draw.uniform(-math.pi, math.pi), draw.uniform(3., self.scope.max_distance)
            items.append(_object(f'i{number}', CATEGORIES[draw.integers(len(CATEGORIES))], None,
                                 distance * math.cos(angle), distance * math.sin(angle)))
        return items

    def _in_haze(self, draw: np.random.Generator, haze: np.ndarray) -> list[AnnotatedObject]:
        """Return the objects drawn from low expected numbers everywhere, [SECTORS, C]."""
        items: list[AnnotatedObject] = []
        for sector, channel in np.argwhere(draw.poisson(haze)):
            angle, distance = sector_azimuths()[sector], draw.uniform(3., self.scope.max_distance)
            category, status = CHANNELS[channel]
            items.append(_object(f'h{len(items)}', category, status, distance * math.cos(angle),
                                 distance * math.sin(angle)))
        return items


def observed(true: ModalityTokens, draw: np.random.Generator, found: float, sure: float,
             status_sure: float) -> ModalityTokens:
    """Return what a sensor tells of true objects, of those tokens: it misses some and imagines none.

    found: probability that an object is found.  sure: said probability that it is there.  status_sure: said
    probability of its status; the other statuses of its category share the rest.
    """
    category = np.array([name for name, _ in CHANNELS])
    others = (category[:, None] == category[None]) & ~np.eye(len(category), dtype=bool)
    spread = others / np.maximum(others.sum(1, keepdims=True), 1)
    own = np.where(others.any(1), status_sure, 1.)
    values = (true.values * own + (true.values * (1 - own)) @ spread) * sure
    return replace(true, values=(values * (draw.random((true.count, 1)) < found)).astype(np.float32))


class _Belief:
    """Belief of one sensor in one frame about categories and statuses of objects.

    certainty: of the existence of seen objects; missing: share of unseen ones.
    """

    def __init__(self, doubt: str, draw: np.random.Generator) -> None:
        self.doubt, self.draw = doubt, draw
        self.sharpness = float(np.exp(draw.uniform(math.log(0.1), math.log(8))))
        self.certainty, self.missing = draw.uniform(0.5, 6), draw.uniform(0, 0.15)
        self.mistaken = draw.uniform(0, 0.4) if doubt == 'soft' and draw.random() < 0.5 else 0.

    def about(self, item: AnnotatedObject) -> tuple[np.ndarray, AnnotatedObject]:
        """Return the share of each channel [C], 1 in total, and the object drawn from it."""
        shares = np.zeros(len(CHANNELS))
        if self.doubt == 'hard':
            same = [place for (category, _), place in PLACE.items() if category == item.category]
            own = [place for place in same if CHANNELS[place][1] == item.attribute] or same
            shares[own] = 1 / len(own)
            return shares, item
        other = item.category
        if self.mistaken:
            group = next(group for group in ALIKE if item.category in group)
            other = group[self.draw.integers(len(group))]
        of_other = self.mistaken * self.draw.random()
        for category, part in ((item.category, 1 - of_other), (other, of_other)):
            statuses = STATUSES_OF_CATEGORY[category] or (None,)
            usual = np.array([USUAL.get(status, 1.) for status in statuses])
            belief = self.draw.dirichlet(np.maximum(usual / usual.sum() * self.sharpness, 1e-3))
            for status, share in zip(statuses, belief, strict=True):
                shares[PLACE[category, status]] += part * share
        category, attribute = CHANNELS[self.draw.choice(len(CHANNELS), p=shares / shares.sum())]
        return shares, replace(item, category=category, attribute=attribute)


def _object(name: str, category: str, attribute: str | None, x: float, y: float,
            yaw: float = 0.) -> AnnotatedObject:
    size = SIZES.get(category, (1., 1., 1.))
    return AnnotatedObject(name, category, attribute, (x, y, 0.), size, yaw, None, num_lidar_pts=50)


def _row(rng: random.Random) -> list[AnnotatedObject]:
    """Return vehicles in a row along a line beside the robot: parked, or waiting in a queue."""
    heading, aside = rng.random() * math.tau, rng.uniform(3., 14.) * rng.choice((-1, 1))
    start, gap = rng.uniform(-30., 5.), rng.uniform(5.5, 8.)
    attribute = rng.choice(('parked', 'parked', 'stopped', 'moving'))
    row = []
    for place in range(rng.randrange(4, 13)):
        along, off = start + place * gap, aside + rng.gauss(0, 0.2)
        x = along * math.cos(heading) - off * math.sin(heading)
        y = along * math.sin(heading) + off * math.cos(heading)
        category = rng.choices(('car', 'truck', 'bus'), (0.86, 0.1, 0.04))[0]
        own = attribute if rng.random() < 0.85 else rng.choice(STATUSES_OF_CATEGORY[category])
        row.append(_object('', category, own, x, y, heading))
    return row


def _crowd(rng: random.Random) -> list[AnnotatedObject]:
    """Return a group of people."""
    angle, distance, spread = rng.random() * math.tau, rng.uniform(5., 25.), rng.uniform(0.8, 4.)
    attribute = rng.choice(('moving', 'standing'))
    return [_object('', 'pedestrian', attribute if rng.random() < 0.8 else
                    rng.choice(STATUSES_OF_CATEGORY['pedestrian']),
                    distance * math.cos(angle) + rng.gauss(0, spread),
                    distance * math.sin(angle) + rng.gauss(0, spread)) for _ in range(rng.randrange(4, 16))]


def _tokens(encoder: str, seen: Sequence[tuple[AnnotatedObject, np.ndarray]], known: np.ndarray,
            looked: np.ndarray, distances: bool, haze: np.ndarray | None, blur: float) -> ModalityTokens:
    """Return the tokens of a belief.

    haze: [SECTORS, C] numbers added to the sums by sector; None: one token for each object.  blur: standard
    deviation in sectors by which the sums are spread over neighbours.
    """
    values = np.array([shares for _, shares in seen], np.float32).reshape(-1, len(CHANNELS))
    azimuth = np.array([math.atan2(item.centre[1], item.centre[0]) for item, _ in seen])
    distance = np.array([item.distance for item, _ in seen])
    values *= known
    there = looked[sector_of(azimuth)] & (values.sum(1) > 0)
    values, azimuth, distance = values[there], azimuth[there], distance[there]
    if haze is not None:
        sums = np.zeros((SECTORS, len(CHANNELS)))
        np.add.at(sums, sector_of(azimuth), values)
        if blur >= 0.1:  # by a normal distribution; the total stays
            steps = np.arange(-4, 5)
            shares = np.exp(-0.5 * (steps / blur) ** 2)
            sums = sum(share * np.roll(sums, step, 0)
                       for share, step in zip(shares / shares.sum(), steps, strict=True))
        sums = np.where(looked[:, None], sums, 0.) + haze
        values, azimuth, distances = sums.astype(np.float32), sector_azimuths(), False
    elif not len(values):
        values = np.zeros((1, len(CHANNELS)), np.float32)
        azimuth = distance = np.array([np.nan])
    return ModalityTokens(OBJECTS, encoder, values, azimuth.astype(np.float32), known=known, looked=looked,
                          distance=distance.astype(np.float32) if distances else np.zeros(0, np.float32))

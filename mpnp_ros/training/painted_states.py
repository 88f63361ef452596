"""Painted frames of own motion and of sounds, with tokens whose uncertainty is calibrated.

The belief of a sensor is painted first: how likely each state is, or each sound and its direction.  Channels
may be unknown, and directions too.  Then the truth is drawn from the belief, so that every probability in the
tokens is right.
"""
from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.subjects import MOST_TELLING, MOTION, NOTHING, SOUNDS, UNKNOWN, States
from mpnp_ros.questions.vocabulary import THING, Channel, lies, relation
from mpnp_ros.tokens import SECTORS, ModalityTokens, sector_azimuths, sector_of

NOWHERE = math.nan
FORMS = ('one microphone', 'one direction', 'own directions', 'sectors')
"""How directions of sounds are told: not at all, one of all sounds, one or more of each, or by sector."""


@dataclass(frozen=True, eq=False)
class PaintedState:
    """What is there, and the tokens of a sensor.

    there: channels with their azimuths in radians, NaN where tokens do not tell them.  doubt: hard or soft.
    """

    subject: States
    tokens: ModalityTokens
    there: tuple[tuple[Channel, float], ...]
    doubt: str

    def asked(self, rng: random.Random, per_kind: int) -> list[tuple[Meaning, str, str]]:
        """Return at most per_kind meanings of each type with their answers; no templates word them."""
        chosen: list[Meaning] = []
        for kind in sorted({meaning.type for meaning in self.subject.meanings}):
            of_kind = [meaning for meaning in self.subject.meanings if meaning.type == kind]
            chosen += rng.sample(of_kind, min(per_kind, len(of_kind)))
        return [(meaning, self.answer(meaning), '') for meaning in chosen]

    def answer(self, meaning: Meaning) -> str:
        """Return the true answer, unknown where tokens cannot tell it."""
        told = {category for place, (category, _) in enumerate(self.subject.channels)
                if self.tokens.known[place]}
        asked = meaning.thing
        if asked.category not in (THING, *told):
            return UNKNOWN
        found = [(channel, azimuth) for channel, azimuth in self.there
                 if channel[0] in told and asked.category in (THING, channel[0])
                 and asked.status in (None, channel[1])]
        if meaning.type == 'status':
            return str(found[0][0][1])
        if meaning.type == 'where':
            azimuth = found[0][1] if found else NOWHERE
            return UNKNOWN if math.isnan(azimuth) else relation(math.cos(azimuth), math.sin(azimuth))
        unplaced = False
        if meaning.direction is not None:
            unplaced = any(math.isnan(azimuth) for _, azimuth in found)
            found = [(channel, azimuth) for channel, azimuth in found if not math.isnan(azimuth)
                     and lies(meaning.direction, math.cos(azimuth), math.sin(azimuth))]
        if not found and unplaced:
            return UNKNOWN
        if meaning.type == 'object':
            heard = {channel[0] for channel, _ in found}
            return next((sort for sort in MOST_TELLING if sort in heard), NOTHING)
        return 'yes' if bool(found) == (meaning.type == 'exist') else 'no'


class MotionPainter:
    """Paints own motion, the same for the same seed."""

    encoder = 'motion-states'

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def paint(self, index: int, doubt: str = '', whole: bool = False) -> PaintedState:
        """Return the frame number `index`: one token without a direction.

        doubt: hard or soft; empty: a third is hard.  whole: all channels are known.
        """
        draw = np.random.default_rng((self.seed, index))
        doubt = doubt or ('hard', 'soft', 'soft')[draw.integers(3)]
        channels = MOTION.channels
        values, there = np.zeros(len(channels), np.float32), []
        groups = tuple(dict.fromkeys(category for category, _ in channels))
        for group in groups:
            places = [place for place, (category, _) in enumerate(channels) if category == group]
            count = max(2, len(places))  # of a bump there are two cases
            belief = np.eye(count)[draw.integers(count)] if doubt == 'hard' else \
                draw.dirichlet(np.full(count, math.exp(draw.uniform(math.log(0.05), math.log(1.5)))))
            values[places] = belief[:len(places)]
            case = int(draw.choice(count, p=belief / belief.sum()))
            there += [(channels[places[case]], NOWHERE)] if case < len(places) else []
        unknown = [] if whole or draw.random() < 0.7 else \
            draw.choice(groups, draw.integers(1, 3), False).tolist()
        return PaintedState(MOTION, _tokens(self.encoder, MOTION, values[None], [NOWHERE], unknown),
                            tuple(there), doubt)


class SoundPainter:
    """Paints sounds, the same for the same seed."""

    encoder = 'sounds-states'

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def paint(self, index: int, doubt: str = '', whole: bool = False, form: str = '') -> PaintedState:
        """Return the frame number `index`.

        doubt: hard or soft; empty: a third is hard.  whole: all channels are known.  form: one of FORMS.
        """
        draw = np.random.default_rng((self.seed, index))
        doubt = doubt or ('hard', 'soft', 'soft')[draw.integers(3)]
        form = form or FORMS[draw.integers(len(FORMS))]
        channels = SOUNDS.channels
        rows: list[tuple[np.ndarray, float]] = []
        there: list[tuple[Channel, float]] = []
        common = draw.uniform(-math.pi, math.pi)
        often = draw.uniform(0.1, 0.7)
        for place, channel in enumerate(channels):
            likely = float(draw.random() < often) if doubt == 'hard' else \
                draw.beta(0.5 * often, 0.5 - 0.5 * often)
            azimuths, shares = self._directions(draw, form, common, doubt)
            rows += [(np.eye(len(channels))[place] * likely * share, azimuth)
                     for azimuth, share in zip(azimuths, shares, strict=True)]
            if draw.random() < likely:
                there.append((channel, float(draw.choice(azimuths, p=shares / shares.sum()))))
        values, directions = _rows_of(form, rows)
        unknown = [] if whole or draw.random() < 0.75 else \
            draw.choice([category for category, _ in channels], draw.integers(1, 4), False).tolist()
        return PaintedState(SOUNDS, _tokens(self.encoder, SOUNDS, values, directions, unknown), tuple(there),
                            doubt)

    @staticmethod
    def _directions(draw: np.random.Generator, form: str, common: float,
                    doubt: str) -> tuple[np.ndarray, np.ndarray]:
        """Return possible azimuths of one sound and their shares, which add up to 1."""
        if form == FORMS[0]:
            return np.array([NOWHERE]), np.ones(1)
        if form == FORMS[1]:
            return np.array([common]), np.ones(1)
        azimuths = draw.uniform(-math.pi, math.pi, 1 if doubt == 'hard' else draw.integers(1, 4))
        if draw.random() < 0.15:  # a microphone array cannot place every sound
            azimuths[0] = NOWHERE
        if form == FORMS[3]:
            placed = ~np.isnan(azimuths)
            azimuths[placed] = sector_azimuths()[sector_of(azimuths[placed])]
        return azimuths, draw.dirichlet(np.full(len(azimuths), 0.6))


def _rows_of(form: str, rows: Sequence[tuple[np.ndarray, float]]) -> tuple[np.ndarray, list[float]]:
    """Return tokens [P, C] and their azimuths: rows of one direction are one token, or all sectors are."""
    width = len(rows[0][0])
    if form == FORMS[3]:
        sums = np.zeros((SECTORS + 1, width))
        for values, azimuth in rows:
            sums[SECTORS if math.isnan(azimuth) else int(sector_of(np.array([azimuth]))[0])] += values
        placed = slice(None) if sums[SECTORS].any() else slice(SECTORS)
        return sums[placed], [*map(float, sector_azimuths()), NOWHERE][placed]
    merged: dict[str, tuple[np.ndarray, float]] = {}
    for values, azimuth in rows:
        before = merged.get(repr(azimuth), (np.zeros(width), azimuth))[0]
        merged[repr(azimuth)] = before + values, azimuth
    kept = [row for row in merged.values() if row[0].any()] or [(np.zeros(width), NOWHERE)]
    return np.stack([values for values, _ in kept]), [azimuth for _, azimuth in kept]


def _tokens(encoder: str, subject: States, values: np.ndarray, azimuths: Sequence[float],
            unknown: Collection[str]) -> ModalityTokens:
    """Return tokens in which the channels of some categories are unknown and hold nothing."""
    known = np.array([category not in unknown for category, _ in subject.channels])
    return ModalityTokens(subject.name, encoder, (values * known).astype(np.float32),
                          np.array(azimuths, np.float32), known=known)

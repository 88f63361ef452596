"""Questions with meanings and answers, and tokens of two sensors that may be blind for what is asked."""
from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.phrasing import Meaning
from mpnp_ros.questions.rule import parse_question
from mpnp_ros.questions.vocabulary import CHANNELS, THING, lies
from mpnp_ros.tokens import SECTOR, SECTORS, ModalityTokens
from mpnp_ros.training import painted_frames
from mpnp_ros.training.key_frames import question_dataset
from mpnp_ros.training.painted_frames import Painter
from mpnp_ros.training.painted_questions import painted_questions
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects
from mpnp_world.dataset.objects_only import object_key_frames

ENCODER = 'influence'
FIRST, SECOND = 'camera', 'lidar'
SEEDS = range(40_000, 40_012)
"""Streets of the embedded world that no link was trained on."""
FOUND, SURE = 0.85, 0.9
"""The second sensor finds an object with this probability, and says it is there with that one."""
STATUS_SURE = 0.7
CENTRES = np.radians(np.arange(SECTORS) * SECTOR + SECTOR / 2 - 180)
BLINDNESS = ('everything', 'direction', 'category')
"""A blind sensor looks nowhere, not where is asked, or does not know the category that is asked about."""


@dataclass(frozen=True, eq=False)
class Case:
    """A question about one moment.

    meaning: of the question.  tokens: of the two sensors, by modality.
    """

    question: str
    type: str
    answer: str
    meaning: Meaning
    tokens: Mapping[str, ModalityTokens]


def painted_cases(frames: int, of_each_type: int, seed: int = 0) -> list[Case]:
    """Return questions about painted frames of held-out streets.

    The first sensor has the painted tokens, from which the true objects were drawn; the second sees these
    objects, see :func:`observed`.
    """
    painter = Painter(list(object_key_frames(SEEDS, 6, 4., progress=False)), NEARBY, seed)
    painted = [painter.paint(index) for index in range(frames)]
    data = painted_questions(painted, seed, of_each_type=of_each_type, free=0.)
    rng = np.random.default_rng(seed)
    seconds = {str(place): observed(frame.frame.objects, rng) for place, frame in enumerate(painted)}
    return [Case(example.question, example.type, example.answer, data.meanings[example.question],
                 {FIRST: named(data.dataset.frames[example.frame][OBJECTS], FIRST),
                  SECOND: seconds[example.frame]})
            for example in data.dataset.examples]


def real_cases(root: Path, of_each_type: int, turns: int = 6, seed: int = 0) -> list[Case]:
    """Return questions about the annotated objects of a root in nuScenes form; both sensors observe them."""
    tables = NuScenes(root)
    frames = [frame for scene in tables.scenes for frame in tables.key_frames(scene['name'])]
    data = question_dataset(frames, [TrueObjects(NEARBY)], turns, scope=NEARBY).evened(of_each_type)
    rng = np.random.default_rng(seed)
    seen = {key: {name: noisy(frame[OBJECTS], rng, name) for name in (FIRST, SECOND)}
            for key, frame in data.frames.items()}
    cases = []
    for example in data.examples:
        meaning = parse_question(example.question)
        if meaning is not None:
            cases.append(Case(example.question, example.type, example.answer, meaning, seen[example.frame]))
    return cases


def named(tokens: ModalityTokens, modality: str) -> ModalityTokens:
    """Return the tokens under the name of a sensor, for links of ENCODER."""
    return replace(tokens, modality=modality, encoder=ENCODER, sources=(modality,),
                   source_index=np.zeros(tokens.count, np.uint16), looked=tokens.sectors_looked_at())


def observed(objects: Sequence[AnnotatedObject], rng: np.random.Generator) -> ModalityTokens:
    """Return one token for each object that the second sensor finds; see FOUND, SURE and STATUS_SURE."""
    places = {channel: place for place, channel in enumerate(CHANNELS)}
    rows = [(item, places[item.category, item.attribute]) for item in objects
            if (item.category, item.attribute) in places and item.distance <= NEARBY.max_distance]
    values = np.zeros((max(1, len(rows)), len(CHANNELS)), np.float32)
    azimuth = np.full(len(values), np.nan, np.float32)
    distance = np.full(len(values), np.nan, np.float32)
    for row, (item, place) in enumerate(rows):
        values[row, place], distance[row] = 1., item.distance
        azimuth[row] = np.arctan2(item.centre[1], item.centre[0])
    return noisy(ModalityTokens(OBJECTS, ENCODER, values, azimuth, distance=distance), rng, SECOND)


def noisy(tokens: ModalityTokens, rng: np.random.Generator, modality: str) -> ModalityTokens:
    """Return certain tokens as a sensor observes them: some are missed, existence and status unsure."""
    return named(painted_frames.observed(tokens, rng, FOUND, SURE, STATUS_SURE), modality)


def blinded(tokens: ModalityTokens, meaning: Meaning, kind: str) -> ModalityTokens:
    """Return tokens of a sensor that is blind for a question; kind: one of BLINDNESS."""
    looked, known = tokens.sectors_looked_at().copy(), np.ones(tokens.width, bool)
    if len(tokens.known):
        known = tokens.known.copy()
    gone = np.zeros(tokens.count, bool)
    if kind == 'category' and meaning.thing.category != THING and meaning.second is None:
        known &= np.array([category != meaning.thing.category for category, _ in CHANNELS])
    elif kind == 'direction' and meaning.direction is not None and meaning.second is None:
        looked &= ~_lie(meaning.direction, CENTRES)
        gone = _lie(meaning.direction, tokens.azimuth)
    else:
        looked[:], gone[:] = False, True
    values = np.where(gone[:, None], 0., tokens.values * known).astype(np.float32)
    return replace(tokens, values=values, looked=looked, known=known)


def sight(tokens: ModalityTokens, meaning: Meaning) -> float:
    """Return how much of what is asked a sensor looks at and can tell, 0..1.

    A second thing may be anywhere.
    """
    looked = tokens.sectors_looked_at()
    if meaning.direction is not None and meaning.second is None:
        looked = looked[_lie(meaning.direction, CENTRES)]
    known = tokens.known if len(tokens.known) else np.ones(tokens.width, bool)
    asked = {meaning.thing.category, *([meaning.second.category] if meaning.second else [])}
    told = min(float(np.mean([yes for yes, (name, _) in zip(known, CHANNELS, strict=True)
                              if category in (THING, name)])) for category in asked)
    return float(looked.mean()) * told


def without_tokens(tokens: Mapping[str, ModalityTokens], removed: Iterable[tuple[str, int]],
                   ) -> dict[str, ModalityTokens]:
    """Return the tokens without some, each given by modality and index; nobody looks where they were."""
    places: dict[str, list[int]] = {}
    for modality, token in removed:
        places.setdefault(modality, []).append(token)
    kept = dict(tokens)
    for modality, gone in places.items():
        frame = tokens[modality]
        values, looked = frame.values.copy(), frame.sectors_looked_at().copy()
        values[gone] = 0.
        azimuth = frame.azimuth[gone]
        degrees = np.degrees(azimuth[np.isfinite(azimuth)].astype(np.float64)) + 180
        looked[np.floor(degrees / SECTOR).astype(int) % SECTORS] = False
        kept[modality] = replace(frame, values=values, looked=looked)
    return kept


def draws(cases: Sequence[Case], names: Sequence[str], seed: int,
          ) -> Iterator[tuple[Case, dict[str, ModalityTokens], dict[str, str]]]:
    """Yield each case with tokens of which half are blinded at random, and how each sensor is blind ('')."""
    rng = random.Random(seed)
    for case in cases:
        how = {name: rng.choice(('', rng.choice(BLINDNESS))) for name in names}
        yield case, {name: blinded(case.tokens[name], case.meaning, kind) if kind else case.tokens[name]
                     for name, kind in how.items()}, how


def _lie(direction: str, azimuth: np.ndarray) -> np.ndarray:
    return np.array([bool(np.isfinite(angle)) and lies(direction, np.cos(angle), np.sin(angle))
                     for angle in azimuth])



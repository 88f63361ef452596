r"""Measure events and questions about the past on streets of the simulated world.

    mpnp world generate --output streets --seeds 45000:45008 --light day --key-frames 40 --interval 0.5 \
                        --sensors lidar --sweeps lidar --sweep-rate 2
    python -m bench.events --root streets

A hundred conditions are watched in each scene: whether things of a category are there, in each direction or
within some distance.  Answers come from the tokens of a LiDAR through the language model, and the truth is in
the annotations.  After each scene the past is asked: when something was there for the last time, whether it
ever was, whether it comes closer, and what changed.  Nothing is trained.
"""
from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from bench.common.figures import BLUE, GREEN, INK, new_figure, plain, save_png
from bench.common.page import RESULTS, markdown_table, write_page
from bench.common.program import exit_code, program_parser
from bench.common.timing import machine_text
from mpnp_ros.cli.evaluate_links import with_links
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import DEFAULT_METHOD, create_method
from mpnp_ros.modalities.registry import Encoder, create_encoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.progress import progress
from mpnp_ros.questions.generator import NEARBY, objects_of
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.past import past_question
from mpnp_ros.questions.phrasing import Meaning, say
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS, RELATIONS
from mpnp_ros.questions.wording import Description
from mpnp_ros.serving.answers import Answer, Status, UsedModality
from mpnp_ros.serving.events import Event, EventKind, EventWatch
from mpnp_ros.serving.memory import RememberedMoment, TokenMemory
from mpnp_ros.serving.past import CLOSER, PastInquiry, Recollection
from mpnp_ros.serving.questions import Condition, Question
from mpnp_ros.tokens import SECOND, ModalityTokens
from mpnp_ros.training.key_frames import encode
from mpnp_ros.training.true_objects import TrueObjects

REACHES = (10., 20.)
CHOICES = ('no', 'yes')
SETTINGS = {'begin 0.5, end 0.5, no hold': Condition(('yes',), 0.5, 0.5),
            'begin 0.7, end 0.4, no hold (default)': Condition(('yes',)),
            'begin 0.7, end 0.4, hold 1 s': Condition(('yes',), hold=1.),
            'begin 0.9, end 0.3, no hold': Condition(('yes',), 0.9, 0.3)}
TOLERANCE = 1.0
"""Seconds by which an event may begin before or end after what it tells of."""
LEAST = 1.0
"""Seconds that something must be there to be missed."""
INTERVAL = 0.5
"""Seconds between moments."""
APPROACH = 10
"""Moments over which something comes closer: 5 s, as questions about the past have it."""


PAGE = """# Events, and questions about the past

Output of `python -m bench.events --root {root}` ({machine}); the figures are in
[events.json](events.json). The root was made with `mpnp world generate` as the help of the program says. It
is a simulated world: none of this is accuracy on nuScenes. {watched} conditions were watched in {scenes}
scenes with {frames} frames, {minutes:.0f} minutes, by a LiDAR with its default encoder and the shipped links.
Nothing was trained on these scenes, and no limit was chosen on them.

## Events

{table}

An event is right if the condition is true at its beginning or within a second of it. An episode, in which the
condition is true for a second or more, is found if an event tells of it. Delays count from the beginning of
the episode to the sensor stamp of the event; frames are half a second apart. False events are for each
condition. Answering all {watched} conditions about one frame took {milliseconds:.0f} ms (median).

## The past

{pasts}

Each question is asked from remembered tokens about each category, after the scene. Whether something comes
closer is asked every 5 s, of what is there; it does if it has come 2.5 m closer in that time, and "not seen"
is wrong. A guess is what can be said without a sensor: that one passed, that the last was there just now,
that there are as many as at first, that nothing comes closer.

An hour of these tokens, two moments a second, takes {megabytes:.0f} MB. A minute of one core asks {hours:.1f}
hours of them how many cars there were at every moment.

![events](events.png)
"""


@dataclass(frozen=True)
class Episode:
    """A time, seconds, in which a condition holds."""

    begin: float
    end: float


@dataclass
class EventScore:
    """Sums over conditions.  delays: seconds from the beginning of an episode to its event."""

    told: int = 0
    right: int = 0
    there: int = 0
    found: int = 0
    hours: float = 0.
    delays: tuple[float, ...] = ()

    def add(self, events: Sequence[Event], episodes: Sequence[Episode], seconds: float) -> None:
        """Add a condition watched for some seconds."""
        begins = [event.stamp_ns / SECOND for event in events if event.kind is EventKind.BEGINS]
        ends = [event.stamp_ns / SECOND for event in events if event.kind is not EventKind.BEGINS]
        spans = [Episode(begin, end) for begin, end in zip(begins, [*ends, math.inf], strict=False)]
        self.told += len(begins)
        self.right += sum(any(each.begin - TOLERANCE <= begin <= each.end + TOLERANCE for each in episodes)
                          for begin in begins)
        for episode in episodes:
            if episode.end - episode.begin < LEAST:
                continue
            self.there += 1
            first = next((span.begin for span in spans if span.begin <= episode.end + TOLERANCE
                          and span.end >= episode.begin), None)
            if first is not None:
                self.found += 1
                self.delays += (max(0., first - episode.begin),)
        self.hours += seconds / 3600

    def row(self) -> dict[str, float]:
        """Return percentages, the median delay in seconds, and false events an hour of a condition."""
        return {'events': self.told, 'precision': 100 * self.right / max(1, self.told),
                'episodes': self.there, 'recall': 100 * self.found / max(1, self.there),
                'delay': median(self.delays) if self.delays else math.nan,
                'false_an_hour': (self.told - self.right) / self.hours}


def conditions(seed: int = 0) -> dict[str, Meaning]:
    """Return a hundred conditions by their text: things all around, by direction and by distance."""
    rng, found = random.Random(seed), {}
    for category in CATEGORIES:
        places = [
            (None, None),
            *((direction, None) for direction in RELATIONS),
            *((None, reach) for reach in REACHES),
        ]
        for direction, reach in places:
            meaning = Meaning('exist', Description(category), direction, reach=reach)
            text = say(meaning, rng)
            while text in found:
                text = say(meaning, rng)
            found[text] = meaning
    for direction in RELATIONS:
        meaning = Meaning('exist', Description('car', 'moving'), direction)
        found[say(meaning, rng)] = meaning
    for status in ('moving', 'standing'):
        for reach in REACHES:
            meaning = Meaning('exist', Description('pedestrian', status), reach=reach)
            found[say(meaning, rng)] = meaning
    return found


def episodes_of(held: Mapping[float, bool]) -> list[Episode]:
    """Return when something holds, from whether it does at each second, in order."""
    episodes: list[Episode] = []
    before = False
    for second, holds in held.items():
        if holds and before:
            episodes[-1] = Episode(episodes[-1].begin, second)
        elif holds:
            episodes.append(Episode(second, second))
        before = holds
    return episodes


@dataclass(frozen=True, eq=False)
class WatchedDrive:
    """A scene: tokens of the sensor and of the true objects, oldest first."""

    seen: tuple[ModalityTokens, ...]
    true: tuple[ModalityTokens, ...]

    @property
    def seconds(self) -> float:
        """Duration."""
        return (self.seen[-1].stamp_ns - self.seen[0].stamp_ns) / SECOND


def drives(root: NuScenes, encoder: Encoder) -> Iterator[WatchedDrive]:
    """Yield the scenes of a root, encoded."""
    with progress('encoding', 'scene') as show:
        for number, scene in enumerate(root.scenes):
            show(number, len(root.scenes))
            frames = list(root.key_frames(scene))
            yield WatchedDrive(tuple(encode(frame, encoder) for frame in frames),
                               tuple(map(true_objects, frames)))


def true_objects(frame: KeyFrame) -> ModalityTokens:
    """Return the true objects of a frame as tokens, with their distances."""
    distances = [item.distance for item in objects_of(frame, NEARBY)] or [math.nan]
    return replace(TrueObjects(NEARBY).encode(frame), distance=np.array(distances, np.float32))


def holds(meaning: Meaning, tokens: ModalityTokens) -> bool:
    """Return whether a condition is true."""
    return rule_answer(meaning, tokens, CHANNELS) == 'yes'


def watch(
    method: Method, drive: WatchedDrive, watched: Mapping[str, Meaning], scores: Mapping[str, EventScore]
) -> list[float]:
    """Watch all conditions in a scene; returns the seconds of answering them about each frame."""
    asked = [method.prepare(text, CHOICES) for text in watched]
    watches = {name: EventWatch() for name in scores}
    told: dict[str, dict[str, list[Event]]] = {name: {text: [] for text in watched} for name in scores}
    for name, setting in SETTINGS.items():
        for text in watched:
            watches[name].place(Question(text, CHOICES, text, True, condition=setting))
    seconds = []
    for tokens in drive.seen:
        begun = time.perf_counter()
        replies = method.answer_batch(asked, [{tokens.modality: tokens}] * len(asked))
        seconds.append(time.perf_counter() - begun)
        for text, reply in zip(watched, replies, strict=True):
            for name, setting in SETTINGS.items():
                answer = Answer(
                    Question(text, CHOICES, text, True, condition=setting),
                    Status.OK,
                    tokens.stamp_ns,
                    text=reply.text,
                    confidence=reply.confidence,
                    probabilities=reply.probabilities,
                    used=(UsedModality(tokens.modality, tokens.stamp_ns, 0.0),),
                )
                if event := watches[name].see(answer):
                    told[name][text].append(event)
    for text, meaning in watched.items():
        true = episodes_of({tokens.stamp_ns / SECOND: holds(meaning, tokens) for tokens in drive.true})
        for name, score in scores.items():
            score.add(told[name][text], true, drive.seconds)
    return seconds


def recalled(method: Method, text: str, moments: Sequence[RememberedMoment]) -> Recollection:
    """Return the answer to a question about the past."""
    return PastInquiry(past_question(text), CHOICES, moments).answer(method)


def ask_past(method: Method, drive: WatchedDrive) -> Iterator[tuple[str, bool, bool]]:
    """Yield the kind of each question about a scene, whether its answer is right, and whether a guess is.

    The guess is "yes" to whether something was there and the newest moment to when it was there for the last
    time.
    """
    moments = [RememberedMoment(tokens.stamp_ns, {tokens.modality: tokens}) for tokens in drive.seen]
    newest = moments[-1].stamp_ns / SECOND
    for category in CATEGORIES:
        meaning = Meaning('exist', Description(category))
        there = [tokens.stamp_ns / SECOND for tokens in drive.true if holds(meaning, tokens)]
        ever = recalled(method, f'Was there a {category}?', moments)
        yield 'did one pass', (ever.text == 'yes') == bool(there), bool(there)
        last = recalled(method, f'When was the last {category}?', moments)
        told = last.spans[0].end_ns / SECOND if last.spans else None
        right = told is not None and abs(told - there[-1]) <= TOLERANCE if there else told is None
        yield 'when was the last, within 1 s', right, bool(there) and newest - there[-1] <= TOLERANCE
        before, after = (_number(tokens, category) for tokens in (drive.true[0], drive.true[-1]))
        change = _said_change(recalled(method, 'What changed in the last hour?', moments).text, category)
        yield 'more, fewer or as many as at first', change == _sign(after - before), after == before
        for end in range(APPROACH, len(moments) + 1, APPROACH):
            closer = comes_closer([nearest(tokens, category) for tokens in drive.true[end - APPROACH:end]])
            if closer is not None:
                said = recalled(method, f'Is the {category} coming closer?', moments[:end]).text
                yield 'is it coming closer', said == ('yes' if closer else 'no'), not closer
                if said:
                    yield 'the same, where it is seen', said == ('yes' if closer else 'no'), not closer


def nearest(tokens: ModalityTokens, category: str) -> float:
    """Return the distance of the nearest true object of a category, metres; inf if there is none."""
    places = [place for place, (name, _) in enumerate(CHANNELS) if name == category]
    there = tokens.values[:, places].sum(1) > 0.5
    return float(tokens.distance[there].min(initial=math.inf))


def comes_closer(distances: Sequence[float]) -> bool | None:
    """Return whether something comes closer, oldest distance first; None unless it is there now and was."""
    seen = [distance for distance in distances if math.isfinite(distance)]
    if len(seen) < 2 or not math.isfinite(distances[-1]):
        return None
    third = max(1, len(seen) // 3)
    return fmean(seen[:third]) - fmean(seen[-third:]) >= CLOSER


def memory_cost(method: Method, drive: WatchedDrive) -> tuple[float, float]:
    """Return the megabytes of an hour of memory, and the hours that are asked in a minute of one core."""
    memory = TokenMemory(math.inf, sys.maxsize)
    for tokens in drive.seen:
        memory.remember(tokens)
    begun = time.process_time()
    asked = recalled(method, 'How many cars are there?', memory.moments()).moments
    minutes = (time.process_time() - begun) / 60
    hours = asked * INTERVAL / 3600
    return memory.size / 1e6 / hours, hours / minutes


def _number(tokens: ModalityTokens, category: str) -> float:
    return sum(
        float(tokens.values[:, place].sum()) for place, (name, _) in enumerate(CHANNELS) if name == category
    )


def _sign(number: float) -> int:
    return (number > 0.5) - (number < -0.5)


def _said_change(text: str, category: str) -> int:
    """Return 1, -1 or 0 for more, fewer or as many of a category, as "What changed?" is answered."""
    names = (category, Description(category).plural)
    part = next((part for part in text.split(', ') if part.split(' ', 1)[-1].rsplit(' ', 1)[0] in names), '')
    return (part.endswith('more')) - (part.endswith('fewer'))


def write_report(page: Path, figures: Mapping[str, Any], root: str) -> Path:
    """Write the page, its figures and its picture; figures: as main collects them."""
    rows, past = figures['events'], figures['past']
    table = markdown_table(
        ('condition', 'events', 'precision, %', 'episodes', 'recall, %', 'median delay, s', 'false an hour'),
        [(name, row['events'], f'{row["precision"]:.1f}', row['episodes'], f'{row["recall"]:.1f}',
          f'{row["delay"]:.1f}', f'{row["false_an_hour"]:.1f}') for name, row in rows.items()], numbers=True)
    pasts = markdown_table(('question', 'asked', 'right, %', 'guess, %'), [
        (kind, row['asked'], f'{row["right"]:.1f}', f'{row["guess"]:.1f}') for kind, row in past.items()],
        numbers=True)
    text = PAGE.format(root=root, table=table, pasts=pasts, machine=machine_text(), **figures['drive'])
    return write_page(page, text, figures, lambda path: draw(path, rows))


def draw(path: Path, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Draw precision and recall of each setting."""
    figure = new_figure(8, 2.8)
    axes = figure.add_axes((0.31, 0.2, 0.66, 0.72))
    plain(axes)
    for place, row in enumerate(rows.values()):
        axes.barh(place - 0.2, row['precision'], 0.38, color=BLUE)
        axes.barh(place + 0.2, row['recall'], 0.38, color=GREEN)
        axes.text(101, place, f'{row["delay"]:.1f} s', va='center', color=INK, fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 110)
    axes.set_xlabel('precision (blue) and recall (green), %; on the right the median delay', fontsize=8)
    save_png(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch and ask in every scene of a root, and write the page."""
    parser = program_parser('events', __doc__)
    parser.add_argument('--root', type=Path, required=True, help='simulated scenes, made as above')
    parser.add_argument('--modality', default='lidar', help='sensor that answers (default: %(default)s)')
    parser.add_argument('--page', type=Path, default=RESULTS / 'events.md')
    options = parser.parse_args(arguments)
    encoder, watched = create_encoder(options.modality), conditions()
    drove = list(drives(NuScenes(options.root), encoder))
    method = with_links(create_method(DEFAULT_METHOD, load_language_model()), None, [encoder])
    scores = {name: EventScore() for name in SETTINGS}
    past: dict[str, list[tuple[bool, bool]]] = {}
    seconds: list[float] = []
    with progress('watching', 'scene') as show:
        for number, drive in enumerate(drove):
            show(number, len(drove))
            seconds += watch(method, drive, watched, scores)
            for kind, right, guess in ask_past(method, drive):
                past.setdefault(kind, []).append((right, guess))
    megabytes, hours = memory_cost(method, drove[0])
    figures = {
        'events': {name: score.row() for name, score in scores.items()},
        'past': {kind: {'asked': len(answers), 'right': 100 * fmean(right for right, _ in answers),
                        'guess': 100 * fmean(guess for _, guess in answers)}
                 for kind, answers in past.items()},
        'drive': {'watched': len(watched), 'scenes': len(drove), 'megabytes': megabytes, 'hours': hours,
                  'frames': sum(len(drive.seen) for drive in drove),
                  'minutes': sum(drive.seconds for drive in drove) / 60,
                  'milliseconds': 1000 * median(seconds)}}
    print(write_report(options.page, figures, options.root.name))
    return 0


if __name__ == '__main__':
    sys.exit(exit_code('events', main))

"""The first stage of an adaptation: draw the questions and read their texts up to the links."""
from __future__ import annotations

import json
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mpnp_ros.adaptation.job import DATA, JobProgress, JobSpec, NewLink
from mpnp_ros.adaptation.moments import ASKED, FEEDBACK, LABELLED, BufferedQuestion
from mpnp_ros.adaptation.policy import DISTILLED
from mpnp_ros.adaptation.replay_buffer import ReplayBuffer
from mpnp_ros.errors import BudgetError, LinksError, TrainingError
from mpnp_ros.files import new_folder, write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.link_store import name_of
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.vocabulary import ANSWERS, CATEGORIES, RELATIONS, STATUSES_OF_CATEGORY, THING
from mpnp_ros.questions.wording import ANYTHING, TEMPLATES, Description
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.cost_model import Aim, CostModel
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.speedometer import machine_speed
from mpnp_ros.training.workload import Workload

FROM_THE_VEHICLE = ('any', 'me')
OF_THINGS = ('moving', 'parked', 'stopped', 'with rider', 'without rider')
"""Statuses that do not determine the category; only pedestrians stand."""

TRAINING_SET, HELD_OUT, READING = 'train', 'held_out', 'reading.json'
TRUSTED = .5
"""Least quality of tokens from which a modality teaches."""
LEAST_STEPS, EVALUATIONS, INVENTED = 40, 8, 400
"""Fewest useful steps; evaluations of a training; generated questions for distillation."""
HELD_OUT_MORE = 3
"""Factor of generated questions for a held-out moment, because there are few such moments."""

OF_THE_MODALITY = ('modality', 'encoder', 'token_width', 'base_model', 'base_model_name', 'kv_heads',
                   'head_dim', 'text_width')
"""Fields of a link's configuration about its tokens and language model."""
LOG = logging.getLogger(__name__)

Say = Callable[[JobProgress], None]
Cancelled = Callable[[], bool]


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


@dataclass(frozen=True)
class Preparation:
    """Result of the first stage for the second.

    first: the lowest block that training runs.  choices: all lists of answers.  seconds, macs: of reading.
    linked_blocks, steps, batch: as planned within the budget, with `reason`.  begins_anew: whether the starts
    have other blocks than planned and are unusable.
    """

    first: int
    choices: tuple[tuple[str, ...], ...]
    seconds: float
    macs: float
    linked_blocks: int
    steps: int
    batch: int
    reason: str
    begins_anew: bool

    def save(self, folder: Path) -> None:
        """Write it, which marks reading as finished."""
        write_file(folder / READING, json.dumps(vars(self)).encode())

    @classmethod
    def load(cls, folder: Path) -> Preparation | None:
        """Read it; None if reading is not finished."""
        if not (folder / READING).is_file():
            return None
        entries = json.loads((folder / READING).read_bytes())
        return cls(**{**entries, 'choices': tuple(map(tuple, entries['choices']))})


def read(folder: Path, say: Say, cancelled: Cancelled, before: float = 0.) -> None:
    """Draw the job's questions, plan within its budget, and keep the states of all texts on disk.

    before: seconds of this stage that have passed already.  A finished stage is not repeated.
    Raises TrainingError if there is nothing to train on, BudgetError.
    """
    if Preparation.load(folder) is not None:
        return
    started, spec = time.monotonic() - before, JobSpec.load(folder)
    torch.set_num_threads(spec.threads)
    train, held_out = draw(spec, folder)
    method = create_method(spec.method, load_language_model(spec.language_model, spec.device, spec.dtype))
    for link in links_beside(spec, method.lm):
        method.plug(link)
    found = [starts(spec, one, method)[0][1] for one in spec.new]
    planned = _planned(spec, method, found, train, held_out)
    begins_anew = len(found[0].config.blocks) != planned.linked_blocks
    for new, link in zip(spec.new, found, strict=True):
        method.plug(untrained(spec, new, method, planned.linked_blocks) if begins_anew else link)
    examples = held_out.examples if spec.only_try else (*train.examples, *held_out.examples)
    prepared = PreparedQuestions(method, QuestionFiles(spec.questions))
    if prepared.read(examples, cancelled, lambda done, of: say(
            JobProgress('reading', done, of, seconds=time.monotonic() - started))):
        Preparation(method.first_block, tuple(sorted({example.choices for example in examples})),
                time.monotonic() - started, **planned._asdict(), begins_anew=begins_anew).save(folder)


def draw(spec: JobSpec, folder: Path) -> tuple[TokenDataset, TokenDataset]:
    """Return training and held-out data, drawn from the buffer once.

    Raises TrainingError if the buffer has no suitable question.
    """
    data = folder / DATA
    if not data.is_dir():
        train, held_out = _lived_through(spec)
        if not train.examples:
            raise TrainingError('no questions in the replay buffer about frames with tokens of '
                                f'{" and ".join(spec.modalities)}; ask or label some while it is plugged in')
        with new_folder(data) as empty:
            for name, whole, most in ((TRAINING_SET, train, spec.most_questions),
                                      (HELD_OUT, held_out, spec.most_held_out)):
                (empty / name).mkdir()
                _few(whole, most, spec.most_texts, spec.training.seed).write(empty / name)
    return TokenDataset.load(data / TRAINING_SET), TokenDataset.load(data / HELD_OUT)


class _Planned(NamedTuple):
    """The planned fields of Preparation."""

    macs: float
    linked_blocks: int
    steps: int
    batch: int
    reason: str


def _planned(spec: JobSpec, method: Method, links: Sequence[Link], train: TokenDataset,
             held_out: TokenDataset) -> _Planned:
    """Return the planned depth and the maximum number of steps.

    Planned time is an estimate; training also measures its steps.  A method with unpredictable costs is
    trained as configured while there is time.
    """
    training, configs = spec.training, [link.config for link in links]
    depth = (spec.linked_blocks if method.spec.any_depth else 0) or len(configs[0].blocks)
    if method.spec.cost is None:
        if spec.budget.macs:
            raise BudgetError(f'what training the method {method.name} takes is not foreseen, so it cannot '
                              'be kept within MACs; give a budget of seconds or bytes')
        return _Planned(0., depth, training.steps, training.batch,
                        f'all blocks of the method {method.name} has')
    lm = method.lm
    speed = machine_speed(lm, method.spec, configs[0])
    costs = CostModel.for_model(lm, method.spec, configs, Workload.of(train, lm.tokenizer), speed)
    aim = Aim(training.batch, min(LEAST_STEPS, training.steps), training.steps, depth,
              evaluated=EVALUATIONS * len(held_out.examples))
    plan = costs.plan(spec.budget, aim)
    timeless = costs.plan(replace(spec.budget, seconds=0.),
                          replace(aim, batch=plan.batch, linked_blocks=plan.linked_blocks))
    return _Planned(costs.reading(plan.linked_blocks), plan.linked_blocks, timeless.steps, plan.batch,
                    plan.reason)


def _lived_through(spec: JobSpec) -> tuple[TokenDataset, TokenDataset]:
    """Return the data of the buffer for a job; with distillation its questions have no answers yet."""
    moments = ReplayBuffer.read(spec.buffer).together(spec.modalities)
    if spec.supervision == DISTILLED:
        invented = unlabelled_questions(spec.training.seed, INVENTED)
        rest, held = moments.together(spec.teachers, TRUSTED).split()
        rest, held = rest.asking(invented, spec.each), held.asking(invented, HELD_OUT_MORE * spec.each)
        return rest.dataset((), (ASKED,), spec.turns), held.dataset((), (ASKED,), 1)
    rest, held = moments.halves() if spec.only_try else moments.split()
    known = LABELLED, FEEDBACK
    return rest.dataset((), known, spec.turns), held.dataset((), known, 1)


def links_beside(spec: JobSpec, lm: LanguageModel) -> list[Link]:
    """Return the links that are plugged and stay unchanged."""
    return [load_link(path, lm=lm) for path in spec.beside]


def starts(spec: JobSpec, new: NewLink, method: Method) -> list[tuple[str, Link]]:
    """Return possible starts by name; an untrained link if none fits.

    A start of another modality, or for another encoder, passes on what it has learned.
    """
    found = []
    for path in new.starts:
        try:
            found.append((name_of(path), _start(spec, new, method, load_link(path, lm=method.lm))))
        except LinksError as error:
            LOG.warning('cannot initialise %s links from %s: %s', new.modality, path, error)
    return found or [('', _new(spec, new, method, spec.link))]


def _start(spec: JobSpec, new: NewLink, method: Method, before: Link) -> Link:
    config = before.config
    if before.kind != method.spec.link.kind:
        raise LinksError(f'it is of kind {before.kind!r}; the method {method.name} trains '
                         f'{method.spec.link.kind!r}')
    if (config.modality, config.encoder) == (new.modality, new.encoder):
        return before
    link = _new(spec, new, method, {name: value for name, value in config.to_dict().items()
                                    if name not in OF_THE_MODALITY})
    link.start_from(before)
    return link


def untrained(spec: JobSpec, new: NewLink, method: Method, linked_blocks: int) -> Link:
    """Return an untrained link to so many of the uppermost blocks."""
    return _new(spec, new, method, {**spec.link, 'last': linked_blocks})


def _new(spec: JobSpec, new: NewLink, method: Method, options: Mapping[str, Any]) -> Link:
    torch.manual_seed(spec.training.seed)
    return method.new_link(new.modality, new.encoder, new.token_width, **options)


def _few(dataset: TokenDataset, most: int, most_texts: int, seed: int) -> TokenDataset:
    """Return at most so many questions with so many texts, as evenly by type as possible."""
    kinds = max(1, len({example.type for example in dataset.examples}))
    texts = _Texts(most_texts // kinds)
    drawn = dataset.evened(len(dataset.examples), seed).examples
    return replace(dataset, examples=tuple(filter(texts.admit, drawn))).evened(max(1, most // kinds), seed)


class _Texts:
    """The first so many texts of each type."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, set[str]] = defaultdict(set)

    def admit(self, example: Example) -> bool:
        """Return whether its text is one of them."""
        known = self._known[example.type]
        if len(known) < self._limit:
            known.add(example.question)
        return example.question in known

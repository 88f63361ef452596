"""The first stage of an adaptation job: take questions from the buffer, plan, and read their texts."""
from __future__ import annotations

import json
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice, zip_longest
from pathlib import Path
from typing import Any

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
from mpnp_ros.methods.link_files import copied_link, load_link
from mpnp_ros.methods.link_store import name_of
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.vocabulary import ANSWERS, CATEGORIES, RELATIONS, STATUSES_OF_CATEGORY, THING
from mpnp_ros.questions.wording import ANYTHING, TEMPLATES, Description
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.cost_model import Aim, CostModel, Plan
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.speedometer import machine_speed
from mpnp_ros.training.workload import Workload

LOG = logging.getLogger(__name__)
FROM_THE_VEHICLE = ('any', 'me')
OF_THINGS = ('moving', 'parked', 'stopped', 'with rider', 'without rider')
"""Statuses that do not determine the category; only pedestrians stand."""
TRAINING_SET, HELD_OUT, READING = 'train', 'held_out', 'reading.json'
MIN_TEACHER_QUALITY = .5
"""Minimum quality of tokens from which a modality teaches."""
MIN_STEPS, EVALUATIONS, GENERATED_QUESTIONS = 40, 8, 400
"""Minimum of useful steps; evaluations of a training; different questions for distillation."""
HELD_OUT_FACTOR = 3
"""Factor of generated questions for a held-out moment, because there are few such moments."""
OF_THE_MODALITY = ('modality', 'encoder', 'token_width', 'base_model', 'base_model_name', 'kv_heads',
                   'head_dim', 'text_width')
"""Fields of the configuration of a link about its tokens and language model."""

ProgressCallback = Callable[[JobProgress], None]
Cancelled = Callable[[], bool]


def unlabelled_questions(seed: int, count: int) -> list[BufferedQuestion]:
    """Return different questions without answers in words of the templates, evenly over types and hops.

    None relates to another thing than the vehicle, so all of them turn with it.  There are at most `count`.
    If a kind has no more different questions (few comparisons have no relation), the others continue.
    """
    rng = random.Random(seed)
    supplies = []
    for kind, templates in TEMPLATES.items():
        if kind[2] in FROM_THE_VEHICLE:
            relations = RELATIONS if kind[2] == 'me' else ('',)
            texts = sorted({template.format(relation=relation, **slots) for template in templates
                            for relation in relations for slots in _slots(kind)})
            rng.shuffle(texts)
            supplies.append([BufferedQuestion(text, '', ANSWERS, kind[0], kind[1], ASKED) for text in texts])
    by_turns = chain.from_iterable(zip_longest(*supplies))
    return list(islice(filter(None, by_turns), count))


def _slots(kind: tuple[str, int, str]) -> Iterator[dict[str, str]]:
    """Yield the slots of a kind of question, as in questions/generator.py."""
    type_, _, form = kind
    with_status = [category for category in CATEGORIES if STATUSES_OF_CATEGORY[category]]
    if type_ == 'comparison' and form == 'me':
        # the first object is in a direction; the second one may have the same category elsewhere
        yield from ({'first': first, 'second': second} for first in (*with_status, THING)
                    for second in with_status)
        return
    if type_ == 'comparison':
        yield from ({'first': first, 'second': second} for first, second in combinations(with_status, 2))
        return
    names = [ANYTHING]
    if type_ == 'status':
        names += map(Description, with_status)
    else:
        names += [Description(THING, status) for status in OF_THINGS]
    if type_ not in ('status', 'object'):
        names += [Description(category, status) for category in CATEGORIES
                  for status in (None, *STATUSES_OF_CATEGORY[category])]
    for name in names:
        if form == 'me' or name != ANYTHING:
            yield {'thing': name.singular, 'things': name.plural}


@dataclass(frozen=True)
class Preparation:
    """Result of the first stage for the second, as in reading.json.

    first: the lowest block that training runs.  choices: all lists of answers.  seconds, macs: of reading.
    linked_blocks, steps, batch: as planned within the budget, with `reason`.  begins_anew: whether initial
    links have other blocks than planned, so that untrained ones are used.
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
        """Write the file, which marks reading as finished."""
        write_file(folder / READING, json.dumps(vars(self)).encode())

    @classmethod
    def load(cls, folder: Path) -> Preparation | None:
        """Read the file; return None if reading is not finished."""
        if not (folder / READING).is_file():
            return None
        entries = json.loads((folder / READING).read_bytes())
        return cls(**{**entries, 'choices': tuple(map(tuple, entries['choices']))})


def read(folder: Path, progress: ProgressCallback, cancelled: Cancelled, before: float = 0.) -> None:
    """Take the questions of a job, plan within its budget, and keep the states of all texts on disk.

    before: seconds of this stage that have passed already.  A finished stage is not repeated.
    Raises TrainingError if there are no questions, and BudgetError.
    """
    if Preparation.load(folder) is not None:
        return
    started, spec = time.monotonic() - before, JobSpec.load(folder)
    torch.set_num_threads(spec.threads)
    train, held_out = draw(spec, folder)
    method = create_method(spec.method, load_language_model(spec.language_model, spec.device, spec.dtype))
    for link in links_beside(spec, method.lm):
        method.plug(link)
    initial = [initial_links(spec, new, method)[0][1] for new in spec.new]
    plan = _plan(spec, method, initial, train, held_out)
    begins_anew = len(initial[0].config.blocks) != plan.linked_blocks
    for new, link in zip(spec.new, initial, strict=True):
        method.plug(untrained(spec, new, method, plan.linked_blocks) if begins_anew else link)
    examples = held_out.examples if spec.only_try else (*train.examples, *held_out.examples)
    prepared = PreparedQuestions(method, QuestionFiles(spec.questions))
    if prepared.read(examples, cancelled, lambda done, of: progress(
            JobProgress('reading', done, of, seconds=time.monotonic() - started))):
        Preparation(
            first=method.first_block, choices=tuple(sorted({example.choices for example in examples})),
            seconds=time.monotonic() - started, macs=plan.macs, linked_blocks=plan.linked_blocks,
            steps=plan.steps, batch=plan.batch, reason=plan.reason, begins_anew=begins_anew).save(folder)


def draw(spec: JobSpec, folder: Path) -> tuple[TokenDataset, TokenDataset]:
    """Return training and held-out data, which are taken from the buffer once.

    Raises TrainingError if the buffer has no suitable question.
    """
    data = folder / DATA
    if not data.is_dir():
        train, held_out = _buffered_data(spec)
        if not train.examples:
            raise TrainingError('no questions in the replay buffer about frames with tokens of '
                                f'{" and ".join(spec.modalities)}; ask or label some while it is plugged in')
        save_data(spec, folder, train, held_out)
    return TokenDataset.load(data / TRAINING_SET), TokenDataset.load(data / HELD_OUT)


def save_data(spec: JobSpec, folder: Path, train: TokenDataset, held_out: TokenDataset) -> None:
    """Write the data of a job, within the limits of its spec; a job that has data draws none."""
    with new_folder(folder / DATA) as empty:
        for name, dataset, most in ((TRAINING_SET, train, spec.most_questions),
                                    (HELD_OUT, held_out, spec.most_held_out)):
            (empty / name).mkdir()
            _limited(dataset, most, spec.most_texts, spec.training.seed).write(empty / name)


def _plan(spec: JobSpec, method: Method, links: Sequence[Link], train: TokenDataset,
          held_out: TokenDataset) -> Plan:
    """Return the planned training with the MACs of reading.

    Its steps are those without a limit of time, as time is an estimate and training measures its steps.  A
    method without a cost model is trained as configured while there is time.
    """
    training, configs = spec.training, [link.config for link in links]
    linked_blocks = (spec.linked_blocks if method.spec.any_depth else 0) or len(configs[0].blocks)
    if method.spec.cost is None:
        if spec.budget.macs:
            raise BudgetError(f'what training the method {method.name} takes is not foreseen, so it cannot '
                              'be kept within MACs; give a budget of seconds or bytes')
        return Plan(linked_blocks=linked_blocks, steps=training.steps, batch=training.batch,
                    reason=f'the blocks that the method {method.name} links')
    lm = method.lm
    speed = machine_speed(lm, method.spec, configs[0])
    costs = CostModel.for_model(lm, method.spec, configs, Workload.of(train, lm.tokenizer), speed)
    aim = Aim(training.batch, min(MIN_STEPS, training.steps), training.steps, linked_blocks,
              evaluated=EVALUATIONS * len(held_out.examples))
    plan = costs.plan(spec.budget, aim)
    timeless = costs.plan(replace(spec.budget, seconds=0.),
                          replace(aim, batch=plan.batch, linked_blocks=plan.linked_blocks))
    return replace(plan, macs=costs.reading(plan.linked_blocks), steps=timeless.steps)


def _buffered_data(spec: JobSpec) -> tuple[TokenDataset, TokenDataset]:
    """Return the (training, held-out) data of the buffer; those for distillation have no answers yet."""
    moments = ReplayBuffer.read(spec.buffer).together(spec.modalities)
    if spec.supervision == DISTILLED:
        generated = unlabelled_questions(spec.training.seed, GENERATED_QUESTIONS)
        rest, held = moments.together(spec.teachers, MIN_TEACHER_QUALITY).split()
        rest, held = rest.asking(generated, spec.each), held.asking(generated, HELD_OUT_FACTOR * spec.each)
        return rest.dataset((), (ASKED,), spec.turns), held.dataset((), (ASKED,), 1)
    rest, held = moments.halves() if spec.only_try else moments.split()
    known = LABELLED, FEEDBACK
    return rest.dataset((), known, spec.turns), held.dataset((), known, 1)


def links_beside(spec: JobSpec, lm: LanguageModel) -> list[Link]:
    """Return the links that are plugged and stay unchanged."""
    copies = [copied_link(link.starts[0], link.modality, link.encoder) for link in spec.copied]
    return [*(load_link(path, lm=lm) for path in spec.beside), *copies]


def initial_links(spec: JobSpec, new: NewLink, method: Method) -> list[tuple[str, Link]]:
    """Return possible initial links with their names; an untrained link without name if none fits.

    A link of another modality, or for another encoder, passes on what it has learned.
    """
    found = []
    for path in new.starts:
        try:
            link = load_link(path, lm=method.lm)
            if link.kind != method.spec.link.kind:
                raise LinksError(f'it is of kind {link.kind!r}; the method {method.name} trains '
                                 f'{method.spec.link.kind!r}')
            if (link.config.modality, link.config.encoder) != (new.modality, new.encoder):
                before, options = link, link.config.to_dict()
                link = _new_link(spec, new, method, {name: value for name, value in options.items()
                                                     if name not in OF_THE_MODALITY})
                link.start_from(before)
            found.append((name_of(path), link))
        except LinksError as error:
            LOG.warning('cannot initialise %s links from %s: %s', new.modality, path, error)
    return found or [('', _new_link(spec, new, method, spec.link))]


def untrained(spec: JobSpec, new: NewLink, method: Method, linked_blocks: int) -> Link:
    """Return an untrained link to the given number of uppermost blocks."""
    return _new_link(spec, new, method, {**spec.link, 'last': linked_blocks})


def _new_link(spec: JobSpec, new: NewLink, method: Method, options: Mapping[str, Any]) -> Link:
    torch.manual_seed(spec.training.seed)
    return method.new_link(new.modality, new.encoder, new.token_width, **options)


def _limited(dataset: TokenDataset, most: int, most_texts: int, seed: int) -> TokenDataset:
    """Return at most so many questions with so many texts, as evenly by type as possible."""
    types = max(1, len({example.type for example in dataset.examples}))
    texts: dict[str, set[str]] = defaultdict(set)
    kept = []
    for example in dataset.evened(len(dataset.examples), seed).examples:
        of_type = texts[example.type]
        if len(of_type) < most_texts // types:
            of_type.add(example.question)
        if example.question in of_type:
            kept.append(example)
    return replace(dataset, examples=tuple(kept)).evened(max(1, most // types), seed)

"""Training of links to own motion and to sounds, on painted frames; no sensor is needed.

The reader learns words and numbers without the upper blocks of the language model, then the aligners learn to
pass on what it counts, and last the temperature of answers is fitted.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mpnp_ros.files import cached_folder
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.methods.link_files import Provenance, load_link, read_manifest
from mpnp_ros.methods.link_store import LinkStore, shipped_links
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.questions.subjects import (
    MOTION,
    OBJECTS,
    SOUNDS,
    SUBJECTS,
    States,
    Subject,
    all_answers,
)
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_ros.questions.wording import Description
from mpnp_ros.training.answerable import claim, fit_answerable, probes_of, reader_of
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.calibration import fit_temperature
from mpnp_ros.training.painted_questions import PaintedDataset, painted_questions
from mpnp_ros.training.painted_states import MotionPainter, SoundPainter
from mpnp_ros.training.reader_trainer import ReaderConfig, ReaderTraining
from mpnp_ros.training.trainer import Trainer, TrainerConfig, TrainingStep, blind_method

LICENCE = 'Apache-2.0 (trained on painted tokens, without recordings)'
PAINTERS: dict[str, type[MotionPainter | SoundPainter]] = {
    MOTION.name: MotionPainter, SOUNDS.name: SoundPainter}
TRAINING, VALIDATION, TEST = 0, 1, 2
"""Seeds of painted frames."""
CAN, CANNOT = {OBJECTS.name: 6000, MOTION.name: 2500, SOUNDS.name: 2500}, 4000
"""Texts that a reader can answer, and most others, from which it learns at last which ones it can."""
HELD_OUT = 2000
"""Texts about objects with held-out words, all of which are claimed.  Texts about sounds are too close
to others for that: a reader that claims them all claims half of everything."""
REFITTED = 'bench.subjects: at last what it can answer'
Show = Callable[[str, TrainingStep], None]


@dataclass(frozen=True)
class SubjectRecipe:
    """How the link of a subject is made.

    link: options of the link.  frames: painted.  wordings, beyond: texts for learning words only.
    """

    link: dict[str, Any]
    frames: int = 3000
    per_kind: int = 5
    of_each_type: int = 4000
    wordings: int = 5000
    beyond: int = 3000
    reader: ReaderConfig = field(default_factory=lambda: ReaderConfig(
        word_steps=800, word_batch=128, number_steps=1000, number_batch=64, beyond=3))
    aligners: TrainerConfig = field(default_factory=lambda: TrainerConfig(
        steps=250, batch=64, learning_rate=2e-3, modality_dropout=0., part='aligners', warm_up=50,
        checkpoint_every=250))
    blind: TrainerConfig = field(default_factory=lambda: TrainerConfig(
        steps=60, batch=64, learning_rate=2e-3, modality_dropout=0., warm_up=10, checkpoint_every=60))
    calibrated_on: int = 300


SIZES = {'last': 8, 'pooling': 'counting', 'pooling_width': 64, 'pooling_heads': 4, 'hidden': 96,
         'entries': 3}
RECIPES = {
    MOTION.name: SubjectRecipe({**SIZES, 'probes': 3, 'harmonics': 2}),
    SOUNDS.name: SubjectRecipe({**SIZES, 'probes': 6, 'supervised': 6})}


def plain_questions() -> list[str]:
    """Return the plainest questions about each category, which the grammar says seldom."""
    wordings = ('Is there {a} {one} {where}?', 'Are there any {many} {where}?', 'Is {a} {one} {where}?',
                'How many {many} are there {where}?', 'Can you see {a} {one} {where}?')
    places = ('', 'ahead', 'behind me', 'to the left', 'to the right of us', 'to the back right of me',
              'within 20 m', 'near us', 'around')
    return [' '.join(wording.format(a='an' if name[0] in 'aeiou' else 'a', one=name, where=where,
                                    many=Description(name).plural).replace(' ?', '?').split())
            for name in CATEGORIES for wording in wordings for where in places
            if where or not wording.startswith('Is {a}')]


class SubjectStudy:
    """Links and painted questions of all subjects in one folder; finished work is kept.

    show: called after every step with the name of the training.
    """

    def __init__(self, lm: LanguageModel, folder: Path, show: Show = lambda name, step: None) -> None:
        self.lm, self.folder, self.show = lm, folder, show
        self.store = LinkStore(folder / 'links')
        self._texts: dict[str, torch.Tensor] = {}

    def painted(self, subject: States, seed: int, frames: int, per_kind: int, of_each_type: int,
                **options: Any) -> PaintedDataset:
        """Return questions about painted frames, with the answers of all subjects as choices."""
        painter = PAINTERS[subject.name](seed)
        place = self.folder / 'questions' / f'{subject.name}-{seed}'
        place.parent.mkdir(parents=True, exist_ok=True)

        def build(empty: Path) -> None:
            painted_questions(map(painter.paint, range(frames)), seed, per_kind, of_each_type,
                              subject=subject, choices=all_answers(), **options).write(empty)

        source = f'{frames} {per_kind} {of_each_type} {sorted(options.items())}'
        return PaintedDataset.load(cached_folder(place, source, build))

    def training(self, subject: States) -> PaintedDataset:
        """Return the training questions of a subject."""
        recipe = RECIPES[subject.name]
        return self.painted(subject, TRAINING, recipe.frames, recipe.per_kind, recipe.of_each_type,
                            wordings=recipe.wordings, beyond=recipe.beyond)

    def link(self, name: str) -> Method:
        """Return a method with the link of a subject plugged, trained or from the store."""
        method = create_method('mpnp', self.lm)
        if stored := self.store.latest(name):
            method.plug(load_link(stored.path, lm=self.lm, sha256=stored.sha256))
            return method
        if name == OBJECTS.name:
            shipped = shipped_links()[OBJECTS.name]
            method.plug(load_link(shipped.path, lm=self.lm, sha256=shipped.sha256))
            provenance = read_manifest(shipped.path).provenance
        else:
            provenance = self._train(method, {subject.name: subject for subject in (MOTION, SOUNDS)}[name])
        self.refit(method, SUBJECTS[name])
        self.store.save(method.links()[name], replace(provenance, text=f'{provenance.text}; {REFITTED}'))
        return method

    def blind(self, subject: States) -> Method:
        """Return a method with an equal link on learned constants, trained on the same questions."""
        folder = self.folder / 'training' / f'blind-{subject.name}'
        method, config = self.link(subject.name), RECIPES[subject.name].blind
        twin, data = blind_method(method), self.training(subject).dataset
        asked = min(len(data.examples), config.steps * config.batch)
        data = replace(data, examples=tuple(random.Random(TRAINING).sample(data.examples, asked)))
        Trainer(twin, config, PreparedQuestions(method, QuestionFiles())).fit(
            data, progress=lambda step: self.show(f'{subject.name}, blind', step), checkpoint=folder)
        return twin

    def refit(self, method: Method, subject: Subject) -> None:
        """Train which questions the plugged link of a subject says that it can answer, and nothing else."""
        rng, name = random.Random(TRAINING), subject.name
        can = [subject.say(subject.any_meaning(rng), rng) for _ in range(CAN[name])]
        can += plain_questions() if name == OBJECTS.name else []
        cannot = [subject.say_beyond(rng) for _ in range(min(CAN[name], CANNOT))]
        held_out = [subject.say(subject.any_meaning(rng), rng, True)
                    for _ in range(HELD_OUT if name == OBJECTS.name else 0)]
        texts = [*dict.fromkeys(can + cannot + held_out)]
        probes = probes_of(method, [name], texts, lambda done, of: self.show(
            f'{name}, reading', TrainingStep(done, of, 0., None)))[name]
        place = {text: row for row, text in enumerate(texts)}
        fit_answerable(reader_of(method.links()[name]), probes[[place[text] for text in can]],
                       probes[[place[text] for text in cannot]])
        if held_out:
            claim(reader_of(method.links()[name]), probes[[place[text] for text in held_out]])

    def _train(self, method: Method, subject: States, seed: int = 0) -> Provenance:
        """Make and train the link of a subject; return where it comes from."""
        recipe, data = RECIPES[subject.name], self.training(subject)
        torch.manual_seed(seed)
        method.plug(method.new_link(subject.name, PAINTERS[subject.name].encoder, len(subject.channels),
                                    channels=subject.channel_names, **recipe.link))
        checkpoint = self.folder / 'training' / subject.name
        checkpoint.mkdir(parents=True, exist_ok=True)
        ReaderTraining(method, subject.name, data, recipe.reader.changed(seed=seed), checkpoint / 'reader',
                       self._texts).run(lambda step: self.show(f'{subject.name}, {step.stage}', TrainingStep(
                           step.step, step.steps, step.loss, None)))
        book = PreparedQuestions(method, QuestionFiles())
        Trainer(method, replace(recipe.aligners, seed=seed), book).fit(
            data.dataset, progress=lambda step: self.show(f'{subject.name}, aligners', step),
            checkpoint=checkpoint / 'aligners')
        held_out = self.painted(subject, VALIDATION, 600, recipe.per_kind, recipe.calibrated_on).dataset
        fit_temperature(method, subject.name, held_out.examples, book,
                        lambda example: held_out.frames[example.frame])
        text = (f'bench.subjects: {recipe.frames} painted frames, {recipe.reader.word_steps} and '
                f'{recipe.reader.number_steps} steps of the reader, {recipe.aligners.steps} of the aligners, '
                f'seed {seed}')
        return Provenance(LICENCE, text)

"""The study behind docs/results/accuracy.md: accuracy with true objects, camera and LiDAR, day and night.

For every seed, links learn on true objects of unrendered scenes.  Links to camera and LiDAR start from those
and learn on other, rendered scenes.  All of them answer the same questions about held-out scenes; links on
learned constants (blind), the majority and a fixed rule on the same tokens answer them too.  Finished work is
kept on disk, and the same call resumes there.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.common.accuracy import right_answers
from bench.common.jobs import kept
from mpnp_ros.files import cached_folder, write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_files import Provenance, load_link
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.registry import Encoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.options import Options, option
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.rule import rule_answer
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.calibration import fit_agreement, fit_temperature
from mpnp_ros.training.dataset import Example, Frame, TokenDataset
from mpnp_ros.training.evaluation import answers_of, majority_answers
from mpnp_ros.training.key_frames import encode, question_dataset, scene_of
from mpnp_ros.training.painted_frames import VERSION, Painter, observed
from mpnp_ros.training.painted_questions import PaintedDataset, painted_questions
from mpnp_ros.training.reader_trainer import ReaderConfig, ReaderTraining
from mpnp_ros.training.trainer import PARTS, Trainer, TrainerConfig, TrainingStep, train_blind
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects, counting
from mpnp_world.dataset.generate import Recipe, generate, scene_identities
from mpnp_world.dataset.objects_only import object_key_frames
from mpnp_world.scene.identity import LIGHTS, SceneIdentity

SENSORS = ('camera', 'lidar')
RECIPE = Path(__file__).with_name('study.yaml')
LICENCE = 'Apache-2.0 (trained on the embedded driving world)'
QUESTION_SEED = 0
SECOND, SECOND_SEED = 'other', 1
"""Of a second sensor beside the painted one, for which the agreement of links to true objects is fitted."""
SECOND_LEAST = (0.7, 0.7, 0.5)
"""The least share of objects that it finds, and certainties of them and of their statuses, see `observed`."""


@dataclass(frozen=True)
class Questions(Options):
    """Objects of questions, see :class:`~mpnp_ros.questions.generator.Scope`."""

    max_distance: float = option(30.0, 'maximum distance of the objects in questions', unit='m', low=0)
    min_points: int = option(5, 'minimum measured points on an object in questions', low=0)

    @property
    def scope(self) -> Scope:
        """From the vehicle only."""
        return Scope(self.max_distance, self.min_points, anchors=False)


@dataclass(frozen=True)
class Scenes(Options):
    """Scenes of the world, and numbers of questions about them."""

    scenes: tuple[int, int] = option(help='first seed of the scenes, and the seed after the last', low=0)
    key_frames: int = option(8, 'key frames of each scene', low=1)
    interval: float = option(3.0, 'time between key frames', unit='s', low=1e-30)
    lights: tuple[str, ...] = option(('day',), 'lights that are rendered', choices=LIGHTS)
    turns: int = option(1, 'headings per key frame', low=1)
    per_kind: int = option(6, 'maximum questions of each kind per frame', low=0)
    of_each_type: int = option(10_000, 'maximum questions of each type', low=0)

    @property
    def seeds(self) -> range:
        """The seeds of the scenes."""
        return range(*self.scenes)

    @property
    def drawn(self) -> Scenes:
        """The same without the training options."""
        return Scenes(**{entry.name: getattr(self, entry.name) for entry in fields(Scenes)})


@dataclass(frozen=True)
class Training(Options):
    """Steps, rates and trained part of links, see TrainerConfig."""

    steps: int = option(help='training steps', low=1)
    batch: int = option(128, 'questions per step', low=1)
    learning_rate: float = option(6e-4, 'learning rate of aligners', low=1e-30)
    modality_dropout: float = option(
        0.5, 'share of questions that see only a part of their modalities', low=0, high=1)
    part: str = option('all', 'what of the links is trained', choices=tuple(PARTS))
    worth_rate: float = option(3e-2, 'learning rate of worth and trust', low=1e-30)


@dataclass(frozen=True)
class Learning(Training, Scenes):
    """Training scenes, and options of the training."""

    steps: int = option(1000, 'training steps', low=1)
    part: str = option('worth', 'what of the links is trained', choices=tuple(PARTS))
    calibrated_on: int = option(
        300, 'questions of each type on which the temperature of answers is fitted', low=0)


@dataclass(frozen=True)
class Counting(Learning):
    """Scenes of painted frames, and the training of links to true objects on them.

    The reader learns first.  steps and the other options of the training are those of the aligners, which
    learn next.  The temperature of answers is fitted on painted frames of the validation's scenes.
    """

    steps: int = option(300, 'training steps', low=1)
    batch: int = option(64, 'questions per step', low=1)
    learning_rate: float = option(2e-3, 'learning rate of aligners', low=1e-30)
    modality_dropout: float = option(
        0., 'share of questions that see only a part of their modalities', low=0, high=1)
    part: str = option('aligners', 'what of the links is trained', choices=tuple(PARTS))
    calibrated_on: int = option(
        1500, 'questions of each type, and frames, on which the temperature of answers is fitted', low=0)
    frames: int = option(8000, 'painted frames', low=1)
    beyond: int = option(4000, 'questions that counts cannot answer', low=0)
    wordings: int = option(40_000, 'texts for learning words only', low=0)
    reader: ReaderConfig = option(ReaderConfig(), 'training of the reader')


@dataclass(frozen=True)
class StudyConfig(Options):
    """The whole study; :meth:`load` reads it from YAML."""

    objects: Counting = option(help='links on true objects, the start of all others')
    sensors: Learning = option(help='links on camera and LiDAR together')
    blind: Training = option(help='the same links on learned constants')
    test: Scenes = option(help='scenes of the test')
    validation: Scenes = option(help='scenes for learning curves and choosing')
    seeds: tuple[int, ...] = option((0, 1, 2), 'seeds of links and of what they see in training')
    language_model: str = option('smollm2-135m-instruct', 'language model')
    questions: Questions = option(Questions(), 'objects of questions')
    link: Mapping[str, Any] = option({}, 'options of links, as of LinkConfig.for_model')

    @property
    def splits(self) -> dict[str, range]:
        """The seeds of the scenes, by part."""
        return {name: getattr(self, name).seeds for name in ('objects', 'sensors', 'validation', 'test')}

    def check(self) -> Iterator[str]:
        """Faults: scenes that are in two parts."""
        yield from overlaps(self.splits)


def overlaps(parts: Mapping[str, range]) -> Iterator[str]:
    """Faults of parts of a benchmark, by name with the seeds of their scenes: scenes that are in two."""
    ordered = sorted(parts.items(), key=lambda part: part[1].start)
    for (first, seeds), (second, others) in zip(ordered, ordered[1:], strict=False):
        if seeds.stop > others.start:
            yield f'{first} and {second} overlap; give their scenes other seeds'


@dataclass(frozen=True, eq=False)
class TestSet:
    """Questions about held-out scenes, and the tokens of every modality in each light.

    examples: their frames are those of the day.  tokens: light -> key of the day's frame -> tokens.
    """

    examples: tuple[Example, ...]
    tokens: Mapping[str, Mapping[str, Frame]]

    def see(self, light: str, modalities: Sequence[str]) -> Callable[[Example], dict[str, ModalityTokens]]:
        """A function that returns the tokens for a question."""
        return lambda example: {name: self.tokens[light][example.frame][name] for name in modalities}


ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    'camera_day': ('day', ('camera',)), 'camera_night': ('night', ('camera',)),
    'lidar_day': ('day', ('lidar',)), 'lidar_night': ('night', ('lidar',)),
    'camera_lidar_day': ('day', SENSORS), 'camera_lidar_night': ('night', SENSORS)}
"""Row of the report -> light and plugged sensors."""


class Study:
    """One study in one folder.

    encoders: of camera and LiDAR.  show: called after every training step with the name of the training.
    """

    def __init__(self, config: StudyConfig, folder: Path, encoders: Mapping[str, Encoder],
                 show: Callable[[str, TrainingStep], None] = lambda name, step: None) -> None:
        self.config, self.folder, self.encoders, self.show = config, folder, encoders, show
        self._texts: dict[str, torch.Tensor] = {}

    def run_seed(self, seed: int) -> dict[str, Any]:
        """Run one seed: right or wrong of every question in every row, and the training costs."""
        return kept(self.folder / f'seed-{seed}.json', lambda: self._measure(seed))

    def objects_link(self, seed: int) -> Method:
        """Links on true objects, trained or from the study's store."""
        method = create_method('mpnp', self.lm)
        store, encoder = self.store(seed), TrueObjects(self.config.questions.scope)
        torch.manual_seed(seed)
        link = method.new_link(OBJECTS, encoder.fingerprint, encoder.token_width, **counting(CHANNELS),
                               **self.config.link)
        method.plug(link)
        if stored := store.latest(OBJECTS):
            method.replace(load_link(stored.path, lm=self.lm, sha256=stored.sha256))
            return method
        ReaderTraining(
            method, OBJECTS, self.painted, self.config.objects.reader.changed(seed=seed),
            self.folder / 'training' / f'reader-{seed}', self._texts,
        ).run(lambda step: self.show(step.stage, TrainingStep(step.step, step.steps, step.loss, None)))
        self._fit(method, self.painted.dataset, self.config.objects, seed, OBJECTS, self.validation)
        held_out = self.painted_validation.dataset
        fit_temperature(method, OBJECTS, held_out.examples, self.book,
                        lambda example: held_out.frames[example.frame])
        method.replace(self._agreeing(method.links()[OBJECTS]))
        self._save(store, method, seed, 'true objects', self.config.objects)
        return method

    def sensor_links(self, seed: int, start: Link) -> Method:
        """Links on camera and LiDAR, started from the links on true objects; trained or from the store."""
        method, store = create_method('mpnp', self.lm), self.store(seed)
        stored = [entry for name in SENSORS if (entry := store.latest(name))]
        for name in SENSORS:
            encoder = self.encoders[name]
            link = method.new_link(name, encoder.fingerprint, encoder.token_width, **counting(CHANNELS),
                                   **self.config.link)
            link.start_from(start)
            method.plug(link)
        if len(stored) == len(SENSORS):
            for entry in stored:
                method.replace(load_link(entry.path, lm=self.lm, sha256=entry.sha256))
            return method
        part, train = self.config.sensors, self.sensor_training
        self._fit(method, train, part, seed, 'sensors')
        asked = train.evened(part.calibrated_on, seed).examples

        def alone(name: str, example: Example) -> Frame:
            return {name: train.frames[example.frame][name]}

        for name in SENSORS:
            fit_temperature(method, name, asked, self.book, partial(alone, name))
        fit_agreement(method, SENSORS, asked, self.book, lambda example: train.frames[example.frame])
        self._save(store, method, seed, 'camera and LiDAR', self.config.sensors)
        return method

    def _agreeing(self, link: Link) -> Link:
        """Return links on true objects with an agreement, fitted for two copies of them.

        One has the tokens of painted frames that nothing is trained on, the other observes the true objects
        of these frames by itself, each frame with another share found and other certainties.
        """
        pair, others = create_method('mpnp', self.lm), {}
        true, painter = self._true, self._painter(self.config.validation)
        for place in range(self.config.objects.calibrated_on):
            draw = np.random.default_rng((SECOND_SEED, place))
            others[str(place)] = observed(true.encode(painter.paint(place).frame), draw,
                                          *draw.uniform(SECOND_LEAST, 1.))
        for name in (OBJECTS, SECOND):
            copy = pair.new_link(name, true.fingerprint, true.token_width, **counting(CHANNELS),
                                 **self.config.link)
            copy.start_from(link)
            pair.plug(copy)
        data = self.painted_validation.dataset
        fit_agreement(pair, (OBJECTS, SECOND), data.examples, self.book, lambda example: {
            **data.frames[example.frame], SECOND: replace(others[example.frame], modality=SECOND)})
        return pair.links()[OBJECTS]

    def store(self, seed: int) -> LinkStore:
        """The links of a seed."""
        return LinkStore(self.folder / 'links' / f'seed-{seed}')

    @cached_property
    def lm(self) -> LanguageModel:
        """The language model."""
        return load_language_model(self.config.language_model)

    @cached_property
    def book(self) -> PreparedQuestions:
        """The prepared questions; all links of a study begin at the same block."""
        method = create_method('mpnp', self.lm)
        method.plug(method.new_link(OBJECTS, 'book', len(CHANNELS), **counting(CHANNELS), **self.config.link))
        return PreparedQuestions(method, QuestionFiles())

    @cached_property
    def painted(self) -> PaintedDataset:
        """Questions about painted frames of unrendered scenes."""
        part = self.config.objects
        return self._paint('painted', part, part.frames, part.beyond, part.wordings)

    @cached_property
    def painted_validation(self) -> PaintedDataset:
        """The same about other scenes, for the temperature of answers."""
        count = self.config.objects.calibrated_on
        return self._paint('painted-validation', replace(self.config.validation.drawn, of_each_type=count),
                           count)

    @cached_property
    def validation(self) -> TokenDataset:
        """Questions about true objects of other scenes, for learning curves."""
        return self._about_objects('validation')

    @cached_property
    def objects_training(self) -> TokenDataset:
        """Questions about true objects of the scenes that painted frames are made from, for bench.methods."""
        return self._about_objects('objects')

    @cached_property
    def sensor_training(self) -> TokenDataset:
        """Questions about rendered scenes in all their lights."""
        part, root = self.config.sensors, self.root('sensors')
        frames = (frame for scene in root.scenes for frame in root.key_frames(scene['name']))
        return self._ask(frames, list(self.encoders.values()), part)

    @cached_property
    def test(self) -> TestSet:
        """Questions about held-out rendered scenes, the same by day and at night."""
        part, root = self.config.test, self.root('test')
        by_day = [(identity, list(root.key_frames(identity.name)))
                  for identity in self._identities(part, ('day',))]
        asked = self._ask((frame for _, frames in by_day for frame in frames), [self._true], part)
        tokens: dict[str, dict[str, Frame]] = {light: {} for light in part.lights}
        for identity, frames in by_day:
            for light in part.lights:
                twin = SceneIdentity(identity.seed, replace(identity.conditions, light=light)).name
                for frame, other in zip(frames, root.key_frames(twin), strict=True):
                    key = f'{frame.scene}/{frame.token}/000'
                    tokens[light][key] = {**asked.frames[key]} | {
                        name: encode(other, encoder) for name, encoder in self.encoders.items()}
        return TestSet(asked.examples, tokens)

    def root(self, name: str) -> NuScenes:
        """The rendered scenes of a part, generated if necessary; each sensor has a sweep 0.5 s before."""
        part = getattr(self.config, name)
        recipe = Recipe(part.key_frames, part.interval, sensors=SENSORS, sweeps=SENSORS, sweep_rate=2.)
        return NuScenes(generate(self.folder / 'world' / name, self._identities(part, part.lights), recipe,
                                 workers=2))

    @property
    def _true(self) -> TrueObjects:
        return TrueObjects(self.config.questions.scope)

    def _measure(self, seed: int) -> dict[str, Any]:
        test = self.test
        on_objects = self.objects_link(seed)
        on_sensors = self.sensor_links(seed, on_objects.links()[OBJECTS])
        blind, _ = train_blind(on_objects, self.painted.dataset, self._trainer(self.config.blind, seed),
                               progress=lambda step: self.show('blind', step), book=self.book)
        answers: dict[str, Sequence[str | None]] = {
            'true_objects': self._answers(on_objects, 'day', (OBJECTS,)),
            'blind': self._answers(blind, 'day', ()),
            'majority': majority_answers(self.sensor_training.examples, test.examples)}
        for row, (light, modalities) in ROWS.items():
            answers[row] = self._answers(on_sensors, light, modalities)
        for row in [row for row, (_, modalities) in ROWS.items() if len(modalities) == 1]:
            answers[f'rule_{row}'] = self._by_rule(*ROWS[row])
        answers['rule_true_objects'] = self._by_rule('day', (OBJECTS,))
        return {'seed': seed, 'scenes': [scene_of(example.frame) for example in test.examples],
                'types': [example.type for example in test.examples],
                'hops': [example.hops for example in test.examples],
                'right': {row: right_answers(test.examples, given) for row, given in answers.items()},
                'training': {name: json.loads((self.folder / 'training' / f'{name}-{seed}.json').read_bytes())
                             for name in (OBJECTS, 'sensors')}}

    def _answers(self, method: Method, light: str, modalities: Sequence[str]) -> list[str | None]:
        return answers_of(method, self.test.examples, self.book, self.test.see(light, modalities))

    def _by_rule(self, light: str, modalities: Sequence[str]) -> list[str | None]:
        see = self.test.see(light, modalities)
        return [rule_answer(example.question, see(example)[modalities[0]], CHANNELS)
                for example in self.test.examples]

    def _about_objects(self, name: str) -> TokenDataset:
        part = getattr(self.config, name)

        def build(empty: Path) -> None:
            frames = object_key_frames(part.seeds, part.key_frames, part.interval, progress=False)
            self._ask(frames, [self._true], part).write(empty)

        return TokenDataset.load(self._cached(name, f'{part.drawn} {self.config.questions}', build))

    def _paint(self, name: str, part: Scenes, frames: int, beyond: int = 0, wordings: int = 0,
               ) -> PaintedDataset:
        def build(empty: Path) -> None:
            painter = self._painter(part)
            painted_questions(map(painter.paint, range(frames)), QUESTION_SEED, part.per_kind,
                              part.of_each_type, beyond=beyond, wordings=wordings).write(empty)

        source = f'{part.drawn} {frames} {beyond} {wordings} {self.config.questions} {VERSION}'
        return PaintedDataset.load(self._cached(name, source, build))

    def _painter(self, part: Scenes) -> Painter:
        thin = list(object_key_frames(part.seeds, part.key_frames, part.interval, progress=False))
        return Painter(thin, self.config.questions.scope, QUESTION_SEED)

    def _cached(self, name: str, source: str, build: Callable[[Path], None]) -> Path:
        place = self.folder / 'questions' / name
        place.parent.mkdir(parents=True, exist_ok=True)
        return cached_folder(place, source, build)

    def _ask(self, frames: Iterable[KeyFrame], encoders: Sequence[Encoder], part: Scenes) -> TokenDataset:
        asked = question_dataset(frames, encoders, part.turns, QUESTION_SEED, per_kind=part.per_kind,
                                 scope=self.config.questions.scope)
        return asked.evened(part.of_each_type, QUESTION_SEED)

    def _fit(self, method: Method, train: TokenDataset, part: Learning | Counting, seed: int, name: str,
             validation: TokenDataset | None = None) -> None:
        folder = self.folder / 'training' / f'{name}-{seed}'
        folder.parent.mkdir(parents=True, exist_ok=True)
        report = Trainer(method, self._trainer(part, seed), self.book).fit(
            train, validation, lambda step: self.show(name, step), checkpoint=folder)
        write_file(folder.with_suffix('.json'), json.dumps(asdict(report)).encode())

    def _trainer(self, part: Learning | Counting | Training, seed: int) -> TrainerConfig:
        return TrainerConfig(steps=part.steps, batch=part.batch, learning_rate=part.learning_rate,
                             modality_dropout=part.modality_dropout,
                             warm_up=min(100, part.steps // 5), evaluate_every=250,
                             checkpoint_every=250, part=part.part, worth_rate=part.worth_rate, seed=seed)

    def _save(self, store: LinkStore, method: Method, seed: int, what: str,
              part: Learning | Counting) -> None:
        text = (f'bench.study: {what} of {len(part.seeds)} scenes of the embedded driving world '
                f'(seeds {part.scenes[0]} to {part.scenes[1] - 1}), {part.steps} steps of {part.batch}, '
                f'seed {seed}')
        for link in method.links().values():
            store.save(link, Provenance(LICENCE, text))

    @staticmethod
    def _identities(part: Scenes, lights: Sequence[str]) -> list[SceneIdentity]:
        return scene_identities(part.seeds, lights, ('clear',))

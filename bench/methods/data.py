"""Training and test data of a benchmark of methods: questions and tokens of a study."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.methods.plan import MethodsConfig, Task
from mpnp_ros.errors import DatasetError
from mpnp_ros.files import cached_folder, write_file
from mpnp_ros.questions.generator import NEARBY, objects_of
from mpnp_ros.questions.rule import parse_question
from mpnp_ros.training.budget import measure_macs
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.key_frames import dataset_reader, question_dataset, scene_of
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects
from mpnp_world.dataset.objects_only import object_key_frames

if TYPE_CHECKING:
    from bench.study.study import Study

TRAIN, CURVE, TEST = 'train', 'curve', 'test'
ENCODER = 'encoder.json'
DRAWING_SEED = 0


@dataclass(frozen=True, eq=False)
class BenchData:
    """Questions with the tokens of one modality: of a task, or of a study in one light.

    curve: questions about scenes like those of `train`, but held out.  encoder_macs: MACs of encoding one
    frame.
    """

    train: TokenDataset
    curve: TokenDataset
    test: TokenDataset
    encoder_macs: int

    @classmethod
    def of_study(cls, study: Study, config: MethodsConfig) -> BenchData:
        """The data of a study; measures its encoder on a frame.  Raises DatasetError if no question is left.

        True objects have no encoder, and the study has scenes for their curve.
        """
        train, curve = of_objects(study) if config.modality == OBJECTS else of_sensor(study, config)
        if config.texts:  # the most frequent ones
            counts = Counter(example.question for example in train.examples)
            top = {text for text, _ in counts.most_common(config.texts)}
            train = replace(train, examples=tuple(example for example in train.examples
                                                  if example.question in top))
        test = TokenDataset(study.test.tokens[config.light], study.test.examples)
        return cls(train, _evenly(curve, config.curve, config.modality),
                   _evenly(test, config.test, config.modality), encoder_macs(study, config.modality))

    @classmethod
    def of_task(cls, config: MethodsConfig) -> BenchData:
        """The data of a task.  Raises DatasetError if no question is left."""
        train, curve, test = (ask(config.task, scenes) for scenes in
                              (config.task.train, config.task.curve, config.task.test))
        return cls(train.evened(config.task.of_each_type, DRAWING_SEED),
                   _evenly(curve, config.curve, OBJECTS), _evenly(test, config.test, OBJECTS), 0)

    @classmethod
    def load(cls, folder: Path) -> BenchData:
        """Read the files of :meth:`write`."""
        train, curve, test = (TokenDataset.load(folder / name) for name in (TRAIN, CURVE, TEST))
        return cls(train, curve, test, json.loads((folder / ENCODER).read_bytes())['macs'])

    def write(self, folder: Path) -> None:
        """Write the data to an empty folder."""
        for name in (TRAIN, CURVE, TEST):
            part = folder / name
            part.mkdir()
            getattr(self, name).write(part)
        write_file(folder / ENCODER, json.dumps({'macs': self.encoder_macs}).encode())


def identity(study: Study | None, config: MethodsConfig) -> str:
    """A text that identifies the data of a benchmark."""
    if study is None:
        return f'{config.task} {config.test} {config.curve} {TrueObjects(NEARBY).fingerprint}'
    drawn = config.light, config.modality, config.texts, config.test, config.curve, config.curve_scenes
    encoder = study.encoders.get(config.modality) or TrueObjects(study.config.questions.scope)
    return f'{drawn} {study.config} {encoder.fingerprint}'


def prepare_data(study: Study | None, config: MethodsConfig, folder: Path) -> Path:
    """The folder of the data; written if it does not exist.  study: None for a task."""
    folder.parent.mkdir(parents=True, exist_ok=True)

    def build(empty: Path) -> None:
        data = BenchData.of_study(study, config) if study else BenchData.of_task(config)
        data.write(empty)

    return cached_folder(folder, identity(study, config), build)


def ask(task: Task, scenes: tuple[int, int]) -> TokenDataset:
    """Questions of a task about some scenes; the same text has several answers, evenly where it can."""
    frames = [frame for frame in object_key_frames(range(*scenes), task.key_frames, task.interval,
                                                   progress=False)
              if not task.most_objects or len(objects_of(frame, NEARBY)) <= task.most_objects]
    asked = question_dataset(frames, [TrueObjects(NEARBY)], task.turns, DRAWING_SEED, per_kind=task.per_kind,
                             scope=NEARBY)

    def fits(example: Example) -> bool:
        meaning = parse_question(example.question)
        return meaning is not None and meaning.type in task.types and (
            task.directions or meaning.direction is None)

    found = _about(asked, filter(fits, asked.examples), OBJECTS)
    if not found.examples:
        raise DatasetError(f'scenes {scenes[0]} to {scenes[1] - 1} have no question of the task whose answer '
                           'varies; give it more scenes, or more objects in a frame')
    return found


def of_objects(study: Study) -> tuple[TokenDataset, TokenDataset]:
    """True objects for training and for the curve."""
    training, curve = (_about(dataset, dataset.examples, OBJECTS)
                       for dataset in (study.objects_training, study.validation))
    return training, curve


def of_sensor(study: Study, config: MethodsConfig) -> tuple[TokenDataset, TokenDataset]:
    """Data for training and for the curve, which holds out the last scenes."""
    seen = study.sensor_training
    frames = {key for key in seen.frames if config.light in seen.conditions.get(key, ())}
    asked = _about(seen, (example for example in seen.examples if example.frame in frames), config.modality)
    last = sorted({scene_of(key) for key in asked.frames})[-config.curve_scenes:]
    train, curve = asked.split(lambda key: scene_of(key) in last)
    if not train.examples:
        raise DatasetError(f'no training question by {config.light} is left; hold out fewer than '
                           f'{config.curve_scenes} scenes for the curve')
    return train, curve


def distinct_frames(dataset: TokenDataset, modality: str) -> int:
    """The number of encoded frames; turned copies share their values and count once."""
    return len({id(dataset.frames[example.frame][modality].values) for example in dataset.examples})


def encoder_macs(study: Study, modality: str) -> int:
    """Measured MACs of encoding one key frame of the study; 0 for true objects."""
    if modality == OBJECTS:
        return 0
    root, encoder = study.root('sensors'), study.encoders[modality]
    frame = dataset_reader(modality).frame(next(iter(root.key_frames(root.scenes[0]['name']))))
    return measure_macs(lambda: encoder.encode(frame))


def _about(dataset: TokenDataset, examples: Iterable[Example], modality: str) -> TokenDataset:
    """A data set of some examples and their tokens only."""
    kept = tuple(examples)
    frames = {example.frame: {modality: dataset.frames[example.frame][modality]} for example in kept}
    return replace(dataset, frames=frames, examples=kept, conditions={})


def _evenly(dataset: TokenDataset, count: int, modality: str) -> TokenDataset:
    """About `count` questions, equally many of each type."""
    types = {example.type for example in dataset.examples}
    limit = max(1, count // max(1, len(types)))
    return _about(dataset, dataset.evened(limit, DRAWING_SEED).examples, modality)

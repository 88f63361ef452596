"""What all methods of a benchmark are trained and tested on: questions and tokens of a study."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.adaptation.cost import measure_macs
from mpnp_ros.adaptation.dataset import Example, TokenDataset
from mpnp_ros.adaptation.key_frames import SENSOR_FRAMES, scene_of
from mpnp_ros.adaptation.true_objects import OBJECTS, TrueObjects
from mpnp_ros.bench.methods_plan import MethodsConfig
from mpnp_ros.cache import cached_folder, write_file
from mpnp_ros.errors import DatasetError

if TYPE_CHECKING:
    from mpnp_ros.adaptation.study import Study

TRAIN, CURVE, TEST = 'train', 'curve', 'test'
ENCODER = 'encoder.json'
DRAWING_SEED = 0


@dataclass(frozen=True, eq=False)
class BenchData:
    """Questions with the tokens of one modality, in one light.

    curve: about scenes of the same kind as those of `train`, none of them there.  encoder_macs: of encoding
    one frame.
    """

    train: TokenDataset
    curve: TokenDataset
    test: TokenDataset
    encoder_macs: int

    @classmethod
    def of_study(cls, study: Study, config: MethodsConfig) -> BenchData:
        """Drawn from a study; measures its encoder on a frame.  Raises DatasetError where none is left.

        Of true objects, as unrendered scenes have them, there is no encoder, and the study has scenes for the
        curve.
        """
        train, curve = _of_objects(study) if config.modality == OBJECTS else _of_sensor(study, config)
        test = TokenDataset(study.test.tokens[config.light], study.test.examples)
        return cls(_most_asked(train, config.texts), _evenly(curve, config.curve, config.modality),
                   _evenly(test, config.test, config.modality), encoder_macs(study, config.modality))

    @classmethod
    def load(cls, folder: Path) -> BenchData:
        """Read what :meth:`write` wrote."""
        parts = (TokenDataset.load(folder / name) for name in (TRAIN, CURVE, TEST))
        return cls(*parts, json.loads((folder / ENCODER).read_bytes())['macs'])

    def write(self, folder: Path) -> None:
        """Write it into an empty folder."""
        for name in (TRAIN, CURVE, TEST):
            part = folder / name
            part.mkdir()
            getattr(self, name).write(part)
        write_file(folder / ENCODER, json.dumps({'macs': self.encoder_macs}).encode())


def identity(study: Study, config: MethodsConfig) -> str:
    """What the data of a benchmark follow from, as text."""
    drawn = config.light, config.modality, config.texts, config.test, config.curve, config.curve_scenes
    encoder = study.encoders.get(config.modality) or TrueObjects(study.config.questions.scope)
    return f'{drawn} {study.config} {encoder.fingerprint}'


def prepare_data(study: Study, config: MethodsConfig, folder: Path) -> Path:
    """The folder of the data, made unless it is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return cached_folder(folder, identity(study, config),
                         lambda empty: BenchData.of_study(study, config).write(empty))


def _of_objects(study: Study) -> tuple[TokenDataset, TokenDataset]:
    """To train on, and for the curve."""
    return tuple(_about(dataset, dataset.examples, OBJECTS)
                 for dataset in (study.objects_training, study.validation))


def _of_sensor(study: Study, config: MethodsConfig) -> tuple[TokenDataset, TokenDataset]:
    """To train on, and for the curve; the last scenes are held out for that."""
    seen = study.sensor_training
    frames = {key for key in seen.frames if config.light in seen.conditions.get(key, ())}
    asked = _about(seen, (example for example in seen.examples if example.frame in frames), config.modality)
    last = sorted({scene_of(key) for key in asked.frames})[-config.curve_scenes:]
    train, curve = asked.split(lambda key: scene_of(key) in last)
    if not train.examples:
        raise DatasetError(f'no question by {config.light} is left to train on; hold out fewer than '
                           f'{config.curve_scenes} scenes for the curve')
    return train, curve


def distinct_frames(dataset: TokenDataset, modality: str) -> int:
    """How many frames had to be encoded for the questions: turned copies share their values."""
    return len({id(dataset.frames[example.frame][modality].values) for example in dataset.examples})


def encoder_macs(study: Study, modality: str) -> int:
    """MACs of encoding one key frame of the study's sensors, measured; 0 for true objects."""
    if modality == OBJECTS:
        return 0
    root, encoder = study.root('sensors'), study.encoders[modality]
    frame = SENSOR_FRAMES[modality](next(iter(root.key_frames(root.scenes[0]['name']))))
    return measure_macs(lambda: encoder.encode(frame))


def _about(dataset: TokenDataset, examples: Iterable[Example], modality: str) -> TokenDataset:
    """Some of the examples, with no more tokens than they are about."""
    kept = tuple(examples)
    frames = {example.frame: {modality: dataset.frames[example.frame][modality]} for example in kept}
    return replace(dataset, frames=frames, examples=kept, conditions={})


def _most_asked(dataset: TokenDataset, texts: int) -> TokenDataset:
    """The questions with the most frequent texts; 0: all."""
    if not texts:
        return dataset
    counts = Counter(example.question for example in dataset.examples)
    top = {text for text, _ in counts.most_common(texts)}
    kept = tuple(example for example in dataset.examples if example.question in top)
    return replace(dataset, examples=kept)


def _evenly(dataset: TokenDataset, count: int, modality: str) -> TokenDataset:
    """About so many questions, as many of each type."""
    types = {example.type for example in dataset.examples}
    limit = max(1, count // max(1, len(types)))
    return _about(dataset, dataset.evened(limit, DRAWING_SEED).examples, modality)

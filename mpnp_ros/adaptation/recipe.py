"""The recipe of `mpnp train`: questions, sensors, training and held-out data."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mpnp_ros.adaptation.dataset import TokenDataset
from mpnp_ros.adaptation.key_frames import check_files, encode, key_frame_dataset, official_dataset
from mpnp_ros.adaptation.night_images import NIGHT_IMAGES
from mpnp_ros.adaptation.processes import Processes
from mpnp_ros.adaptation.splits import SPLITS
from mpnp_ros.adaptation.trainer import TrainerConfig
from mpnp_ros.adaptation.true_objects import OBJECTS, TrueObjects, counting
from mpnp_ros.cache import write_file
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import DEFAULT_METHOD
from mpnp_ros.modalities.base import Encoder
from mpnp_ros.nuscenes.official_qa import read_nuscenes_qa
from mpnp_ros.nuscenes.questions import Scope
from mpnp_ros.nuscenes.tables import NuScenes

OF_COUNTS = {'camera': {'tokens': 'objects'}, 'lidar': {'backbone': 'polar'}, 'radar': {}}
"""Options of the encoders that count objects by a head."""


@dataclass(frozen=True)
class QuestionRecipe:
    """Options of questions.

    max_distance (metres), min_points, anchors: see :class:`~mpnp_ros.nuscenes.questions.Scope`.  turns:
    headings a key frame.  per_kind: see scene_questions.  These make questions from boxes; published ones
    are taken as they are.  of_each_type: questions of each type at most, drawn at random; 0: all.
    """

    max_distance: float = 50.
    min_points: int = 1
    anchors: bool = False
    turns: int = 24
    per_kind: int = 2000
    of_each_type: int = 0

    @property
    def scope(self) -> Scope:
        """Return the objects that questions are about."""
        return Scope(self.max_distance, self.min_points, self.anchors)


@dataclass(frozen=True)
class TrainRecipe:
    """All options of a training except the data.  Raises ConfigurationError.

    method: how modalities are connected to the language model.  encoders: modality -> options of its encoder
    that are not the default.  link: options as in `for_model` of the configuration of the method's links.
    split: one of SPLITS.  night_images: one of NIGHT_IMAGES, or empty.  seed: of
    everything that is drawn.
    """

    language_model: str = 'smollm2-135m-instruct'
    method: str = DEFAULT_METHOD
    modalities: tuple[str, ...] = ('camera', 'lidar')
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    link: Mapping[str, Any] = field(default_factory=dict)
    questions: QuestionRecipe = field(default_factory=QuestionRecipe)
    training: TrainerConfig = field(default_factory=TrainerConfig)
    split: str = 'scene'
    night_images: str = ''
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'modalities', tuple(self.modalities))
        for name, value, known in (('split', self.split, SPLITS),
                                   ('night_images', self.night_images, ('', *NIGHT_IMAGES))):
            if value not in known:
                raise ConfigurationError(f'{name} is {value!r}; it must be one of {", ".join(known)}')

    @classmethod
    def load(cls, path: str | Path) -> TrainRecipe:
        """Read a YAML file.  Raises ConfigurationError with the file and the problem."""
        try:
            entries = dict(yaml.safe_load(Path(path).read_text(encoding='utf-8')) or {})
            entries['questions'] = QuestionRecipe(**entries.get('questions') or {})
            entries['training'] = TrainerConfig(**{'seed': entries.get('seed', 0),
                                                   **(entries.get('training') or {})})
            for name in ('encoders', 'link'):
                entries[name] = dict(entries.get(name) or {})
            return cls(**entries)
        except (OSError, yaml.YAMLError, TypeError, ValueError, ConfigurationError) as error:
            raise ConfigurationError(f'{path} is not a recipe of mpnp train ({error}); its keys are '
                                     f'{", ".join(entry.name for entry in fields(cls))}') from None

    def changed(self, **entries: Any) -> TrainRecipe:
        """Return it with other values, by the names of this class and of its parts; None keeps a value.

        seed is that of training too; last is that of `link`.
        """
        given = {name: value for name, value in entries.items() if value is not None}
        parts = {name: replace(part, **{key: given[key] for key in asdict(part).keys() & given.keys()})
                 for name, part in (('questions', self.questions), ('training', self.training))}
        own = {name: given[name] for name in given.keys() & {entry.name for entry in fields(self)}}
        link = {**self.link, **({'last': given['last']} if 'last' in given else {})}
        return replace(self, **{'link': link, **parts, **own})

    def counting(self, heads: Mapping[str, str | None]) -> TrainRecipe:
        """Return it with tokens of object counts; heads: modality -> its name or folder, or None."""
        chosen = {name: {**self.encoders.get(name, {}), **OF_COUNTS[name], 'head': head}
                  for name, head in heads.items() if head}
        return replace(self, encoders={**self.encoders, **chosen})

    def make_encoders(self, device: str = 'auto') -> list[Encoder]:
        """Return the encoder of every modality; 'objects' is that of true objects."""
        from mpnp_ros.modalities.registry import create_encoder

        return [TrueObjects(self.questions.scope) if name == OBJECTS else
                create_encoder(name, {'device': device, **self.encoders.get(name, {})})
                for name in self.modalities]

    def new_link(self, method: Method, encoder: Encoder) -> Link:
        """Return an untrained link for an encoder; a counting one for an encoder of counts."""
        counts = counting(encoder.channels) if hasattr(encoder, 'channels') else {}
        return method.new_link(encoder.modality, encoder.fingerprint, encoder.token_width,
                               **{**counts, **self.link})

    def read(self, root: NuScenes, encoders: Sequence[Encoder], qa: Sequence[str | Path] = (),
             scenes: Sequence[str] | None = None,
             progress: Callable[[int, int], None] = lambda done, of: None) -> TokenDataset:
        """Return the data: published questions if files are given, otherwise generated from boxes.

        scenes: names or tokens, default: all.  Several processes encode a share each.
        progress: called with (encoded key frames, all key frames).
        """
        asked = self.questions
        samples = [sample['token'] for scene in scenes or [record['token'] for record in root.scenes]
                   for sample in root.samples(scene)]
        if qa:
            kept = set(samples)
            questions = [one for path in qa for one in read_nuscenes_qa(path, root).questions
                         if one.sample_token in kept]
            samples = list(dict.fromkeys(one.sample_token for one in questions))
        check_files(root, samples, self.modalities)
        self._encode(root, encoders, samples)

        def tell(done: int) -> None:
            progress(done, len(samples))

        dataset = official_dataset(root, questions, encoders, night_images=self.night_images,
                                   progress=tell) if qa else \
            key_frame_dataset(root, encoders, asked.turns, self.seed, scenes=scenes, scope=asked.scope,
                              per_kind=asked.per_kind, night_images=self.night_images, progress=tell)
        return dataset.evened(asked.of_each_type, self.seed) if asked.of_each_type else dataset

    def save(self, path: Path) -> None:
        """Write the YAML file."""
        entries = json.loads(json.dumps(asdict(self)))
        write_file(path, yaml.safe_dump(entries, sort_keys=False).encode())

    def _encode(self, root: NuScenes, encoders: Sequence[Encoder], samples: Sequence[str]) -> None:
        """Let each process encode a share into the cache, and wait for the others."""
        processes = Processes.current()
        if processes.count > 1:
            for token in processes.share(samples):
                frame = root.key_frame(token)
                for encoder in encoders:
                    encode(frame, encoder, night_images=self.night_images)
            processes.any(False)

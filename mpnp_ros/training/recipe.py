"""The recipe of `mpnp train`: questions, sensors, training and held-out data."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mpnp_ros.files import write_file
from mpnp_ros.methods.registry import DEFAULT_METHOD
from mpnp_ros.modalities.registry import sensors
from mpnp_ros.options import Options, option
from mpnp_ros.questions.generator import Scope
from mpnp_ros.training.key_frames import NIGHT_IMAGES
from mpnp_ros.training.splits import SPLITS
from mpnp_ros.training.trainer import TrainerConfig

if TYPE_CHECKING:
    from mpnp_ros.methods.link import Link
    from mpnp_ros.methods.method import Method
    from mpnp_ros.modalities.registry import Encoder
    from mpnp_ros.nuscenes.tables import NuScenes
    from mpnp_ros.training.dataset import TokenDataset


def counting_options() -> dict[str, Mapping[str, Any]]:
    """Return the options of the encoders that count objects by a head, by sensor."""
    return {name: sensor.head.selects for name, sensor in sensors().items() if sensor.head}


def detecting_options() -> dict[str, Mapping[str, Any]]:
    """Return the options of the encoders that take objects from a detector, by sensor."""
    return {name: sensor.detects for name, sensor in sensors().items() if sensor.detects}


@dataclass(frozen=True)
class QuestionRecipe(Options):
    """Options of questions generated from annotations; published questions are taken as they are."""

    max_distance: float = option(50., 'maximum distance of the objects in questions', unit='m', low=0)
    min_points: int = option(1, 'minimum measured points on an object in questions', low=0)
    anchors: bool = option(False, 'also ask about positions relative to other objects; for many key frames')
    turns: int = option(24, 'headings per key frame', low=1)
    per_kind: int = option(2000, 'maximum questions of each kind per frame', low=0)
    of_each_type: int = option(0, 'maximum questions of each type, drawn at random; 0: no limit', low=0)

    @property
    def scope(self) -> Scope:
        """Return the scope of the questions."""
        return Scope(self.max_distance, self.min_points, self.anchors)


@dataclass(frozen=True)
class TrainRecipe(Options):
    """All options of a training except the data.  Raises OptionError."""

    language_model: str = option(
        'smollm2-135m-instruct', 'language model', flag='--llm', metavar='MODEL')
    method: str = option(
        DEFAULT_METHOD, 'method of connecting modalities to the language model', metavar='NAME')
    modalities: tuple[str, ...] = option(
        ('camera', 'lidar'), 'modalities: sensors, or objects (the true objects)', metavar='NAME')
    encoders: Mapping[str, Mapping[str, Any]] = option(
        {}, 'options of the encoder of each modality that are not the default')
    link: Mapping[str, Any] = option(
        {}, 'options of links, as in `for_model` of the configuration of the links of the method')
    questions: QuestionRecipe = option(QuestionRecipe(), 'options of the questions')
    training: TrainerConfig = option(TrainerConfig(), 'options of the training of links')
    split: str = option('scene', 'held-out data: whole scenes, questions as in nuScenes-QA-mini, or none',
                        choices=SPLITS)
    night_images: str = option('', 'degrade camera images of night scenes as nuScenes-QA-mini does',
                               choices=('', *NIGHT_IMAGES))
    seed: int = option(0, 'random seed')

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str | Path = '') -> TrainRecipe:
        """Return the recipe as for all options; the default seed of training is that of the recipe."""
        training = values.get('training') or {}
        if 'seed' in values and isinstance(training, Mapping):
            values = {**values, 'training': {'seed': values['seed'], **training}}
        return super().from_mapping(values, source)

    def counting(self, heads: Mapping[str, str | None]) -> TrainRecipe:
        """Return it with tokens of object counts; heads: modality -> its name or folder, or None."""
        return self._choosing('head', counting_options(), heads)

    def detecting(self, detectors: Mapping[str, str | None]) -> TrainRecipe:
        """Return it with tokens of detected objects; detectors: modality -> as ``detector``, or None."""
        return self._choosing('detector', detecting_options(), detectors)

    def _choosing(self, option: str, selects: Mapping[str, Mapping[str, Any]],
                  values: Mapping[str, str | None]) -> TrainRecipe:
        """Return it with an option of some encoders, and with what selects the encoders that have it."""
        chosen = {name: {**self.encoders.get(name, {}), **selects[name], option: value}
                  for name, value in values.items() if value}
        return self.changed(encoders={**self.encoders, **chosen})

    def make_encoders(self, device: str = 'auto') -> list[Encoder]:
        """Return the encoder of every modality; 'objects' is that of true objects."""
        from mpnp_ros.modalities.registry import create_encoder
        from mpnp_ros.training.true_objects import OBJECTS, TrueObjects

        return [TrueObjects(self.questions.scope) if name == OBJECTS else
                create_encoder(name, {'device': device, **self.encoders.get(name, {})})
                for name in self.modalities]

    def new_link(self, method: Method, encoder: Encoder) -> Link:
        """Return an untrained link for an encoder; a counting one for an encoder of counts."""
        from mpnp_ros.training.true_objects import counting

        counts = counting(encoder.channels) if hasattr(encoder, 'channels') else {}
        return method.new_link(encoder.modality, encoder.fingerprint, encoder.token_width,
                               **{**counts, **self.link})

    def read(self, root: NuScenes, encoders: Sequence[Encoder], qa: Sequence[str | Path] = (),
             scenes: Sequence[str] | None = None,
             progress: Callable[[int, int], None] = lambda done, of: None,
             scope: Scope | None = None) -> TokenDataset:
        """Return the data: published questions if files are given, otherwise generated ones.

        qa: files of published questions.  scenes: names or tokens, default: all.  progress: called with
        (encoded key frames, all key frames).  scope: of generated questions, default: that of the recipe.
        Several processes encode a share each.
        """
        from mpnp_ros.nuscenes.official_qa import read_nuscenes_qa
        from mpnp_ros.training.distributed import DistributedContext
        from mpnp_ros.training.key_frames import check_files, encode, key_frame_dataset, official_dataset

        asked = self.questions
        samples = [sample['token'] for scene in scenes or [record['token'] for record in root.scenes]
                   for sample in root.samples(scene)]
        if qa:
            kept = set(samples)
            questions = [question for path in qa for question in read_nuscenes_qa(path, root).questions
                         if question.sample_token in kept]
            samples = list(dict.fromkeys(question.sample_token for question in questions))
        check_files(root, samples, self.modalities)
        processes = DistributedContext.current()
        if processes.count > 1:  # each process encodes a share into the cache, and waits for the others
            for token in processes.share(samples):
                frame = root.key_frame(token)
                for encoder in encoders:
                    encode(frame, encoder, night_images=self.night_images)
            processes.any(False)

        def tell(done: int) -> None:
            progress(done, len(samples))

        dataset = official_dataset(root, questions, encoders, night_images=self.night_images,
                                   progress=tell) if qa else \
            key_frame_dataset(root, encoders, asked.turns, self.seed, scenes=scenes,
                              scope=scope or asked.scope, per_kind=asked.per_kind,
                              night_images=self.night_images, progress=tell)
        return dataset.evened(asked.of_each_type, self.seed) if asked.of_each_type else dataset

    def save(self, path: Path) -> None:
        """Write the YAML file."""
        write_file(path, yaml.safe_dump(self.to_mapping(), sort_keys=False).encode())

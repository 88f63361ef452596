"""What the demo prepares once and keeps: the bag, links trained on the frame, and what they rest on."""
from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros import __version__
from mpnp_ros.cache import cache_root, cached_folder
from mpnp_ros.nuscenes.bag_writer import write_bag
from mpnp_ros.nuscenes.pointclouds import read_sensor_file
from mpnp_ros.nuscenes.questions import LabelledQuestion

if TYPE_CHECKING:
    from rich.console import Console

    from mpnp_ros.adaptation.batches import QuestionBook
    from mpnp_ros.adaptation.dataset import TokenDataset
    from mpnp_ros.adaptation.trainer import Trainer, TrainingStep
    from mpnp_ros.cli.demo_scene import DemoScene
    from mpnp_ros.methods.base import Method

HEADINGS, HELD_OUT_EVERY, HELD_OUT_PLACE, OF_EACH_TYPE, OF_ALL = 72, 4, 2, 360, 850
STEPS, LINKED_BLOCKS, QUESTIONS, SEED = 600, 8, 14, 0
MODEL = 'smollm2-135m-instruct'
MODALITIES = ('camera', 'lidar')
EVIDENCE = 'evidence.json'


@dataclass(frozen=True)
class Evidence:
    """Accuracies in [0, 1] of the trained links.

    trained, held_out: on headings that were trained on and on others, by what the answers could see.
    questions: how many, of both.  seconds: of training the links, and the blind twin.
    """

    trained: Mapping[str, float]
    held_out: Mapping[str, float]
    questions: Sequence[int]
    seconds: Sequence[float]


@dataclass(frozen=True)
class Learned:
    """bag: the key frame with `asked` as its labelled questions.  links: a folder for each modality."""

    bag: Path
    links: Sequence[Path]
    asked: Sequence[LabelledQuestion]
    evidence: Evidence


def learn(scene: DemoScene, console: Console, fresh: bool = False) -> Learned:
    """Take the lesson from the cache, or learn it now, which takes a few minutes on two cores."""
    identity = _identity(scene)
    folder = cache_root() / 'demo' / identity[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    lesson = cached_folder(folder, identity, lambda empty: _Lesson(scene, console, empty).learn())
    kept = json.loads((lesson / EVIDENCE).read_bytes())
    return Learned(lesson / 'bag', [lesson / 'links' / name for name in MODALITIES],
                   [LabelledQuestion(**entry) for entry in kept['asked']], Evidence(**kept['evidence']))


class _Lesson:
    """Learning about one scene, into an empty folder."""

    def __init__(self, scene: DemoScene, console: Console, folder: Path) -> None:
        self.scene, self.console, self.folder = scene, console, folder

    def learn(self) -> None:
        """Encode, train, examine and write."""
        from mpnp_ros.adaptation.trainer import Trainer, TrainerConfig

        dataset, method = self._prepare()
        train, test = dataset.evened(OF_EACH_TYPE, SEED).sample(OF_ALL, SEED).split(is_held_out)
        config = TrainerConfig(steps=STEPS, modality_dropout=1., seed=SEED)
        trainer = Trainer(method, config)
        with _bar(self.console, 'training links', STEPS) as show:
            report = trainer.fit(train, progress=show)
        blind, blind_seconds = self._train_blind(method, train, trainer)
        with self.console.status('trying the links with and without their sensors'):
            rows = [_examine(method, blind, train, part, trainer.book) for part in (train, test)]
        counts = len(train.examples), len(test.examples)
        evidence = Evidence(*rows, counts, (report.seconds, blind_seconds))
        self._write(method, evidence, _choose(train))

    def _prepare(self) -> tuple[TokenDataset, Method]:
        """The frame's tokens from all headings with their questions, and untrained links."""
        import torch

        from mpnp_ros.adaptation.key_frames import key_frame_dataset
        from mpnp_ros.llm.weights import load_language_model
        from mpnp_ros.methods.base import build_method
        from mpnp_ros.modalities.registry import create_encoder

        with self.console.status('preparing models (converted once)'):
            lm = load_language_model(MODEL)
            encoders = [create_encoder(name, {}) for name in MODALITIES]
        with self.console.status('encoding six cameras and a sweep'):
            dataset = key_frame_dataset(self.scene.root, encoders, HEADINGS, SEED,
                                        scenes=[self.scene.frame.scene], samples=[self.scene.frame.token])
        method = build_method('mpnp', lm)
        torch.manual_seed(SEED)
        for encoder in encoders:
            method.plug(method.new_link(encoder.modality, encoder.fingerprint, encoder.token_width,
                                        last=LINKED_BLOCKS))
        return dataset, method

    def _train_blind(self, method: Method, train: TokenDataset, trainer: Trainer) -> tuple[Method, float]:
        from mpnp_ros.adaptation.blind import train_blind

        with _bar(self.console, 'training the blind twin', STEPS) as show:
            blind, report = train_blind(method, train, trainer.config, progress=show, book=trainer.book)
        return blind, report.seconds

    def _write(self, method: Method, evidence: Evidence, asked: Sequence[LabelledQuestion]) -> None:
        from mpnp_ros.links.files import Provenance, save_link

        licence = 'Apache-2.0' if self.scene.generated else 'made from nuScenes: CC BY-NC-SA 4.0'
        text = f'mpnp demo on {self.scene.title}'
        (self.folder / 'links').mkdir()
        for name, link in method.links().items():
            save_link(link, self.folder / 'links' / name, Provenance(licence, text, evidence.held_out))
        write_bag(self.scene.root, self.folder / 'bag', [self.scene.frame.scene], lambda frame: asked,
                  progress=False, samples=[self.scene.frame.token])
        kept = {'asked': [asdict(question) for question in asked], 'evidence': asdict(evidence)}
        (self.folder / EVIDENCE).write_text(json.dumps(kept, indent=1))


def is_held_out(key: str) -> bool:
    """Every 4th heading, but not 0, the one that the bag has."""
    from mpnp_ros.adaptation.key_frames import heading_of

    return heading_of(key) % HELD_OUT_EVERY == HELD_OUT_PLACE


def _examine(method: Method, blind: Method, train: TokenDataset, part: TokenDataset,
             book: QuestionBook) -> dict[str, float]:
    from mpnp_ros.adaptation.evaluation import evaluate, majority, sensor_dependence

    found = sensor_dependence(method, part, SEED, book)
    rows = {'camera and LiDAR': found.sensors, 'camera alone': found.alone['camera'],
            'LiDAR alone': found.alone['lidar'], 'shuffled frames': found.shuffled,
            'unplugged': found.unplugged, 'blind twin': evaluate(blind, part, book),
            'majority': majority(train, part)}
    return {name: accuracy.value for name, accuracy in rows.items()}


def _choose(train: TokenDataset) -> list[LabelledQuestion]:
    """Questions about the frame as it is, which were trained on, spread over types and answers."""
    from mpnp_ros.adaptation.key_frames import heading_of, sample_of

    groups: dict[tuple[str, str], list[LabelledQuestion]] = defaultdict(list)
    for example in train.examples:
        if heading_of(example.frame) == 0:
            groups[example.type, example.answer].append(LabelledQuestion(
                example.question, example.answer, example.type, example.hops, '', sample_of(example.frame)))
    rng, chosen = random.Random(SEED), []
    for group in groups.values():
        rng.shuffle(group)
    while any(groups.values()) and len(chosen) < QUESTIONS:
        chosen += [group.pop() for group in groups.values() if group]
    return chosen[:QUESTIONS]


def _identity(scene: DemoScene) -> str:
    """A sha256 over what the lesson depends on."""
    recipe = [__version__, HEADINGS, HELD_OUT_EVERY, HELD_OUT_PLACE, OF_EACH_TYPE, OF_ALL, STEPS,
              LINKED_BLOCKS, QUESTIONS, SEED, MODEL, scene.frame.token]
    digest = hashlib.sha256(json.dumps(recipe).encode())
    for reading in scene.frame.readings:
        digest.update(hashlib.sha256(read_sensor_file(reading.path)).digest())
    digest.update(repr(scene.frame.objects).encode())
    return digest.hexdigest()


@contextmanager
def _bar(console: Console, title: str, steps: int) -> Iterator[Callable[[TrainingStep], None]]:
    """A progress bar for training; gives the callback that moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    loss = TextColumn('loss {task.fields[loss]:.3f}')
    with Progress(TextColumn(f'{title:24}'), BarColumn(), MofNCompleteColumn(), loss, TimeRemainingColumn(),
                  console=console) as bar:
        task = bar.add_task(title, total=steps, loss=float('nan'))
        yield lambda step: bar.update(task, completed=step.step, loss=step.loss)

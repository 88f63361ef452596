"""Trains links on the labelled answers of a recording, as the adaptation node does on its buffer.

The recording is cut into three parts, one after the other in time: one to train on, one to check whether
the new links are stored, and a last one for `mpnp evaluate --recording`, which training does not touch.
"""
from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from mpnp_ros.adaptation.job import DATA, TRAINED, JobProgress, JobResult, JobSpec, NewLink
from mpnp_ros.adaptation.job_prepare import Preparation, read, save_data
from mpnp_ros.adaptation.job_train import train
from mpnp_ros.adaptation.moments import Moment, ReplayDataset
from mpnp_ros.adaptation.options import AdapterConfig
from mpnp_ros.bags.held_out import held_out_from, note_held_out
from mpnp_ros.bags.labels import Label
from mpnp_ros.cli.arguments import ROBOT, SHIPPED
from mpnp_ros.cli.output import from_to, percent, seconds
from mpnp_ros.cli.recording import Recording
from mpnp_ros.cli.signals import CANCELLED, checkpoint_folder, forget_checkpoint, interruptible
from mpnp_ros.errors import DatasetError, LinksError, TrainingError
from mpnp_ros.files import cache_root, write_file
from mpnp_ros.methods.link_store import LinkStore, StoredLink, default_store, shipped_link, shipped_links
from mpnp_ros.modalities.registry import sensors
from mpnp_ros.progress import progress
from mpnp_ros.training.recipe import TrainRecipe

CHECKED = .2
"""Share of the moments by which it is decided whether links are stored."""
INPUTS = 'inputs.sha256'
"""File of a checkpoint: of all that the result depends on."""


def train_recording(arguments: Namespace) -> int:
    """Train, and print what came of it; exit code 0, 1 where the links are not stored, 130 after Ctrl-C."""
    with Recording(arguments.recording) as recording:
        labels = labels_of(recording, arguments.said_by)
        parts = Parts.of(recording.moments(labels), arguments.hold_out, arguments.gap)
    new = links_to_train(parts.train, arguments.modalities or (), arguments.start or ROBOT)
    names = tuple(link.modality for link in new)
    config = AdapterConfig()
    spec = JobSpec(
        new=new, buffer='', store=str(arguments.output), questions=str(cache_root() / 'questions'),
        training=replace(config.training, **training_options(arguments)), turns=config.headings_per_frame,
        anew_learning_rate=config.scratch_learning_rate, most_questions=config.max_questions,
        most_held_out=config.max_held_out_questions, most_texts=config.max_distinct_questions,
        offer_starts=False, language_model=arguments.language_model or JobSpec.language_model,
        method=arguments.method or JobSpec.method, device=arguments.device, threads=torch.get_num_threads())
    print(f'{" and ".join(names)}: {parts.described()}')
    inputs = spec, arguments.recording.resolve(), arguments.hold_out, arguments.gap, sorted(map(repr, labels))
    folder = arguments.checkpoint or checkpoint_folder(arguments.output, *inputs)
    check_inputs(folder, inputs)
    spec.save(folder)
    if not (folder / DATA).is_dir():
        save_data(spec, folder, parts.train.dataset(names, turns=spec.turns),
                  parts.check.dataset(names, turns=1))
    with interruptible() as cancelled, progress('links', quiet=arguments.quiet) as show:
        def report(told: JobProgress) -> None:
            loss = f', loss {told.loss:.3f}' if told.loss == told.loss else ''
            show(told.step, told.steps, told.stage + loss)

        read(folder, report, cancelled)
        result = train(folder, report, cancelled) if Preparation.load(folder) is not None else None
        if result is None or cancelled():
            print(f'stopped; the same command resumes from {folder}', file=sys.stderr)
            return CANCELLED
    print(described(result))
    if arguments.checkpoint is None:
        forget_checkpoint(folder)
    if result.status != TRAINED:
        return 1
    name, begun = arguments.recording.resolve().name, store_of(arguments.start or ROBOT)
    seen = held_out_from(begun).get(name, 0) if begun else 0
    note_held_out(arguments.output, {name: max(parts.held_out_from, seen)})
    for modality, path in result.links.items():
        print(f'{modality}: {path}')
    print(f'measure them: mpnp evaluate --recording {arguments.recording} --links {arguments.output}')
    return 0


def check_inputs(folder: Path, inputs: object) -> None:
    """Note the inputs in a new checkpoint.  Raises TrainingError for a checkpoint of others."""
    digest, path = sha256(repr(inputs).encode()).hexdigest(), folder / INPUTS
    if path.is_file() and path.read_text() != digest:
        raise TrainingError(f'{folder} is the checkpoint of another training; choose another --checkpoint')
    folder.mkdir(parents=True, exist_ok=True)
    write_file(path, digest.encode())


def store_of(where: str) -> Path | None:
    """Return the folder of the links that `links_for` finds; None for the shipped ones."""
    return None if where == SHIPPED else default_store().folder if where == ROBOT else Path(where)


def labels_of(recording: Recording, said_by: Collection[str]) -> list[Label]:
    """Return the labels that some sources have given.  Raises DatasetError if there are none."""
    labels = [label for label in recording.labels if label.by in said_by and label.answer]
    if not labels:
        raise DatasetError(f'{recording.folder} has no answers labelled by {" or ".join(said_by)}; label '
                           f'some with `mpnp review {recording.folder}`')
    return labels


@dataclass(frozen=True)
class Parts:
    """Moments to train on, to check, and held out; one part follows the other in time."""

    train: ReplayDataset
    check: ReplayDataset
    test: ReplayDataset

    @classmethod
    def of(cls, moments: Sequence[Moment], hold_out: float, gap: float) -> Parts:
        """Cut the moments.  Raises TrainingError if a part is empty.

        hold_out: share of the last part.  gap: seconds between parts.
        """
        shares = (1 - CHECKED - hold_out, CHECKED, hold_out)
        parts = cls(*ReplayDataset(tuple(moments)).consecutive(shares, gap))
        if not (parts.train.moments and parts.check.moments and (parts.test.moments or not hold_out)):
            raise TrainingError(f'{len(moments)} labelled moments are too few to train on some, to check by '
                                'others and to hold out the last ones; review answers of more moments, or '
                                'record a longer drive')
        return parts

    @property
    def held_out_from(self) -> int:
        """Return the stamp, nanoseconds, from which on nothing was trained on or checked."""
        last = max(moment.stamp_ns for moment in self.check.moments)
        return min((moment.stamp_ns for moment in self.test.moments), default=last + 1)

    def described(self) -> str:
        """Return the sizes of the parts in words."""
        def size(part: ReplayDataset) -> str:
            count = sum(len(moment.questions) for moment in part.moments)
            return f'{count} labels of {len(part.moments)} moments'

        return f'{size(self.train)} to train on, {size(self.check)} to check, {size(self.test)} held out'


def links_to_train(moments: ReplayDataset, modalities: Collection[str], start: str) -> tuple[NewLink, ...]:
    """Return the links to train, with what each starts from.

    modalities: empty: all with tokens that some links read.  Raises LinksError if links are missing.
    """
    newest = {name: tokens for moment in moments.moments for name, tokens in moment.tokens.items()}
    if missing := set(modalities) - newest.keys():
        raise TrainingError(f'no tokens of {" and ".join(sorted(missing))} at the labelled moments; there '
                            f'are those of {", ".join(sorted(newest))}')
    new, why = [], []
    for name in modalities or sorted(newest):
        tokens = newest[name]
        try:
            begun = links_for(start, name, tokens.encoder, tokens.width)
        except LinksError as error:
            if modalities:
                raise
            why.append(str(error))
            continue
        new.append(NewLink(name, tokens.encoder, tokens.width, (str(begun.path),)))
    if not new:
        raise LinksError('; '.join(why))
    return tuple(new)


def links_for(where: str, modality: str, encoder: str, width: int) -> StoredLink:
    """Return the links of a modality: of a store, the ones the robot uses, or the shipped ones.

    where: `robot`, `shipped`, or the folder of a store, of which the links in use, else the newest ones
    count.  Links of another modality are returned where they count what its tokens count.  Raises LinksError
    if there are none.
    """
    if where not in (ROBOT, SHIPPED):
        if not Path(where).is_dir():
            raise LinksError(f'no link store: {where}; use the --output of mpnp train')
        store = LinkStore(where)
        if (stored := store.current(modality) or store.latest(modality)) is None:
            raise LinksError(f'no links for {modality} in {where}')
        return stored
    used = default_store().current(modality) if where == ROBOT else None
    sensor = sensors().get(modality)
    found = used or shipped_link(modality, encoder, width, sensor.reads_like if sensor else '')
    if found is None:
        raise LinksError(f'no shipped links read the tokens of {modality} (there are those of '
                         f'{", ".join(shipped_links())}); train some on key frames first, see `mpnp train '
                         '--root`')
    return found


def training_options(arguments: Namespace) -> dict[str, Any]:
    """Return the options of the training that the command line sets."""
    given = TrainRecipe.given(arguments)
    return {name.removeprefix('training.'): value for name, value in given.items()
            if name.startswith('training.')} | ({'seed': given['seed']} if 'seed' in given else {})


def described(result: JobResult) -> str:
    """Return the result of a training in words."""
    return (f'{result.message}; {result.steps} steps, {seconds(result.seconds)}\n'
            f'right of {result.held_out} labels to check: '
            f'{from_to(result.start_accuracy, result.accuracy)}, most frequent answers '
            f'{percent(result.blind_accuracy)}')

"""Train links on the key frames of a nuScenes root and print their accuracy.

Every key frame is encoded once. Questions are generated from its boxes, for many headings of the vehicle, or
taken from NuScenes-QA (--qa). The table compares answers to held-out questions: with the sensors, with tokens
of other frames, without tokens, of links trained without any sensor (--blind) and of the majority, each with
its 95 % interval. Ctrl-C or SIGTERM stops; the same command resumes from its checkpoint, which is written
every 100 steps and at the end.

    mpnp train --root world --output links
    mpnp train --root nuscenes --qa NuScenes_train_questions.json --split scene --output links
    torchrun --nproc-per-node 4 -m mpnp_ros.cli.main train --root nuscenes --output links

With --recording it trains links on the labelled answers of your own robot (`mpnp record`, `mpnp review`), as
the adaptation node does: of links that count, what the counts of a sensor are worth. The last moments are
held out for `mpnp evaluate --recording`; by those before them it is decided whether the links are stored.
Exit code 1: they are not, as they are no better.

    mpnp train --recording drive --output links
"""
from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.bags.labels import SAID_BY
from mpnp_ros.cli.arguments import SHIPPED, not_negative, share
from mpnp_ros.cli.output import condition_table, table
from mpnp_ros.cli.signals import (
    CANCELLED,
    checkpoint_folder,
    end_encoding,
    forget_checkpoint,
    interruptible,
)
from mpnp_ros.files import shared_file
from mpnp_ros.progress import progress
from mpnp_ros.training.recipe import TrainRecipe, counting_options, detecting_options

if TYPE_CHECKING:
    from argparse import _ArgumentGroup
    from collections.abc import Sequence

    from mpnp_ros.llm.language_model import LanguageModel
    from mpnp_ros.methods.link import Link
    from mpnp_ros.methods.method import Method
    from mpnp_ros.modalities.registry import Encoder
    from mpnp_ros.training.dataset import TokenDataset
    from mpnp_ros.training.evaluation import Accuracy
    from mpnp_ros.training.trainer import Trainer, TrainingReport

SHARED = ('modalities', 'language_model', 'method', 'split', 'night_images', 'questions.max_distance',
          'questions.min_points', 'questions.anchors', 'questions.turns', 'questions.per_kind',
          'questions.of_each_type', 'seed')
"""Options of the recipe that `mpnp train` and `mpnp evaluate --links` have."""

RECIPE, SCENES = 'recipe.yaml', 'scenes.json'
"""Files beside the links of a store: their recipe, and their training scenes."""
LICENCE = 'CC BY-NC-SA 4.0 (nuScenes)'
LICENCES = {'v1.0-world': 'Apache-2.0 (trained on the embedded driving world)'}
"""Version of a root -> licence of links trained on it, if it is not that of nuScenes."""
SAMPLE = 2000


def add_recipe_arguments(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add the options of data and recipe; omitted ones keep the value of the recipe."""
    parser.add_argument('--qa', nargs='+', action='extend', type=Path, default=[], metavar='JSON',
                        help='question files of NuScenes-QA, train before val (default: questions made '
                             'from the boxes)')
    parser.add_argument('--scenes', nargs='+', metavar='SCENE',
                        help='names or tokens of scenes (default: all)')
    parser.add_argument('--config', type=Path, metavar='YAML',
                        help='recipe (default: config/train.yaml of the package)')
    for name in counting_options():
        parser.add_argument(f'--{name}-head', metavar='HEAD',
                            help=f'head that counts objects in the frames of the {name}')
    for name in detecting_options():
        parser.add_argument(f'--{name}-detector', metavar='DETECTOR',
                            help=f'detector that finds objects in the frames of the {name}, as its option '
                                 'encoder.detector')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: %(default)s)')
    TrainRecipe.add_arguments(parser, SHARED)


def recipe_of(arguments: Namespace) -> TrainRecipe:
    """Return the recipe with the overrides of the command line.  Raises ConfigurationError."""
    recipe = TrainRecipe.load(arguments.config or shared_file('config/train.yaml'))
    given = TrainRecipe.given(arguments)
    if 'seed' in given:
        given['training.seed'] = given['seed']
    if blocks := getattr(arguments, 'blocks', None):
        given['link'] = {**recipe.link, 'last': blocks}
    heads = {name: getattr(arguments, f'{name}_head') for name in counting_options()}
    detectors = {name: getattr(arguments, f'{name}_detector') for name in detecting_options()}
    return recipe.changed(**given).counting(heads).detecting(detectors)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--root', type=Path, help='nuScenes root: the folder of samples/ and v1.0-*/')
    what.add_argument('--recording', type=Path, metavar='FOLDER', help='written by `mpnp record`')
    parser.add_argument('--output', type=Path, required=True, help='link store to add the links to')
    add_recipe_arguments(parser)
    parser.add_argument('--start', metavar='STORE', help='start from the links of this store for the same '
                        f'modality, otherwise for true objects; {SHIPPED}: the shipped links (default with '
                        '--recording: those that the robot uses)')
    parser.add_argument('--blocks', type=int, metavar='N',
                        help='number of linked blocks, counted from the last')
    TrainRecipe.add_arguments(parser, ['training.steps', 'training.batch', 'training.learning_rate'])
    parser.add_argument('--blind', action='store_true', help='also train the blind baseline')
    parser.add_argument('--checkpoint', type=Path, metavar='FOLDER',
                        help='folder from which a stopped run resumes (default: a hidden folder beside '
                             '--output, removed at the end)')
    parser.add_argument('--licence', help='licence of the links (default: that of nuScenes or of the '
                        'simulated world)')
    parser.add_argument('--quiet', action='store_true', help='print no progress')
    own = parser.add_argument_group('with --recording')
    add_label_arguments(own, SAID_BY)


def add_label_arguments(parser: ArgumentParser | _ArgumentGroup, said_by: Sequence[str]) -> None:
    """Add the options that select labels of a recording; said_by: the default."""
    parser.add_argument('--said-by', nargs='+', choices=SAID_BY, default=list(said_by), metavar='WHO',
                        help=f'labels of these: {", ".join(SAID_BY)} (default: {" ".join(said_by)})')
    parser.add_argument('--hold-out', type=share, default=.25, metavar='SHARE',
                        help='share of the moments, the last ones, that are held out (default: %(default)g)')
    parser.add_argument('--gap', type=not_negative, default=1., metavar='S',
                        help='seconds between held-out moments and those before (default: %(default)g)')


def run(arguments: Namespace) -> int:
    """Load, encode, train, evaluate, save; exit code 0, 1 where links are not stored, 130 after Ctrl-C."""
    if arguments.recording is not None:
        from mpnp_ros.cli.train_recording import train_recording

        return train_recording(arguments)
    from mpnp_ros.llm.question_files import QuestionFiles
    from mpnp_ros.nuscenes.tables import NuScenes
    from mpnp_ros.training.batches import PreparedQuestions
    from mpnp_ros.training.distributed import DistributedContext, joined
    from mpnp_ros.training.splits import split
    from mpnp_ros.training.trainer import Trainer, train_blind

    recipe = recipe_of(arguments)
    checkpoint = arguments.checkpoint or checkpoint_folder(
        arguments.output, recipe, arguments.root, arguments.scenes, arguments.qa, arguments.start)
    with joined(arguments.device) as device, interruptible() as cancelled:
        first = DistributedContext.current().is_first
        quiet = arguments.quiet or not first
        root, encoders = NuScenes(arguments.root), recipe.make_encoders(device)
        method = plugged(recipe, language_model(recipe, device), encoders, arguments.start)
        with progress('encoding', 'key frame', quiet) as show:
            def encoded(done: int, of: int) -> None:
                show(done, of)
                end_encoding(cancelled, done, of)

            dataset = recipe.read(root, encoders, arguments.qa, arguments.scenes, encoded)
        train, test = split(recipe.split, dataset, root)
        if first:
            announce(recipe, train, test)

        trainer = Trainer(method, recipe.training, PreparedQuestions(method, QuestionFiles()))
        with progress('questions', 'text', quiet) as show:
            trainer.book.read(DistributedContext.current().share(train.examples), cancelled, show)
        with progress('links', quiet=quiet) as show:
            report = trainer.fit(train, progress=lambda step: show(
                step.step, step.steps, f'loss {step.loss:.3f}'), cancelled=cancelled, checkpoint=checkpoint)
        if first:
            print(describe(report))
        if report.stopped == 'cancelled':
            print(f'stopped after step {report.steps} of {recipe.training.steps}; the same command resumes '
                  f'from {checkpoint}', file=sys.stderr)
            return CANCELLED

        blind = None
        if arguments.blind:
            with progress('blind', quiet=quiet) as show:
                blind, _ = train_blind(method, train, recipe.training, book=trainer.book,
                                       progress=lambda step: show(step.step, step.steps,
                                                                  f'loss {step.loss:.3f}'))
        if first:
            rows = examine(trainer, blind, train, test, recipe.seed)
            print(*filter(None, [table(rows), condition_table(rows)]), sep='\n\n')
            save(method, recipe, arguments, rows, arguments.licence or LICENCES.get(root.version, LICENCE),
                 trained_scenes(train))
            if arguments.checkpoint is None:
                forget_checkpoint(checkpoint)
    return 0


def language_model(recipe: TrainRecipe, device: str) -> LanguageModel:
    """Return the language model, in the number format that the first process has chosen."""
    import torch

    from mpnp_ros.llm.weights import load_language_model
    from mpnp_ros.training.distributed import DistributedContext

    lm = load_language_model(recipe.language_model, device)
    half = lm.dtype == torch.bfloat16
    of_first = DistributedContext.current().of_first([half])[0] > 0
    if half == of_first:
        return lm
    return load_language_model(recipe.language_model, device, 'bfloat16' if of_first else 'float32')


def plugged(recipe: TrainRecipe, lm: LanguageModel, encoders: Sequence[Encoder], start: str | None) -> Method:
    """Return a method with a link for each encoder: untrained, or started from links of a store."""
    import torch

    from mpnp_ros.methods.registry import create_method

    method, known = create_method(recipe.method, lm), links_to_start_from(start, lm) if start else {}
    torch.manual_seed(recipe.seed)
    for encoder in encoders:
        link = recipe.new_link(method, encoder)
        if start:
            link.start_from(fitting(known, encoder.modality, start))
        method.plug(link)
    return method


def links_to_start_from(start: str, lm: LanguageModel) -> dict[str, Link]:
    """Return the newest link of each modality in a store, or the shipped ones."""
    from mpnp_ros.errors import LinksError
    from mpnp_ros.methods.link_files import load_link
    from mpnp_ros.methods.link_store import LinkStore, shipped_links

    if start != SHIPPED and not Path(start).is_dir():
        raise LinksError(f'no link store to start from: {start}; use the --output of another run')
    stored = shipped_links() if start == SHIPPED else {
        link.modality: link for link in LinkStore(start).list()}
    return {name: load_link(link.path, lm=lm, sha256=link.sha256) for name, link in stored.items()}


def fitting(links: dict[str, Link], modality: str, start: str) -> Link:
    """Return the link of a modality, otherwise that of true objects; LinksError if there is neither."""
    from mpnp_ros.errors import LinksError
    from mpnp_ros.training.true_objects import OBJECTS

    if modality not in links and OBJECTS not in links:
        raise LinksError(f'no links for {modality} or {OBJECTS} to start from in {start}; available: '
                         f'{", ".join(links) or "none"}')
    return links.get(modality) or links[OBJECTS]


def announce(recipe: TrainRecipe, train: TokenDataset, test: TokenDataset) -> None:
    """Print the size of the data sets and the limits of the split."""
    from mpnp_ros.training.splits import MINI_WARNING, SAME_SCENES_WARNING, shared_scenes

    print(f'{len(train.examples)} training questions on {len(train.frames)} frames, '
          f'{len(test.examples)} held-out questions on {len(test.frames)} frames')
    if recipe.split == 'mini':
        print(f'warning: {MINI_WARNING}')
    elif shared_scenes(train, test):
        print(f'warning: {SAME_SCENES_WARNING}')


def trained_scenes(train: TokenDataset) -> list[str]:
    """Return the names of the training scenes."""
    from mpnp_ros.training.key_frames import scene_of

    return sorted({scene_of(key) for key in train.frames})


def describe(report: TrainingReport) -> str:
    """Return the cost of the training in one line."""
    return (f'{report.steps} steps of {report.seconds_per_step:.2f} s and '
            f'{report.macs_per_step / 1e9:.1f} GMACs, {report.seconds:.0f} s in all; '
            f'{report.parameters / 1e6:.2f} M parameters, loss {report.final_loss:.3f}, '
            f'peak memory {report.peak_bytes / 1e9:.2f} GB')


def examine(trainer: Trainer, blind: Method | None, train: TokenDataset, test: TokenDataset,
            seed: int) -> dict[str, Accuracy]:
    """Return accuracies on held-out data by the available tokens, and on a part of the training data."""
    from mpnp_ros.training.evaluation import evaluate, majority, sensor_dependence

    method, book = trainer.method, trainer.book
    rows = {'trained on': evaluate(method, train.sample(len(test.examples) or SAMPLE, seed), book)}
    if not test.examples:
        return rows
    on_text = {'blind': evaluate(blind, test, book)} if blind is not None else {}
    return sensor_dependence(method, test, seed, book).rows | on_text | {
        'majority': majority(train, test)} | rows


def save(method: Method, recipe: TrainRecipe, arguments: Namespace, rows: dict[str, Accuracy],
         licence: str, scenes: Sequence[str]) -> None:
    """Add the links to the store, with provenance, measurements, recipe and scenes."""
    from mpnp_ros.files import write_file
    from mpnp_ros.methods.link_files import Provenance
    from mpnp_ros.methods.link_store import LinkStore

    asked = ', '.join(path.name for path in arguments.qa) or f'{recipe.questions.turns} headings'
    text = (f'mpnp train on {arguments.root.name}: {", ".join(recipe.modalities)}, {asked}, '
            f'{recipe.training.steps} steps of {recipe.training.batch}, seed {recipe.seed}'
            + (f', begun as {arguments.start}' if arguments.start else ''))
    accuracy = {label: row.value for label, row in rows.items()}
    store = LinkStore(arguments.output)
    recipe.save(store.folder / RECIPE)
    write_file(store.folder / SCENES, json.dumps(scenes, indent=0).encode())
    for link in method.links().values():
        saved = store.save(link, Provenance(licence, text, accuracy))
        print(f'{saved.modality}: {saved.path}')

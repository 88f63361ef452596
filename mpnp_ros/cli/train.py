"""Train latent connections on the key frames of a nuScenes root and show what their answers rest on.

Every key frame is encoded once and turned into many headings with questions of their own; some scenes or
headings are held out. The table compares answers with the sensors, with tokens of other frames, without
tokens, of links that never saw a sensor (--blind) and of the majority, each with its 95 % interval.

    mpnp train --root nuscenes --modalities camera lidar --output links
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpnp_ros.adaptation.dataset import TokenDataset
    from mpnp_ros.adaptation.evaluation import Accuracy
    from mpnp_ros.adaptation.trainer import TrainingReport, TrainingStep
    from mpnp_ros.methods.base import Method

DEFAULT_MODEL = 'smollm2-135m-instruct'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--root', type=Path, required=True, help='nuScenes: samples/ and v1.0-*/')
    parser.add_argument('--output', type=Path, required=True, help='link store to add the links to')
    parser.add_argument('--modalities', nargs='+', default=['camera', 'lidar'],
                        help='what to connect (default: camera lidar)')
    parser.add_argument('--scenes', nargs='+', metavar='SCENE', help='names or tokens (default: all)')
    parser.add_argument('--turns', type=int, default=24, help='headings a key frame (default: %(default)s)')
    parser.add_argument('--anchors', action='store_true',
                        help='ask also where things are from other things; for many key frames')
    parser.add_argument('--per-kind', type=int, default=2000, metavar='N',
                        help='questions of each kind a frame, at most (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=300, help='of training (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=64, help='questions a step (default: %(default)s)')
    parser.add_argument('--blocks', type=int, default=8, help='linked blocks, the last ones '
                                                              '(default: %(default)s)')
    parser.add_argument('--llm', default=DEFAULT_MODEL, help='language model (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of everything that is drawn')
    parser.add_argument('--blind', action='store_true', help='train the blind baseline as well')
    parser.add_argument('--checkpoint', type=Path, metavar='FOLDER', help='go on from here after a stop')
    parser.add_argument('--licence', default='CC BY-NC-SA 4.0 (nuScenes)',
                        help='of the links, as the data asks (default: %(default)s)')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')


def run(arguments: Namespace) -> int:
    """Load, encode, train, evaluate, save; exit code 0."""
    from mpnp_ros.adaptation.batches import QuestionBook
    from mpnp_ros.adaptation.blind import train_blind
    from mpnp_ros.adaptation.evaluation import evaluate, majority, sensor_dependence
    from mpnp_ros.adaptation.key_frames import held_out
    from mpnp_ros.adaptation.trainer import Trainer, TrainerConfig
    from mpnp_ros.llm.question_files import QuestionFiles

    dataset, method = prepare(arguments)
    train, test = dataset.split(held_out(dataset))
    print(f'{len(train.examples)} questions on {len(train.frames)} frames to train on, '
          f'{len(test.examples)} on {len(test.frames)} held out')

    config = TrainerConfig(steps=arguments.steps, batch=arguments.batch, seed=arguments.seed)
    trainer = Trainer(method, config, QuestionBook(method, QuestionFiles()))
    with progress_bar(arguments, 'links') as show:
        report = trainer.fit(train, progress=show, checkpoint=arguments.checkpoint)
    print(describe(report))

    found = sensor_dependence(method, test, arguments.seed, trainer.book)
    rows = {'sensors': found.sensors, 'shuffled': found.shuffled, 'unplugged': found.unplugged}
    if len(found.alone) > 1:
        rows |= {f'{name} alone': accuracy for name, accuracy in found.alone.items()}
    if arguments.blind:
        with progress_bar(arguments, 'blind') as show:
            blind, _ = train_blind(method, train, config, progress=show, book=trainer.book)
        rows['blind'] = evaluate(blind, test, trainer.book)
    rows['majority'] = majority(train, test)
    rows['trained on'] = evaluate(method, train.sample(len(test.examples), arguments.seed), trainer.book)
    print(table(rows))
    save(method, arguments, rows)
    return 0


def prepare(arguments: Namespace) -> tuple[TokenDataset, Method]:
    """The tokens with their questions, and a method with an untrained link for each modality."""
    import torch

    from mpnp_ros.adaptation.key_frames import key_frame_dataset
    from mpnp_ros.llm.weights import load_language_model
    from mpnp_ros.methods.base import build_method
    from mpnp_ros.modalities.registry import create_encoder
    from mpnp_ros.nuscenes.questions import Scope
    from mpnp_ros.nuscenes.tables import NuScenes

    root = NuScenes(arguments.root)
    lm = load_language_model(arguments.llm, arguments.device)
    encoders = [create_encoder(name, {'device': arguments.device}) for name in arguments.modalities]
    dataset = key_frame_dataset(root, encoders, arguments.turns, arguments.seed, scenes=arguments.scenes,
                                scope=Scope(anchors=arguments.anchors), per_kind=arguments.per_kind)
    method = build_method('mpnp', lm)
    torch.manual_seed(arguments.seed)
    for encoder in encoders:
        method.plug(method.new_link(encoder.modality, encoder.fingerprint, encoder.token_width,
                                    last=arguments.blocks, pooling='question'))
    return dataset, method


@contextmanager
def progress_bar(arguments: Namespace, name: str) -> Iterator[Callable[[TrainingStep], None]]:
    """Show steps and loss on a bar; nothing where it is unwanted or no terminal is there."""
    from tqdm import tqdm

    with tqdm(total=arguments.steps, desc=name, disable=arguments.quiet or None, leave=False) as bar:
        def show(step: TrainingStep) -> None:
            bar.set_postfix(loss=f'{step.loss:.3f}', refresh=False)
            bar.update(step.step - bar.n)
        yield show


def describe(report: TrainingReport) -> str:
    """What the training cost, in one line."""
    return (f'{report.steps} steps of {report.seconds_per_step:.2f} s and '
            f'{report.macs_per_step / 1e9:.1f} GMACs, {report.seconds:.0f} s in all; '
            f'{report.parameters / 1e6:.2f} M parameters, loss {report.final_loss:.3f}, '
            f'peak memory {report.peak_bytes / 1e9:.2f} GB')


def table(rows: dict[str, Accuracy]) -> str:
    """Accuracies in per cent with their 95 % Wilson intervals, overall and by type."""
    types = sorted({name for accuracy in rows.values() for name in accuracy.by_type})
    lines = [f'{"":14} {"overall":>22} {"n":>6}  ' + ' '.join(f'{name:>10}' for name in types)]
    for label, accuracy in rows.items():
        shares = (accuracy.by_type.get(name) for name in types)
        lines.append(f'{label:14} {accuracy.overall!s:>22} {accuracy.n:>6}  ' + ' '.join(
            f'{100 * share.value:10.1f}' if share else f'{"-":>10}' for share in shares))
    return '\n'.join(lines)


def save(method: Method, arguments: Namespace, rows: dict[str, Accuracy]) -> None:
    """Add the links to the store, with where they come from and what was measured."""
    from mpnp_ros.links.files import Provenance
    from mpnp_ros.links.store import LinkStore

    names = ', '.join(arguments.modalities)
    text = (f'mpnp train on {arguments.root.name}: {names}, {arguments.turns} headings, '
            f'{arguments.steps} steps of {arguments.batch}, seed {arguments.seed}')
    accuracy = {label: row.value for label, row in rows.items()}
    store = LinkStore(arguments.output)
    for link in method.links().values():
        saved = store.save(link, Provenance(arguments.licence, text, accuracy))
        print(f'{saved.modality}: {saved.path}')

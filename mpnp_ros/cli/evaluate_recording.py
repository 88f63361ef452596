"""Compares links with others on the held-out labelled moments of a recording."""
from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpnp_ros.adaptation.moments import ReplayDataset
from mpnp_ros.bags.held_out import held_out_from
from mpnp_ros.cli.arguments import ROBOT, SHIPPED
from mpnp_ros.cli.evaluate_links import link_to, row_json
from mpnp_ros.cli.output import interval_table, print_table
from mpnp_ros.cli.recording import Recording
from mpnp_ros.cli.train_recording import labels_of, links_for, store_of
from mpnp_ros.errors import DatasetError, LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import DEFAULT_METHOD, create_method
from mpnp_ros.modalities.registry import sensors
from mpnp_ros.progress import progress
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.serving.relations import reply_in_steps
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.comparison import Comparison
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.evaluation import Accuracy, answers_of
from mpnp_ros.training.key_frames import sample_of
from mpnp_ros.training.paired import ALIKE, WORSE, PairedDifference
from mpnp_ros.training.recipe import TrainRecipe


def evaluate_recording(arguments: Namespace) -> int:
    """Compare, and print the table and the verdict; exit code 0, or 1 where the links are worse."""
    where, against = str(arguments.links or ROBOT), arguments.against
    with Recording(arguments.recording) as recording:
        labels = labels_of(recording, arguments.said_by)
        moments = ReplayDataset(tuple(recording.moments(labels)))
    name = arguments.recording.resolve().name
    begins = [begin for links in (where, against) if (folder := store_of(links)) is not None
              and (begin := held_out_from(folder).get(name)) is not None]
    rest, held_out = parts(moments, arguments.hold_out, arguments.gap, max(begins, default=None))
    newest = {name: tokens for moment in held_out.moments for name, tokens in moment.tokens.items()}
    names = linked(where, arguments.modalities, newest)
    test = held_out.together(names).dataset(names, turns=1)
    if not test.examples:
        raise DatasetError(f'no held-out label of {arguments.recording} is about tokens of '
                           f'{" and ".join(names)}; review more, or choose other --modalities')
    recipe = TrainRecipe.given(arguments)
    lm = load_language_model(recipe.get('language_model', 'smollm2-135m-instruct'), arguments.device)
    new, old = (plugged(lm, recipe.get('method', DEFAULT_METHOD), links, names, newest)
                for links in (where, against))
    compared = compare(new, old, rest.dataset(names, turns=1).examples, test, arguments.quiet)
    rows = {label.format(new=where, old=against): row for label, row in compared.rows.items()}
    if arguments.json:
        print(json.dumps({
            'recording': name, 'modalities': list(names), 'links': where,
            'against': against, 'rows': {label: row_json(row) for label, row in rows.items()},
            'difference': {**vars(compared.difference), 'verdict': compared.difference.verdict}}, indent=1))
    else:
        heads, cells = interval_table(rows)
        print_table(cells, heads)
        print(f'\n{sentence(compared.difference, where, against)}')
    return 1 if compared.difference.verdict == WORSE else 0


def parts(moments: ReplayDataset, hold_out: float, gap: float,
          begin: int | None) -> tuple[ReplayDataset, ReplayDataset]:
    """Return the moments before those held out, and these.

    begin: stamp, nanoseconds, from which on no links have seen the recording; None: none were trained on it,
    and the last share is held out, since the majority needs answers before.
    """
    if begin is None:
        before, held_out = moments.consecutive((1 - hold_out, hold_out), gap)
        return before, held_out
    early = {moment.stamp_ns for moment in moments.moments if moment.stamp_ns < begin}
    return (ReplayDataset(tuple(moment for moment in moments.moments if moment.stamp_ns in early)),
            ReplayDataset(tuple(moment for moment in moments.moments if moment.stamp_ns not in early)))


def linked(where: str, modalities: Collection[str] | None, newest: dict[str, ModalityTokens]) -> list[str]:
    """Return the modalities to answer from: those given, otherwise those recorded that have links."""
    if modalities:
        if missing := set(modalities) - newest.keys():
            raise DatasetError(f'no tokens of {" and ".join(sorted(missing))} at the held-out moments; there '
                               f'are those of {", ".join(sorted(newest)) or "none"}')
        return sorted(modalities)
    stored = None if where in (ROBOT, SHIPPED) or not Path(where).is_dir() else {
        link.modality for link in LinkStore(where).list()}
    found = []
    for name, tokens in sorted(newest.items()):
        if stored is None or name in stored:
            try:
                links_for(where, name, tokens.encoder, tokens.width)
                found.append(name)
            except LinksError:
                continue
    if not found:
        raise LinksError(f'no links of {where} read what is recorded: tokens of '
                         f'{", ".join(sorted(newest)) or "nothing at the held-out moments"}')
    return found


def plugged(lm: LanguageModel, method: str, where: str, names: Sequence[str],
            newest: dict[str, ModalityTokens]) -> Method:
    """Return a method with links that read the recorded tokens."""
    made = create_method(method, lm)
    for name in names:
        tokens = newest[name]
        made.plug(link_to(links_for(where, name, tokens.encoder, tokens.width), name, tokens.encoder, lm))
    return made


@dataclass(frozen=True)
class LinksCompared:
    """Accuracies by name, in which {new} and {old} stand for the links; how much better the new ones are."""

    rows: dict[str, Accuracy]
    difference: PairedDifference


def compare(new: Method, old: Method, before: Sequence[Example], test: TokenDataset,
            quiet: bool) -> LinksCompared:
    """Answer the questions with both links, and as :class:`Comparison` does with wrong and without tokens.

    before: examples by whose answers the majority goes.
    """
    objects = {name for name, sensor in sensors().items() if sensor.reads_like == 'objects'}
    channels = {name: CHANNELS for name in new.links() if name in objects and
                all(frame[name].width == len(CHANNELS) for frame in test.frames.values())}
    files, rows = QuestionFiles(), dict[str, Accuracy]()
    right: list[list[bool]] = []
    with progress('evaluate', 'row', quiet) as show:
        for label, method in (('{new}', new), ('{old}', old)):
            answers = answers_of(method, test.examples, PreparedQuestions(method, files),
                                 lambda example: test.frames[example.frame], in_steps=reply_in_steps)
            given = [answer or '' for answer in answers]
            rows[label] = Accuracy.of(test.examples, given, None, sample_of)
            right.append([example.answer.split() == answer.split()
                          for example, answer in zip(test.examples, given, strict=True)])
            show(len(rows), 0, label)
        for label, row in Comparison(new, test, channels, train=before, files=files,
                                     in_steps=reply_in_steps).rows():
            if label != 'sensors':
                rows[label] = row
                show(len(rows), 0, label)
    moments = [sample_of(example.frame) for example in test.examples]
    return LinksCompared(rows, PairedDifference.of(right[0], right[1], moments))


def sentence(difference: PairedDifference, new: str, old: str) -> str:
    """Return the verdict in one sentence."""
    low, high = (f'{100 * end:+.1f}' for end in difference.interval)
    measured = (f'{100 * difference.value:+.1f} points [{low}, {high}] from {difference.n} labels of '
                f'{difference.moments} moments')
    if difference.verdict == ALIKE:
        few = '' if difference.can_tell else '; fewer than 6 moments cannot tell, so record a longer drive'
        return f'The links of {new} are not distinguishable from those of {old}: {measured}{few}.'
    return (f'The links of {new} are {difference.verdict} than those of {old}: {measured}; chance gives such '
            f'a difference with a probability of {difference.chance:.3f}.')

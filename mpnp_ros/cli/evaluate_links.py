"""Measures the accuracy of links on the key frames of a nuScenes root, and what it rests on."""
from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpnp_ros.cli.arguments import SHIPPED
from mpnp_ros.cli.output import condition_table, finite, interval_table, print_table
from mpnp_ros.cli.train import RECIPE, SCENES, announce, recipe_of
from mpnp_ros.errors import DatasetError, LinksError
from mpnp_ros.files import write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_files import copied_link, load_link, read_manifest
from mpnp_ros.methods.link_store import LinkStore, StoredLink, shipped_link, shipped_links
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import DEFAULT_METHOD, create_method
from mpnp_ros.modalities.registry import Encoder, find_sensor
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.progress import progress
from mpnp_ros.questions.generator import EVERYTHING, Scope
from mpnp_ros.questions.visible import sensors_of
from mpnp_ros.serving.relations import reply_in_steps
from mpnp_ros.training.comparison import Comparison
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.evaluation import Accuracy, Share
from mpnp_ros.training.key_frames import heading_of, sample_of, scene_of
from mpnp_ros.training.recipe import TrainRecipe
from mpnp_ros.training.splits import split
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects

SHIPPED_QUESTIONS = {'questions.max_distance': 30., 'questions.min_points': 5, 'questions.turns': 6}
"""Options of questions to the shipped links; they were trained with this distance and these points."""
ALL, VISIBLE = 'all', 'visible'


def evaluate_links(arguments: Namespace) -> int:
    """Load links, encode key frames, ask questions, print and write the accuracies; exit code 0.

    Asks all questions, or with --split the held-out ones.  Warns about questions on training scenes.
    """
    store = None if arguments.links in (None, Path(SHIPPED)) else arguments.links
    recipe = recipe_to_evaluate(arguments, store)
    root, encoders = NuScenes(arguments.root), recipe.make_encoders(arguments.device)
    lm = load_language_model(recipe.language_model, arguments.device)
    method = with_links(create_method(recipe.method, lm), store, encoders)
    report: dict[str, Any] = {
        'root': arguments.root.resolve().name, 'links': store.name if store else SHIPPED,
        'encoders': {encoder.modality: encoder.fingerprint for encoder in encoders}, 'scopes': {}}
    asked: TokenDataset | None = None
    for name, scope in scopes_to_ask(arguments, recipe).items():
        truth = None if OBJECTS in recipe.modalities or not annotated(root, arguments.scenes) else \
            linked_to_objects(recipe, lm, store, scope)
        try:
            rest, test = read(arguments, recipe, root, encoders, scope, truth is not None)
        except DatasetError as error:
            if asked is None:
                raise
            print(f'\n{what_is_asked_about(scope)}: {error}')
            continue
        if asked is None:
            warn(arguments, recipe, store, rest, test)
        elif test.examples == asked.examples:
            print(f'\n{what_is_asked_about(scope)}: the same questions')
            report['scopes'][name] = report['scopes'][ALL]
            continue
        asked = test
        title, counts = described(test, '' if arguments.qa else what_is_asked_about(scope))
        rows: dict[str, Accuracy] = {}
        channels = {encoder.modality: encoder.channels for encoder in encoders
                    if hasattr(encoder, 'channels')}
        comparison = Comparison(method, test, channels, train=rest.examples, truth=truth, seed=recipe.seed,
                                files=QuestionFiles(), in_steps=reply_in_steps)
        with progress(name, 'row', arguments.quiet) as show:
            for label, row in comparison.rows():
                rows[label] = row
                show(len(rows), 0, label)
        print(f'\n{title}\n')
        heads, cells = interval_table(rows)
        print_table(cells, heads)
        if conditions := condition_table(rows):
            print(f'\n{conditions}')
        report['scopes'][name] = {**counts, 'rows': {label: row_json(row) for label, row in rows.items()}}
    if arguments.output:
        write_file(arguments.output, json.dumps(report, indent=1).encode() + b'\n')
    return 0


def recipe_to_evaluate(arguments: Namespace, store: Path | None) -> TrainRecipe:
    """Return the options: those given, otherwise those of the links.

    The number of questions of each type is not taken from the recipe of a store.
    """
    given = TrainRecipe.given(arguments)
    if arguments.config is None and store is not None and (store / RECIPE).is_file():
        arguments.config = store / RECIPE
    of_links = SHIPPED_QUESTIONS if arguments.config is None and store is None else {}
    return recipe_of(arguments).changed(**{
        'questions.of_each_type': given.get('questions.of_each_type', 0),
        **{name: value for name, value in of_links.items() if name not in given}})


def scopes_to_ask(arguments: Namespace, recipe: TrainRecipe) -> dict[str, Scope]:
    """Return the scopes of questions by name; published questions have one, which --scope does not change."""
    every = recipe.questions.scope
    if arguments.qa:
        return {ALL: EVERYTHING}
    scopes = {ALL: every, VISIBLE: replace(every, seen_by=sensors_of(recipe.modalities))}
    return {name: scope for name, scope in scopes.items() if arguments.scope in (name, 'both')}


def read(arguments: Namespace, recipe: TrainRecipe, root: NuScenes, encoders: Sequence[Encoder],
         scope: Scope, true_objects: bool) -> tuple[TokenDataset, TokenDataset]:
    """Return the questions by whose answers the majority goes, and those to ask.

    The first are those not asked with --split, otherwise all that there are, also where only some are asked.
    true_objects: encode these as well.  Where they are a modality, they are those of the scope.
    """
    of_scope = [TrueObjects(scope) if encoder.modality == OBJECTS else encoder for encoder in encoders]
    with progress('encoding', 'key frame', arguments.quiet) as show:
        dataset = recipe.changed(**{'questions.of_each_type': 0}).read(
            root, [*of_scope, *[TrueObjects(scope)] * true_objects], arguments.qa, arguments.scenes, show,
            scope)
    most = recipe.questions.of_each_type
    if arguments.split in (None, 'none'):
        return dataset, dataset.evened(most, recipe.seed) if most else dataset
    return split(arguments.split, dataset.evened(most, recipe.seed) if most else dataset, root)


def warn(arguments: Namespace, recipe: TrainRecipe, store: Path | None, rest: TokenDataset,
         test: TokenDataset) -> None:
    """Print the limits of a split, and a warning about scenes that links were trained on."""
    if arguments.split not in (None, 'none'):
        announce(recipe, rest, test)
    asked = {scene_of(key) for key in test.frames}
    if seen := (trained_on(store) if store else set()) & asked:
        print(f'warning: {len(seen)} of the {len(asked)} scenes are training scenes of these links; '
              'choose others with --scenes, or the held-out ones with --split')


def trained_on(store: Path) -> set[str]:
    """Return the names of the training scenes of a store, as far as they are known."""
    try:
        return set(json.loads((store / SCENES).read_bytes()))
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError) as error:
        raise LinksError(f'cannot read {store / SCENES}: {error}; remove it') from None


def with_links(method: Method, store: Path | None, encoders: Sequence[Encoder]) -> Method:
    """Plug links that read the tokens of each encoder and return the method.

    store: the newest ones of its modality there; None: the shipped ones, as in the fusion node.  Raises
    LinksError if one is missing or does not fit.
    """
    if store is not None and not store.is_dir():
        raise LinksError(f'no link store: {store}; use the --output of mpnp train')
    for encoder in encoders:
        name = encoder.modality
        if store is None:
            alike = OBJECTS if name == OBJECTS else find_sensor(name).reads_like
            if (stored := shipped_link(name, encoder.fingerprint, encoder.token_width, alike)) is None:
                raise LinksError(f'no shipped links read the tokens of {name}; train some, and give --links')
            method.plug(link_to(stored, name, encoder.fingerprint, method.lm))
            continue
        if (stored := LinkStore(store).latest(name)) is None:
            raise LinksError(f'no links for {name} in {store}; choose other --modalities')
        method.plug(load_link(stored.path, lm=method.lm, encoder=encoder.fingerprint, sha256=stored.sha256))
    return method


def linked_to_objects(recipe: TrainRecipe, lm: LanguageModel, store: Path | None, scope: Scope,
                      ) -> Method | None:
    """Return a method with links to true objects: of the store, otherwise shipped; None if none fit."""
    encoder = TrueObjects(scope)
    own = LinkStore(store).latest(OBJECTS) if store else None
    if own and read_manifest(own.path).config.encoder == encoder.fingerprint:
        method, stored = create_method(recipe.method, lm), own
    elif (shipped := shipped_links().get(OBJECTS)) and \
            read_manifest(shipped.path).config.base_model == lm.fingerprint:
        method, stored = create_method(DEFAULT_METHOD, lm), shipped
    else:
        return None
    method.plug(link_to(stored, encoder.modality, encoder.fingerprint, lm))
    return method


def link_to(stored: StoredLink, modality: str, encoder: str, lm: LanguageModel) -> Link:
    """Return a stored link, or a copy of it for an encoder (fingerprint) whose tokens count the same."""
    if read_manifest(stored.path).config.encoder == encoder:
        return load_link(stored.path, lm=lm, sha256=stored.sha256)
    return copied_link(stored.path, modality, encoder)


def annotated(root: NuScenes, scenes: Sequence[str] | None) -> bool:
    """Return whether the objects of all scenes are known."""
    return all(root.has_annotations(scene) for scene in scenes or root.scenes)


def what_is_asked_about(scope: Scope) -> str:
    """Return the scope of questions in words."""
    return (f'objects within {scope.max_distance:g} m with {scope.min_points} points or more'
            + (f' that {" or ".join(scope.seen_by)} can see' if scope.seen_by else ''))


def described(asked: TokenDataset, about: str) -> tuple[str, dict[str, int]]:
    """Return what is asked in words, and its numbers; about: objects in words, empty if not known."""
    counts = {'questions': len(asked.examples), 'key_frames': len(set(map(sample_of, asked.frames))),
              'scenes': len(set(map(scene_of, asked.frames))),
              'headings': len(set(map(heading_of, asked.frames)))}
    questions, key_frames, scenes, headings = (
        f'{number} {name.replace("_", " ").removesuffix("s") if number == 1 else name.replace("_", " ")}'
        for name, number in counts.items())
    return f'{questions}{f" about {about}" * bool(about)}; {key_frames} of {scenes} in {headings}', counts


def row_json(row: Accuracy) -> dict[str, Any]:
    """Return a row of the report."""
    def share_json(share: Share) -> dict[str, Any]:
        return {'right': share.right, 'n': share.n, 'percent': finite(100 * share.value),
                'interval': [100 * end for end in share.interval]}

    def each(shares: Mapping[Any, Share]) -> dict[str, Any]:
        return {str(name): share_json(share) for name, share in shares.items()}

    return {'all': share_json(row.overall), 'types': each(row.by_type), 'hops': each(row.by_hops),
            'conditions': each(row.by_condition)}

"""Measure accuracy: of a running system on a bag, or of links on a data set.

With --bag it measures a whole system: one that it starts, with your links and parameters, or with --running
one that already runs. The bag, written by `mpnp convert`, is replayed. Its questions are asked at their key
frames, and playback pauses until they are answered. A table shows the accuracy by type of question, the
most frequent answers, the model without its sensors, refused and lost questions with reasons, and latencies.
Ctrl-C ends it and shows the results so far.

With --links, print a table for the links of a store on the key frames of a nuScenes root. Omitted options
are those that `mpnp train` stored with the links.

    mpnp evaluate --bag scene-0103
    mpnp evaluate --links links --root nuscenes --qa NuScenes_val_questions.json
"""
from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.cli.arguments import add_namespace, add_params_file, count, positive
from mpnp_ros.cli.output import condition_table, table
from mpnp_ros.cli.train import RECIPE, SCENES, add_recipe_arguments, announce, recipe_of
from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.training.recipe import TrainRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpnp_ros.methods.method import Method
    from mpnp_ros.modalities.registry import Encoder


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--bag', type=Path, help='bag with questions for a whole system')
    what.add_argument('--links', type=Path, metavar='STORE', help='link store written by `mpnp train`')
    parser.add_argument('--quiet', action='store_true', help='print no progress')
    live = parser.add_argument_group('with --bag', '--modalities selects the encoders to start (default: '
                                     'camera lidar); with --running it has no effect')
    live.add_argument('--running', action='store_true',
                       help='ask a running system, started with `mpnp bringup --use-sim-time`, in its '
                       'ROS_DOMAIN_ID (default: start encoders and fusion)')
    live.add_argument('--rate', type=positive, default=1., help='speed of time (default: %(default)g)')
    live.add_argument('--per-frame', type=count, default=0, metavar='N',
                       help='questions per key frame, spread over types and answers (default: all)')
    live.add_argument('--no-blind', dest='blind', action='store_false',
                       help='do not ask again without sensors at the end')
    add_params_file(live)
    live.add_argument('--timeout', type=positive, default=300., metavar='S',
                       help='maximum time for the nodes to become ready (default: %(default)g)')
    live.add_argument('--json', action='store_true', help='print the result as one JSON object')
    add_namespace(live)
    links = parser.add_argument_group('with --links')
    links.add_argument('--root', type=Path, help='nuScenes root: the folder of samples/ and v1.0-*/')
    add_recipe_arguments(links)


def run(arguments: Namespace) -> int:
    """Measure; exit code 0, 130 after Ctrl-C."""
    if arguments.bag is not None:
        from mpnp_ros.cli.evaluate_bag import evaluate_bag

        return evaluate_bag(arguments)
    return evaluate_links(arguments)


def evaluate_links(arguments: Namespace) -> int:
    """Load links, encode key frames, ask questions and print the accuracies; exit code 0.

    Asks all questions, or with --split the held-out ones.  Warns about questions on training scenes.
    """
    from mpnp_ros.llm.question_files import QuestionFiles
    from mpnp_ros.llm.weights import load_language_model
    from mpnp_ros.methods.registry import create_method
    from mpnp_ros.nuscenes.tables import NuScenes
    from mpnp_ros.training.batches import PreparedQuestions
    from mpnp_ros.training.evaluation import majority, sensor_dependence
    from mpnp_ros.training.key_frames import scene_of
    from mpnp_ros.training.splits import split

    if arguments.root is None:
        raise ConfigurationError('--links needs --root: the nuScenes root of the key frames')
    if arguments.config is None and (arguments.links / RECIPE).is_file():
        arguments.config = arguments.links / RECIPE
    asked = TrainRecipe.given(arguments).get('questions.of_each_type', 0)
    recipe = recipe_of(arguments).changed(**{'questions.of_each_type': asked})
    root, encoders = NuScenes(arguments.root), recipe.make_encoders(arguments.device)
    lm = load_language_model(recipe.language_model, arguments.device)
    method = with_links(create_method(recipe.method, lm), arguments.links, encoders)
    rest, test = split(arguments.split or 'none', recipe.read(root, encoders, arguments.qa, arguments.scenes),
                       root)
    if arguments.split in (None, 'none'):
        rest, test = test, rest
    else:
        announce(recipe, rest, test)

    asked = {scene_of(key) for key in test.frames}
    if seen := trained_on(arguments.links) & asked:
        print(f'warning: {len(seen)} of the {len(asked)} scenes are training scenes of these links; '
              'choose others with --scenes, or the held-out ones with --split')
    rows = sensor_dependence(method, test, recipe.seed, PreparedQuestions(method, QuestionFiles())).rows
    if rest.examples:
        rows['majority'] = majority(rest, test)
    print(*filter(None, [table(rows), condition_table(rows)]), sep='\n\n')
    return 0


def trained_on(store: Path) -> set[str]:
    """Return the names of the training scenes of a store, as far as they are known."""
    try:
        return set(json.loads((store / SCENES).read_bytes()))
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError) as error:
        raise LinksError(f'cannot read {store / SCENES}: {error}; remove it') from None


def with_links(method: Method, store: Path, encoders: Sequence[Encoder]) -> Method:
    """Plug the newest link of each encoder's modality and return the method.

    Raises LinksError if one is missing or does not fit.
    """
    from mpnp_ros.methods.link_files import load_link
    from mpnp_ros.methods.link_store import LinkStore

    if not store.is_dir():
        raise LinksError(f'no link store: {store}; use the --output of mpnp train')
    links = LinkStore(store)
    for encoder in encoders:
        stored = links.latest(encoder.modality)
        if stored is None:
            raise LinksError(f'no links for {encoder.modality} in {store}; choose other --modalities')
        method.plug(load_link(stored.path, lm=method.lm, encoder=encoder.fingerprint, sha256=stored.sha256))
    return method

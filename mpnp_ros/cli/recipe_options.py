"""Options shared by `mpnp train` and `mpnp evaluate --links`: data, and overrides of the recipe."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.adaptation.recipe import TrainRecipe, counting_options
from mpnp_ros.files import shared_file

if TYPE_CHECKING:
    from argparse import _ArgumentGroup

SHARED = ('modalities', 'language_model', 'method', 'split', 'night_images', 'questions.max_distance',
          'questions.min_points', 'questions.anchors', 'questions.turns', 'questions.per_kind',
          'questions.of_each_type', 'seed')
"""Options of the recipe that both commands have."""


def add_recipe_arguments(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add the options; omitted ones keep the value of the recipe."""
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
    return recipe.changed(**given).counting(heads)

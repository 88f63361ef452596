"""The options that `mpnp train` and `mpnp evaluate --links` share: data, and what differs from the recipe."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _ArgumentGroup

    from mpnp_ros.adaptation.recipe import TrainRecipe

CHANGES = {'language_model': 'llm', 'last': 'blocks'}
"""Key of the recipe -> option of the command line, where they differ."""
KEYS = ('method', 'modalities', 'max_distance', 'min_points', 'anchors', 'turns', 'per_kind', 'of_each_type',
        'steps', 'batch', 'learning_rate', 'split', 'night_images', 'seed')


def add_recipe_arguments(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add the options; those that are not given are as in the recipe."""
    parser.add_argument('--qa', nargs='+', action='extend', type=Path, default=[], metavar='JSON',
                        help='question files of NuScenes-QA, train before val (default: questions are made '
                             'from the boxes)')
    parser.add_argument('--scenes', nargs='+', metavar='SCENE', help='names or tokens (default: all)')
    parser.add_argument('--config', type=Path, metavar='YAML',
                        help='the recipe (default: config/train.yaml of the package)')
    parser.add_argument('--modalities', nargs='+', metavar='NAME',
                        help='camera, lidar, radar, objects (true ones)')
    parser.add_argument('--camera-head', metavar='HEAD', help='connect counts of objects by this head')
    parser.add_argument('--lidar-head', metavar='HEAD', help='connect counts of objects by this head')
    parser.add_argument('--radar-head', metavar='HEAD', help='connect counts of objects by this head')
    parser.add_argument('--llm', metavar='MODEL', help='language model')
    parser.add_argument('--method', metavar='NAME', help='how modalities are connected to it')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: %(default)s)')
    parser.add_argument('--split', choices=('scene', 'mini', 'none'), help='what is held out: whole scenes, '
                        'questions as in nuScenes-QA-mini, nothing')
    parser.add_argument('--night-images', metavar='NAME', help='e.g. night_80dimgaussian7')
    parser.add_argument('--max-distance', type=float, metavar='METRES', help='of things asked about')
    parser.add_argument('--min-points', type=int, metavar='N', help='of LiDAR and radar on such a thing')
    parser.add_argument('--anchors', action='store_true', default=None,
                        help='ask also where things are from other things; for many key frames')
    parser.add_argument('--turns', type=int, metavar='N', help='headings a key frame')
    parser.add_argument('--per-kind', type=int, metavar='N', help='questions of each kind a frame, at most')
    parser.add_argument('--of-each-type', type=int, metavar='N', help='questions of each type, at most')
    parser.add_argument('--seed', type=int, help='of everything that is drawn')


def recipe_of(arguments: Namespace) -> TrainRecipe:
    """The recipe with what the command line changes.  Raises ConfigurationError."""
    from mpnp_ros.adaptation.recipe import OF_COUNTS, TrainRecipe
    from mpnp_ros.locations import shared_file

    recipe = TrainRecipe.load(arguments.config or shared_file('config/train.yaml'))
    given = {key: getattr(arguments, CHANGES.get(key, key), None) for key in (*KEYS, *CHANGES)}
    heads = {name: getattr(arguments, f'{name}_head') for name in OF_COUNTS}
    return recipe.changed(**given).counting(heads)

"""Options shared by `mpnp train` and `mpnp evaluate --links`: data, and overrides of the recipe."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _ArgumentGroup

    from mpnp_ros.adaptation.recipe import TrainRecipe

CHANGES = {'language_model': 'llm', 'last': 'blocks'}
"""Key of the recipe -> command line option, if they differ."""
KEYS = ('method', 'modalities', 'max_distance', 'min_points', 'anchors', 'turns', 'per_kind', 'of_each_type',
        'steps', 'batch', 'learning_rate', 'split', 'night_images', 'seed')


def add_recipe_arguments(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add the options; omitted ones keep the value of the recipe."""
    parser.add_argument('--qa', nargs='+', action='extend', type=Path, default=[], metavar='JSON',
                        help='question files of NuScenes-QA, train before val (default: questions made '
                             'from the boxes)')
    parser.add_argument('--scenes', nargs='+', metavar='SCENE',
                        help='names or tokens of scenes (default: all)')
    parser.add_argument('--config', type=Path, metavar='YAML',
                        help='recipe (default: config/train.yaml of the package)')
    parser.add_argument('--modalities', nargs='+', metavar='NAME',
                        help='modalities: camera, lidar, radar, objects (true objects)')
    parser.add_argument('--camera-head', metavar='HEAD', help='head that counts objects in the images')
    parser.add_argument('--lidar-head', metavar='HEAD', help='head that counts objects in the point clouds')
    parser.add_argument('--radar-head', metavar='HEAD', help='head that counts objects in the radar scans')
    parser.add_argument('--llm', metavar='MODEL', help='language model')
    parser.add_argument('--method', metavar='NAME', help='method of connecting modalities to the model')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: %(default)s)')
    parser.add_argument('--split', choices=('scene', 'mini', 'none'), help='held-out data: whole scenes, '
                        'questions as in nuScenes-QA-mini, or none')
    parser.add_argument('--night-images', metavar='NAME', help='degrade camera images of night scenes as '
                        'nuScenes-QA-mini does: night_80dimgaussian7')
    parser.add_argument('--max-distance', type=float, metavar='METRES',
                        help='maximum distance of the objects in questions')
    parser.add_argument('--min-points', type=int, metavar='N',
                        help='minimum LiDAR and radar points on an object in questions')
    parser.add_argument('--anchors', action='store_true', default=None,
                        help='also ask about positions relative to other objects; for many key frames')
    parser.add_argument('--turns', type=int, metavar='N', help='headings per key frame')
    parser.add_argument('--per-kind', type=int, metavar='N', help='maximum questions of each kind per frame')
    parser.add_argument('--of-each-type', type=int, metavar='N', help='maximum questions of each type')
    parser.add_argument('--seed', type=int, help='random seed')


def recipe_of(arguments: Namespace) -> TrainRecipe:
    """Return the recipe with the overrides of the command line.  Raises ConfigurationError."""
    from mpnp_ros.adaptation.recipe import OF_COUNTS, TrainRecipe
    from mpnp_ros.locations import shared_file

    recipe = TrainRecipe.load(arguments.config or shared_file('config/train.yaml'))
    given = {key: getattr(arguments, CHANGES.get(key, key), None) for key in (*KEYS, *CHANGES)}
    heads = {name: getattr(arguments, f'{name}_head') for name in OF_COUNTS}
    return recipe.changed(**given).counting(heads)

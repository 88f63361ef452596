"""Measure accuracy: of a running system on a bag, or of links on a data set.

With --bag it is the running system. The bag, written by `mpnp convert`, is replayed, and its questions are
asked at the key frames that they are about; playback pauses until they are answered. Encoders and fusion are
started with your links and parameters, or those that run are asked (--running). A table shows the accuracy by
type of question, the most frequent answers, the model without its sensors, what was refused or lost and why,
and latencies. Ctrl-C ends it and shows what was measured so far.

With --links, print a table for the links of a store on the key frames of a nuScenes root. Omitted options
are those that `mpnp train` stored with the links.

    mpnp evaluate --bag scene-0103
    mpnp evaluate --links links --root nuscenes --qa NuScenes_val_questions.json
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpnp_ros.cli.session import add_namespace
from mpnp_ros.cli.train import add_recipe_arguments
from mpnp_ros.cli.values import count, positive


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--bag', type=Path, help='a bag with questions: the running system is asked')
    what.add_argument('--links', type=Path, metavar='STORE', help='the links that `mpnp train` wrote')
    parser.add_argument('--quiet', action='store_true', help='no progress')
    live = parser.add_argument_group('with --bag', '--modalities selects the encoders to start (default: '
                                     'camera lidar)')
    live.add_argument('--running', action='store_true',
                       help='ask the system that runs, started with `mpnp bringup --use-sim-time`, in its '
                       'ROS_DOMAIN_ID (default: start encoders and fusion)')
    live.add_argument('--rate', type=positive, default=1., help='speed of time (default: %(default)g)')
    live.add_argument('--per-frame', type=count, default=0, metavar='N',
                       help='questions of each key frame, spread over types and answers (default: all)')
    live.add_argument('--no-blind', dest='blind', action='store_false',
                       help='do not ask again without sensors at the end')
    live.add_argument('--params-file', type=Path, action='append', default=[], metavar='YAML',
                       help='parameters of the nodes on top of config/mpnp.yaml; repeatable')
    live.add_argument('--timeout', type=positive, default=300., metavar='S',
                       help='seconds that the nodes have to become ready (default: %(default)g)')
    live.add_argument('--json', action='store_true', help='the result as one JSON object')
    add_namespace(live)
    links = parser.add_argument_group('with --links')
    links.add_argument('--root', type=Path, help='nuScenes root: the folder of samples/ and v1.0-*/')
    add_recipe_arguments(links)


def run(arguments: Namespace) -> int:
    """Measure; exit code 0, 130 after Ctrl-C."""
    if arguments.bag is not None:
        from mpnp_ros.cli.evaluate_bag import evaluate_bag

        return evaluate_bag(arguments)
    from mpnp_ros.cli.evaluate_links import evaluate_links

    return evaluate_links(arguments)

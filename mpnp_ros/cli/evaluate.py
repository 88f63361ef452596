"""Measure accuracy: of a running system on a bag, or of links on a data set.

With --bag it measures a whole system: one that it starts, with your links and parameters, or with --running
one that already runs. The bag, written by `mpnp convert`, is replayed. Its questions are asked at their key
frames, and playback pauses until they are answered. A table shows the accuracy by type of question, the
most frequent answers, the model without its sensors, refused and lost questions with reasons, and latencies.
Ctrl-C ends it and shows the results so far.

With --root it measures links on the key frames of a nuScenes root: the shipped links, or those of a store
(--links), with the options that `mpnp train` stored with them. Beside the answers are those from tokens that
are turned away, from those of a wrong image, from nothing, by a fixed rule and from the true objects.
Questions are about all objects, and again about those that the sensors can see. Published questions (--qa)
are asked as they are.

With --recording it compares links with others on the held-out labelled moments of a recording (`mpnp record`,
`mpnp review`, `mpnp train --recording`), and says in one sentence whether they are better. Exit code 1: they
are worse.

    mpnp evaluate --recording drive --links links
    mpnp evaluate --bag scene-0103
    mpnp evaluate --root nuscenes --modalities camera --camera-detector centernet
    mpnp evaluate --links links --root nuscenes --qa NuScenes_val_questions.json
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpnp_ros.bags.labels import PERSON, TEACHER
from mpnp_ros.cli.arguments import ROBOT, SHIPPED, add_namespace, add_params_file, count, positive
from mpnp_ros.cli.train import add_label_arguments, add_recipe_arguments
from mpnp_ros.errors import ConfigurationError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--bag', type=Path, help='bag with questions for a whole system')
    what.add_argument('--links', type=Path, metavar='STORE', help='link store written by `mpnp train`, or '
                      f'{SHIPPED} (default with --root), or with --recording robot')
    parser.add_argument('--recording', type=Path, metavar='FOLDER', help='written by `mpnp record`')
    parser.add_argument('--quiet', action='store_true', help='print no progress')
    parser.add_argument('--json', action='store_true',
                        help='with --bag or --recording, print the result as one JSON object')
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
    add_namespace(live)
    links = parser.add_argument_group('with --root')
    links.add_argument('--root', type=Path, help='nuScenes root: the folder of samples/ and v1.0-*/')
    links.add_argument('--scope', choices=('all', 'visible', 'both'), default='both',
                       help='objects of generated questions: all, those that the sensors of --modalities can '
                       'see, or one after the other (default: %(default)s)')
    links.add_argument('--output', type=Path, metavar='JSON', help='file to write the accuracies to')
    add_recipe_arguments(links)
    own = parser.add_argument_group('with --recording')
    own.add_argument('--against', metavar='STORE', default=ROBOT,
                     help=f'links to compare with: {ROBOT}, those that the robot uses; {SHIPPED}; or a link '
                          'store (default: %(default)s)')
    add_label_arguments(own, (TEACHER, PERSON))


def run(arguments: Namespace) -> int:
    """Measure; exit code 0, 130 after Ctrl-C; with --recording 1, where the links are worse."""
    if arguments.recording is not None:
        if arguments.bag is not None or arguments.root is not None:
            raise ConfigurationError('--recording goes with neither --bag nor --root')
        from mpnp_ros.cli.evaluate_recording import evaluate_recording

        return evaluate_recording(arguments)
    if arguments.bag is not None:
        from mpnp_ros.cli.evaluate_bag import evaluate_bag

        return evaluate_bag(arguments)
    if arguments.root is None:
        what = '--links needs' if arguments.links else 'give --bag, or'
        raise ConfigurationError(f'{what} --root, the nuScenes root of the key frames, or --recording')
    from mpnp_ros.cli.evaluate_links import evaluate_links

    return evaluate_links(arguments)

"""Ask a robot about a nuScenes key frame through ROS 2: from files on disk to answers on topics, in one go.

Takes --root or $NUSCENES_ROOT, else the key frame in ../shared/data of a checkout, else a small generated
stand-in. The frame becomes a bag; links to camera and LiDAR are trained on it as seen from some headings and
tried on others; then the bag is replayed into encoder nodes and the fusion node is asked what is around. The
heading that is replayed is one of those it was trained on. A second run takes bag and links from the cache.
"""
from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

LOG_WIDTH = 132


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--root', type=Path, help='a nuScenes root (default: $NUSCENES_ROOT)')
    source.add_argument('--embedded', action='store_true', help='use the generated stand-in')
    parser.add_argument('--picture', type=Path, metavar='PNG',
                        help='where the picture goes (default: docs/demo.png of a checkout; for nuScenes, '
                             'whose licence keeps it out of the repository, docs/demo_nuscenes.png)')
    parser.add_argument('--fresh', action='store_true', help='train again even if links are in the cache')
    parser.add_argument('--timeout', type=float, default=240., metavar='S',
                        help='seconds that the nodes have to become ready (default: %(default)s)')


def run(arguments: Namespace) -> int:
    """Find a frame, learn, ask, show; exit code 0."""
    from rich.console import Console

    from mpnp_ros.cli.bringup import stopped_by_sigterm
    from mpnp_ros.cli.demo_learning import learn
    from mpnp_ros.cli.demo_live import running_robot
    from mpnp_ros.cli.demo_picture import draw
    from mpnp_ros.cli.demo_scene import find_scene
    from mpnp_ros.cli.demo_tables import answers_table, evidence_table, plugging_table

    console, started = Console(), time.monotonic()
    if not console.is_terminal:  # a log: wide enough for questions on one line
        console = Console(width=LOG_WIDTH)
    scene = find_scene(arguments.root, arguments.embedded)
    console.print(f'[bold]Scene[/]     {scene.title}')
    learned = learn(scene, console, arguments.fresh)
    console.print(f'[bold]Bag[/]       {learned.bag}')
    console.print(evidence_table(learned.evidence))
    with stopped_by_sigterm(), running_robot(learned, console, arguments.timeout) as robot:
        interviews = robot.interviews()
        standing = robot.watch(learned.asked[0].text)
    console.print(answers_table(interviews[0]))
    console.print(plugging_table(interviews, standing))
    picture = draw(scene, learned.evidence, interviews, arguments.picture or scene.picture)
    console.print(f'[bold]Picture[/]   {picture}')
    console.print(f'[bold]Time[/]      {time.monotonic() - started:.0f} s')
    return 0

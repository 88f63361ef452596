"""Convert nuScenes scenes with their sweeps, and questions with true answers, to ROS 2 bags.

One scene becomes the bag OUTPUT, several become OUTPUT/<scene>, because scenes are days apart and a replay of
one bag would wait for that long. Scenes, sensors, sweeps and annotations that are missing in the root are
skipped; the command lists them before it writes.
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.errors import BagError, DatasetError

if TYPE_CHECKING:
    from mpnp_ros.bags.writer import Questions
    from mpnp_ros.nuscenes.schema import Record
    from mpnp_ros.nuscenes.tables import NuScenes


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('root', type=Path, help='nuScenes root: the folder of samples/, sweeps/ and v1.0-*/')
    parser.add_argument('output', type=Path, help='bag to write, or the folder of several bags')
    parser.add_argument('--version', help='tables to read, e.g. v1.0-mini (default: the only one)')
    parser.add_argument('--scenes', nargs='+', metavar='SCENE',
                        help='names or tokens of scenes (default: all)')
    parser.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap',
                        help='storage format (default: %(default)s)')
    questions = parser.add_mutually_exclusive_group()
    questions.add_argument('--nuscenes-qa', type=Path, metavar='JSON',
                           help='question file of NuScenes-QA (default: questions made from the boxes)')
    questions.add_argument('--seed', type=int, default=0,
                           help='random seed of questions made from the boxes')
    questions.add_argument('--no-questions', action='store_true', help='write no questions')
    parser.add_argument('--no-sweeps', action='store_true',
                        help='write key frames only, without the sweeps between them')
    parser.add_argument('--overwrite', action='store_true', help='replace existing bags')
    parser.add_argument('--quiet', action='store_true', help='print no progress')


def run(arguments: Namespace) -> int:
    """Write the bags and print their paths and the data missing in the root."""
    from mpnp_ros.bags.writer import write_bag
    from mpnp_ros.nuscenes.tables import NuScenes

    root = NuScenes(arguments.root, arguments.version)
    questions = questions_of(root, arguments)
    scenes = scenes_with_files(root, arguments.scenes, arguments.no_sweeps)
    if bare := [scene for scene in scenes if not root.has_annotations(scene)]:
        made = not (arguments.no_questions or arguments.nuscenes_qa)
        print(f'no {"labelled questions and no " if made else ""}markers are written of {_names(bare)}: '
              f'{root.version} has no annotations there')
    if len(scenes) > 1:
        try:
            arguments.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BagError(f'cannot create folder {arguments.output} for the bags: {error.strerror}; choose '
                           'another name') from None
    for scene in scenes:
        output = arguments.output / scene if len(scenes) > 1 else arguments.output
        path = write_bag(root, output, [scene], questions, storage=arguments.storage, partial=True,
                         overwrite=arguments.overwrite, progress=not arguments.quiet,
                         sweeps=not arguments.no_sweeps)
        print(f'{path}: play it with `mpnp replay {path}` or `ros2 bag play {path} --clock`')
    return 0


def questions_of(root: NuScenes, arguments: Namespace) -> Questions | None:
    """Return a function that gives the questions about a key frame; None to write none."""
    if arguments.no_questions:
        return None
    if arguments.nuscenes_qa:
        from mpnp_ros.nuscenes.official_qa import read_nuscenes_qa

        official = read_nuscenes_qa(arguments.nuscenes_qa, root)
        print(official.summary)
        return lambda frame: official.by_sample.get(frame.token, [])
    from mpnp_ros.questions.generator import scene_questions

    return partial(scene_questions, seed=arguments.seed)


def scenes_with_files(root: NuScenes, chosen: list[str] | None, key_frames_only: bool) -> list[str]:
    """Return the names of the scenes to write: the chosen ones, otherwise all with at least one file.

    key_frames_only: files of sweeps do not count.  Prints skipped scenes, and for each sensor the number of
    missing files.  Raises DatasetError if no file is there.
    """
    records = [root.scene(name) for name in chosen] if chosen else root.scenes
    holdings = {record['name']: _Holding.of(root, record, key_frames_only) for record in records}
    empty = [scene for scene, holding in holdings.items() if not holding.there.total()]
    if empty and (chosen or len(empty) == len(holdings)):
        raise DatasetError(f'0 of {sum(holdings[scene].named.total() for scene in empty)} sensor files of '
                           f'{_names(empty)} are in {root.root}; download the file blobs of {root.version} '
                           f'into it{", or choose other scenes" if chosen else ""}')
    if empty:
        print(f'{len(empty)} of {len(holdings)} scenes are left out, none of their files is in {root.root}: '
              f'{_names(empty)}')
    kept = {scene: holding for scene, holding in holdings.items() if scene not in empty}
    for line in dict.fromkeys(line for holding in kept.values() for line in holding.foreign):
        print(line)
    for channel in dict.fromkeys(channel for holding in kept.values() for channel in holding.absent):
        there, named = (sum(getattr(holding, kind)[channel] for holding in kept.values())
                        for kind in ('there', 'named'))
        first = next(holding.absent[channel] for holding in kept.values() if channel in holding.absent)
        print(f'{channel}: {there} of {named} files are there; left out are the others, such as {first}')
    return list(kept)


@dataclass
class _Holding:
    """Number of files of each channel in the tables of a scene, and on disk.

    absent: the first missing file, by channel.  foreign: messages about sensors that are not written.
    """

    named: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    absent: dict[str, Path] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, root: NuScenes, scene: Record, key_frames_only: bool) -> _Holding:
        """Count the files of a scene."""
        from mpnp_ros.bags.writer import MODALITIES

        found = cls()
        for sensor, path in root.files(scene, key_frames_only):
            channel, modality = sensor['channel'], sensor['modality']
            if modality not in MODALITIES:
                found.foreign.append(f'{channel}: left out, as its modality {modality!r} is none of '
                                     f'{", ".join(MODALITIES)}')
                continue
            found.named[channel] += 1
            if path.is_file():
                found.there[channel] += 1
            else:
                found.absent.setdefault(channel, path)
        return found


def _names(scenes: list[str]) -> str:
    return ', '.join(scenes[:5]) + (f' and {len(scenes) - 5} more scenes' if len(scenes) > 5 else '')

"""A real key frame of nuScenes for the demo, and answers about it with each sensor and with both."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mpnp_ros import __version__
from mpnp_ros.bags.writer import write_bag
from mpnp_ros.cli.exchanges import Exchange
from mpnp_ros.errors import DatasetError
from mpnp_ros.files import cache_root, cached_folder, source_folder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.balance import Chooser, Majority
from mpnp_ros.questions.generator import LabelledQuestion, scene_questions
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_world.demo.drive import BOTH, CAMERA, LIDAR, SCOPE

SHARED = Path('..', 'shared', 'data', 'nuscenes_keyframe')
QUESTIONS, PER_KIND = 40, 20
TRIALS = (BOTH, (CAMERA,), (LIDAR,))


@dataclass(frozen=True, eq=False)
class RealScene:
    """One key frame of a nuScenes root."""

    root: NuScenes
    frame: KeyFrame

    @property
    def title(self) -> str:
        """Return the scene, with the numbers of its sensors and objects."""
        return (f'{self.frame.scene}: {len(self.frame.cameras)} cameras, '
                f'{"a LiDAR sweep" if self.frame.lidar else "no LiDAR"}, '
                f'{len(self.frame.objects)} annotated objects')

    def questions(self, majority: Majority) -> list[LabelledQuestion]:
        """Return the questions, even over types and answers; half of them have a rare answer."""
        return Chooser(majority).choose(scene_questions(self.frame, 0, PER_KIND, SCOPE), QUESTIONS)

    def bag(self) -> Path:
        """Return the key frame as a cached bag."""
        identity = f'{__version__} {self.root.root.resolve()} {self.frame.token}'
        folder = cache_root() / 'demo' / f'bag-{hashlib.sha256(identity.encode()).hexdigest()[:12]}'
        folder.parent.mkdir(parents=True, exist_ok=True)
        return cached_folder(folder, identity, lambda empty: write_bag(
            self.root, empty / 'bag', [self.frame.scene], progress=False,
            samples=[self.frame.token])) / 'bag'


def find_scene(root: Path | None = None) -> RealScene | None:
    """Return the first key frame of the given root, of $NUSCENES_ROOT or of shared data; None without one.

    Raises DatasetError if the given root cannot be read.
    """
    named = root or (Path(os.environ['NUSCENES_ROOT']) if os.environ.get('NUSCENES_ROOT') else None)
    checkout = source_folder()
    path = named or (checkout / SHARED if checkout and (checkout / SHARED).is_dir() else None)
    if path is None:
        return None
    tables = NuScenes(path)
    frame = next((frame for scene in tables.scenes for frame in tables.key_frames(scene) if frame.annotated),
                 None)
    if frame is None:
        raise DatasetError(f'{path} has no annotated key frames; use v1.0-mini or v1.0-trainval')
    return RealScene(tables, frame)


class Asked(Protocol):
    """A running system that receives the key frame."""

    def plug(self, plugged: Sequence[str]) -> None:
        """Plug these modalities and unplug the others."""

    def ask_of(self, question: LabelledQuestion, guess: str, plugged: Sequence[str]) -> Exchange:
        """Ask about the current frame."""


def interview(robot: Asked, questions: Sequence[LabelledQuestion],
              majority: Majority) -> Mapping[tuple[str, ...], Sequence[Exchange]]:
    """Ask the same questions with both modalities plugged and with each alone."""
    answers: dict[tuple[str, ...], list[Exchange]] = {}
    for plugged in TRIALS:
        robot.plug(plugged)
        answers[plugged] = [robot.ask_of(question, majority.guess(question), plugged)
                            for question in questions]
    return answers

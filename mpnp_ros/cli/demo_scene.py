"""Which key frame the demo is about."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mpnp_ros.cache import cache_root, cached_folder
from mpnp_ros.errors import DatasetError
from mpnp_ros.locations import source_folder
from mpnp_ros.nuscenes.key_frame import KeyFrame
from mpnp_ros.nuscenes.standin import write_standin
from mpnp_ros.nuscenes.tables import NuScenes

SHARED = Path('..', 'shared', 'data', 'nuscenes_keyframe')
STANDIN_SEED = 0


@dataclass(frozen=True, eq=False)
class DemoScene:
    """One key frame of a root.

    title: what it is, for people.  generated: free to share; a picture of nuScenes is not.
    """

    root: NuScenes
    frame: KeyFrame
    title: str
    generated: bool

    @property
    def picture(self) -> Path:
        """Where the picture of the demo goes: into docs/ of a checkout, else into this folder."""
        name = 'demo.png' if self.generated else 'demo_nuscenes.png'
        checkout = source_folder()
        return checkout / 'docs' / name if checkout else Path(name)


def find_scene(root: Path | None = None, embedded: bool = False) -> DemoScene:
    """The first key frame of the given root, of $NUSCENES_ROOT, of shared data, or of the stand-in.

    Raises DatasetError where a root that was named cannot be read.
    """
    named = root or (Path(os.environ['NUSCENES_ROOT']) if os.environ.get('NUSCENES_ROOT') else None)
    checkout = source_folder()
    shared = checkout / SHARED if checkout else None
    if embedded or not (named or (shared and shared.is_dir())):
        return _first_frame(_standin(), 'a generated stand-in (set NUSCENES_ROOT to use real data)', True)
    return _first_frame(named or shared, 'real nuScenes data', False)


def _standin() -> Path:
    def build(empty: Path) -> None:
        write_standin(empty / 'root', STANDIN_SEED, scenes=1, key_frames=1)

    folder = cache_root() / 'demo'
    folder.mkdir(parents=True, exist_ok=True)
    return cached_folder(folder / 'standin', f'stand-in, seed {STANDIN_SEED}, one key frame', build) / 'root'


def _first_frame(path: Path, kind: str, generated: bool) -> DemoScene:
    root = NuScenes(path)
    frame = next((one for scene in root.scenes for one in root.key_frames(scene)), None)
    if frame is None:
        raise DatasetError(f'{path} has no key frames in its tables; download the metadata again')
    sensors = f'{len(frame.cameras)} cameras, {"a LiDAR sweep" if frame.lidar else "no LiDAR"}'
    title = f'{kind}: {frame.scene}, {sensors}, {len(frame.objects)} annotated objects'
    return DemoScene(root, frame, title, generated)

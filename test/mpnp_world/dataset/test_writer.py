"""A written scene: what is read back is what the sensors perceived, for our reader, bags and the devkit."""
from __future__ import annotations

import hashlib
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('moderngl', reason='moderngl is not installed: the world cannot be drawn')
pytest.importorskip('embreex', reason='embreex is not installed: the world has no rays')

from mpnp_ros.bags.player import BagPlayer
from mpnp_ros.bags.writer import write_bag
from mpnp_ros.nuscenes.sensor_files import read_lidar, read_radar
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import rotation_about_z, wrap_angle
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_world.broadcast import Broadcast
from mpnp_world.dataset.frames import Sensors, WorldFrame, scene_frames
from mpnp_world.dataset.generate import add_part, merge, prepare
from mpnp_world.dataset.writer import CHANNELS, SENSORS, VERSION, write_scene
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.sensors.rig import CAMERAS, MICROPHONES, RADARS

SIZE, INTERVAL = (96, 54), 0.5
DAY, NIGHT = (SceneIdentity(3, Conditions(light)) for light in ('day', 'night'))


@pytest.fixture(scope='module')
def frames() -> dict[str, list[WorldFrame]]:
    """Two key frames by day and the same two at night, by the scene's name."""
    sensors = Sensors(SENSORS, SIZE)
    return {identity.name: list(scene_frames(identity.seed, identity.conditions, 2, INTERVAL, SENSORS,
                                             sensors)) for identity in (DAY, NIGHT)}


def write(root: Path, frames: dict[str, list[WorldFrame]]) -> NuScenes:
    """The frames as a nuScenes root."""
    prepare(root, {})
    for identity in (DAY, NIGHT):
        add_part(root, identity, write_scene(root, identity, frames[identity.name], SIZE, SENSORS))
    merge(root)
    return NuScenes(root)


@pytest.fixture(scope='module')
def root(frames: dict[str, list[WorldFrame]], tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """The root of both scenes."""
    return write(tmp_path_factory.mktemp('world') / 'root', frames)


@pytest.fixture(scope='module')
def pairs(root: NuScenes, frames: dict[str, list[WorldFrame]]) -> list[tuple[WorldFrame, KeyFrame]]:
    """Every key frame as perceived and as read back."""
    return [pair for name, scene in frames.items() for pair in zip(scene, root.key_frames(name), strict=True)]


def digest(folder: Path) -> str:
    """Of all names and bytes in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        total.update(str(path.relative_to(folder)).encode())
        total.update(path.read_bytes() if path.is_file() else b'')
    return total.hexdigest()


def test_objects_are_read_back_as_they_are(pairs):
    for frame, read in pairs:
        wanted = frame.key_frame(SceneIdentity.of_name(read.scene))
        for name in ('token', 'stamp_ns', 'description'):
            assert getattr(read, name) == getattr(wanted, name)
        assert len(read.objects) == len(wanted.objects) > 20
        for first, other in zip(read.objects, wanted.objects, strict=True):
            for name in ('instance', 'category', 'attribute', 'num_lidar_pts', 'num_radar_pts', 'visibility'):
                assert getattr(first, name) == getattr(other, name)
            np.testing.assert_allclose(first.centre, other.centre, atol=1e-9)
            np.testing.assert_allclose(first.size, other.size)
            assert wrap_angle(first.yaw - other.yaw) == pytest.approx(0, abs=1e-9)


def test_velocities_follow_from_the_annotations(pairs):
    moving = [(first.velocity, other.velocity) for frame, read in pairs
              for first, other in zip(read.objects, frame.key_frame(DAY).objects, strict=True)
              if first.attribute in ('moving', 'with rider') and first.velocity]
    assert moving
    derived, true = map(np.array, zip(*moving, strict=True))
    assert np.median(np.linalg.norm(derived - true, axis=1)) < 1.


def test_sensor_files_are_read_back_as_they_are(pairs):
    for frame, read in pairs:
        np.testing.assert_array_equal(read_lidar(read.lidar.path), frame.sweep.points)
        assert set(read.radars) == set(RADARS)
        for channel, reading in read.radars.items():
            assert read_radar(reading.path).tobytes() == frame.radars[channel].points.tobytes()
        assert set(read.cameras) == set(CAMERAS)
        for channel, reading in read.cameras.items():
            image = np.asarray(Image.open(reading.path), float)
            assert reading.size == SIZE
            assert np.abs(image - frame.images[channel]).mean() < 12
            scale = np.array([[SIZE[0] / 1600], [SIZE[1] / 900], [1]])
            np.testing.assert_allclose(reading.intrinsics, CAMERAS[channel].intrinsics * scale)


def test_points_counted_on_an_object_lie_in_its_box(pairs):
    """Ties calibration, pose, sweep and annotations together."""
    counted = 0
    for _, read in pairs:
        points = read.lidar.extrinsics.apply(read_lidar(read.lidar.path)[:, :3])
        for item in read.objects:
            if item.num_lidar_pts < 5:
                continue
            local = (points - item.centre) @ rotation_about_z(item.yaw)
            inside = (np.abs(local) <= np.array(item.size) / 2 + .15).all(1).sum()
            assert inside >= .8 * item.num_lidar_pts, item
            counted += 1
    assert counted > 10


def test_twins_differ_in_what_cameras_see_only(root):
    day, night = (list(root.key_frames(identity.name)) for identity in (DAY, NIGHT))
    assert [frame.is_night for frame in day + night] == [False, False, True, True]
    for first, other in zip(day, night, strict=True):
        assert first.lidar.path.read_bytes() == other.lidar.path.read_bytes()
        assert first.token != other.token and first.stamp_ns != other.stamp_ns
        assert [item.num_lidar_pts for item in first.objects] == \
            [item.num_lidar_pts for item in other.objects]
        grey = [np.mean(Image.open(frame.cameras['CAM_FRONT'].path).convert('L')) for frame in (first, other)]
        assert grey[1] < grey[0] / 2


def test_categories_are_those_of_nuscenes_qa(pairs):
    assert {item.category for _, read in pairs for item in read.objects} <= set(CATEGORIES)


def test_sound_joins_without_a_gap(root, frames):
    for name, scene in frames.items():
        records = [record for record in json.loads((root.root / VERSION / 'sound.json').read_bytes())
                   if name in record['filename']]
        assert [record['sample_token'] for record in records] == [
            frame.token for frame in root.key_frames(name)]
        assert all(record['duration'] == INTERVAL for record in records)
        for record, frame in zip(records, scene, strict=True):
            with wave.open(str(root.root / record['filename'])) as file:
                assert (file.getnchannels(), file.getframerate()) == (len(MICROPHONES), 16000)
                samples = np.frombuffer(file.readframes(file.getnframes()), '<i2')
            heard = samples.reshape(-1, len(MICROPHONES)).T / 32767
            np.testing.assert_allclose(heard, frame.sound, atol=1e-4)
            assert samples.any()


def test_a_bag_of_it_has_all_that_the_live_world_has(root, tmp_path):
    player = BagPlayer(write_bag(root, tmp_path / 'bag', [NIGHT.name], progress=False))
    live = Broadcast(NIGHT.start, tuple(CHANNELS), SIZE, lambda frame: [])
    assert {name: topic.type_name for name, topic in player.topics.items()} == live.topics


def test_the_same_frames_are_the_same_bytes(root, frames, tmp_path):
    assert digest(write(tmp_path / 'again', frames).root) == digest(root.root)


@pytest.mark.filterwarnings('ignore')
def test_official_devkit_reads_it(root):
    devkit = pytest.importorskip('nuscenes.nuscenes', reason='nuscenes-devkit is not installed')
    official = devkit.NuScenes(root.version, str(root.root), verbose=False)
    for scene in root.scenes:
        for frame in root.key_frames(scene):
            sample = official.get('sample', frame.token)
            assert len(sample['anns']) == len(frame.objects)
            _, boxes, _ = official.get_sample_data(sample['data']['CAM_FRONT'])
            assert boxes
            assert set(sample['data']) == {*CAMERAS, *RADARS, 'LIDAR_TOP'}

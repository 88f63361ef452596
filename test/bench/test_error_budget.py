from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from bench.error_budget import __main__ as command
from bench.error_budget.measure import ALL, CASES, NOTHING, EncoderView, all_but, by_direction, measure, only
from bench.error_budget.parts import Part, SeenFrame, seen_by_detector, seen_in_tokens, tokens_by_object
from bench.error_budget.real import seen_at
from bench.error_budget.repairs import KINDS, PART_OF_STATUS, errors, repaired
from bench.error_budget.report import page_of, ranked
from bench.real_frames import ENCODER, HEADINGS, DriveMotion
from bench.real_matching import Matches, visible
from bench.real_sweeps import moment_of
from mpnp_ros.detection.boxes import CategoryBoxes
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.detection.detectors.base import COCO, Boxes
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS, RELATIONS, relation
from mpnp_ros.tokens import SECTOR, SECTORS, ModalityTokens
from mpnp_ros.training.evaluation import majority_answers
from mpnp_ros.training.key_frames import question_dataset
from mpnp_ros.training.true_objects import OBJECTS, TrueObjects

MOVING_CAR, PARKED_CAR, STOPPED_CAR, STANDING, RIDDEN, CONE = (CHANNELS.index(channel) for channel in (
    ('car', 'moving'), ('car', 'parked'), ('car', 'stopped'), ('pedestrian', 'standing'),
    ('bicycle', 'with rider'), ('traffic cone', None)))


class Nothing:
    classes, sha256, size = COCO, 'nothing', (320, 180)

    def detect(self, image):
        return Boxes(np.zeros((0, 4), np.float32), np.zeros((0, len(COCO)), np.float32))


def an_object(category, attribute, x, y, points=20):
    return AnnotatedObject(f'{category} {x} {y}', category, attribute, (x, y, .8), (4., 2., 1.6), 0.,
                           num_lidar_pts=points)


CAR = an_object('car', 'parked', 10., 0.)
PERSON = an_object('pedestrian', 'standing', 0., 8.)
FAR_CAR = an_object('car', 'moving', -31., 0.)
SPARSE_CONE = an_object('traffic cone', None, 0., -12., points=2)
OBJECTS_THERE = (CAR, PERSON, FAR_CAR, SPARSE_CONE)


def sectors(*said):
    """Tokens by sector, of (channel, azimuth in degrees, expected number)."""
    azimuth = np.radians(np.arange(SECTORS) * SECTOR + SECTOR / 2 - 180)
    values = np.zeros((SECTORS, len(CHANNELS)), np.float32)
    for channel, degrees, number in said:
        values[int((degrees + 180) // SECTOR), channel] += number
    return ModalityTokens('lidar', 'test', values, azimuth.astype(np.float32))


def found(*said):
    """A key frame as a detector sees it, of (counts by channel, azimuth in degrees, object, near, dense)."""
    tokens = ModalityTokens(OBJECTS, ENCODER, np.zeros((1, len(CHANNELS)), np.float32),
                            np.zeros(1, np.float32), known=np.zeros(len(CHANNELS), bool))
    parts = []
    for counts, degrees, item, near, dense in said:
        row = np.zeros(len(CHANNELS))
        for channel, number in counts.items():
            row[channel] = number
        parts.append(Part(row, math.radians(degrees), 10., item, near, dense))
    return SeenFrame(tuple(parts), OBJECTS_THERE, NEARBY, lambda parts: tokens_by_object(tokens, parts))


def total(seen, channel=slice(None)):
    return pytest.approx(float(seen.tokens().values[:, channel].sum()), abs=1e-4)


def totals(seen):
    return {kind: sum(of.values()) for kind, of in errors(seen).items()}


def place(azimuth, channel):
    return math.floor(math.degrees(azimuth) / SECTOR), int(channel)


def places(tokens):
    """(Sector, channel) -> what is counted there."""
    made = defaultdict(float)
    for row, channel in zip(*np.nonzero(tokens.values > 1e-3), strict=True):
        made[place(tokens.azimuth[row], channel)] += float(tokens.values[row, channel])
    return {where: round(number, 3) for where, number in made.items()}


def of_truth():
    return {place(math.atan2(item.centre[1], item.centre[0]), channel): 1.
            for item, channel in ((CAR, PARKED_CAR), (PERSON, STANDING))}


WRONG = sectors((MOVING_CAR, 6, .5), (CONE, 1, .2), (RIDDEN, 92, .6), (MOVING_CAR, 178, .9), (CONE, -88, .7),
                (STANDING, 40, .3))


def test_nothing_repaired_is_what_the_encoder_says():
    seen = seen_in_tokens(WRONG, OBJECTS_THERE, NEARBY)
    assert np.allclose(repaired(seen, ()).tokens().values, WRONG.values, atol=1e-6)
    assert total(seen) == 3.2


def test_everything_repaired_is_the_true_objects():
    assert places(repaired(seen_in_tokens(WRONG, OBJECTS_THERE, NEARBY), KINDS).tokens()) == of_truth()
    seen = found(({MOVING_CAR: .5, CONE: .3}, 20, CAR, .4, 1.), ({CONE: .6}, 120, None, 1., 1.),
                 ({CONE: .9}, -90, SPARSE_CONE, 1., 1.), ({MOVING_CAR: .9}, 179, FAR_CAR, .7, 1.))
    tokens = repaired(seen, KINDS).tokens()
    assert places(tokens) == of_truth()
    assert tokens.known[[PARKED_CAR, STANDING]].all() and not tokens.known[CONE]


def test_counts_by_sector_belong_to_the_objects_around():
    seen = seen_in_tokens(WRONG, OBJECTS_THERE, NEARBY)
    of = {item.category: sum(part.counts.sum() for part in seen.parts if part.item is item)
          for item in (CAR, PERSON, SPARSE_CONE)}
    assert of == pytest.approx({'car': .7, 'pedestrian': .6, 'traffic cone': .7})
    free = [part for part in seen.parts if part.item is None]
    assert len(free) == 1 and free[0].counts[STANDING] == pytest.approx(.3)


def test_an_object_takes_one_and_its_own_category_first():
    seen = seen_in_tokens(sectors((CONE, 1, .8), (PARKED_CAR, 6, .9), (PARKED_CAR, -14, 1.)), (CAR,), NEARBY)
    own = sum(part.counts for part in seen.parts if part.item is CAR)
    assert own.sum() == pytest.approx(1) and own[PARKED_CAR] == pytest.approx(1)
    assert sum(part.counts for part in seen.parts if part.item is None)[CONE] == pytest.approx(.8)


def test_tokens_with_distances_belong_to_objects_as_far_away():
    values = np.zeros((2, len(CHANNELS)), np.float32)
    values[:, PARKED_CAR] = .8
    tokens = ModalityTokens('lidar', 'test', values, np.zeros(2, np.float32),
                            distance=np.array([25., 11.], np.float32))
    seen = seen_in_tokens(tokens, (CAR,), NEARBY)
    assert [(part.item, part.distance) for part in seen.parts] == [(CAR, 11.), (None, 25.)]
    assert repaired(seen, KINDS).tokens().count == 2  # what was found, and what it lacked


def test_missed_puts_in_what_lacks():
    seen = repaired(found(({MOVING_CAR: .6}, 0, CAR, 1., 1.)), ('missed',))
    assert total(seen) == 2
    car, person = seen.parts[1:]
    assert car.counts.sum() == pytest.approx(.4) and car.counts.argmax() == MOVING_CAR
    assert person.azimuth == pytest.approx(math.pi / 2) and person.counts.sum() == pytest.approx(1)


def test_false_takes_out_what_is_no_object():
    seen = found(({PARKED_CAR: .9}, 0, CAR, 1., 1.), ({CONE: .8}, 10, None, 1., 1.))
    assert places(repaired(seen, ('false',)).tokens()) == {(0, PARKED_CAR): .9}


def test_category_keeps_the_number_and_the_names_of_statuses():
    truck = CHANNELS.index(('truck', 'parked'))
    seen = repaired(found(({truck: .4, CONE: .1, MOVING_CAR: .3}, 0, CAR, 1., 1.)), ('category',))
    counts = seen.parts[0].counts
    assert counts.sum() == pytest.approx(.8) and counts[[truck, CONE]].sum() == 0
    assert counts[PARKED_CAR] / counts[MOVING_CAR] == pytest.approx(4 / 3, rel=1e-3)
    unnamed = repaired(found(({CONE: 1.}, 0, PERSON, 1., 1.)), ('category',)).parts[0].counts
    assert CHANNELS[int(unnamed.argmax())] == ('pedestrian', 'moving')  # the usual one


def test_status_keeps_the_number_of_each_category():
    truck = CHANNELS.index(('truck', 'moving'))
    counts = repaired(found(({MOVING_CAR: .4, STOPPED_CAR: .2, truck: .3, CONE: .1}, 0, CAR, 1., 1.)),
                      ('status',)).parts[0].counts
    assert counts[PARKED_CAR] == pytest.approx(.6) and counts[CONE] == pytest.approx(.1)
    assert counts[CHANNELS.index(('truck', 'parked'))] == pytest.approx(.3)
    nameless = replace(CAR, attribute=None)
    even = repaired(found(({MOVING_CAR: .6}, 0, nameless, 1., 1.)), ('status',)).parts[0].counts
    assert even[[MOVING_CAR, PARKED_CAR, STOPPED_CAR]] == pytest.approx([.2] * 3)


def test_motion_leaves_how_things_stand():
    said = {MOVING_CAR: .6, PARKED_CAR: .1, STOPPED_CAR: .3}
    counts = repaired(found((said, 0, CAR, 1., 1.)), (PART_OF_STATUS,)).parts[0].counts
    assert counts[[MOVING_CAR, PARKED_CAR, STOPPED_CAR]] == pytest.approx([0, .25, .75], abs=1e-3)
    goes = replace(CAR, attribute='moving')
    counts = repaired(found((said, 0, goes, 1., 1.)), (PART_OF_STATUS,)).parts[0].counts
    assert counts[MOVING_CAR] == pytest.approx(1)


def test_direction_moves_what_is_said():
    assert places(repaired(found(({PARKED_CAR: .9}, 40, CAR, 1., 1.)), ('direction',)).tokens()) == {
        (0, PARKED_CAR): .9}
    seen = seen_in_tokens(sectors((PARKED_CAR, 11, .9)), (CAR,), NEARBY)
    assert places(repaired(seen, ('direction',)).tokens()) == {(0, PARKED_CAR): .9}


def test_borders_follow_the_true_distance_and_points():
    seen = found(({PARKED_CAR: .9}, 0, CAR, .3, 0.), ({MOVING_CAR: .8}, 179, FAR_CAR, .6, 1.),
                 ({CONE: .7}, -90, SPARSE_CONE, 1., 1.))
    assert total(repaired(seen, ('30 m border',))) == .7
    assert total(repaired(seen, ('5-point border',))) == pytest.approx(.27 + .48, abs=1e-3)
    assert total(repaired(seen, ('30 m border', '5-point border'))) == .9


def test_errors_are_counted_by_kind():
    seen = found(({PARKED_CAR: .5, MOVING_CAR: .2, CONE: .1}, 40, CAR, .6, 1.), ({CONE: .8}, 0, None, .5, 1.),
                 ({MOVING_CAR: .8}, 179, FAR_CAR, .6, 1.), ({CONE: .7}, -90, SPARSE_CONE, 1., 1.))
    assert totals(seen) == pytest.approx({
        'true': 2, 'missed': 1.2, 'doubt': .2, 'false': .4, 'category': .1, 'status': .2, 'direction': .8,
        '30 m border': .8 * .4 + .8 * .6, '5-point border': .7})
    assert errors(seen)['missed']['pedestrian'] == 1 and errors(seen)['category']['car'] == pytest.approx(.1)
    assert set(totals(repaired(seen, KINDS)).values()) == {0., 2}


def test_detections_left_out_for_few_points_come_back_by_the_border():
    where = np.array([[10., 0.], [0., 8.], [20., 20.]])
    every = Detections(where, np.ones(3), np.eye(10)[[CATEGORIES.index('car')] * 3])
    dense = every.select(np.array([0]))
    tokens = detection_tokens(dense, OBJECTS, ENCODER, NEARBY.max_distance)
    seen = seen_by_detector(Matches(dense, [CAR], OBJECTS_THERE, frozenset()), NEARBY, tokens,
                            Matches(every, [CAR, PERSON, None], OBJECTS_THERE, frozenset()))
    assert [(part.item, part.dense) for part in seen.parts] == [(CAR, 1.), (PERSON, 0.)]
    assert np.allclose(seen.tokens().values, tokens.values)
    assert total(repaired(seen, ('5-point border',))) == 2


@pytest.fixture
def view(standin):
    """A generated key frame of which nothing is seen."""
    frames = list(NuScenes(standin).key_frames(NuScenes(standin).scenes[0]['name']))
    nothing = Detections(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 10)))
    tokens = detection_tokens(nothing, OBJECTS, ENCODER, NEARBY.max_distance)
    seen = {frame.token: seen_by_detector(Matches(nothing, [], frame.objects, frozenset()), NEARBY, tokens)
            for frame in frames}
    examples = question_dataset(frames, [TrueObjects(NEARBY)], HEADINGS, per_kind=20, scope=NEARBY).examples
    return EncoderView('stand-in', seen, examples, majority_answers(examples, examples))


def test_every_question_is_right_when_everything_is_repaired(view):
    lines = []
    figures = measure(view, view.examples[:50], None, lines.append)
    assert figures['rule'][ALL]['all'] == 100 and figures['rule'][NOTHING]['all'] < 80
    assert figures['rule'][only('false')]['all'] == figures['rule'][NOTHING]['all']
    assert figures['rule'][all_but('missed')]['all'] == figures['rule'][NOTHING]['all']
    assert set(figures['rule']) == {'majority', 'turned away', *CASES} and len(lines) == len(CASES) + 1


def test_tokens_added_up_by_direction_have_the_same_sums():
    tokens = seen_in_tokens(WRONG, OBJECTS_THERE, NEARBY).tokens()
    summed = by_direction(tokens)
    for place, name in enumerate(RELATIONS):
        there = [relation(math.cos(angle), math.sin(angle)) == name for angle in tokens.azimuth]
        assert summed.values[place] == pytest.approx(tokens.values[there].sum(0))
        assert relation(math.cos(summed.azimuth[place]), math.sin(summed.azimuth[place])) == name


def test_links_answer_a_part_of_the_questions(view):
    few = view.examples[::7]
    answers = {example: example.answer for example in few}
    figures = measure(view, few, lambda asked, see: [answers[example] for example in asked if see(example)])
    assert figures['links'][NOTHING]['all'] == 100 and figures['links_asked'] == len(few)
    assert {'blind', 'turned away', ALL} < set(figures['links'])
    text = page_of({'stand-in': figures})
    assert '## stand-in' in text and '| missed | ' in text and '| links, blind |' in text


def test_what_is_worth_most_is_named_first():
    right = {NOTHING: {'all': 60.}, ALL: {'all': 100.}}
    for kind in KINDS:
        right |= {only(kind): {'all': 60.4}, all_but(kind): {'all': 99.5}}
    assert ranked(right) == 'nothing is worth a point'
    right |= {only('false'): {'all': 59.}, all_but('false'): {'all': 95.}, only('status'): {'all': 70.}}
    assert ranked(right) == '**status (+10.0, -0.5)**, false (-1.0, -5.0)'


def test_a_frame_of_true_boxes_has_few_errors(standin, monkeypatch):
    class Perfect(CameraDetectionEncoder):
        def look(self, view):
            camera = self.camera(view)
            inside = [(item, box) for item in frame.objects if (box := visible(item, camera))
                      is not None]
            shares = np.eye(10)[[CATEGORIES.index(item.category) for item, _ in inside]].reshape(-1, 10)
            return CategoryBoxes(np.array([box for _, box in inside]).reshape(-1, 4), np.ones(len(inside)),
                                 shares), camera

    frame = next(NuScenes(standin).key_frames(NuScenes(standin).scenes[0]['name']))
    encoder = Perfect(CameraConfig(tokens='detections', class_map='coco'), Nothing())
    seen = seen_at(moment_of(frame), DriveMotion(), encoder)
    assert len(seen) == 4
    for view in seen.values():
        made = totals(view)
        assert made['true'] > made['missed'] and made['category'] < .2 * made['true']
        assert places(repaired(view, KINDS).tokens())


def test_the_command_gathers_views(view, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, 'views', lambda given: iter([view, replace(view, name='again')]))
    page = tmp_path / 'budget.md'
    assert command.main(['--root', 'x', '--questions', '-1', '--page', str(page)]) == 0
    assert list(json.loads(page.with_suffix('.json').read_text())) == ['stand-in', 'again']
    assert 'everything' in capsys.readouterr().out and '- again: ' in page.read_text()
    with pytest.raises(SystemExit):
        command.main([])

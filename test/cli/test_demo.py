"""The demo without ROS: which scene, what is learned and kept, tables and picture."""
from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rosbags.rosbag2 import Reader

from mpnp_ros.adaptation.key_frames import PER_KIND, heading_of
from mpnp_ros.adaptation.trainer import Trainer
from mpnp_ros.cli import demo_learning, demo_scene
from mpnp_ros.cli import main as cli
from mpnp_ros.cli.demo_learning import Evidence, is_held_out, learn
from mpnp_ros.cli.demo_live import Exchange, Interview, Standing
from mpnp_ros.cli.demo_picture import _evidence, draw
from mpnp_ros.cli.demo_scene import find_scene
from mpnp_ros.cli.demo_tables import answers_table, evidence_table, plugging_table
from mpnp_ros.errors import DatasetError
from mpnp_ros.links.files import load_link, read_manifest
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.nuscenes.questions import scene_questions
from mpnp_ros.nuscenes.typestore import message_types

ROWS = ('camera and LiDAR', 'camera alone', 'LiDAR alone', 'shuffled frames', 'unplugged', 'blind twin',
        'majority')
EVIDENCE = Evidence(dict(zip(ROWS, (.9, .8, .7, .3, .2, .2, .1), strict=True)),
                    dict(zip(ROWS, (.625, .5, .4, .3, .2, .2, .1), strict=True)), (1440, 480), (61., 59.))


def interview(right: int, *plugged: str) -> Interview:
    """Eight questions of which the first few were answered rightly."""
    answers = [SimpleNamespace(question=f'how many things are to the {number}?', confidence=.5, latency=.25,
                               text='2' if number < right else '3', used_modalities=list(plugged))
               for number in range(8)]
    return Interview(plugged, [Exchange('2', answer) for answer in answers])


def shown(table: object) -> str:
    """A table as text."""
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


def test_without_data_the_scene_is_generated_once(small_demo, scene, monkeypatch):
    monkeypatch.setattr(demo_scene, 'write_standin', None)
    again = find_scene()
    assert again.frame.token == scene.frame.token and again.generated
    assert 'generated' in again.title and '6 cameras, a LiDAR sweep' in again.title
    assert len(list(again.root.key_frames(again.frame.scene))) == 1


def test_a_root_comes_from_the_option_then_the_environment_then_shared_data(small_demo, scene, monkeypatch,
                                                                            tmp_path):
    checkout, root = tmp_path / 'main', scene.root.root
    checkout.mkdir()
    monkeypatch.setattr(demo_scene, 'source_folder', lambda: checkout)
    assert find_scene().generated
    shared = checkout / demo_scene.SHARED
    (tmp_path / 'shared' / 'data').mkdir(parents=True)
    shared.symlink_to(root)
    assert find_scene().root.root == shared and not find_scene().generated
    monkeypatch.setenv('NUSCENES_ROOT', str(tmp_path / 'nothing'))
    assert find_scene(root).root.root == root
    assert find_scene(embedded=True).generated
    with pytest.raises(DatasetError, match='nothing'):
        find_scene()
    monkeypatch.setenv('NUSCENES_ROOT', str(root))
    assert find_scene().root.root == root and 'real' in find_scene().title


def test_a_root_without_key_frames_is_named(small_demo, scene, tmp_path):
    root = shutil.copytree(scene.root.root, tmp_path / 'empty')
    (root / scene.root.version / 'scene.json').write_text('[]')
    with pytest.raises(DatasetError, match='empty has no key frames'):
        find_scene(root)


def test_a_wrong_root_is_one_line(small_demo, tmp_path, capsys):
    assert cli.main(['demo', '--root', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and str(tmp_path) in error


def test_a_root_and_the_stand_in_exclude_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(['demo', '--embedded', '--root', str(tmp_path)])
    assert 'not allowed with' in capsys.readouterr().err


def test_a_picture_of_nuscenes_has_a_name_that_git_ignores(scene, monkeypatch, tmp_path):
    real = replace(scene, generated=False)
    monkeypatch.setattr(demo_scene, 'source_folder', lambda: tmp_path)
    assert scene.picture == tmp_path / 'docs' / 'demo.png'
    assert real.picture == tmp_path / 'docs' / 'demo_nuscenes.png'
    ignored = Path(__file__).parents[2].joinpath('.gitignore').read_text().split()
    assert 'docs/demo_nuscenes.png' in ignored and 'docs/demo.png' not in ignored
    monkeypatch.setattr(demo_scene, 'source_folder', lambda: None)
    assert (scene.picture, real.picture) == (Path('demo.png'), Path('demo_nuscenes.png'))


def test_no_held_out_heading_is_trained_on(lesson):
    links, blind = lesson.trained_on
    headings = {heading_of(key) for key in links.frames}
    assert headings == {0, 1, 3, 4, 5, 7} and not any(map(is_held_out, links.frames))
    assert blind.examples == links.examples
    counts = Counter(example.type for example in links.examples)
    assert len(counts) > 1 and max(counts.values()) <= 20
    assert lesson.learned.evidence.questions[0] == len(links.examples)


def test_what_is_asked_is_true_of_the_frame_as_it_was_recorded(lesson, scene):
    asked, truths = lesson.learned.asked, {(one.text, one.answer) for one in scene_questions(
        scene.frame, demo_learning.SEED, PER_KIND)}
    assert not is_held_out('scene/sample/000')
    assert len(asked) == 5 and len({question.text for question in asked}) == 5
    assert len({question.type for question in asked}) > 1
    for question in asked:
        assert (question.text, question.answer) in truths
        assert question.sample_token == scene.frame.token


def test_evidence_is_of_both_sides(lesson):
    evidence = lesson.learned.evidence
    assert tuple(evidence.trained) == tuple(evidence.held_out) == ROWS
    assert all(0 <= value <= 1 for rows in (evidence.trained, evidence.held_out) for value in rows.values())
    assert all(count > 0 for count in evidence.questions) and all(one > 0 for one in evidence.seconds)


def test_the_bag_holds_the_frame_and_what_is_asked(lesson, scene):
    types = message_types()
    with Reader(lesson.learned.bag) as reader:
        counts = {topic: info.msgcount for topic, info in reader.topics.items()}
        labelled = next(types.deserialize_cdr(data, connection.msgtype)
                        for connection, _, data in reader.messages() if 'labelled' in connection.topic)
    images = [topic for topic in counts if topic.endswith('/image_rect/compressed')]
    assert len(images) == 6 and {counts[topic] for topic in (*images, '/lidar_top')} == {1}
    assert counts['/labelled_questions'] == 1 and labelled.sample_token == scene.frame.token
    assert [(one.question.text, one.answer) for one in labelled.questions] == [
        (question.text, question.answer) for question in lesson.learned.asked]


def test_links_fit_the_model_and_say_where_they_come_from(lesson, small_demo, tiny_lm_folder):
    lm = load_language_model(tiny_lm_folder)
    for name, path in zip(('camera', 'lidar'), lesson.learned.links, strict=True):
        assert load_link(path, lm=lm).config.modality == name
        provenance = read_manifest(path).provenance
        assert provenance.licence == 'Apache-2.0' and 'generated' in provenance.text
        assert provenance.accuracy == lesson.learned.evidence.held_out


def test_the_second_time_comes_from_the_cache(small_demo, lesson, scene, console, monkeypatch):
    monkeypatch.setattr(Trainer, 'fit', None)
    assert learn(scene, console) == lesson.learned
    assert not console.file.getvalue()


def test_another_recipe_or_a_wish_for_fresh_links_trains_again(small_demo, lesson, scene, console,
                                                               demo_cache, monkeypatch, tmp_path):
    monkeypatch.setenv('MPNP_CACHE', str(shutil.copytree(demo_cache, tmp_path / 'cache')))
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(Trainer, 'fit', None)
        patch.setattr(demo_learning, 'STEPS', 2)
        learn(scene, console)
    again = learn(replace(scene, generated=False, title='real'), console, fresh=True)
    assert again.asked == lesson.learned.asked and again.bag != lesson.learned.bag
    assert again.evidence.held_out == lesson.learned.evidence.held_out
    assert 'CC BY-NC-SA' in read_manifest(again.links[0]).provenance.licence
    assert 'training links' in console.file.getvalue()


def test_tables_say_what_was_found():
    evidence = shown(evidence_table(EVIDENCE))
    assert all(name in evidence for name in ROWS)
    assert 'a test of the wiring, not of nuScenes' in evidence
    assert '1440 questions' in evidence and '62.5' in evidence and '61 s' in evidence
    answers = shown(answers_table(interview(6, 'camera', 'lidar')))
    assert '6 of 8 right' in answers and answers.count('camera + lidar') == 8
    assert answers.count('wrong') == 2 and answers.count('250 ms') == 8
    plugging = shown(plugging_table([interview(6, 'camera'), interview(1)], Standing('?', 6., [.1, .3, .2])))
    assert '6 of 8' in plugging and plugging.count('nothing') == 2
    assert '3 answers in 6 s, median 200 ms' in plugging


def test_a_standing_question_without_answers_has_no_median():
    assert '0 answers' in shown(plugging_table([interview(1)], Standing('?', 6., [])))


def coloured(path: Path) -> tuple[int, int, float]:
    """Green and red pixels among the answers, and the spread of brightness over the picture."""
    with Image.open(path) as image:
        assert (image.format, image.size) == ('PNG', (1600, 1000))
        pixels = np.asarray(image.convert('RGB')).astype(int)
    red, green, _ = np.moveaxis(pixels[520:, :1180], -1, 0)
    return int((green > red + 40).sum()), int((red > green + 40).sum()), float(pixels.std())


def test_the_picture_shows_sensors_and_answers(scene, tmp_path):
    path = tmp_path / 'new' / 'right.png'
    assert draw(scene, EVIDENCE, [interview(8, 'camera')], path) == path
    green, red, spread = coloured(path)
    assert green > 50 and red == 0 and spread > 30
    green, red, _ = coloured(draw(scene, EVIDENCE, [interview(0)], tmp_path / 'wrong.png'))
    assert green == 0 and red > 50
    blind = replace(scene, frame=replace(scene.frame, cameras={}, lidar=None))
    assert coloured(draw(blind, EVIDENCE, [interview(8)], tmp_path / 'blind.png'))[2] < spread


def test_bars_stand_below_their_names():
    axes = Figure().add_subplot()
    _evidence(axes, EVIDENCE)
    names = [text for text in axes.texts if text.get_text() in ROWS]
    bars = sorted(bar.get_y() for bar in axes.patches)
    assert [text.get_text() for text in names] == list(ROWS) and len(bars) == 2 * len(ROWS)
    for text, first in zip(names, bars[::2], strict=True):
        assert first - .2 < text.get_position()[1] < first


def test_evidence_is_kept_as_json(lesson):
    kept = json.loads((lesson.learned.bag.parent / demo_learning.EVIDENCE).read_bytes())
    assert set(kept) == {'asked', 'evidence'} and len(kept['asked']) == 5

"""mpnp evaluate --root on a generated street, with links of a tiny model in place of the shipped ones."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mpnp_ros.cli import main as cli
from mpnp_ros.errors import LinksError
from mpnp_ros.methods import link_store
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world.standin import write_standin

ROWS = ['sensors', 'rule', 'turned away', 'wrong image', 'blind', 'unplugged', 'majority', 'true objects']


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in of two scenes with one key frame each."""
    return write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, scenes=2, key_frames=1)


@pytest.fixture(scope='module')
def store(root: Path, tiny_lm_folder: Path, own_cache: None,
          tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to true objects and to a LiDAR."""
    folder = tmp_path_factory.mktemp('links') / 'links'
    assert cli.main(['train', '--root', str(root), '--output', str(folder), '--llm', str(tiny_lm_folder),
                     '--device', 'cpu', '--modalities', 'objects', 'lidar', '--turns', '6', '--steps', '1',
                     '--batch', '8', '--per-kind', '10', '--blocks', '2', '--max-distance', '30',
                     '--min-points', '5', '--quiet']) == 0
    return folder


@pytest.fixture
def evaluate(root: Path, store: Path, tiny_lm_folder: Path, tiny_detector: Path, tmp_path: Path,
             monkeypatch: pytest.MonkeyPatch):
    """Give a function: options -> exit code; cameras are read by a detector of cars."""
    links = LinkStore(store).list('objects')
    monkeypatch.setattr(link_store, 'all_shipped_links', lambda: links)

    def run(*options: str, llm: Path = tiny_lm_folder, root: Path = root) -> int:
        return cli.main(['evaluate', '--root', str(root), '--llm', str(llm), '--device', 'cpu', '--quiet',
                         '--modalities', 'camera', '--camera-detector', str(tiny_detector), '--per-kind', '4',
                         '--output', str(tmp_path / 'report.json'), *options])

    return run


def rows_of(shown: str) -> list[list[str]]:
    """Return the names in each table that was printed."""
    tables = [part.splitlines() for part in shown.split('\n\n') if part.lstrip().startswith('questions')]
    return [[line.split('  ')[0] for line in lines[1:]] for lines in tables]


def test_a_detector_is_read_by_a_copy_of_the_shipped_links_in_both_scopes(evaluate, tmp_path, capsys):
    assert evaluate() == 0
    shown = capsys.readouterr().out
    assert rows_of(shown) == [ROWS, ROWS]
    assert 'objects within 30 m with 5 points or more; 2 key frames of 2 scenes in 6 headings' in shown
    assert 'that camera can see; 2 key frames' in shown
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['links'] == 'shipped' and list(report['scopes']) == ['all', 'visible']
    for scope in report['scopes'].values():
        assert (scope['key_frames'], scope['scenes'], scope['headings']) == (2, 2, 6)
        assert list(scope['rows']) == ROWS
        whole = scope['rows']['sensors']['all']
        assert whole['n'] == scope['questions'] == sum(
            share['n'] for share in scope['rows']['sensors']['types'].values())
        low, high = whole['interval']
        assert low <= whole['percent'] <= high
        assert whole['percent'] == pytest.approx(100 * whole['right'] / whole['n'])


@pytest.mark.parametrize('scope', ['all', 'visible'])
def test_one_scope_is_measured_alone(evaluate, tmp_path, capsys, scope):
    assert evaluate('--scope', scope, '--links', 'shipped') == 0
    assert rows_of(capsys.readouterr().out) == [ROWS]
    assert list(json.loads((tmp_path / 'report.json').read_text())['scopes']) == [scope]


def test_what_all_sensors_see_is_not_measured_twice(evaluate, store, tmp_path, capsys):
    """A LiDAR sees what has 5 points, and nothing else is asked about."""
    assert evaluate('--modalities', 'lidar', '--links', str(store)) == 0
    shown = capsys.readouterr().out
    assert 'warning: 2 of the 2 scenes' in shown and rows_of(shown) == [ROWS]
    assert 'objects within 30 m with 5 points or more that lidar can see: the same questions' in shown
    scopes = json.loads((tmp_path / 'report.json').read_text())['scopes']
    assert scopes['all'] == scopes['visible']


def test_published_questions_are_asked_about_frames_as_recorded(evaluate, root, tmp_path, capsys):
    questions = [{'sample_token': token, 'question': text, 'answer': answer, 'template_type': kind,
                  'num_hop': 0}
                 for token in NuScenes(root).table('sample')
                 for text, answer, kind in (('Are there any cars?', 'yes', 'exist'),
                                            ('How many buses are there?', 1, 'count'))]
    path = tmp_path / 'qa.json'
    path.write_text(json.dumps({'questions': questions}))
    assert evaluate('--qa', str(path)) == 0
    shown = capsys.readouterr().out
    assert rows_of(shown) == [ROWS] and '4 questions; 2 key frames of 2 scenes in 1 heading' in shown
    bare = tmp_path / 'bare'
    shutil.copytree(root, bare)
    for table in ('sample_annotation', 'instance'):
        (bare / 'v1.0-mini' / f'{table}.json').write_text('[]')
    assert evaluate('--qa', str(path), root=bare) == 0
    assert rows_of(capsys.readouterr().out) == [ROWS[:-1]]


def test_the_majority_goes_by_all_questions_where_some_are_asked(evaluate, monkeypatch):
    compared = []

    def compare(method, test, channels, train, **others):
        compared.append((len(test.examples), len(train)))
        raise LinksError('enough')

    monkeypatch.setattr('mpnp_ros.cli.evaluate_links.Comparison', compare)
    assert evaluate('--of-each-type', '2') == 2
    (asked, known), = compared
    assert 0 < asked <= 10 < known


def test_what_no_shipped_links_read_is_refused(evaluate, tiny_lm_folder, capsys, monkeypatch):
    monkeypatch.setattr('mpnp_ros.cli.evaluate_links.shipped_link', lambda *asked: None)
    assert evaluate('--modalities', 'lidar') == 2
    assert 'no shipped links read the tokens of lidar' in capsys.readouterr().err


def test_a_bag_or_a_root_must_be_given(capsys):
    assert cli.main(['evaluate']) == 2
    assert 'give --bag, or --root' in capsys.readouterr().err
    assert cli.main(['evaluate', '--links', 'links']) == 2
    assert '--links needs --root' in capsys.readouterr().err

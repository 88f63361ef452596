"""`mpnp train --recording` and `mpnp evaluate --recording`, with a tiny model and a task of tokens."""
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.adaptation import job_prepare
from mpnp_ros.bags.held_out import held_out_from, note_held_out
from mpnp_ros.bags.labels import PERSON, ROBOT
from mpnp_ros.cli import evaluate_recording, train_recording
from mpnp_ros.cli.main import main
from mpnp_ros.cli.recording import Recording
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_store import LinkStore, default_store
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import SECOND
from mpnp_ros.training.cost_model import Speed
from mpnp_ros.training.paired import PairedDifference

ANSWERS = ['yes', 'no', 'car', 'truck']
MOMENTS = 48


@pytest.fixture
def links(tmp_path, tiny_lm_folder) -> Path:
    """A store with untrained links of camera."""
    import torch

    method = create_method('mpnp', load_language_model(tiny_lm_folder, 'cpu', 'float32'))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        link = method.new_link('camera', 'camera-encoder', 8, last=2, hidden=16, pooling='question',
                               pooling_width=16, pooling_layers=1, pooling_heads=2, entries=2)
    LinkStore(tmp_path / 'begun').save(link)
    return tmp_path / 'begun'


@pytest.fixture
def drive(write_recording, toy_tokens) -> Path:
    """A minute in which the camera tells the answers to two questions; a person has labelled all."""
    tokens = [replace(toy_tokens('camera', second % 4, second), stamp_ns=second * SECOND)
              for second in range(1, MOMENTS + 1)]
    folder = write_recording(tokens, [
        {'stamp_ns': known.stamp_ns, 'question': question, 'text': 'yes', 'confidence': .5,
         'choices': ANSWERS, 'probabilities': [.5, .2, .2, .1]}
        for known in tokens for question in ('what is it?', 'what is to the front left of the truck?')])
    with Recording(folder) as recording:
        recording.labels.add(answer.label(ANSWERS[answer.stamp_ns // SECOND % 4], PERSON)
                             for answer in recording.answers)
    return folder


@pytest.fixture
def train(drive, links, tmp_path, tiny_lm_folder, own_cache, monkeypatch) -> Callable[..., int]:
    """Give a function: options -> exit code of a short training; the speed of the machine is made up."""
    monkeypatch.setattr(job_prepare, 'machine_speed', lambda *model: Speed(0, 0, 0, 0))

    def run(*options: str) -> int:
        return main(['train', '--recording', str(drive), '--start', str(links), '--output',
                     str(tmp_path / 'own'), '--llm', str(tiny_lm_folder), '--device', 'cpu', '--steps', '40',
                     '--batch', '32', '--learning-rate', '0.01', '--quiet', *options])

    return run


def test_links_learn_what_a_person_said_and_are_measured_on_later_moments(
        train, drive, links, tmp_path, tiny_lm_folder, capsys):
    assert train() == 0
    said = capsys.readouterr().out
    assert 'camera: 52 labels of 26 moments to train on, 20 labels of 10 moments to check, 24 labels of 12 ' \
           'moments held out' in said
    store = LinkStore(tmp_path / 'own')
    assert store.latest('camera').version == '000001' and f'camera: {store.folder}/camera/000001' in said
    assert held_out_from(store.folder) == {'drive': 37 * SECOND}
    assert not list(tmp_path.glob('.own.checkpoint'))

    measure = ['evaluate', '--recording', str(drive), '--links', str(store.folder), '--against', str(links),
               '--llm', str(tiny_lm_folder), '--device', 'cpu', '--quiet']
    assert main([*measure, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['difference']['verdict'] == 'better' and report['difference']['moments'] == 12
    rows = report['rows']
    assert rows[str(store.folder)]['all']['percent'] > 80 > rows[str(links)]['all']['percent']
    assert rows.keys() == {str(store.folder), str(links), 'turned away', 'wrong image', 'unplugged',
                           'majority'}
    assert rows['majority']['all']['n'] == 24
    assert main([*measure[:4], str(links), '--against', str(store.folder), *measure[7:]]) == 1
    said = capsys.readouterr().out
    assert f'The links of {links} are worse than those of {store.folder}: -' in said
    assert 'from 24 labels of 12 moments; chance gives' in said


def test_links_that_learned_nothing_are_not_stored(train, drive, tmp_path, capsys):
    """What to check was answered by somebody else, who turned all answers around."""
    with Recording(drive) as recording:
        recording.labels.add(
            answer.label(ANSWERS[(answer.stamp_ns // SECOND + 2) % 4], PERSON) for answer in recording.answers
            if answer.stamp_ns > 26 * SECOND)
    assert train() == 1
    assert 'the new links are not offered' in capsys.readouterr().out
    assert not LinkStore(tmp_path / 'own').list()
    assert not (tmp_path / 'own' / 'recording.json').exists()


def test_a_stopped_training_resumes(train, tmp_path, monkeypatch, capsys):
    from contextlib import contextmanager

    @contextmanager
    def stopped():
        yield lambda: True

    with monkeypatch.context() as patch:
        patch.setattr(train_recording, 'interruptible', stopped)
        assert train() == 130
    assert 'the same command resumes from' in capsys.readouterr().err
    folder, = (tmp_path / '.own.checkpoint').iterdir()
    made = (folder / 'data' / 'train' / 'dataset.json').stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(train_recording, 'forget_checkpoint', lambda folder: None)
        assert train() == 0
    assert (folder / 'data' / 'train' / 'dataset.json').stat().st_mtime_ns == made


def test_a_checkpoint_of_other_parts_is_not_resumed(train, tmp_path, capsys):
    (tmp_path / 'kept').mkdir()
    (tmp_path / 'kept' / 'inputs.sha256').write_text('of another training')
    assert train('--checkpoint', str(tmp_path / 'kept')) == 2
    assert 'is the checkpoint of another training; choose another --checkpoint' in capsys.readouterr().err


def test_what_the_first_links_have_seen_stays_seen(train, links, tmp_path):
    note_held_out(links, {'drive': 45 * SECOND, 'other': 9})
    assert train('--start', str(links)) == 0
    assert held_out_from(tmp_path / 'own') == {'drive': 45 * SECOND}


@pytest.mark.parametrize(('options', 'reason'), [
    (['--said-by', 'teacher'], 'has no answers labelled by teacher; label some with `mpnp review'),
    (['--hold-out', '0.79'], '48 labelled moments are too few'),
    (['--modalities', 'lidar'], 'no tokens of lidar at the labelled moments; there are those of camera'),
    (['--start', 'absent'], 'no link store: absent'),
])
def test_what_cannot_be_trained_says_why(train, options, reason, capsys):
    assert train(*options) == 2
    assert reason in capsys.readouterr().err


def test_the_robots_own_judgement_is_not_evidence(drive, links, capsys):
    (drive / 'labels.jsonl').unlink()
    with Recording(drive) as recording:
        recording.labels.add(answer.label('yes', ROBOT) for answer in recording.answers)
    assert main(['evaluate', '--recording', str(drive), '--links', str(links)]) == 2
    assert 'has no answers labelled by teacher or person' in capsys.readouterr().err


def test_where_links_come_from(links, monkeypatch, tmp_path, tiny_lm_folder):
    from mpnp_ros.errors import LinksError
    from mpnp_ros.methods.link_files import load_link
    from mpnp_ros.questions.vocabulary import CHANNELS

    shipped = train_recording.links_for('robot', 'lidar', 'some encoder', len(CHANNELS))
    assert shipped == train_recording.links_for('shipped', 'lidar', 'some encoder', len(CHANNELS))
    assert shipped.modality == 'objects'
    monkeypatch.setenv('MPNP_STATE', str(tmp_path))
    own = default_store().save(load_link(LinkStore(links).latest('camera').path))
    default_store().set_current('camera', own.version)
    assert train_recording.links_for('robot', 'camera', 'camera-encoder', 8) == own
    store = LinkStore(links)
    assert train_recording.links_for(str(links), 'camera', 'camera-encoder', 8) == store.latest('camera')
    for where, modality in (('shipped', 'camera'), (str(links), 'radar')):
        with pytest.raises(LinksError):
            train_recording.links_for(where, modality, 'other', 5)


def test_the_verdict_is_one_sentence():
    few = PairedDifference.of([True] * 5, [False] * 5, list('abcde'))
    assert evaluate_recording.sentence(few, 'own', 'shipped') == (
        'The links of own are not distinguishable from those of shipped: +100.0 points [+100.0, +100.0] from '
        '5 labels of 5 moments; fewer than 6 moments cannot tell, so record a longer drive.')
    many = PairedDifference.of([True] * 6, [False] * 6, list('abcdef'))
    assert evaluate_recording.sentence(many, 'own', 'shipped') == (
        'The links of own are better than those of shipped: +100.0 points [+100.0, +100.0] from 6 labels of '
        '6 moments; chance gives such a difference with a probability of 0.031.')


def test_a_recording_goes_with_nothing_else(drive, links, capsys):
    assert main(['evaluate', '--recording', str(drive), '--root', 'x']) == 2
    assert '--recording goes with neither --bag nor --root' in capsys.readouterr().err

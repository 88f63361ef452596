"""python -m bench.study: a small study from scenes to page."""
from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
import yaml

pytest.importorskip('moderngl', reason='moderngl is not installed: the world cannot be drawn')
pytest.importorskip('embreex', reason='embreex is not installed: the world has no rays')
pytest.importorskip('matplotlib', reason='matplotlib is not installed: nothing can be drawn')

from bench.study import __main__ as command
from bench.study.study import Study, StudyConfig
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.camera.encoder import CameraObjectEncoder
from mpnp_ros.modalities.camera.registration import CameraInput, CameraRegion
from mpnp_ros.modalities.head_training import PretrainingConfig
from mpnp_ros.modalities.heads import load_head, save_head
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.lidar.encoder import PolarEncoder
from mpnp_ros.modalities.lidar.registration import LidarInput
from mpnp_ros.modalities.vision_weights import load_backbone
from mpnp_ros.training.head_run import new_head
from mpnp_ros.training.trainer import Trainer

ROWS = {'majority', 'blind', 'rule_camera_day', 'rule_lidar_night', 'camera_day', 'camera_night',
        'lidar_night', 'camera_lidar_day', 'camera_lidar_night', 'true_objects'}
SEEN = {'key_frames': 2, 'interval': 3.0, 'lights': ['day', 'night'], 'of_each_type': 8}
STEPS = {'steps': 2, 'batch': 8}
RECIPE = {
    'seeds': [0, 1],
    'link': {'last': 2, 'hidden': 16, 'pooling_width': 16, 'pooling_layers': 1, 'pooling_heads': 2,
             'entries': 2, 'harmonics': 4},
    'objects': {'scenes': [0, 3], 'key_frames': 3, 'frames': 12, 'beyond': 6, 'wordings': 20,
                'of_each_type': 12, 'calibrated_on': 8,
                'reader': {'word_steps': 2, 'word_batch': 8, 'number_steps': 2, 'number_batch': 8}, **STEPS},
    'blind': STEPS,
    'sensors': {'scenes': [20, 21], 'turns': 2, **SEEN, **STEPS},
    'test': {'scenes': [30, 32], **SEEN}, 'validation': {'scenes': [10, 12], 'key_frames': 2}}


@pytest.fixture(scope='module')
def heads(tmp_path_factory, tiny_backbone):
    """Random heads in folders, and a function: modality -> its encoder of counts."""
    folder, backbone = tmp_path_factory.mktemp('heads'), load_backbone(str(tiny_backbone), 'cpu', 'float32')
    region = CameraRegion(blocks=(1, 2), height=32, width=112, rows=2, columns=7)
    small = PretrainingConfig(hidden=4, ring=16, depth=1)
    for source in (CameraInput(backbone, region), LidarInput()):
        save_head(folder / source.kind, new_head(source, small), licence='none')

    def create(modality: str, options: object = None):
        if modality == 'lidar':
            return PolarEncoder(LidarConfig(backbone='polar'), load_head(folder / 'lidar', 'lidar'))
        return CameraObjectEncoder(CameraConfig(tokens='objects'), backbone,
                                   load_head(folder / 'camera', 'camera', backbone.sha256))
    return create


@pytest.fixture(scope='module')
def study(graphics, heads, tmp_path_factory, tiny_lm_folder):
    """A study of two seeds from the command line."""
    folder = tmp_path_factory.mktemp('study')
    (folder / 'study.yaml').write_text(yaml.safe_dump({'language_model': str(tiny_lm_folder), **RECIPE}))

    def run(*more: str) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv('MPNP_CACHE', str(folder / 'cache'))
            patch.setattr(command, 'create_encoder', heads)
            return command.main(['--work', str(folder / 'work'), '--output', str(folder / 'docs'),
                             '--recipe', str(folder / 'study.yaml'), '--quiet', *more])

    codes = run('--seeds', '1'), (folder / 'docs').exists(), run()
    return SimpleNamespace(folder=folder, run=run, codes=codes, heads=heads)


@pytest.mark.timeout(400)
def test_the_page_is_written_when_all_seeds_are_measured(study):
    assert study.codes == (0, False, 0)
    assert {path.name for path in (study.folder / 'docs').iterdir()} == {
        'accuracy.md', 'accuracy.json', 'accuracy.png'}
    assert 'Output of `python -m bench.study' in (study.folder / 'docs/accuracy.md').read_text()


@pytest.mark.timeout(400)
def test_every_row_is_measured_on_the_same_questions(study):
    written = json.loads((study.folder / 'docs/accuracy.json').read_text())
    assert written['seeds'] == [0, 1] and written.keys() >= ROWS
    assert len({written[row]['n'] for row in ROWS}) == 1 and written['blind']['n'] > 5
    for row in ROWS:
        assert 0 <= written[row]['ci95'][0] <= written[row]['mean'] <= written[row]['ci95'][1] <= 100
    results = [json.loads((study.folder / f'work/seed-{seed}.json').read_text()) for seed in (0, 1)]
    assert set(results[0]['scenes']) <= {f'world-{seed:04d}-day-clear' for seed in (30, 31)}
    assert all(len(result['right'][row]) == len(result['types'])
               for result in results for row in result['right'])
    assert set(results[0]['training']) == {'objects', 'sensors'}


@pytest.mark.timeout(400)
def test_links_are_kept_and_those_to_sensors_began_as_those_on_true_objects(study, monkeypatch):
    names = [link.modality for link in LinkStore(study.folder / 'work/links/seed-0').list()]
    assert sorted(names) == ['camera', 'lidar', 'objects']
    made = Study(StudyConfig.load(study.folder / 'study.yaml'), study.folder / 'work',
                 {name: study.heads(name) for name in ('camera', 'lidar')})
    monkeypatch.setattr(Trainer, 'fit', None)
    on_objects = made.objects_link(0).links()
    on_sensors = made.sensor_links(0, on_objects['objects']).links()
    assert (list(on_objects), sorted(on_sensors)) == (['objects'], ['camera', 'lidar'])
    measured = on_objects['objects'].pooling.probes.standard_end.mean
    assert all(torch.equal(link.pooling.probes.standard_end.mean, measured) for link in on_sensors.values())


@pytest.mark.timeout(400)
def test_a_second_call_trains_nothing_and_writes_the_same(study, monkeypatch):
    first = (study.folder / 'docs/accuracy.json').read_bytes()
    monkeypatch.setattr(Trainer, 'fit', None)
    assert study.run() == 0
    assert (study.folder / 'docs/accuracy.json').read_bytes() == first


@pytest.mark.timeout(400)
def test_a_seed_whose_answers_are_lost_is_asked_again_with_the_links_that_are_there(study, monkeypatch):
    path = study.folder / 'work/seed-1.json'
    before, trained, fit = json.loads(path.read_text()), [], Trainer.fit
    path.unlink()
    monkeypatch.setattr(Trainer, 'fit', lambda self, *data, **more: trained.append(
        sorted(self.method.links())) or fit(self, *data, **more))
    assert study.run('--seeds', '1') == 0
    assert trained == [['blind_objects']], 'the blind links are not kept'
    after = json.loads(path.read_text())
    assert {**after['right'], 'blind': None} == {**before['right'], 'blind': None}
    assert after['training'] == before['training']

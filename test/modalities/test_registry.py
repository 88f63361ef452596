from __future__ import annotations

import textwrap
from dataclasses import fields

import pytest

from mpnp_ros import device, modalities, plug_ins
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities import registry
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.lidar.config import LidarConfig
from mpnp_ros.modalities.registry import EncoderConfig

SOURCE = """
    from mpnp_ros.modalities.registry import EncoderConfig, Sensor

    SENSOR = Sensor('{name}', EncoderConfig, lambda config: ('{name}', config.device))
"""


def test_what_is_in_the_folder_is_found():
    assert list(registry.sensors()) == ['audio', 'camera', 'detections', 'imu', 'lidar', 'radar']
    assert registry.find_sensor('camera').encoder_options is CameraConfig


def test_a_new_modality_is_one_new_folder(tmp_path, monkeypatch):
    folder = tmp_path / 'sonar'
    folder.mkdir()
    (folder / '__init__.py').touch()
    (folder / 'registration.py').write_text(textwrap.dedent(SOURCE.format(name='sonar')))
    monkeypatch.setattr(modalities, '__path__', [*modalities.__path__, str(tmp_path)])
    assert registry.create_encoder('sonar', {'device': 'cpu'}) == ('sonar', 'cpu')


def test_a_third_party_brings_a_modality_by_entry_point(tmp_path, monkeypatch, caplog):
    (tmp_path / 'their_smell.py').write_text(textwrap.dedent(SOURCE.format(name='smell')))
    information = tmp_path / 'theirs-1.0.dist-info'
    information.mkdir()
    (information / 'METADATA').write_text('Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n')
    (information / 'entry_points.txt').write_text(
        '[mpnp_ros.modalities]\ntaste = their_missing_module\nsmell = their_smell\n'
        'camera = their_smell\nodour = their_smell\n')
    monkeypatch.syspath_prepend(tmp_path)
    found = registry.sensors()
    assert list(found) == ['audio', 'camera', 'detections', 'imu', 'lidar', 'radar', 'smell']
    assert found['camera'].encoder_options is CameraConfig
    assert registry.create_encoder('smell') == ('smell', 'auto')
    assert "'taste' of their_missing_module cannot be used" in caplog.text
    assert "'camera' of their_smell cannot be used: the name is taken" in caplog.text
    assert "no Sensor of the name 'odour'" in caplog.text


def test_entry_points_are_read_once(monkeypatch):
    before = registry.sensors()

    def fail(**_):
        raise AssertionError('read again')

    monkeypatch.setattr(plug_ins, 'entry_points', fail)
    assert registry.sensors() == before


def test_an_unknown_modality_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationError, match="'lidra' is unknown; there are audio, camera, detections"):
        registry.create_encoder('lidra')


def test_a_config_of_another_modality_is_refused():
    with pytest.raises(ConfigurationError, match="'camera' takes a CameraConfig, not a LidarConfig"):
        registry.create_encoder('camera', LidarConfig())


@pytest.mark.parametrize('config', [EncoderConfig, CameraConfig, LidarConfig])
def test_every_option_is_explained(config):
    assert all(item.metadata['help'] for item in fields(config))


def test_dtypes_offered_are_those_that_can_be_chosen():
    dtype = next(item for item in fields(EncoderConfig) if item.name == 'dtype')
    assert dtype.metadata['choices'] == device.DTYPES


def test_lists_and_whole_numbers_are_taken_where_tuples_and_floats_are_meant():
    config = CameraConfig.from_mapping({'blocks': [1, 2], 'nominal_fov': 90})
    assert config.blocks == (1, 2) and config.nominal_fov == 90.0 and config.height == CameraConfig().height


@pytest.mark.parametrize('values, message', [
    ({'heigth': 126}, 'heigth is no option; did you mean height'),
    ({'columns': 0}, 'columns is 0; it must be 1 to 64'),
    ({'columns': 2.5}, 'columns must be an int'),
    ({'columns': True}, 'columns must be an int'),
    ({'blocks': 9}, 'blocks must be a list'),
    ({'blocks': (9, 0)}, r'blocks is 0'),
    ({'tokens': 'rows'}, "tokens is 'rows'.*columns"),
    ({'nominal_fov': float('nan')}, 'nominal_fov is nan'),
    ({'nominal_views': ('front',)}, 'nominal_yaws has 6 entries for 1'),
    ({'dtype': 'int8'}, "dtype is 'int8'"),
])
def test_a_bad_option_is_refused_with_its_name_and_limit(values, message):
    with pytest.raises(ConfigurationError, match=message):
        CameraConfig.from_mapping(values)


@pytest.mark.parametrize('values, message', [
    ({'sectors': 6}, 'sectors is 6; it must be a multiple of 4'),
    ({'fov_up': -30, 'fov_down': -30}, 'fov_up is -30.0; it must be above'),
])
def test_lidar_options_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ConfigurationError, match=message):
        LidarConfig.from_mapping(values)


def test_fingerprint_follows_weights_code_and_shaping_options_only():
    def fingerprint(weights='w', version=1, **options):
        return CameraConfig(tokens='columns', **options).fingerprint('camera', weights, version)
    same = {fingerprint(), fingerprint(dtype='bfloat16'), fingerprint(device='cpu'),
            fingerprint(max_pixels=9)}
    others = {fingerprint('x'), fingerprint(version=2), fingerprint(columns=5),
              fingerprint(blocks=(1,))}
    assert len(same) == 1 and len(others) == 4 and not same & others
    assert same == {'camera-26eda79006e7'}

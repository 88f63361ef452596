from __future__ import annotations

import textwrap

import pytest

from mpnp_ros import modalities
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities import registry
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.modalities.lidar.config import LidarConfig

SOURCE = """
    from mpnp_ros.modalities.base import EncoderConfig
    from mpnp_ros.modalities.registry import Sensor

    SENSOR = Sensor('{name}', EncoderConfig, lambda config: ('{name}', config.device))
"""


def test_what_is_in_the_folder_is_found():
    assert list(registry.sensors()) == ['camera', 'detections', 'lidar', 'radar']
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
    assert list(found) == ['camera', 'detections', 'lidar', 'radar', 'smell']
    assert found['camera'].encoder_options is CameraConfig
    assert registry.create_encoder('smell') == ('smell', 'auto')
    assert "'taste' of their_missing_module cannot be used" in caplog.text
    assert "'camera' of their_smell cannot be used: the name is taken" in caplog.text
    assert "no Sensor of the name 'odour'" in caplog.text


def test_an_unknown_modality_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationError, match="'lidra' is unknown; there are camera, detections, lidar"):
        registry.create_encoder('lidra')


def test_a_config_of_another_modality_is_refused():
    with pytest.raises(ConfigurationError, match="'camera' takes a CameraConfig, not a LidarConfig"):
        registry.create_encoder('camera', LidarConfig())

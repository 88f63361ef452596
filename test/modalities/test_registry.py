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
    from mpnp_ros.modalities.registry import register_encoder

    @register_encoder('{name}', EncoderConfig)
    def build(config):
        return ('{name}', config.device)
"""


@pytest.fixture(autouse=True)
def keep_registrations(monkeypatch):
    monkeypatch.setattr(registry, '_registered', dict(registry._registered))


def test_what_is_in_the_folder_is_found():
    assert {'camera', 'lidar'} <= set(registry.registered_modalities())
    assert registry.find_modality('camera').config is CameraConfig


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
        '[mpnp_ros.modalities]\ntaste = their_missing_module\nsmell = their_smell\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.create_encoder('smell') == ('smell', 'auto')
    assert "'taste' of their_missing_module cannot be loaded" in caplog.text


def test_an_unknown_modality_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationError, match="'lidra' is unknown; there are camera, lidar"):
        registry.create_encoder('lidra')


def test_a_config_of_another_modality_is_refused():
    with pytest.raises(ConfigurationError, match="'camera' takes a CameraConfig, not a LidarConfig"):
        registry.create_encoder('camera', LidarConfig())


def test_a_name_is_given_once():
    registry.find_modality('camera')
    with pytest.raises(ConfigurationError, match="'camera' is registered by mpnp_ros.modalities.camera"):
        registry.register_encoder('camera', CameraConfig)(test_a_name_is_given_once)

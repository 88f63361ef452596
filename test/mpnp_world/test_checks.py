"""What `mpnp doctor` says of the simulator."""
from __future__ import annotations

import importlib.util

import pytest

from mpnp_ros.cli import doctor
from mpnp_ros.cli.doctor import OK, WARNING
from mpnp_ros.errors import ConfigurationError
from mpnp_world import checks


def test_they_are_among_those_of_the_command():
    assert set(checks.CHECKS) < set(doctor.checks())


def test_a_package_that_is_absent_limits_the_simulator_and_the_remedy_is_told(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'embreex' else find(name))
    found = {finding.name: finding for finding in checks.check_packages()}
    assert found['embreex'].state == WARNING and found['embreex'].remedy.startswith('pip install embreex')


def test_without_egl_the_world_cannot_draw_and_the_remedy_is_told(monkeypatch):
    graphics = pytest.importorskip('mpnp_world.sensors.graphics', reason='moderngl is not installed')

    def fail(**_: object) -> None:
        raise OSError('libEGL.so.1: cannot open shared object file')
    monkeypatch.setattr(graphics.moderngl, 'create_context', fail)
    finding, = checks.check_graphics()
    assert finding.state == WARNING
    assert 'libEGL.so.1' in finding.text
    assert finding.remedy == 'apt install libegl1 libgl1-mesa-dri'


def test_where_the_world_draws(graphics):
    finding, = checks.check_graphics()
    assert (finding.name, finding.state) == ('EGL', OK)
    assert 'OpenGL' in finding.text


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ConfigurationError, match='needs moderngl and embreex: pip install moderngl embreex'):
        checks.require_cameras()

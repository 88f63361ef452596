"""The environment that lets large images arrive, and the report of what is missing in it."""
from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from mpnp_ros import transport

NAMESPACE = '{http://www.eprosima.com}'


@pytest.fixture
def ample_memory(monkeypatch):
    monkeypatch.setattr(transport, 'SHARED_MEMORY_NEEDED', 0)


def test_the_environment_has_no_problems(ample_memory):
    assert transport.problems(transport.transport_environment()) == []


def test_the_profile_lets_an_image_through():
    root = ElementTree.parse(transport.profile_file()).getroot()
    shared = next(item for item in root.iter(f'{NAMESPACE}transport_descriptor')
                  if item.find(f'{NAMESPACE}type').text == 'SHM')
    assert int(shared.find(f'{NAMESPACE}maxMessageSize').text) > 1920 * 1200 * 4
    assert int(shared.find(f'{NAMESPACE}segment_size').text) > 6 * 1600 * 900 * 3


def test_every_missing_variable_is_named(ample_memory):
    text = '\n'.join(transport.problems({}))
    for name in (*transport.PROFILE_VARIABLES, *transport.ALLOCATOR):
        assert name in text


def test_a_profile_that_does_not_exist_is_named(ample_memory):
    environment = {**transport.transport_environment(), transport.PROFILE_VARIABLES[1]: '/nowhere.xml'}
    (problem,) = transport.problems(environment)
    assert problem.startswith(f'{transport.PROFILE_VARIABLES[1]} names /nowhere.xml')


def test_another_middleware_needs_no_profile(ample_memory):
    assert transport.problems({**transport.ALLOCATOR, 'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}) == []


def test_little_shared_memory_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(transport, 'SHARED_MEMORY', tmp_path)
    monkeypatch.setattr(transport, 'SHARED_MEMORY_NEEDED', 1 << 60)
    (problem,) = transport.problems(transport.transport_environment())
    assert '--shm-size' in problem

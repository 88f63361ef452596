"""`mpnp world sdf`: a real drive of the embedded world as a file."""
from __future__ import annotations

from xml.etree import ElementTree

import pytest

from mpnp_ros.cli.main import main
from mpnp_world.gazebo.export import drive_states


@pytest.fixture(scope='module')
def states():
    """Three seconds of seed 7."""
    return drive_states(7, 'night', 3)


def test_moments_are_a_second_apart(states):
    assert [state.time for state in states] == pytest.approx([0, 1, 2, 3])
    assert {state.conditions.light for state in states} == {'night'}


def test_actors_go_where_the_traffic_goes(states, tmp_path, capsys):
    output = tmp_path / 'worlds/street.sdf'
    options = ['--seed', '7', '--light', 'night', '--seconds', '3', '--output', str(output)]
    assert main(['world', 'sdf', *options]) == 0
    assert f'world:={output}' in capsys.readouterr().out
    actors = {item.get('name'): item for item in ElementTree.parse(output).iter('actor')
              if not item.get('name').startswith('signal')}
    assert len(actors) > 5
    for name, actor in actors.items():
        identity = int(name.rsplit('_', 1)[1])
        poses = [map(float, item.text.split()) for item in actor.findall('script/trajectory/waypoint/pose')]
        for state, (x, y, z, *_) in zip(states, poses, strict=True):
            item = next((item for item in state.objects if item.identity == identity), None)
            assert item is None or (x, y, z) == pytest.approx((item.x, item.y, item.z), abs=1e-3)


def test_the_same_seed_is_the_same_file(tmp_path):
    files = [tmp_path / name for name in 'ab']
    for file in files:
        assert main(['world', 'sdf', '--seconds', '1', '--output', str(file)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / 'file').touch()
    output = tmp_path / 'file/street.sdf'
    assert main(['world', 'sdf', '--seconds', '1', '--output', str(output)]) == 2
    assert f'cannot write {output}' in capsys.readouterr().err
    assert main(['world', 'sdf', '--seconds', '0', '--output', str(output)]) == 2
    assert 'at least 2 moments' in capsys.readouterr().err

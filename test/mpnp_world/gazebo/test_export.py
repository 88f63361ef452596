"""The whole file: understood by libsdformat, made of elements that SDF has, holding what the world holds."""
from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from mpnp_ros.errors import ConfigurationError
from mpnp_world.gazebo.export import REACH, world_sdf
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import LIGHTS

ROOT = Path(__file__).parents[3]
SHIPPED = [ROOT / 'worlds/street_day.sdf', ROOT / 'worlds/street_night.sdf']
CHECKERS = [tool for tool in ('gz', 'ign') if shutil.which(tool)]
SPECIFICATION = next(Path('/usr/share').glob('sdformat*/1.9'), None)
OF_GAZEBO_ONLY = {'gz_frame_id'}


@pytest.fixture(scope='module', params=[*LIGHTS, *SHIPPED], ids=lambda made: getattr(made, 'name', made))
def file(request, tmp_path_factory, at) -> Path:
    """A world of the street by hand in every light, and those of the package."""
    if isinstance(request.param, Path):
        return request.param
    path = tmp_path_factory.mktemp('sdf') / 'street.sdf'
    path.write_text(world_sdf([at(float(time), request.param) for time in range(7)]))
    return path


@pytest.fixture(scope='module')
def world(drive_states) -> Element:
    """The street by hand by day."""
    return ElementTree.fromstring(world_sdf(drive_states)).find('world')


@pytest.mark.skipif(not CHECKERS, reason='neither gz nor ign is installed (apt install ignition-tools '
                                         'libsdformat-dev)')
@pytest.mark.parametrize('file', ['night', SHIPPED[1]], ids=['night', 'shipped'], indirect=True)
def test_libsdformat_reads_it(file):
    """By night there is more of everything; a shipped world takes it seconds."""
    done = subprocess.run([CHECKERS[0], 'sdf', '-k', str(file)], text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'Valid' in done.stdout
    assert 'Warning' not in done.stdout + done.stderr


@pytest.mark.skipif(SPECIFICATION is None, reason='the SDF specification is not installed (apt install '
                                                  'sdformat-sdf)')
def test_every_element_is_one_of_sdf_1_9(file):
    """Libsdformat itself lets misspelt elements pass."""
    assert ElementTree.parse(file).getroot().get('version') == '1.9'
    check(ElementTree.parse(file).getroot(), specification('root.sdf'), 'sdf')


def check(item: Element, known: Element, path: str) -> None:
    """Walk down both trees; what is inside a plugin is the plugin's own."""
    children = specified_children(known)
    attributes = {entry.get('name') for entry in known.findall('attribute')}
    assert set(item.attrib) <= attributes, f'{path}: {item.attrib}'
    for child in item:
        assert child.tag in children or child.tag in OF_GAZEBO_ONLY, f'{path}/{child.tag}'
        if child.tag in children and child.tag != 'plugin':
            check(child, children[child.tag], f'{path}/{child.tag}')


@cache
def specification(name: str) -> Element:
    """One file of the specification."""
    return ElementTree.parse(SPECIFICATION / name).getroot()


def specified_children(known: Element) -> dict[str, Element]:
    """Elements by name, those of included files too; Debian's specification lacks navsat.sdf."""
    own = {entry.get('name'): entry for entry in known.findall('element') if entry.get('name')}
    return own | {(part := specification(entry.get('filename'))).get('name'): part
                  for entry in known.findall('include') if (SPECIFICATION / entry.get('filename')).exists()}


def test_names_are_told_apart(file):
    world = ElementTree.parse(file).find('world')
    names = [item.get('name') for item in world if item.tag in ('model', 'actor', 'light')]
    assert len(set(names)) == len(names)
    for link in world.iter('link'):
        parts = [item.get('name') for item in link if item.tag in ('visual', 'sensor', 'light')]
        assert len(set(parts)) == len(parts)


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.name)
def test_shipped_worlds_are_small(path):
    assert path.stat().st_size < 300_000


def test_things_that_stand_are_models_and_things_that_move_are_actors(world):
    models = {item.get('name') for item in world.findall('model')}
    actors = {item.get('name') for item in world.findall('actor')}
    assert {f'{kind}_{number}' for number, kind in enumerate(KINDS, 1)} <= models
    assert {'sedan_101', 'pedestrian_102', 'bus_103'} <= actors
    free = [item.get('name') for item in world.findall('model') if item.findtext('static') != 'true']
    assert free == ['ego']


def test_what_is_out_of_reach_is_left_out(world):
    assert world.find("model[@name='sedan_104']") is None
    assert len(world.findall("model[@name='building']/link/visual")) == 2  # walls and roof of the near one
    assert REACH < 2000


def test_a_light_that_changes_moves_its_lenses(world):
    """The red lens of the first signal goes in at 3 s while the green one comes out; the second is red."""
    names = {item.get('name'): item for item in world if item.tag in ('model', 'actor')}
    assert names['signal_0_red'].tag == names['signal_0_green'].tag == 'actor'
    assert names['signal_1_red'].tag == 'model'
    assert 'signal_1_green' not in names
    assert positions(names['signal_0_red']) == pytest.approx([29.84, 29.84, 30, 30])
    assert positions(names['signal_0_green']) == pytest.approx([30, 30, 29.84, 29.84])


def positions(actor: Element) -> list[float]:
    """Where it is along x, waypoint by waypoint."""
    return [float(item.text.split()[0]) for item in actor.findall('script/trajectory/waypoint/pose')]


def test_night_is_dark_and_has_lamps_and_headlights(at):
    day, night = (ElementTree.fromstring(world_sdf([at(0., light), at(1., light)])).find('world')
                  for light in ('day', 'night'))
    brightness = [sum(map(float, made.findtext('scene/ambient').split()[:3])) for made in (day, night)]
    assert brightness[1] < 0.1 * brightness[0]
    assert [light.get('type') for light in day.iter('light')] == ['directional']
    assert sorted(light.get('name') for light in night.iter('light')) == [
        'headlight_left', 'headlight_right', 'lamp_light_0', 'sun']


def test_twins_differ_in_light_alone(at):
    day, night = (ElementTree.fromstring(world_sdf([at(0., light), at(1., light)])).find('world')
                  for light in ('day', 'night'))
    geometry = [[ElementTree.tostring(item) for item in made.iter() if item.tag in ('geometry', 'waypoint')]
                for made in (day, night)]
    assert geometry[0] == geometry[1]


def test_weather_and_single_moments_are_refused(at):
    with pytest.raises(ConfigurationError, match='Gazebo has no fog'):
        world_sdf([at(0., 'day', 'fog'), at(1., 'day', 'fog')])
    with pytest.raises(ConfigurationError, match='at least 2 moments'):
        world_sdf([at(0.)])

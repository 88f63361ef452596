from __future__ import annotations

import dataclasses

import moderngl
import numpy as np
import pytest

from mpnp_ros.errors import WorldError
from mpnp_world.scene.catalogue import KINDS
from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Fixture, Patch, Scenery, Signal, WorldObject, WorldState
from mpnp_world.sensors.camera import camera_view
from mpnp_world.sensors.renderer import Renderer
from mpnp_world.sensors.rig import CAMERAS

WIDTH, HEIGHT = 160, 90
ROAD = Patch('road', ((-60, -8), (90, -8), (90, 8), (-60, 8)))
SCENERY = Scenery((Fixture('building', 20, 25, 0, (30, 12, 14), colour=(0.4, 0.3, 0.3)),
                   Fixture('tree', 8, -10, 0, (3, 3, 6)), Fixture('lamp', -8, 9, -1.57, (2.0, 0.3, 7.0))),
                  (ROAD, Patch('marking', ((0, -0.1), (80, -0.1), (80, 0.1), (0, 0.1)))))


@pytest.fixture(scope='module')
def renderer():
    try:
        made = Renderer(WIDTH, HEIGHT)
    except WorldError as error:
        pytest.skip(str(error))
    with made:
        yield made


def thing(kind: str, x: float, y: float, **changes) -> WorldObject:
    return WorldObject(1, kind, None, x, y, 0.0, KINDS[kind].size, **changes)


def state(*things: WorldObject, light: str = 'day', weather: str = 'clear', signals: tuple[Signal, ...] = (),
          scenery: Scenery = SCENERY) -> WorldState:
    ego = EgoState(0.0, 0.0, 0.0, 5.0)
    return WorldState(5, Conditions(light, weather), 1.5, ego, things, signals, scenery)


def changed(renderer: Renderer, *things: WorldObject, **conditions: str) -> dict[str, np.ndarray]:
    """Pixels that differ with and without things, by camera; in fog, so that there are no shadows."""
    conditions = {'weather': 'fog'} | conditions
    empty, full = renderer.render(state(**conditions)), renderer.render(state(*things, **conditions))
    return {channel: (np.abs(full[channel].astype(int) - empty[channel]) > 4).any(-1) for channel in full}


def test_six_images_of_the_asked_size(renderer):
    images = renderer.render(state())
    assert list(images) == list(CAMERAS)
    for image in images.values():
        assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
        assert image.std() > 10


def test_two_renderers_give_the_same_bytes_in_turns(renderer):
    scene = state(thing('sedan', 12, 2), thing('pedestrian', 6, -4), light='night', weather='rain')
    first = renderer.render(scene)
    with Renderer(WIDTH, HEIGHT) as other:
        second = other.render(scene)
        other.render(state(scenery=Scenery((), (ROAD,))))
        third = renderer.render(scene)
    for channel in CAMERAS:
        assert (first[channel] == second[channel]).all() and (first[channel] == third[channel]).all()


@pytest.mark.parametrize(('kind', 'x', 'y', 'channel'), [
    ('sedan', 14.0, 1.0, 'CAM_FRONT'), ('bus', 25.0, -3.0, 'CAM_FRONT'),
    ('pedestrian', 9.0, -1.0, 'CAM_FRONT'), ('cone', 8.0, 6.5, 'CAM_FRONT_LEFT'),
    ('excavator', -15.0, 1.5, 'CAM_BACK')])
def test_things_are_where_the_calibration_says(renderer, kind, x, y, channel):
    item = thing(kind, x, y, colour=(0.7, 0.05, 0.05))
    rows, columns = np.nonzero(changed(renderer, item)[channel])
    corners = np.array([(x + sx * item.size[0] / 2, y + sy * item.size[1] / 2, z, 1)
                        for sx in (-1, 1) for sy in (-1, 1) for z in (0, item.size[2])])
    clip = corners @ camera_view(CAMERAS[channel], EgoState(0, 0, 0, 0)).projection.T
    pixels = (clip[:, :2] / clip[:, 3:] / 2 + 0.5) * (WIDTH, HEIGHT)
    low, high = pixels.min(0), pixels.max(0)
    assert columns.min() >= low[0] - 3 and columns.max() <= high[0] + 3
    assert rows.min() >= low[1] - 3 and rows.max() <= high[1] + 3
    assert np.ptp(columns) > 0.6 * (high - low)[0] - 3 and np.ptp(rows) > 0.6 * (high - low)[1] - 3


def test_a_thing_ahead_is_in_no_other_camera(renderer):
    seen = {channel for channel, pixels in changed(renderer, thing('sedan', 20, 0)).items() if pixels.any()}
    assert seen == {'CAM_FRONT'}


def test_the_nearer_thing_hides_the_farther_one(renderer):
    lorry = thing('box_truck', 12, 0)
    alone, both = (renderer.render(state(*things, weather='fog'))['CAM_FRONT']
                   for things in ([lorry], [lorry, thing('cone', 20, 0)]))
    assert (alone == both).all()
    assert changed(renderer, thing('cone', 20, 0))['CAM_FRONT'].any()


def test_night_is_darker_than_dusk_and_dusk_than_day(renderer):
    day, dusk, night = (np.mean([image.mean() for image in renderer.render(state(light=light)).values()])
                        for light in ('day', 'dusk', 'night'))
    assert day > 1.3 * dusk and dusk > 1.5 * night


def test_night_hides_what_has_no_light(renderer):
    """Someone 18 m to the left: plain by day, lost in the noise at night."""
    someone = thing('pedestrian', 12, 16, colour=(0.6, 0.1, 0.1))
    near = {light: _contrast(renderer, someone, light) for light in ('day', 'night')}
    assert near['day'] > 25 and near['night'] < 0.25 * near['day']


def _contrast(renderer: Renderer, item: WorldObject, light: str) -> float:
    """Mean difference that an item makes where it is seen by day."""
    mask = changed(renderer, item, weather='clear')['CAM_FRONT_LEFT']
    with_it, without = (renderer.render(state(*things, light=light))['CAM_FRONT_LEFT'].astype(int)
                        for things in ([item], []))
    return float(np.abs(with_it - without)[mask].mean())


def test_lights_show_at_night(renderer):
    dark, braking = (renderer.render(state(thing('sedan', 12, 0, lights=True, braking=on), light='night'))
                     ['CAM_FRONT'].astype(int) for on in (False, True))
    assert (braking - dark).max() > 60
    oncoming = dataclasses.replace(thing('sedan', 25, 3, lights=True), yaw=np.pi)
    assert renderer.render(state(oncoming, light='night'))['CAM_FRONT'].max() == 255


def test_fog_and_rain_wash_out_what_is_far(renderer):
    bus = thing('bus', 55, 0, colour=(0.7, 0.05, 0.05))

    def redness(weather: str) -> float:
        image = renderer.render(state(bus, weather=weather))['CAM_FRONT'].astype(float)
        return float((image[..., 0] - image[..., 2]).max())

    assert redness('clear') > 1.2 * redness('rain') > 2 * redness('fog')


def test_signals_show_their_colour(renderer):
    def ahead(colour: str) -> np.ndarray:
        signal = Signal(14.0, -2.5, 0.0, colour)
        return renderer.render(state(signals=(signal,), light='night'))['CAM_FRONT'].astype(int)

    red, green = ahead('red'), ahead('green')
    assert (red - green)[..., 0].max() > 100 and (green - red)[..., 1].max() > 100


def test_a_view_from_above_shows_the_ego_vehicle(renderer):
    picture = renderer.render_view(state(scenery=Scenery((), (ROAD,))), (-9, 0, 6), (2, 0, 0), 120, 80)
    assert picture.shape == (80, 120, 3)
    middle, aside = picture[35:50, 50:70].astype(int), picture[35:50, 5:25].astype(int)
    assert middle.max() - aside.max() > 40


def test_missing_opengl_is_said_with_its_remedy(monkeypatch):
    def fail(**_: object) -> None:
        raise Exception('libEGL.so not loaded')

    monkeypatch.setattr(moderngl, 'create_context', fail)
    with pytest.raises(WorldError, match='libEGL.so not loaded.*apt install libegl1'):
        Renderer()

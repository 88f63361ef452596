"""What stands in the street: ground, buildings, trees, lamps, and signals that change."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from mpnp_ros.world.furniture import SIGNAL_HEIGHT
from mpnp_ros.world.sdf.bodies import fixture_solids
from mpnp_ros.world.sdf.elements import Solid, element, still_model, visual, visuals
from mpnp_ros.world.sdf.motion import Path, actor
from mpnp_ros.world.state import Fixture, Patch, Signal, WorldState

LAYER = 0.004
"""Metres by which a later patch of ground stands above an earlier one of another material."""
LENSES = {'red': 0.82, 'yellow': 0.5, 'green': 0.18}
"""Height of each lens above the foot of a signal's head, metres."""
SHOWN, HIDDEN = -0.16, 0.0
"""Where a lens is along the head: on its face, which looks back along the signal's yaw, or inside it."""
SWITCHING = 0.05
"""Seconds that a lens takes."""
AT_ORIGIN = (0.0,) * 6


def ground(patches: Sequence[Patch]) -> Element:
    """A plain, and the patches on it as thin slabs."""
    plane = element('visual', element('laser_retro', 50), element('geometry', element(
        'plane', element('normal', (0, 0, 1)), element('size', (800, 800)))), element('material', element(
            'diffuse', (0.13, 0.2, 0.07, 1))), name='plain')
    layers = {material: level for level, material in enumerate(dict.fromkeys(item.material for item in patches), 1)}
    slabs = visuals(Solid('polygon', (1, 1, item.z + LAYER * layers[item.material]), (0, 0, 0), item.material,
                          outline=item.corners) for item in patches)
    return still_model('ground', AT_ORIGIN, [plane, *slabs])


def fixtures(items: Iterable[Fixture], glowing: bool) -> list[Element]:
    """One model for each kind."""
    kinds: dict[str, list[Element]] = {}
    for item in items:
        parts = kinds.setdefault(item.kind, [])
        parts += [visual(solid.at(item.x, item.y, item.yaw, item.z), f'v{len(parts) + number}', item.colour)
                  for number, solid in enumerate(fixture_solids(item, glowing))]
    return [still_model(kind, AT_ORIGIN, parts) for kind, parts in kinds.items()]


def lamp_lights(items: Sequence[Fixture], most: int) -> list[Element]:
    """The light of the first ``most`` street lamps, without shadows."""
    lamps = [item for item in items if item.kind == 'lamp'][:most]
    return [_lamp_light(item, f'lamp_light_{number}') for number, item in enumerate(lamps)]


def signals(states: Sequence[WorldState]) -> list[Element]:
    """The heads of the traffic lights, dark, and every lens that is ever lit."""
    made = []
    for number, signal in enumerate(states[0].signals):
        colours = [state.signals[number].colour for state in states]
        made.append(still_model(f'signal_{number}', _head_pose(signal), visuals(
            [Solid('box', (0.3, 0.38, 1.0), (0, 0, 0.5), 'trim')])))
        made += [_lens(f'signal_{number}_{colour}', signal, colour, [shown == colour for shown in colours], states)
                 for colour in LENSES if colour in colours]
    return made


def _lens(name: str, signal: Signal, colour: str, on: Sequence[bool], states: Sequence[WorldState]) -> Element:
    """A lens that burns all the time stands still; another comes out of the head while it burns."""
    solid = Solid('ellipsoid', (0.1, 0.26, 0.26), (0, 0, LENSES[colour]), f'signal_{colour}', lit=True)
    bright = element('visual', element('pose', (*solid.centre, 0, 0, 0)), element('geometry', element(
        'ellipsoid', element('radii', [length / 2 for length in solid.size]))), _glow(colour), name='lens')
    times = [state.time - states[0].time for state in states]
    moments = [(times[0], on[0])]
    for index in range(1, len(on)):
        if on[index] != on[index - 1]:
            moments += [(times[index] - SWITCHING, on[index - 1]), (times[index], on[index])]
    moments.append((times[-1] + SWITCHING, on[-1]))
    poses = np.array([_lens_pose(signal, SHOWN if lit else HIDDEN) for _, lit in moments])
    if all(on):
        x, y, z, yaw = poses[0]
        return still_model(name, (x, y, z, 0, 0, yaw), [bright])
    return actor(name, [bright], Path(np.array([time for time, _ in moments]), poses), tension=1.0)


def _lens_pose(signal: Signal, along: float) -> tuple[float, float, float, float]:
    return (signal.x + along * np.cos(signal.yaw), signal.y + along * np.sin(signal.yaw), SIGNAL_HEIGHT, signal.yaw)


def _head_pose(signal: Signal) -> tuple[float, ...]:
    return (signal.x, signal.y, SIGNAL_HEIGHT, 0, 0, signal.yaw)


def _glow(colour: str) -> Element:
    shine = {'red': (1, 0.05, 0.03, 1), 'yellow': (1, 0.65, 0.05, 1), 'green': (0.05, 1, 0.35, 1)}[colour]
    return element('material', element('diffuse', shine), element('emissive', shine))


def _lamp_light(item: Fixture, name: str) -> Element:
    arm, height = max(item.size[0], 0.6), item.z + item.size[2] - 0.25
    x, y = item.x + arm * np.cos(item.yaw), item.y + arm * np.sin(item.yaw)
    spot = element('spot', element('inner_angle', 1.0), element('outer_angle', 2.2), element('falloff', 1.0))
    fading = element('attenuation', element('range', 25.0), element('constant', 0.3), element('linear', 0.05),
                     element('quadratic', 0.01))
    return element('light', element('pose', (x, y, height, 0, 0, 0)), element('cast_shadows', 'false'),
                   element('diffuse', (1, 0.82, 0.55, 1)), element('specular', (0.1, 0.1, 0.1, 1)),
                   element('direction', (0, 0, -1)), fading, spot, name=name, type='spot')

"""Static street in SDF: ground, buildings, trees, lamps, and traffic lights."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from mpnp_world.gazebo.bodies import LAMP_HEAD, fixture_solids
from mpnp_world.gazebo.elements import Solid, element, still_model, visual, visuals
from mpnp_world.gazebo.motion import Trajectory, actor
from mpnp_world.models.street import LAYER_HEIGHT, PLAIN_DEPTH, PLAIN_SIZE, SIGNAL_HEADS, layers
from mpnp_world.scene.state import Fixture, Patch, Signal, WorldState

LENSES = {'red': 0.82, 'yellow': 0.5, 'green': 0.18}
"""Height of each lens above the foot of a signal's head, metres."""
SHOWN, HIDDEN = -0.16, 0.0
"""Position of a lens along the yaw of the signal: on the face of the head, or hidden inside."""
SWITCHING = 0.05
"""Duration of switching a lens, seconds."""
GLOWS = {'red': (1, 0.05, 0.03, 1), 'yellow': (1, 0.65, 0.05, 1), 'green': (0.05, 1, 0.35, 1)}
AT_ORIGIN = (0.0,) * 6


def ground(patches: tuple[Patch, ...]) -> Element:
    """The plain, and the patches as slabs on it."""
    plain = Solid('box', (2 * PLAIN_SIZE, 2 * PLAIN_SIZE, 1.0), (0, 0, -PLAIN_DEPTH - 0.5), 'grass')
    slabs = [_slab(item, item.z + layer * LAYER_HEIGHT)
             for item, layer in zip(patches, layers(patches), strict=True)]
    return still_model('ground', AT_ORIGIN, visuals([plain, *slabs]))


def _slab(patch: Patch, top: float) -> Solid:
    """The slab of a patch; a box if the patch is a rectangle, which is cheaper to draw."""
    corners, height = np.array(patch.corners), top + PLAIN_DEPTH
    along, across = corners[1] - corners[0], corners[2] - corners[1]
    is_rectangle = len(corners) == 4 and abs(along @ across) < 0.01 and np.allclose(
        corners[3] - corners[0], across, atol=0.01)
    if not is_rectangle:
        return Solid('polygon', (1, 1, height), (0, 0, -PLAIN_DEPTH), patch.material, outline=patch.corners)
    x, y = corners.mean(0)
    size = (float(np.hypot(*along)), float(np.hypot(*across)), height)
    return Solid('box', size, (x, y, top - height / 2), patch.material,
                 (0, 0, float(np.arctan2(along[1], along[0]))))


def fixtures(items: Iterable[Fixture], glowing: bool) -> list[Element]:
    """One model per kind."""
    kinds: dict[str, list[Element]] = {}
    for item in items:
        parts = kinds.setdefault(item.kind, [])
        parts += [visual(solid.at(item.x, item.y, item.yaw, item.z), f'v{len(parts) + number}', item.colour)
                  for number, solid in enumerate(fixture_solids(item, glowing))]
    return [still_model(kind, AT_ORIGIN, parts) for kind, parts in kinds.items()]


def lamp_lights(items: Sequence[Fixture], most: int) -> list[Element]:
    """The light of the first ``most`` street lamps, without shadows."""
    lights = []
    for number, lamp in enumerate([item for item in items if item.kind == 'lamp'][:most]):
        reach, height = LAMP_HEAD * lamp.size[0], lamp.z + lamp.size[2] - 0.25
        x, y = lamp.x + reach * math.cos(lamp.yaw), lamp.y + reach * math.sin(lamp.yaw)
        spot = element('spot', element('inner_angle', 1.0), element('outer_angle', 2.2),
                       element('falloff', 1.0))
        fading = element('attenuation', element('range', 25.0), element('constant', 0.3),
                         element('linear', 0.05), element('quadratic', 0.01))
        lights.append(element(
            'light', element('pose', (x, y, height, 0, 0, 0)), element('cast_shadows', 'false'),
            element('diffuse', (1, 0.82, 0.55, 1)), element('specular', (0.1, 0.1, 0.1, 1)),
            element('direction', (0, 0, -1)), fading, spot, name=f'lamp_light_{number}', type='spot'))
    return lights


def signals(states: Sequence[WorldState], wanted: Callable[[Signal], bool]) -> list[Element]:
    """Dark heads of the selected traffic lights, and every lens that is ever lit."""
    made = []
    for number, signal in enumerate(states[0].signals):
        if not wanted(signal):
            continue
        name, colours = f'signal_{number}', [state.signals[number].colour for state in states]
        heads = [Solid('box', (0.3, 0.38, 1.0), (0, left, up + 0.5), 'trim') for left, up in SIGNAL_HEADS]
        made.append(still_model(name, _pose(signal, 0.0), visuals(heads)))
        made += [_lens(f'{name}_{colour}', signal, colour, [shown == colour for shown in colours],
                       [state.time - states[0].time for state in states])
                 for colour in LENSES if colour in colours]
    return made


def _lens(name: str, signal: Signal, colour: str, on: Sequence[bool], times: Sequence[float]) -> Element:
    """A lens; static if always lit, otherwise an actor that moves out of the head while lit."""
    shape = element('geometry', element('ellipsoid', element('radii', (0.05, 0.13, 0.13))))
    shine = element('material', element('diffuse', GLOWS[colour]), element('emissive', GLOWS[colour]))
    glow = [element('visual', element('pose', (0, left, up + LENSES[colour], 0, 0, 0)), shape, shine,
                    name=f'lens{number}') for number, (left, up) in enumerate(SIGNAL_HEADS)]
    if all(on):
        return still_model(name, _pose(signal, SHOWN), glow)
    moments = [(times[0], on[0])]
    for time, before, now in zip(times[1:], on[:-1], on[1:], strict=True):
        if now != before:
            moments += [(time - SWITCHING, before), (time, now)]
    moments.append((times[-1] + SWITCHING, on[-1]))
    places = [_pose(signal, SHOWN if lit else HIDDEN) for _, lit in moments]
    trajectory = Trajectory(np.array([time for time, _ in moments]), np.array(places)[:, [0, 1, 2, 5]])
    return actor(name, glow, trajectory, tension=1.0)


def _pose(signal: Signal, along: float) -> tuple[float, ...]:
    """The pose of a signal, moved ``along`` metres in its direction."""
    x, y = signal.x + along * math.cos(signal.yaw), signal.y + along * math.sin(signal.yaw)
    return x, y, 0, 0, 0, signal.yaw

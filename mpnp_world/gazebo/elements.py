"""XML elements of SDF: numbers, poses, and solids with a material."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element, tostring

import numpy as np

from mpnp_ros.poses import Transform
from mpnp_world.models.mesh import MATERIALS
from mpnp_world.scene.state import Colour

Triple = tuple[float, float, float]

FULL_ECHO = 150.0
"""Intensity (0..255) of a perfect reflector, as in :mod:`mpnp_world.sensors.lidar`."""
GLOW = 1.5
"""Brightness of a light relative to its colour."""
MATT = 0.1
"""Gloss up to which the default rough material of Gazebo is used."""
_OWN_LINE = frozenset({'world', 'model', 'actor', 'link', 'visual', 'sensor', 'light', 'plugin', 'waypoint',
                       'physics', 'scene', 'joint', 'trajectory', 'script'})


def element(tag: str, *content: Element | str | float | Iterable[float], **attributes: str) -> Element:
    """An element with its text, a number, a row of numbers, or child elements."""
    made = Element(tag, attributes)
    for part in content:
        if isinstance(part, Element):
            made.append(part)
        elif isinstance(part, str):
            made.text = part
        else:
            made.text = numbers([part] if isinstance(part, int | float) else part)
    return made


def numbers(values: Iterable[float]) -> str:
    """Decimals with at most four places, separated by blanks."""
    texts = (f'{value:.4f}'.rstrip('0').rstrip('.') for value in values)
    return ' '.join('0' if text == '-0' else text for text in texts)


def coarse(values: Iterable[float]) -> list[float]:
    """Values rounded to two places, for colours and visual sizes."""
    return [round(float(value), 2) for value in values]


def roll_pitch_yaw(rotation: np.ndarray) -> Triple:
    """Rotations about the fixed x, y and z axes, in this order, of a rotation matrix [3, 3]; radians."""
    return (float(np.arctan2(rotation[2, 1], rotation[2, 2])),
            float(-np.arcsin(np.clip(rotation[2, 0], -1, 1))),
            float(np.arctan2(rotation[1, 0], rotation[0, 0])))


def pose_of(transform: Transform) -> Element:
    """The pose element of a transform."""
    return element('pose', (*transform.translation, *roll_pitch_yaw(transform.rotation)))


def document(root: Element) -> str:
    """The XML text, with one line per larger element."""
    for item in root.iter():
        if item.tag in _OWN_LINE:
            item.tail = '\n'
    return f'<?xml version="1.0"?>\n{tostring(root, "unicode")}\n'


@dataclass(frozen=True)
class Solid:
    """A simple solid.

    shape: box, cylinder, ellipsoid or polygon.  size: along its own axes, metres; of a cylinder: two equal
    diameters and the length.  centre, rpy: in the frame of the thing.  material: a key of
    :data:`~mpnp_world.models.mesh.MATERIALS`.  outline: corners (x, y) of a polygon; its size is the
    thickness along z, its centre is on the underside.  lit: whether it emits light.
    """

    shape: str
    size: Triple
    centre: Triple
    material: str
    rpy: Triple = (0.0, 0.0, 0.0)
    outline: tuple[tuple[float, float], ...] = ()
    lit: bool = False

    def at(self, x: float, y: float, yaw: float, z: float = 0.0) -> Solid:
        """The solid of a thing at (x, y, z) with a yaw; for upright solids."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        across, along, up = self.centre
        return replace(self, centre=(x + cos * across - sin * along, y + sin * across + cos * along, z + up),
                       rpy=(self.rpy[0], self.rpy[1], self.rpy[2] + yaw))


def visual(solid: Solid, name: str, paint: Colour = (1.0, 1.0, 1.0)) -> Element:
    """The visual of a solid.  paint: colour of painted materials."""
    angles = [round(float(angle), 3) for angle in solid.rpy]
    return element('visual', element('pose', (*coarse(solid.centre), *angles)),
                   element('laser_retro', round(FULL_ECHO * MATERIALS[solid.material].reflectivity)),
                   element('geometry', _shape(solid)), _material(solid, paint), name=name)


def visuals(solids: Iterable[Solid], paint: Colour = (1.0, 1.0, 1.0)) -> list[Element]:
    """Numbered visuals of all solids."""
    return [visual(solid, f'v{number}', paint) for number, solid in enumerate(solids)]


def still_model(name: str, pose: Iterable[float], parts: Iterable[Element]) -> Element:
    """A static model."""
    return element('model', element('static', 'true'), element('pose', pose),
                   element('link', *parts, name='link'), name=name)


def plugin(filename: str, name: str, *content: Element) -> Element:
    """A Gazebo plugin, e.g. ``imu`` and ``Imu``."""
    return element('plugin', *content, filename=f'gz-sim-{filename}-system', name=f'gz::sim::systems::{name}')


def _shape(solid: Solid) -> Element:
    if solid.shape == 'box':
        return element('box', element('size', coarse(solid.size)))
    if solid.shape == 'cylinder':
        radius, length = round(solid.size[0] / 2, 3), round(solid.size[2], 2)
        return element('cylinder', element('radius', radius), element('length', length))
    if solid.shape == 'ellipsoid':
        return element('ellipsoid', element('radii', coarse(length / 2 for length in solid.size)))
    return element('polyline', *(element('point', corner) for corner in solid.outline),
                   element('height', solid.size[2]))


def _material(solid: Solid, paint: Colour) -> Element:
    material = MATERIALS[solid.material]
    colour = np.array(material.colour) * (paint if material.painted else 1)
    parts = [element('diffuse', (*coarse(colour), 1))]
    if solid.lit:
        parts.append(element('emissive', (*coarse(np.minimum(colour * GLOW, 1)), 1)))
    if material.gloss > MATT:
        roughness = element('roughness', round(max(0.15, 0.9 - 2 * material.gloss), 2))
        metalness = element('metalness', 0.8 if solid.material == 'metal' else 0.0)
        parts.append(element('pbr', element('metal', roughness, metalness)))
    return element('material', *parts)

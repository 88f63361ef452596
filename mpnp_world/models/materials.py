"""Materials of surfaces: colour, gloss and LiDAR reflectivity."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Material:
    """Optical properties of a surface.

    colour: linear RGB, 0..1.  gloss: specular reflectance at normal incidence, 0..1.  reflectivity: of a
    LiDAR pulse, 0..1, 1 for retro-reflectors.  painted: whether the colour of the object is multiplied in.
    """

    colour: tuple[float, float, float]
    gloss: float = 0.03
    reflectivity: float = 0.3
    painted: bool = False


MATERIALS: dict[str, Material] = {
    'paint': Material((1.0, 1.0, 1.0), 0.10, 0.45, painted=True),
    'glass': Material((0.012, 0.018, 0.024), 0.22, 0.05),
    'tyre': Material((0.025, 0.025, 0.027), 0.02, 0.06),
    'metal': Material((0.30, 0.30, 0.32), 0.20, 0.50),
    'trim': Material((0.05, 0.05, 0.055), 0.06, 0.10),
    'head_light': Material((0.80, 0.80, 0.76), 0.50, 0.80),
    'tail_light': Material((0.30, 0.008, 0.008), 0.04, 0.95),
    'orange_light': Material((0.70, 0.22, 0.02), 0.05, 0.90),
    'siren_light': Material((0.02, 0.06, 0.55), 0.40, 0.80),
    'plate': Material((0.80, 0.80, 0.78), 0.10, 1.00),
    'skin': Material((0.55, 0.36, 0.26), 0.03, 0.45),
    'cloth': Material((1.0, 1.0, 1.0), 0.01, 0.40, painted=True),
    'trousers': Material((1.0, 1.0, 1.0), 0.01, 0.25, painted=True),
    'hair': Material((0.05, 0.035, 0.028), 0.04, 0.20),
    'orange': Material((0.90, 0.20, 0.025), 0.05, 0.60),
    'white': Material((0.82, 0.82, 0.80), 0.05, 0.60),
    'red': Material((0.62, 0.03, 0.03), 0.05, 0.50),
    'reflector': Material((0.86, 0.86, 0.84), 0.10, 1.00),
    'yellow': Material((0.80, 0.46, 0.02), 0.12, 0.50),
    'concrete': Material((0.46, 0.45, 0.43), 0.02, 0.40),
    'leaf': Material((0.075, 0.145, 0.04), 0.02, 0.40),
    'bark': Material((0.17, 0.12, 0.08), 0.01, 0.30),
    'facade': Material((1.0, 1.0, 1.0), 0.02, 0.45, painted=True),
    'roof': Material((0.16, 0.15, 0.15), 0.02, 0.25),
    'lamp_glass': Material((0.85, 0.80, 0.66), 0.10, 0.30),
    'signal_red': Material((0.10, 0.012, 0.010), 0.20, 0.30),
    'signal_yellow': Material((0.11, 0.070, 0.008), 0.20, 0.30),
    'signal_green': Material((0.008, 0.09, 0.045), 0.20, 0.30),
    'road': Material((0.115, 0.115, 0.12), 0.03, 0.12),
    'sidewalk': Material((0.40, 0.39, 0.37), 0.02, 0.30),
    'marking': Material((0.66, 0.66, 0.64), 0.03, 0.80),
    'line': Material((0.62, 0.42, 0.06), 0.03, 0.75),
    'grass': Material((0.13, 0.22, 0.06), 0.01, 0.35),
}
"""Materials by name; meshes have indices into this order."""

INDEX: dict[str, int] = {name: index for index, name in enumerate(MATERIALS)}
COLOUR = np.array([material.colour for material in MATERIALS.values()], np.float32)
"""Linear RGB [materials, 3]."""
GLOSS = np.array([material.gloss for material in MATERIALS.values()], np.float32)
REFLECTIVITY = np.array([material.reflectivity for material in MATERIALS.values()], np.float32)
"""LiDAR reflectivity [materials], 0..1."""

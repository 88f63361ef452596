"""The kinds of objects in the world and their nuScenes categories."""
from __future__ import annotations

from dataclasses import dataclass

from mpnp_ros.questions.vocabulary import CATEGORY_OF_NUSCENES


@dataclass(frozen=True)
class Kind:
    """A kind of object.

    nuscenes: category; size: mean length, width, height, metres; spread: of size, relative.
    """

    nuscenes: str
    size: tuple[float, float, float]
    spread: float = 0.05

    @property
    def category(self) -> str:
        """The category of NuScenes-QA."""
        return CATEGORY_OF_NUSCENES[self.nuscenes]


KINDS: dict[str, Kind] = {
    'sedan': Kind('vehicle.car', (4.6, 1.93, 1.5)),
    'hatchback': Kind('vehicle.car', (4.1, 1.85, 1.55)),
    'suv': Kind('vehicle.car', (4.8, 2.0, 1.75)),
    'van': Kind('vehicle.car', (5.1, 2.0, 2.0)),
    'ambulance': Kind('vehicle.truck', (6.0, 2.2, 2.6)),
    'pickup': Kind('vehicle.truck', (5.6, 2.0, 1.9)),
    'box_truck': Kind('vehicle.truck', (8.0, 2.5, 3.1)),
    'bus': Kind('vehicle.bus.rigid', (11.2, 2.9, 3.5)),
    'trailer': Kind('vehicle.trailer', (10.0, 2.6, 3.7)),
    'excavator': Kind('vehicle.construction', (6.4, 2.8, 3.2)),
    'motorcycle': Kind('vehicle.motorcycle', (2.1, 0.8, 1.45)),
    'bicycle': Kind('vehicle.bicycle', (1.75, 0.6, 1.25)),
    'pedestrian': Kind('human.pedestrian.adult', (0.75, 0.65, 1.75)),
    'child': Kind('human.pedestrian.child', (0.55, 0.5, 1.25)),
    'cone': Kind('movable_object.trafficcone', (0.41, 0.41, 0.75), 0.0),
    'barrier': Kind('movable_object.barrier', (0.5, 2.5, 1.0), 0.0),
}
"""Sizes are the means of nuScenes; a cycle with a rider is as tall as its rider (1.75 m)."""

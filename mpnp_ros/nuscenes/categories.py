"""Words of NuScenes-QA for the categories, attributes and answers of nuScenes (arXiv:2305.14836)."""
from __future__ import annotations

CATEGORY_OF_NUSCENES = {
    'movable_object.barrier': 'barrier',
    'vehicle.bicycle': 'bicycle',
    'vehicle.bus.bendy': 'bus',
    'vehicle.bus.rigid': 'bus',
    'vehicle.car': 'car',
    'vehicle.construction': 'construction vehicle',
    'vehicle.motorcycle': 'motorcycle',
    'human.pedestrian.adult': 'pedestrian',
    'human.pedestrian.child': 'pedestrian',
    'human.pedestrian.construction_worker': 'pedestrian',
    'human.pedestrian.police_officer': 'pedestrian',
    'movable_object.trafficcone': 'traffic cone',
    'vehicle.trailer': 'trailer',
    'vehicle.truck': 'truck',
}
"""nuScenes category -> one of the ten detection classes; questions ignore other categories."""

ATTRIBUTE_OF_NUSCENES = {
    'vehicle.moving': 'moving',
    'vehicle.stopped': 'stopped',
    'vehicle.parked': 'parked',
    'cycle.with_rider': 'with rider',
    'cycle.without_rider': 'without rider',
    'pedestrian.standing': 'standing',
    'pedestrian.moving': 'moving',
    'pedestrian.sitting_lying_down': 'not standing',
}

CATEGORIES = ('barrier', 'bicycle', 'bus', 'car', 'construction vehicle', 'motorcycle', 'pedestrian',
              'traffic cone', 'trailer', 'truck')

STATUSES = ('moving', 'parked', 'stopped', 'standing', 'not standing', 'with rider', 'without rider')

MAX_COUNT = 10

ANSWERS = (*(str(n) for n in range(MAX_COUNT + 1)), 'yes', 'no', *CATEGORIES, *STATUSES)
"""The 30 answers of NuScenes-QA."""

_VEHICLE = ('moving', 'parked', 'stopped')
_CYCLE = ('with rider', 'without rider')
STATUSES_OF_CATEGORY: dict[str, tuple[str, ...]] = {
    'barrier': (), 'traffic cone': (),
    'bicycle': _CYCLE, 'motorcycle': _CYCLE,
    'bus': _VEHICLE, 'car': _VEHICLE, 'construction vehicle': _VEHICLE,
    'trailer': _VEHICLE, 'truck': _VEHICLE,
    'pedestrian': ('moving', 'standing', 'not standing'),
}
"""Possible statuses by category; questions never use other pairs."""

THING = 'thing'
"""Stands for any category in a question."""

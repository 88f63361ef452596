"""The objects that the output of a detection network means, and the base of encoders that give them."""
from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpnp_ros.detection.classes import CATEGORY_COUNT, CHANNEL_COUNT
from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.modalities.detection_network import CENTRE, KINDS, LENGTH, OFFSETS, STATES
from mpnp_ros.questions.vocabulary import CATEGORIES, CATEGORY_OF_CHANNEL, CHANNELS
from mpnp_ros.tokens import ModalityTokens

if TYPE_CHECKING:
    from mpnp_ros.modalities.heads import Head, HeadManifest

LEAST = 0.01
"""Probability of a cell from which on it belongs to an object."""
MOST = 3000
"""Cells that are looked at, the surest ones; a street has a few hundred."""
RADIUS = np.array([{'pedestrian': 0.75, 'traffic cone': 0.75, 'barrier': 1.05, 'bicycle': 1.2,
                    'motorcycle': 1.2}.get(category, 2.1) for category in CATEGORIES])
"""Metres around a middle within which no second object of the category lies."""

DEVIATION = 0.3
"""Metres: standard deviation of the distance of an object, about half a cell."""
_MOVING = np.array([status == 'moving' for _, status in CHANNELS])
_RIDDEN = np.array([status == 'with rider' for _, status in CHANNELS])


class ObjectEncoder(ABC):
    """Base of encoders whose head finds objects; see :class:`mpnp_ros.modalities.registry.Encoder`.

    One token an object: the probability that it is there, divided among :attr:`channels`.  What moves is seen
    only with the earlier reading of a frame.
    """

    channels, token_width = CHANNELS, CHANNEL_COUNT
    looks_back = True
    """Whether it uses the earlier reading of a frame."""
    modality: str
    head: Head
    fingerprint: str

    @property
    def limits(self) -> dict[str, Any]:
        """Return the limits of its tokens, see Head.limits."""
        return self.head.limits

    def encode(self, frame: Any) -> ModalityTokens:
        """Return the tokens of a frame; errors as of :meth:`detect`."""
        return self.tokens(self.detect(frame))

    def tokens(self, found: Detections) -> ModalityTokens:
        """Return the tokens of what :meth:`detect` gives."""
        made = detection_tokens(found, self.modality, self.fingerprint, self.limits['max_distance'])
        return replace(made, **self.limits)

    @abstractmethod
    def detect(self, frame: Any) -> Detections:
        """Return the objects around the robot; raises the error of the sensor for a frame without use."""


class GridObjects(NamedTuple):
    """n objects in a grid, the surest first.

    position: [n, 2] metres in the base frame.  mass: [n] sum of the probabilities of its cells, 1 and more
    for a sure object.  categories: [n, 10] and statuses: [n, 24] as of
    :class:`~mpnp_ros.detection.detections.Detections`.
    """

    position: np.ndarray
    mass: np.ndarray
    categories: np.ndarray
    statuses: np.ndarray


def find(maps: Tensor) -> GridObjects:
    """Return the objects in the output of the network for one grid, [OFFSETS.stop, A, R].

    Cells that point to places within :data:`RADIUS` of that of a surer cell are of the same object; its
    place, categories and statuses are their means, weighted by their probabilities.
    """
    chance = torch.sigmoid(maps[CENTRE])
    azimuth, ring = torch.nonzero(chance > LEAST, as_tuple=True)
    surest = chance[azimuth, ring].sort(descending=True, stable=True).indices[:MOST]
    azimuth, ring = azimuth[surest], ring[surest]
    cells = maps[:, azimuth, ring].T
    weight = chance[azimuth, ring].double().numpy()
    place = positions(azimuth.numpy(), ring.numpy(), cells[:, OFFSETS].double().numpy(), maps.shape[1])
    kinds = torch.softmax(cells[:, KINDS].double(), 1).numpy()
    states = shared_statuses(cells[:, STATES].double()).numpy()
    left, parts = np.ones(len(weight), bool), []
    for seed in range(len(weight)):
        if not left[seed]:
            continue
        apart = np.hypot(*(place - place[seed]).T)
        own = left & (apart < RADIUS[kinds[seed].argmax()])
        left &= ~own
        shares = weight[own] / weight[own].sum()
        parts.append((shares @ place[own], weight[own].sum(), shares @ kinds[own], shares @ states[own]))
    if not parts:
        return GridObjects(np.zeros((0, 2)), np.zeros(0), np.zeros((0, CATEGORY_COUNT)),
                           np.zeros((0, CHANNEL_COUNT)))
    return GridObjects(*(np.array(values) for values in zip(*parts, strict=True)))


def positions(azimuth: np.ndarray, ring: np.ndarray, offsets: np.ndarray, azimuths: int) -> np.ndarray:
    """Return the places that cells point to, [n, 2] metres; azimuth, ring: [n], offsets: [n, 2] of each."""
    middle = (ring + 0.5) * LENGTH
    far = middle + offsets[:, 0]
    angle = (azimuth + 0.5) / azimuths * 2 * np.pi - np.pi + offsets[:, 1] / middle.clip(1)
    return np.stack([far * np.cos(angle), far * np.sin(angle)], 1)


def detections_of(found: GridObjects, manifest: HeadManifest, reach: float, **place: Any) -> Detections:
    """Return the objects with the probabilities that a head's manifest calibrates.

    reach: metres, of the grid.  place: fields of Detections that say where and when: sources, source_index,
    looked, stamp_ns, frame_id.
    """
    masses, chances = np.array(manifest.calibration or (0., 0., 1., 1.)).reshape(-1, 2).T
    told = {category for category, _ in (CHANNELS if manifest.known is None else manifest.known)}
    return Detections(
        found.position, np.interp(found.mass, masses, chances), found.categories.clip(0, 1),
        moving=_share(found.categories, found.statuses, _MOVING),
        rider=_share(found.categories, found.statuses, _RIDDEN), statuses=found.statuses.clip(0, 1),
        range_deviation=np.full(len(found.mass), DEVIATION),
        known=np.array([name in told for name in CATEGORIES]), max_distance=reach, **place)


def _share(categories: np.ndarray, statuses: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the probability [n] of a status of the objects whose categories have it; wanted: bool [24]."""
    weight = categories[:, np.array(CATEGORY_OF_CHANNEL)[wanted]]
    share = (weight * statuses[:, wanted]).sum(1) / weight.sum(1).clip(1e-9)
    return np.where(weight.sum(1) > 1e-9, share.clip(0, 1), np.nan)


def shared_statuses(logits: Tensor) -> Tensor:
    """Return the probabilities of the statuses of each category, [n, 24] from logits [n, 24]."""
    place = torch.tensor(CATEGORY_OF_CHANNEL)
    member = functional.one_hot(place, CATEGORY_COUNT).to(logits.dtype)
    powers = (logits - logits.amax(1, keepdim=True)).exp().clamp(min=1e-30)
    return (powers / (powers @ member)[:, place]).clamp(max=1)

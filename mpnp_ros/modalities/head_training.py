"""Training of heads: inputs, options and network of one kind of sensor."""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mpnp_ros.options import Options, option
from mpnp_ros.questions.generator import Scope

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from mpnp_ros.modalities.heads import HeadNetwork, PolarSectorHead
    from mpnp_ros.questions.key_frame import KeyFrame

Inputs = dict[str, 'Tensor']
"""Arguments of a head's network for one frame, without the batch dimension; features in float16."""
STEPS = 255
"""Steps from 0 to 1 of the grids and images of heads that find objects; they are stored as uint8."""


class HeadInput(Protocol):
    """Makes the inputs of one kind of head."""

    @property
    def kind(self) -> str:
        """Name of the sensor."""

    @property
    def version(self) -> int:
        """Version of the code that makes the inputs."""

    @property
    def backbone(self) -> str:
        """sha256 of the weights that it uses, or empty."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the encoder that shape the inputs."""

    @property
    def shape(self) -> Mapping[str, Any]:
        """Arguments of the network that follow from the inputs."""

    def read(self, frame: KeyFrame) -> Inputs:
        """Return the inputs of a key frame."""
        ...


class PolarInput(ABC):
    """The polar grid of a key frame; see HeadInput.  Subclasses define the sensor and the grid.

    features: of each cell.  config: options of the encoder, with ``min_range``.
    """

    kind: str
    version: int
    backbone = ''
    features: int
    config: Any

    def __init__(self, azimuths: int = 288, ranges: int = 40) -> None:
        self.shape = {'features': self.features, 'azimuths': azimuths, 'ranges': ranges}
        self.options = {'min_range': self.config.min_range}

    @abstractmethod
    def grid(self, frame: KeyFrame, azimuths: int, ranges: int) -> np.ndarray:
        """Return the grid [features, azimuths, ranges] of a key frame."""

    def read(self, frame: KeyFrame) -> Inputs:
        """See HeadInput."""
        import torch

        grid = self.grid(frame, self.shape['azimuths'], self.shape['ranges'])
        return {'grid': torch.from_numpy(grid).half()}


@dataclass(frozen=True)
class PretrainingConfig(Options):
    """Options of training a head.  Raises OptionError for values out of range.

    The learning rate rises linearly and falls to almost 0 on half a cosine.
    """

    max_distance: float = option(30.0, 'largest distance of objects that count', unit='m', low=1e-30)
    min_points: int = option(5, 'measured points on an object that counts', low=0)
    validation: float = option(0.15, 'share of the scenes that is held out', low=1e-30, high=.999)
    epochs: int = option(20, 'epochs, at most', low=1)
    batch: int = option(32, 'frames per step', low=1)
    learning_rate: float = option(2e-3, 'highest learning rate', low=1e-30)
    weight_decay: float = option(0.05, 'weight decay', low=0)
    warm_up: float = option(0.15, 'share of the steps over which the learning rate rises', low=0, high=.999)
    patience: int = option(
        0, 'epochs without a better validation after which training stops; 0: never', low=0)
    presence: float = option(0.5, 'weight of the loss on presence', low=0)
    hide_views: float = option(0.2, 'share of frames in which some cameras are left out', low=0, high=.999)
    hide_earlier: float = option(
        0.15, 'share of frames whose earlier reading is left out, of detections', low=0, high=1)
    dtype: str = option(
        'float32', 'number format of the products of detections; bfloat16 takes half the time on a processor '
                   'with matrix instructions for it, and is slower on others',
        choices=('float32', 'bfloat16'))
    clip: float = option(1.0, 'largest norm of the gradient', low=1e-30)
    hidden: int = option(64, 'hidden width of the network', low=1)
    ring: int = option(128, 'width of the layers around the circle', low=1)
    depth: int = option(3, 'number of layers around the circle', low=1)
    dropout: float = option(0.0, 'dropout of the network', low=0, high=.999)
    seed: int = option(0, 'random seed')

    @property
    def scope(self) -> Scope:
        """Return the objects that count."""
        return Scope(self.max_distance, self.min_points)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate factor of a step, counted from 0: linear warm-up, then half a cosine."""
        rise = max(1, round(self.warm_up * steps))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - rise) / max(1, steps + 1 - rise)))


@dataclass(frozen=True)
class HeadTraining:
    """Training of the heads of one sensor, and the encoder options that select a head.

    inputs: device -> HeadInput; that of the camera loads its backbone.
    network: (channels, **shape) -> the network, untrained.
    options: defaults of `mpnp pretrain`.
    selects: options of an encoder that counts objects by a head.
    """

    inputs: Callable[[str], HeadInput]
    network: Callable[..., HeadNetwork]
    options: PretrainingConfig
    selects: Mapping[str, Any] = field(default_factory=dict)


def polar_network(channels: Any, **shape: Any) -> PolarSectorHead:
    """Return an untrained network for polar grids."""
    from mpnp_ros.modalities.heads import PolarSectorHead

    return PolarSectorHead(channels, **shape)

"""Inputs of heads that read a polar grid."""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from mpnp_ros.modalities.head_training import Inputs
from mpnp_ros.nuscenes.key_frame import KeyFrame


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
        grid = self.grid(frame, self.shape['azimuths'], self.shape['ranges'])
        return {'grid': torch.from_numpy(grid).half()}

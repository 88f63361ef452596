"""True objects as a modality: an encoder without errors.

Links to true objects are trained first, and links to sensors start from them.  The channels are those of the
heads of sensors: expected numbers of objects by category and status.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.questions.generator import Scope, objects_of
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens

OBJECTS = 'objects'


def counting(channels: Iterable[tuple[str, str | None]]) -> dict[str, Any]:
    """Return the options of a link that counts the channels of an encoder."""
    names = tuple(category if status is None else f'{category}: {status}' for category, status in channels)
    return {'pooling': 'counting', 'channels': names}


class TrueObjects:
    """An encoder of annotations: one token for each object, 1 in its channel, in its direction.

    An object without annotated status counts as an equal part of all channels of its category.  A frame
    without objects is one token of zeros without a direction.  See
    :class:`mpnp_ros.modalities.registry.Encoder`.
    """

    modality = OBJECTS
    channels = CHANNELS
    token_width = len(CHANNELS)

    def __init__(self, scope: Scope | None = None) -> None:
        self.scope = scope or Scope()
        self.fingerprint = f'objects-{self.scope.max_distance:g}m-{self.scope.min_points}'

    def encode(self, frame: KeyFrame) -> ModalityTokens:
        """Return the objects of a key frame in the scope of questions.

        Raises DatasetError if its scene is not annotated.
        """
        if not frame.annotated:
            raise DatasetError(f'nothing is annotated in scene {frame.scene}, so that its objects are not '
                               'known; use scenes with annotations')
        objects = objects_of(frame, self.scope)
        values = np.zeros((max(1, len(objects)), self.token_width), np.float32)
        azimuth = np.full(len(values), np.nan, np.float32)
        for row, item in enumerate(objects):
            of_category = [place for place, (category, _) in enumerate(CHANNELS) if category == item.category]
            channels = [place for place in of_category if CHANNELS[place][1] == item.attribute] or of_category
            values[row, channels] = 1 / len(channels)
            azimuth[row] = math.atan2(item.centre[1], item.centre[0])
        return ModalityTokens(self.modality, self.fingerprint, values, azimuth, stamp_ns=frame.stamp_ns)

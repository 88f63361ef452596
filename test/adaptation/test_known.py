"""What the adaptation node knows of modalities."""
from __future__ import annotations

import numpy as np

from mpnp_ros.adaptation.known import ObservedState
from mpnp_ros.tokens import ModalityTokens


def counts(modality: str, width: int, known: bool = True) -> ModalityTokens:
    return ModalityTokens(modality, 'e', np.zeros((1, width), np.float32), np.zeros(1, np.float32),
                          known=np.ones(width if known else 0, bool))


def test_sensors_of_other_things_do_not_count_the_same():
    observed = ObservedState()
    for tokens in (counts('camera', 24), counts('lidar', 24), counts('imu', 11), counts('radar', 9, False)):
        observed.take_tokens(tokens)
    assert observed.counts_otherwise('camera', 'imu') and observed.counts_otherwise('imu', 'lidar')
    assert not observed.counts_otherwise('camera', 'lidar')
    assert not observed.counts_otherwise('camera', 'radar'), 'features may be of anything'
    assert not observed.counts_otherwise('camera', 'unheard')

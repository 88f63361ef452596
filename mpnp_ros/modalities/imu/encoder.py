"""The IMU encoder: probabilities of own motion from the readings of the last minutes."""
from __future__ import annotations

import numpy as np
import torch

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.heads import Head, load_head
from mpnp_ros.modalities.imu.channels import BUMP, CHANNELS, GROUPS
from mpnp_ros.modalities.imu.config import ImuConfig
from mpnp_ros.modalities.imu.features import BUMP_FILTER, VERSION, MotionFeatures, motion_features
from mpnp_ros.modalities.imu.frames import ImuFrame
from mpnp_ros.modalities.imu.network import MotionNetwork, inputs_of
from mpnp_ros.tokens import SECTORS, ModalityTokens

SURE_ENOUGH = 0.7
"""Certainty of the direction ahead from which the pace can be told."""


class ImuEncoder:
    """Encode an :class:`ImuFrame`; see :class:`mpnp_ros.modalities.registry.Encoder`.

    One token without a direction: the probability of each of :attr:`channels`, in the newest second of the
    frame, the bump in the newest two.  ``known`` says which can be told: the pace once the direction ahead
    is known, left and right once up is, the bump at 20 readings a second or more, the speed and the rest
    after two seconds.  Groups that cannot be told have equal probabilities.
    """

    modality = 'imu'
    channels = CHANNELS
    token_width = len(CHANNELS)

    def __init__(self, config: ImuConfig, head: Head | None = None) -> None:
        self.head = head or load_head(config.head, self.modality)
        if self.head.manifest.channels != CHANNELS or not isinstance(self.head.network, MotionNetwork):
            raise WeightsError(f'head {self.head.folder} has other channels than own motion; choose another')
        self.config = self.head.configure(config)
        self.fingerprint = self.config.fingerprint(self.modality, self.head.manifest.sha256, VERSION)

    def encode(self, frame: ImuFrame) -> ModalityTokens:
        """Return the token; raises ImuError where the readings cannot be used."""
        features = motion_features(frame, self.config.gravity)
        known = channels_known(features, frame.rate)
        values = self.probabilities(features) if len(features.rotation) else np.zeros(len(CHANNELS))
        for group in GROUPS.values():
            if not known[group].any():
                values[group] = 1 / (group.stop - group.start)
        stamp = int(frame.stamps_ns[-1])
        return ModalityTokens(
            modality=self.modality, encoder=self.fingerprint, values=values[None].astype(np.float32),
            azimuth=np.full(1, np.nan, np.float32), sources=(frame.name,),
            source_index=np.zeros(1, np.uint16), source_stamps_ns=(stamp,), stamp_ns=stamp,
            frame_id=frame.frame_id, known=known, looked=np.ones(SECTORS, bool))

    @torch.inference_mode()
    def probabilities(self, features: MotionFeatures) -> np.ndarray:
        """Return the probability of each channel [C] in the newest second."""
        scores = self.head.network(inputs_of([features]))
        groups = [getattr(scores, name)[0, -1].exp() for name in GROUPS]
        found: np.ndarray = torch.cat([*groups, scores.bump[0, -1:].sigmoid()]).double().numpy()
        for group in GROUPS.values():
            found[group] /= found[group].sum()
        return found


def channels_known(features: MotionFeatures, rate: float) -> np.ndarray:
    """Return which channels can be told, bool [C]; rate: readings a second."""
    known = np.zeros(len(CHANNELS), bool)
    if len(features.rotation) and features.there[-1]:
        known[:] = True
        known[GROUPS['pace']] = features.certainty > SURE_ENOUGH
        known[CHANNELS.index(('turn', 'left'))] = known[CHANNELS.index(('turn', 'right'))] = features.sided
        known[CHANNELS.index((BUMP, None))] = rate >= BUMP_FILTER - 0.5
    return known

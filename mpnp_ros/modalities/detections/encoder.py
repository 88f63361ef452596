"""The encoder of detections: one token an object, its probability divided among categories and statuses."""
from __future__ import annotations

import hashlib
import json

from mpnp_ros.detection.detections import Detections, detection_tokens
from mpnp_ros.modalities.detections.config import DetectionsConfig
from mpnp_ros.questions.vocabulary import CHANNELS
from mpnp_ros.tokens import ModalityTokens

VERSION = 1  # goes up whenever the same detections give other tokens


class DetectionsEncoder:
    """Encode :class:`~mpnp_ros.detection.detections.Detections`; see
    :class:`mpnp_ros.modalities.registry.Encoder`.

    Tokens count objects as those of ``mpnp_ros.training.true_objects`` do, whatever detects them.
    """

    modality = 'detections'
    channels = CHANNELS
    token_width = len(CHANNELS)

    def __init__(self, config: DetectionsConfig) -> None:
        self.config = config
        names = hashlib.sha256(json.dumps(CHANNELS).encode()).hexdigest()
        self.fingerprint = config.fingerprint(self.modality, names, VERSION)

    def encode(self, frame: Detections) -> ModalityTokens:
        """Return one token for each object within reach; one of zeros where there is none."""
        return detection_tokens(frame, self.modality, self.fingerprint, self.config.reach)

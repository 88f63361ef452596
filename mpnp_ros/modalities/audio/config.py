"""Options of the audio encoder."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpnp_ros.modalities.registry import EncoderConfig
from mpnp_ros.options import option

YAMNET = 'yamnet'
LONGEST = 10.0
"""Seconds of the longest window."""


@dataclass(frozen=True)
class AudioConfig(EncoderConfig):
    """Defaults: YAMNet as it installs with the package."""

    weights: str = option(
        YAMNET, 'classifier of sounds: yamnet; a .tflite file of YAMNet; or the folder or Hugging Face id of '
                'a model of transformers for audio classification', shapes_tokens=False)
    window: float = option(2.0, 'length of the sound that a token is about', unit='s', low=0.5, high=LONGEST)
    speed_of_sound: float = option(343.0, 'speed of sound in the air', unit='m/s', low=250, high=450,
                                   shapes_tokens=False)
    least_coherence: float = option(
        0.06, 'how well the microphones must agree on a direction, 0 to 1; below, a token has none', low=0,
        high=1, shapes_tokens=False)

    def check(self) -> Iterator[str]:
        """The weights must be named."""
        if not self.weights.strip():
            yield 'weights is empty; name yamnet, a .tflite file, or a model of transformers'

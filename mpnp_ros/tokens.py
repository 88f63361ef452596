"""Tokens of one modality: what an encoder gives and a latent connection reads.

The in-memory twin of ``mpnp_ros/msg/ModalityTokens``; :mod:`mpnp_ros.conversions.tokens` maps one
to the other without copying.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mpnp_ros.errors import TokensError

DTYPES = ('float32', 'float16')
NO_SOURCE = 65535
"""Source index of a token whose direction no source looks to."""


@dataclass(frozen=True, eq=False)
class ModalityTokens:
    """Tokens of one modality from one sensor frame or one synchronised set of frames.

    modality: registered name, e.g. ``camera``.
    encoder: fingerprint of the encoder that made them (:attr:`Encoder.fingerprint`).
    values: [P, D] float32 or float16, finite.
    azimuth: [P] float32, radians in (-pi, pi], counter-clockwise from +x of ``frame_id``
        (REP-103: 0 is ahead, +pi/2 is left); NaN for a token without a direction.
    sources: names of the views or sensors in the set, e.g. ``('cam_front', 'cam_back')``.
    source_index: [P] uint16, which source each token comes from; NO_SOURCE where none looks that way.
    source_stamps_ns: sensor time of each source, nanoseconds.
    stamp_ns: sensor time of the oldest source, nanoseconds.
    frame_id: frame in which the azimuths are expressed.
    quality: of the input, 0 (nothing can be seen in it) to 1; NaN where nobody has judged it.
    concerns: what lowers the quality, in words.
    input_age: seconds, age of the newest input when it arrived at the encoder; NaN: not told.
    encode_duration: seconds from that arrival to publication; NaN: not told.
    """

    modality: str
    encoder: str
    values: np.ndarray
    azimuth: np.ndarray
    sources: tuple[str, ...] = ()
    source_index: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    source_stamps_ns: tuple[int, ...] = ()
    stamp_ns: int = 0
    frame_id: str = 'base_link'
    quality: float = math.nan
    concerns: tuple[str, ...] = ()
    input_age: float = math.nan
    encode_duration: float = math.nan

    def __post_init__(self) -> None:
        v, a, name = self.values, self.azimuth, self.modality or '(unnamed)'
        if v.ndim != 2 or 0 in v.shape:
            raise TokensError(f'{name} tokens have shape {list(v.shape)}; expected [P, D], P and D > 0')
        if v.dtype.name not in DTYPES:
            raise TokensError(f'{name} tokens are {v.dtype.name}; expected one of {", ".join(DTYPES)}')
        if a.shape != (len(v),):
            raise TokensError(f'{name} tokens: {len(v)} tokens but azimuth of shape {list(a.shape)}')
        if len(self.source_index) not in (0, len(v)):
            raise TokensError(f'{name} tokens: {len(v)} tokens but {len(self.source_index)} source indices')
        if not np.isfinite(v).all():
            raise TokensError(f'{name} tokens hold NaN or Inf; the encoder or its input is broken')

    @property
    def count(self) -> int:
        """P, the number of tokens."""
        return self.values.shape[0]

    @property
    def width(self) -> int:
        """D, the width of one token."""
        return self.values.shape[1]

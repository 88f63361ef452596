"""Tokens of one modality: the output of an encoder and the input of a link.

The in-memory twin of ``mpnp_ros/msg/ModalityTokens``; :mod:`mpnp_ros.conversions.messages` maps one to the
other without copying.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mpnp_ros.errors import TokensError

DTYPES = ('float32', 'float16')
SECOND = 1_000_000_000
"""Nanoseconds of a second, the unit of stamps."""
SECTOR, SECTORS = 5, 72
"""Sectors of 5 degrees, counter-clockwise; the first one begins straight behind.

The borders of NuScenes-QA's six directions are borders of sectors.
"""
VIEW = 120.0
"""Assumed field of view in degrees if only one direction is known."""
NO_SOURCE = 65535
"""Source index of a token in whose direction no source looks."""


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
    quality: of the input, 0 (nothing can be seen in it) to 1; NaN where it is not judged.
    concerns: what lowers the quality, in words.
    input_age: seconds, age of the newest input when it arrived at the encoder; NaN: unknown.
    encode_duration: seconds from that arrival to publication; NaN: unknown.
    distance: [P] float32, metres from the origin of ``frame_id``, NaN where it is not known; empty: for no
        token.
    known: [D] bool, which channels of tokens that count the encoder can tell at all; empty: all.
    looked: [SECTORS] bool, in which sectors some source looks; empty: where the sources of tokens look, see
        :meth:`sectors_looked_at`.
    max_distance: metres up to which the encoder counts; NaN: unknown.
    boxes: [P, 4] float32, left, top, right and bottom in pixels of the image of the token's source, NaN where
        there is no box; empty: for no token.
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
    distance: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    known: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    looked: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    max_distance: float = math.nan
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))

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
        for field_name, size in (('distance', len(v)), ('known', v.shape[1]), ('looked', SECTORS)):
            if len(getattr(self, field_name)) not in (0, size):
                raise TokensError(f'{name} tokens: {field_name} has {len(getattr(self, field_name))} values; '
                                  f'expected {size}, or none')
        if self.boxes.shape not in ((0, 4), (len(v), 4)):
            raise TokensError(f'{name} tokens: boxes have shape {list(self.boxes.shape)}; expected '
                              f'{[len(v), 4]}, or none')
        if not np.isfinite(v).all():
            raise TokensError(f'{name} tokens hold NaN or Inf; the encoder or its input is broken')

    @property
    def count(self) -> int:
        """Return P, the number of tokens."""
        return self.values.shape[0]

    @property
    def width(self) -> int:
        """Return D, the width of one token."""
        return self.values.shape[1]

    def sectors_looked_at(self) -> np.ndarray:
        """Return the sectors in which some source looks, bool [SECTORS].

        All sectors if unknown: tokens without source names, or without directions.
        """
        if len(self.looked):
            return self.looked
        seeing = self.source_index != NO_SOURCE
        if not seeing.size or np.isnan(self.azimuth[seeing]).any():
            return np.ones(SECTORS, bool)
        azimuth, index = self.azimuth[seeing].astype(np.float64), self.source_index[seeing]
        degrees = np.degrees(azimuth)
        apart = np.concatenate([np.empty(0), *(_gaps(degrees[index == each]) for each in np.unique(index))])
        if not apart.size and not seeing.all():  # a source that looks to one of many tokens
            apart = _gaps(np.degrees(self.azimuth.astype(np.float64)))
        half = float(np.median(apart)) / 2 if apart.size else VIEW / 2
        offsets = np.linspace(0.1 - half, half - 0.1, 2 + math.ceil(2 * half / SECTOR))
        seen = np.zeros(SECTORS, bool)
        seen[sector_of(azimuth[:, None] + np.radians(offsets)).ravel()] = True
        return seen


def sector_azimuths() -> np.ndarray:
    """Return the azimuth of the middle of each sector, float32 [SECTORS] radians, rising."""
    return ((np.arange(SECTORS) + 0.5) * math.tau / SECTORS - math.pi).astype(np.float32)


def sector_of(azimuth: np.ndarray) -> np.ndarray:
    """Return the sector that each azimuth (radians, any turn) lies in, int64."""
    turns = np.asarray(azimuth, np.float64) / math.tau + 0.5
    return np.floor((turns - np.floor(turns)) * SECTORS).astype(np.int64).clip(0, SECTORS - 1)


def _gaps(degrees: np.ndarray) -> np.ndarray:
    """Return the angles between neighbouring directions of one source."""
    apart = np.diff(np.unique(degrees))
    return np.minimum(apart, 360 - apart)

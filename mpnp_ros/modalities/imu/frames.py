"""Readings of an IMU over some time, and how they are brought to one even rate."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpnp_ros.errors import ImuError
from mpnp_ros.tokens import SECOND

HIGHEST_RATE = 100.0
"""Rate in hertz to which faster readings are averaged."""
SMOOTHED = 10
"""Readings to each side over which jitter of stamps is smoothed."""
GAP = 0.25
"""Seconds without a reading that are a gap; at low rates three periods."""
BURSTS = 4.0
"""The usual time between readings is this many times below the mean where they come in bursts."""


@dataclass(frozen=True, eq=False)
class ImuFrame:
    """Readings of one IMU up to one moment, in its own axes.

    name: of the IMU.  stamps_ns: int64 [N], rising.  rotation: [N, 3] radians/second.  acceleration: [N, 3]
    metres/second^2, with or without gravity.  orientation: [N, 4] (w, x, y, z), sensor axes -> a frame whose
    z points up; None: absent.  mount: [3, 3], sensor axes -> base frame (x ahead, y left, z up); None:
    unknown.  frame_id: name of the base frame.
    """

    name: str
    stamps_ns: np.ndarray
    rotation: np.ndarray
    acceleration: np.ndarray
    orientation: np.ndarray | None = None
    mount: np.ndarray | None = None
    frame_id: str = 'base_link'

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def rate(self) -> float:
        """Median number of readings a second; 0 with fewer than two.

        Of readings that come in bursts, the mean number.
        """
        apart = np.diff(self.stamps_ns)
        if not len(apart):
            return 0.0
        usual, mean = float(np.median(smoothed_intervals(apart))), float(apart.mean())
        return SECOND / max(1.0, mean if usual < mean / BURSTS and mean < GAP * SECOND else usual)


@dataclass(frozen=True, eq=False)
class EvenReadings:
    """Readings at an even rate that ends with the newest one.

    rate: hertz, up to HIGHEST_RATE.  rotation, acceleration: [M, 3].  there: bool [M], False in gaps, whose
    values are interpolated.
    """

    rate: float
    rotation: np.ndarray
    acceleration: np.ndarray
    there: np.ndarray


def smoothed_intervals(apart: np.ndarray) -> np.ndarray:
    """Return means of neighbouring intervals; messages often come in bursts."""
    size = min(len(apart), SMOOTHED)
    return np.convolve(apart, np.ones(size) / size, 'valid') if size else apart


def checked(frame: ImuFrame) -> ImuFrame:
    """Return the frame; raises ImuError where its arrays do not fit together or cannot be read."""
    count = len(frame.stamps_ns)
    shapes = {'rotation': (count, 3), 'acceleration': (count, 3)}
    if frame.orientation is not None:
        shapes['orientation'] = (count, 4)
    for name, shape in shapes.items():
        found = getattr(frame, name)
        if found.shape != shape:
            raise ImuError(f'{frame.name}: {name} has shape {list(found.shape)}; expected {list(shape)}')
        if not np.isfinite(found).all():
            raise ImuError(f'{frame.name}: {name} holds NaN or Inf; leave such readings out')
    if count < 2:
        raise ImuError(f'{frame.name}: {count} readings are too few; at least 2 are needed')
    if (np.diff(frame.stamps_ns) <= 0).any():
        raise ImuError(f'{frame.name}: stamps do not rise; sort readings and leave repeated ones out')
    return frame


def evened(frame: ImuFrame) -> EvenReadings:
    """Return readings at an even rate: jitter is smoothed, fast readings are averaged, gaps are bridged."""
    seconds = unjittered((frame.stamps_ns - frame.stamps_ns[-1]) / SECOND)
    values = np.concatenate([frame.rotation, frame.acceleration], 1)
    rate = frame.rate
    group = min(max(1, int(rate / HIGHEST_RATE + 0.01)), len(seconds) // 2)
    if group > 1:
        first = len(seconds) % group
        seconds = seconds[first:].reshape(-1, group).mean(1)
        values = values[first:].reshape(-1, group, 6).mean(1)
        seconds -= seconds[-1]
        rate /= group
    rate = min(rate, HIGHEST_RATE)
    count = max(2, int(-seconds[0] * rate + 1e-6) + 1)
    grid = np.arange(1 - count, 1) / rate
    even = np.stack([np.interp(grid, seconds, column) for column in values.T], 1)
    after = np.searchsorted(seconds, grid).clip(1, len(seconds) - 1)
    there = seconds[after] - seconds[after - 1] <= max(GAP, 3 / rate)
    return EvenReadings(rate, even[:, :3], even[:, 3:], there)


def unjittered(seconds: np.ndarray) -> np.ndarray:
    """Return times whose jitter is smoothed, except beside gaps; they still rise."""
    if len(seconds) < 2 * SMOOTHED + 1:
        return seconds
    apart = np.diff(seconds)
    breaks = np.flatnonzero(apart > max(GAP, 3 * float(np.median(smoothed_intervals(apart))))) + 1
    parts = []
    for part in np.split(seconds, breaks):
        size = min(SMOOTHED, (len(part) - 1) // 2)
        if size:
            places = np.arange(len(part))
            trend = np.polyval(np.polyfit(places, part, 1), places)
            padded = np.pad(part - trend, size, mode='edge')
            part = trend + np.convolve(padded, np.ones(2 * size + 1) / (2 * size + 1), 'valid')
        parts.append(part)
    return np.maximum.accumulate(np.concatenate(parts))


class ReadingBuffer:
    """Keeps the readings of the last seconds; adding one costs the same at any rate.

    A reading is [10]: rotation rate, acceleration, and orientation (w, x, y, z), NaN where it is absent.
    """

    def __init__(self, seconds: float) -> None:
        self._span = round(seconds * SECOND)
        self._stamps = np.zeros(1024, np.int64)
        self._rows = np.zeros((1024, 10))
        self._first = self._end = 0

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def newest_ns(self) -> int:
        """Return the stamp of the newest reading; raises IndexError where there is none."""
        if not len(self):
            raise IndexError('no reading')
        return int(self._stamps[self._end - 1])

    def clear(self) -> None:
        """Forget all readings."""
        self._first = self._end = 0

    def add(self, stamp_ns: int, reading: np.ndarray) -> None:
        """Add a reading; its stamp must be after that of the newest one."""
        if self._end == len(self._stamps):
            count = len(self)
            size = max(1024, 2 * count)
            stamps, rows = np.zeros(size, np.int64), np.zeros((size, 10))
            kept = slice(self._first, self._end)
            stamps[:count], rows[:count] = self._stamps[kept], self._rows[kept]
            self._stamps, self._rows, self._first, self._end = stamps, rows, 0, count
        self._stamps[self._end], self._rows[self._end] = stamp_ns, reading
        self._end += 1
        while self._stamps[self._first] < stamp_ns - self._span:
            self._first += 1

    def frame(self, name: str, mount: np.ndarray | None, frame_id: str) -> ImuFrame:
        """Return a copy of the readings as a frame."""
        part = slice(self._first, self._end)
        rows = self._rows[part].copy()
        oriented = bool(len(rows)) and bool(np.isfinite(rows[:, 6:]).all())
        return ImuFrame(name, self._stamps[part].copy(), rows[:, :3], rows[:, 3:6],
                        rows[:, 6:] if oriented else None, mount, frame_id)

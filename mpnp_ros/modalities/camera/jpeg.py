"""Whether the data of a JPEG file is whole.

libjpeg decodes damaged files too: it fills in grey where data is missing, and its warnings do not reach the
callers of Pillow.  These checks cost next to nothing in a sound file, and find no sound file damaged:

- a marker where none can be, restart markers that are missing or out of turn, scans that are missing;
- data that is used up before the last pixel, or left over after it, told by how far the decoder reads;
- a part between two restart markers that ends in grey, which is then decoded again by itself;
- a picture that depends on what follows the data of each scan of a progressive file, which is decoded twice;
- a run of zeros that the file's Huffman tables do not give.

Damage that leaves the number of pixels unchanged is not found, nor is all damage between restart markers and
in the later scans of a progressive file, which spoils less of the picture.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image

END = b'\xff\xd9'
PADDING = b'\xff\x00' * 8  # no Huffman code is all ones; the decoder looks ahead by less than eight bytes
SURPLUS = 16               # some cameras leave a few bytes between the last pixel and the end
ZEROS = bytes(16)
OTHER = bytes(value * 89 % 251 for value in range(400))  # decoded as data only where data is missing
GREY = 128                 # what libjpeg fills in
HEADER_READ = 1024         # Pillow reads headers in smaller pieces, data in larger ones
LONGEST = 65_500           # pixels in a row of a JPEG
TRIED = 64                 # parts between restart markers that are decoded again, at most
DHT, EOI, SOS, DQT, DRI = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), 0xC2
FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
SEGMENTS = FRAMES | {DHT, 0xCC, SOS, DQT, 0xDC, DRI, 0xFE, *range(0xE0, 0xF0)}


@dataclass
class Layout:
    """The layout of a JPEG, by its markers.

    segments: by code, of the whole file.  frame: code of the frame.  closed: the file has an end.
    orderly: no marker is missing or out of turn.  start, end: of the data of the first scan.
    ends: of the data of all scans and, within them, before restart markers.
    interval: minimum coded units (MCU) between restart markers, 0: none.  restarts: where these are.
    mcu: width and height in pixels.  mcus: how many in a row and in a column.
    """

    segments: dict[int, list[bytes]] = field(default_factory=dict)
    frame: int = 0
    closed: bool = False
    orderly: bool = True
    start: int = 0
    end: int = 0
    ends: list[int] = field(default_factory=list)
    interval: int = 0
    restarts: tuple[int, ...] = ()
    mcu: tuple[int, int] = (8, 8)
    mcus: tuple[int, int] = (1, 1)

    @property
    def sequential(self) -> bool:
        """Whether all data is one sequential, Huffman coded scan."""
        return self.frame in SEQUENTIAL and len(self.segments[SOS]) == 1

    def zeros_are_blocks(self) -> bool:
        """Whether zeros may be blocks without detail: the code of all zeros ends a block of luminance."""
        table = 0x10 | self.segments[SOS][0][6] & 15
        for segment in self.segments.get(DHT, ()):
            at = 4
            while at + 17 < len(segment):
                if segment[at] == table:
                    return segment[at + 17] == 0
                at += 17 + sum(segment[at + 1:at + 17])
        return False


class Feed(BytesIO):
    """A file that is read in pieces that end at ``cuts``; ``asked`` is how much of it was read."""

    def __init__(self, data: bytes, cuts: tuple[int, ...]) -> None:
        super().__init__(data)
        self._cuts = cuts
        self.asked = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read at most ``size`` bytes, up to the next cut."""
        at = self.tell()
        if size is not None and size >= HEADER_READ:
            size = min([size, *(cut - at for cut in self._cuts if cut > at)])
        piece = super().read(size)
        self.asked = max(self.asked, at + len(piece))
        return piece


class JpegFile:
    """A JPEG file to be opened by Pillow.

    ``stream`` is what to open and load; where :meth:`is_short` is true then, load ``plain`` instead.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._layout = layout = read_layout(data)
        self._feed: Feed | None = None  # tells how far the decoder reads
        if layout is not None and layout.sequential and not layout.interval:
            end = layout.end
            self._feed = Feed(b''.join((memoryview(data)[:end], PADDING, END)),
                              (end - SURPLUS, end, end + len(PADDING)))
        self.stream: BytesIO = self._feed or self.plain

    @property
    def plain(self) -> BytesIO:
        """The file as it is, with an end."""
        return BytesIO(self._data if self._layout and self._layout.closed else self._data + END)

    def is_short(self) -> bool:
        """Whether the decoder went on reading after the end of the data of ``stream``."""
        feed, layout = self._feed, self._layout
        return feed is not None and layout is not None and feed.asked > layout.end + len(PADDING)

    def is_damaged(self, image: Image.Image, load: Callable[[BytesIO], Image.Image]) -> bool:
        """Whether the data is not whole; ``image``: what ``load`` made of it, at any scale."""
        layout = self._layout
        if layout is None or not layout.orderly or self.is_short():
            return True
        if self._feed is not None and self._feed.asked <= layout.end - SURPLUS:
            return True
        if not layout.sequential:
            if layout.frame not in (*SEQUENTIAL, PROGRESSIVE):
                return False  # arithmetic coding may leave out zeros at the end
            edges = [0, *layout.ends, len(self._data)]
            parts = [self._data[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]
            return image.tobytes() != load(BytesIO(OTHER.join(parts))).tobytes()
        zeros = self._data.find(ZEROS, layout.start, layout.end)
        if zeros >= 0 and not layout.zeros_are_blocks():
            return True
        return layout.interval > 0 and self._has_short_interval(layout, image)

    def _has_short_interval(self, layout: Layout, image: Image.Image) -> bool:
        """Decode by themselves the parts between restart markers whose last pixels are grey."""
        if image.mode not in ('L', 'RGB'):
            return False
        (width, height), (columns, rows) = layout.mcu, layout.mcus
        edges = (layout.start, *layout.restarts, layout.end)
        last = np.minimum(np.arange(1, len(edges)) * layout.interval, columns * rows) - 1
        scale = min((1, 2, 4, 8), key=lambda each: abs(columns * width / image.width - each))
        y = ((last // columns + 0.5) * height / scale).astype(int).clip(0, image.height - 1)
        x = ((last % columns + 0.5) * width / scale).astype(int).clip(0, image.width - 1)
        grey = (np.asarray(image)[y, x].reshape(len(y), -1) == GREY).all(axis=1)
        return any(not _is_complete(layout, self._data[edges[index] + 2 * (index > 0):edges[index + 1]],
                                    int(last[index]) + 1 - index * layout.interval)
                   for index in np.flatnonzero(grey)[:TRIED].tolist())


def _is_complete(layout: Layout, data: bytes, count: int) -> bool:
    """Return whether ``data`` holds ``count`` minimum coded units."""
    rows, odd = divmod(count, layout.mcus[0])
    columns, rows = (count, 1) if odd else (layout.mcus[0], rows)
    width, height = columns * layout.mcu[0], rows * layout.mcu[1]
    if width > LONGEST or height > LONGEST:
        return True
    frame = bytearray(layout.segments[layout.frame][0])
    frame[5:9] = height.to_bytes(2, 'big') + width.to_bytes(2, 'big')
    tables = b''.join(segment for kind in (DQT, DHT) for segment in layout.segments.get(kind, ()))
    file = b'\xff\xd8' + tables + bytes(frame) + layout.segments[SOS][0] + data + PADDING
    try:
        Image.frombytes('L', (-(-width // 8), -(-height // 8)), file, 'jpeg', ('L', '', 8, 0))
    except ValueError:
        return False
    return True


def missing(image: Image.Image) -> float:
    """Return the share of the rows of a damaged JPEG, counted from below, for which there was no data."""
    pixels = np.asarray(image)
    seen = np.flatnonzero((pixels != GREY).reshape(len(pixels), -1).any(axis=1))
    return 1 - (int(seen[-1]) + 1) / len(pixels) if len(seen) else 1.


def read_layout(data: bytes) -> Layout | None:
    """Return the layout of a JPEG; None where the markers before the first scan cannot be read."""
    layout, at = Layout(), 2
    marks = codes = np.zeros(0, int)
    try:
        while at + 1 < len(data) and data[at] == 0xFF:
            while data[at] == 0xFF:
                at += 1
            code = data[at]
            layout.closed = code == EOI
            layout.orderly = layout.closed or code in SEGMENTS
            if code not in SEGMENTS:
                break
            begin, at = at - 1, at + 1 + int.from_bytes(data[at + 1:at + 3], 'big')
            layout.segments.setdefault(code, []).append(data[begin:at])
            if code in FRAMES:
                layout.frame = code
            if code == SOS:
                if not layout.start:
                    layout.start = at
                    values = np.frombuffer(data, np.uint8)[at:]
                    where = np.flatnonzero(values[:-1] == 0xFF)
                    following = values[where + 1]
                    real = (following != 0) & (following != 0xFF)
                    marks, codes = where[real] + at, following[real]
                later = marks[(marks >= at) & ((codes < 0xD0) | (codes > 0xD7))]
                if not len(later):
                    break
                layout.ends += marks[(marks >= at) & (marks <= later[0])].tolist()
                at = int(later[0])
        if not layout.start:
            return None
        _read_scan(layout, data, marks, codes)
    except (LookupError, ValueError, ZeroDivisionError):
        return None
    return layout


def _read_scan(layout: Layout, data: bytes, marks: np.ndarray, codes: np.ndarray) -> None:
    """Fill in where the data of the first scan is, and whether all markers are there that must be."""
    frame = layout.segments[layout.frame][0]
    height, width = int.from_bytes(frame[5:7], 'big'), int.from_bytes(frame[7:9], 'big')
    sampling = [frame[11 + 3 * index] for index in range(frame[9])]
    if len(sampling) > 1:
        layout.mcu = (8 * max(each >> 4 for each in sampling), 8 * max(each & 15 for each in sampling))
    layout.mcus = (-(-width // layout.mcu[0]), -(-height // layout.mcu[1]))
    layout.interval = int.from_bytes(layout.segments[DRI][0][4:6], 'big') if DRI in layout.segments else 0
    ending = np.flatnonzero((codes < 0xD0) | (codes > 0xD7) | (layout.interval == 0))
    count = int(ending[0]) if len(ending) else len(codes)
    layout.restarts = tuple(marks[:count].tolist())
    layout.end = int(marks[count]) if len(ending) else len(data)
    while data[layout.end - 1] == 0xFF:
        layout.end -= 1  # filling
    if layout.sequential and layout.interval:
        columns, rows = layout.mcus
        turns = codes[:count] - 0xD0
        layout.orderly &= count == -(-columns * rows // layout.interval) - 1 \
            and bool((turns == np.arange(count) % 8).all())
    if not layout.sequential and not layout.closed:
        layout.orderly = False


def precision(data: bytes) -> int:
    """Return the bits of a value of a JPEG; 0 where that cannot be read."""
    layout = read_layout(data)
    return layout.segments[layout.frame][0][4] if layout else 0

"""The replay buffer: tokens of moments and questions about them on disk; bounded, balanced and atomic.

<folder>/limits.json                        its limits
<folder>/00001537295833964000.safetensors   a moment, see moments.py, named by its stamp in nanoseconds

One process writes (:class:`ReplayBuffer`); others read at any time (:mod:`~mpnp_ros.adaptation.moments`).

In a full buffer, a quarter is for the newest moments, so that it follows a change of light at once.  The rest
is an even sample of all earlier time: every moment has a random number, fixed by its stamp.  Of the questions
of one cell (source, type, answer, conditions) those of the lowest numbers stay, equally many in every cell
that has enough.  So a cell is an even sample of all its questions ever (bottom-k sampling: Cohen and Kaplan,
PODC 2007), in whatever order they were added and evicted, and a rare cell keeps all its questions.
"""
from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from mpnp_ros.adaptation.moments import (
    FEEDBACK,
    LABELLED,
    SOURCES,
    BufferedQuestion,
    Cell,
    Moment,
    ReplayDataset,
)
from mpnp_ros.errors import ConfigurationError, DatasetError
from mpnp_ros.files import write_file
from mpnp_ros.training.dataset import Frame

RECENT = .25
"""Share of the limits for the newest moments."""
UNASKED: Cell = ('unasked',)
"""The cell of a moment without questions, which counts as one question."""

T = TypeVar('T')
LOG = logging.getLogger(__name__)
LIMITS, SUFFIX = 'limits.json', '.safetensors'
SLACK = 15 / 16
"""Share of the limits that is kept when room is made, so that not every moment evicts."""


@dataclass(frozen=True)
class Limits:
    """Limits of a buffer: bytes of its files, and questions.  Raises ConfigurationError below 1."""

    bytes: int = 256_000_000
    questions: int = 40_000

    def __post_init__(self) -> None:
        if self.bytes < 1 or self.questions < 1:
            raise ConfigurationError(f'a replay buffer of {self.bytes} bytes and {self.questions} questions '
                                     'is too small; use at least 1 of each')

    def share(self, part: float) -> Limits:
        """Return a share of both limits, at least 1."""
        return Limits(max(1, int(part * self.bytes)), max(1, int(part * self.questions)))


@dataclass(frozen=True)
class Holding:
    """A moment without its file: its size in bytes and the cells of its questions."""

    stamp_ns: int
    size: int
    cells: tuple[Cell, ...]

    @property
    def units(self) -> tuple[Cell, ...]:
        """Return the cells in which the moment counts, at least one."""
        return self.cells or (UNASKED,)


def retained(holdings: Iterable[Holding], limits: Limits) -> dict[int, tuple[int, ...]]:
    """Return the stamps of the moments to keep, each with the places of the questions to keep.

    Neither limit is ever exceeded.  A cell keeps all questions if they are at most three quarters of the
    allowed ones, divided by the number of cells, as far as the bytes of their moments fit.
    """
    def random_number(holding: Holding) -> bytes:
        return hashlib.blake2b(str(holding.stamp_ns).encode(), digest_size=8).digest()

    newest_first = sorted(holdings, key=lambda holding: -holding.stamp_ns)
    for_recent = limits.share(RECENT)
    recent: list[Holding] = []
    size = questions = 0
    for holding in newest_first:
        if (size + holding.size > for_recent.bytes
                or questions + len(holding.units) > for_recent.questions):
            break
        size, questions = size + holding.size, questions + len(holding.units)
        recent.append(holding)
    kept = {holding.stamp_ns: tuple(range(len(holding.cells))) for holding in recent}
    older = sorted(newest_first[len(recent):], key=random_number)
    return kept | _sampled(older, limits.questions - questions, limits.bytes - size)


def _sampled(drawn: Sequence[Holding], questions: int, size: int) -> dict[int, tuple[int, ...]]:
    """Return the first questions of every cell, up to one number for all cells, of the moments that fit.

    Moments with a question that is early in its cell come first, so that cells share bytes too.
    """
    seen: Counter[Cell] = Counter()
    ranks: list[list[int]] = []
    for holding in drawn:
        ranks.append([])
        for cell in holding.units:
            ranks[-1].append(seen[cell])
            seen[cell] += 1
    per_cell = _number_per_cell(sorted(seen.values()), questions)
    kept: dict[int, tuple[int, ...]] = {}
    for holding, places in sorted(zip(drawn, ranks, strict=True), key=lambda pair: min(pair[1])):
        size -= holding.size
        if min(places) >= per_cell or size < 0:
            break
        chosen = tuple(place for place, rank in enumerate(places) if rank < per_cell)
        kept[holding.stamp_ns] = chosen if holding.cells else ()
    return kept


def _number_per_cell(counts: Sequence[int], room: int) -> int:
    """Return the maximum number of questions of a cell with which all cells fit; counts ascending."""
    for place, count in enumerate(counts):
        cells = len(counts) - place
        if count * cells > room:
            return room // cells
        room -= count
    return counts[-1] if counts else 0


@dataclass(frozen=True)
class BufferCounts:
    """Contents of a buffer: moments, questions by source, moments by modality, bytes on disk.

    evicted: number of questions evicted since the buffer was opened.
    """

    frames: int
    questions: Mapping[str, int]
    modalities: Mapping[str, int]
    bytes: int
    evicted: int


@dataclass(frozen=True)
class _Stored(Holding):
    """A moment on disk.

    cells, places: of its questions in use.  written: number of questions in its file.  encoders: by modality.
    """

    places: tuple[int, ...] = ()
    written: int = 0
    encoders: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, moment: Moment, size: int) -> _Stored:
        """Return the entry of a moment."""
        count = len(moment.questions)
        return cls(moment.stamp_ns, size, moment.cells, tuple(range(count)), count,
                   {name: tokens.encoder for name, tokens in moment.tokens.items()})

    def sees(self, modality: str, encoder: str) -> bool:
        """Return whether the moment has tokens of a modality; encoder: of this one, '' for any."""
        return modality in self.encoders and encoder in ('', self.encoders[modality])

    def thinned(self, places: tuple[int, ...]) -> _Stored:
        """Return the entry with some of its questions."""
        return replace(self, cells=tuple(self.cells[place] for place in places),
                       places=tuple(self.places[place] for place in places))


class ReplayBuffer:
    """A folder of moments by stamp, which evicts the least useful ones when it is full.  Thread-safe.

    A moment is written at once and atomically, so a killed process loses at most the current one.  After a
    power failure, files of the last seconds may be damaged, and are dropped.  A file is rewritten when half
    of its questions are evicted; until then readers skip these.  The buffer never exceeds its limits of bytes
    and questions.
    """

    def __init__(self, folder: str | Path, limits: Limits | None = None) -> None:
        """Open or create a buffer; damaged and unfinished files are removed with a log line.

        Raises ConfigurationError if the folder cannot be written.
        """
        self.folder, self.limits = Path(folder), limits or Limits()
        self._lock = threading.RLock()
        self._counted: dict[tuple[str, ...], Any] = {}
        self._evicted = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(self.folder / LIMITS, json.dumps(asdict(self.limits)).encode())
        except OSError as error:
            raise ConfigurationError(f'replay buffer {folder} cannot be written ({error}); '
                                     'give a folder that can') from None
        for left in self.folder.glob('.*.*'):
            left.unlink()
        self._stored = {moment.stamp_ns: _Stored.of(moment, size) for moment, size in _moments(
            self.folder, lambda path: path.unlink(missing_ok=True))}
        self._make_room()

    def add(self, frame: Frame, questions: Iterable[BufferedQuestion], stamp_ns: int,
            conditions: tuple[str, ...] = ()) -> None:
        """Add a moment, or further tokens and questions of an existing one.

        conditions: light and weather, if known.  Raises ConfigurationError for a moment larger than the whole
        buffer, and DatasetError for one without tokens.
        """
        moment = Moment(stamp_ns, frame, tuple(questions), conditions)
        with self._lock:
            self._counted.clear()
            if stamp_ns in self._stored and (known := self._moment(stamp_ns)) is not None:
                moment = known.joined(moment)
            if not moment.tokens:
                raise DatasetError(f'replay buffer {self.folder} has no tokens of the moment {stamp_ns}; '
                                   'it may have been evicted: add them again with the questions')
            data = moment.to_bytes()
            if len(data) > self.limits.bytes:
                raise ConfigurationError(f'a moment of {len(data)} bytes does not fit a replay buffer of '
                                         f'{self.limits.bytes} bytes; raise its limit')
            before = self._stored.get(stamp_ns)
            self._stored[stamp_ns] = _Stored.of(moment, len(data))
            self._make_room(unwritten=stamp_ns)
            if stamp_ns not in self._stored:
                return
            try:
                write_file(_path(self.folder, stamp_ns), data, durable=False)
            except OSError:
                self._stored.pop(stamp_ns)
                if before is not None:  # its file is as it was
                    self._stored[stamp_ns] = before
                raise

    def extend(self, stamp_ns: int, questions: Iterable[BufferedQuestion]) -> None:
        """Add questions about a moment.  Raises DatasetError if it does not exist."""
        self.add({}, questions, stamp_ns)

    def __contains__(self, stamp_ns: int) -> bool:
        """Return whether the buffer has a moment of this stamp."""
        with self._lock:
            return stamp_ns in self._stored

    @property
    def counts(self) -> BufferCounts:
        """Return the current contents."""
        def count() -> BufferCounts:
            stored = self._stored.values()
            questions = Counter(cell[0] for moment in stored for cell in moment.cells)
            return BufferCounts(len(stored), {source: questions[source] for source in SOURCES},
                                Counter(name for moment in stored for name in moment.encoders),
                                sum(moment.size for moment in stored), self._evicted)

        return self._once(('counts',), count)

    def labelled(self, modality: str, encoder: str = '') -> int:
        """Return the number of labelled questions about moments with a modality; encoder: '' for any."""
        return self._once(('labelled', modality, encoder), lambda: sum(
            cell[0] in (LABELLED, FEEDBACK) for moment in self._stored.values()
            if moment.sees(modality, encoder) for cell in moment.cells))

    def moments_with(self, modality: str, encoder: str = '') -> Mapping[str, int]:
        """Return for every other modality the number of moments with tokens of both; encoder: '' for any."""
        return self._once(('moments with', modality, encoder), lambda: Counter(
            other for moment in self._stored.values() if moment.sees(modality, encoder)
            for other in moment.encoders if other != modality))

    def _once(self, key: tuple[str, ...], count: Callable[[], T]) -> T:
        """Return what ``count()`` returned for a key since the last change of the contents."""
        with self._lock:
            if key not in self._counted:
                self._counted[key] = count()
            counted: T = self._counted[key]
            return counted

    @staticmethod
    def read(folder: str | Path) -> ReplayDataset:
        """Return the contents of a buffer, from any process, also while another one writes.

        Raises DatasetError for a folder that is not a buffer.
        """
        try:
            limits = Limits(**json.loads((Path(folder) / LIMITS).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise DatasetError(f'{folder} is not a replay buffer ({error})') from None
        moments = {moment.stamp_ns: (moment, size) for moment, size in _moments(Path(folder))}
        kept = retained((Holding(stamp, size, moment.cells) for stamp, (moment, size) in moments.items()),
                        limits)
        return ReplayDataset(tuple(moments[stamp][0].thinned(kept[stamp]) for stamp in sorted(kept)))

    def _moment(self, stamp_ns: int) -> Moment | None:
        """Read a moment from its file; return None if it is missing or damaged."""
        try:
            return Moment.from_bytes(_path(self.folder, stamp_ns).read_bytes())
        except (OSError, DatasetError) as error:
            LOG.warning('moment %d of %s is lost: %s', stamp_ns, self.folder, error)
            return None

    def _make_room(self, unwritten: int | None = None) -> None:
        """Evict questions and moments beyond the limits, possibly the moment about to be written.

        unwritten: stamp of the moment whose file is missing or outdated.
        """
        stored = self._stored.values()
        if (sum(moment.size for moment in stored) <= self.limits.bytes
                and sum(len(moment.units) for moment in stored) <= self.limits.questions):
            return
        kept = retained(stored, self.limits.share(SLACK))
        for stamp in self._stored.keys() - kept.keys():
            self._evicted += len(self._stored.pop(stamp).cells)
            _path(self.folder, stamp).unlink(missing_ok=True)
        for stamp, places in kept.items():
            if len(places) < len(self._stored[stamp].cells):
                self._thin(stamp, places, stamp == unwritten)

    def _thin(self, stamp_ns: int, places: tuple[int, ...], unwritten: bool) -> None:
        """Evict some questions of a moment; its file is rewritten when half of them are gone."""
        before = self._stored[stamp_ns]
        self._evicted += len(before.cells) - len(places)
        self._stored[stamp_ns] = after = before.thinned(places)
        if 2 * len(places) > after.written or unwritten:
            return
        moment = self._moment(stamp_ns)
        if moment is None:
            del self._stored[stamp_ns]
            return
        moment = moment.thinned(after.places)
        data = moment.to_bytes()
        write_file(_path(self.folder, stamp_ns), data, durable=False)
        self._stored[stamp_ns] = _Stored.of(moment, len(data))


def _path(folder: Path, stamp_ns: int) -> Path:
    return folder / f'{stamp_ns:020d}{SUFFIX}'


def _moments(folder: Path,
             refuse: Callable[[Path], None] = lambda path: None) -> Iterator[tuple[Moment, int]]:
    """Yield the valid moments of a folder with their file sizes; damaged ones are logged and skipped."""
    for path in sorted(folder.glob(f'[0-9]*{SUFFIX}')):
        try:
            data = path.read_bytes()
            yield Moment.from_bytes(data), len(data)
        except FileNotFoundError:
            continue
        except (OSError, DatasetError) as error:
            LOG.warning('%s skipped in the replay buffer:  %s', path, error)
            refuse(path)

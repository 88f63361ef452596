"""Questions with true answers, and the tokens of their frames."""
from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mpnp_ros.errors import DatasetError, TokensError
from mpnp_ros.files import new_folder, write_file
from mpnp_ros.tokens import ModalityTokens

ARRAYS, TABLE = 'tokens.safetensors', 'dataset.json'
SCHEMA = 1

ARRAYS_OF_TOKENS = ('values', 'azimuth', 'source_index', 'distance', 'known', 'looked', 'boxes')

Frame = Mapping[str, ModalityTokens]


@dataclass(frozen=True)
class Example:
    """A question about one frame and its true answer.

    choices: closed list of answers, empty where the answer is generated.  type, hops: kind of question
    (arXiv:2305.14836).  frame: key of its frame in :attr:`TokenDataset.frames`.
    """

    question: str
    answer: str
    choices: tuple[str, ...]
    type: str
    hops: int
    frame: str


@dataclass(frozen=True, eq=False)
class TokenDataset:
    """Frames as {key: {modality: tokens}}, and examples about them.

    Frames may share arrays of values, as turned copies do; these are stored once.  conditions: of a frame's
    scene if known, as ('night', 'rain').  Raises DatasetError if an example names a missing frame.
    """

    frames: Mapping[str, Frame]
    examples: tuple[Example, ...]
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {example.frame for example in self.examples} - self.frames.keys()
        if missing:
            raise DatasetError(f'{len(missing)} frames with questions have no tokens, {min(missing)} among '
                               'them; encode them, or leave their questions out')

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities that any frame has, sorted."""
        return tuple(sorted({name for frame in self.frames.values() for name in frame}))

    def only(self, modalities: Iterable[str]) -> TokenDataset:
        """Return the same examples with the tokens of some modalities; without any for the blind baseline."""
        kept = set(modalities)
        return replace(self, frames={key: {name: tokens for name, tokens in frame.items() if name in kept}
                                     for key, frame in self.frames.items()})

    def deduplicated(self) -> TokenDataset:
        """Return the data set without repeated questions about the same frame; the first of each stays."""
        kept: dict[tuple[str, str], Example] = {}
        for example in self.examples:
            kept.setdefault((example.frame, example.question), example)
        return replace(self, examples=tuple(kept.values()))

    def sample(self, count: int, seed: int = 0) -> TokenDataset:
        """Return at most `count` random examples, with all frames."""
        if count >= len(self.examples):
            return self
        drawn = random.Random(seed).sample(self.examples, count)
        return replace(self, examples=tuple(drawn))

    def evened(self, limit: int, seed: int = 0) -> TokenDataset:
        """Return at most `limit` random examples of each type, with all frames."""
        taken: Counter[str] = Counter()
        drawn = []
        for example in random.Random(seed).sample(self.examples, len(self.examples)):
            taken[example.type] += 1
            if taken[example.type] <= limit:
                drawn.append(example)
        return replace(self, examples=tuple(drawn))

    def split(self, held_out: Callable[[str], bool]) -> tuple[TokenDataset, TokenDataset]:
        """Return (rest, held out) by the key of the frame, so that no frame is in both."""
        def part(keys: Set[str]) -> TokenDataset:
            return replace(self, frames={key: frame for key, frame in self.frames.items() if key in keys},
                           examples=tuple(example for example in self.examples if example.frame in keys))

        chosen = {key for key in self.frames if held_out(key)}
        return part(self.frames.keys() - chosen), part(chosen)

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically."""
        with new_folder(folder) as path:
            self.write(path)

    def write(self, folder: Path) -> None:
        """Write the files into an empty folder."""
        arrays = ArrayTable()
        frames = {key: {name: tokens_to_json(tokens, arrays) for name, tokens in frame.items()}
                  for key, frame in self.frames.items()}
        table = {'schema': SCHEMA, 'frames': frames, 'examples': [asdict(entry) for entry in self.examples],
                 'conditions': dict(self.conditions)}
        write_file(folder / ARRAYS, save(arrays.named))
        write_file(folder / TABLE, json.dumps(table).encode())

    @classmethod
    def load(cls, folder: str | Path) -> TokenDataset:
        """Read a saved folder.  Raises DatasetError, naming the folder, if it is unusable."""
        try:
            table = json.loads((Path(folder) / TABLE).read_bytes())
            arrays = load_file(Path(folder) / ARRAYS)
            if table['schema'] != SCHEMA:
                raise ValueError(f'schema {table["schema"]!r}, but this package reads {SCHEMA}')
            frames = {key: {name: tokens_from_json(entry, arrays) for name, entry in frame.items()}
                      for key, frame in table['frames'].items()}
            examples = tuple(Example(**{**entry, 'choices': tuple(entry['choices'])})
                             for entry in table['examples'])
            conditions = {key: tuple(names) for key, names in table.get('conditions', {}).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError,
                TokensError) as error:
            raise DatasetError(f'token dataset {folder} cannot be read ({error}); make it again') from None
        return cls(frames, examples, conditions)


class ArrayTable:
    """Numpy arrays by name, each distinct object once."""

    def __init__(self) -> None:
        self.named: dict[str, np.ndarray] = {}
        self._names: dict[int, str] = {}

    def add(self, array: np.ndarray) -> str:
        """Return the name of an array, which is added to the table if it is new."""
        if id(array) not in self._names:
            self._names[id(array)] = name = str(len(self.named))
            self.named[name] = np.ascontiguousarray(array)
        return self._names[id(array)]


def tokens_to_json(tokens: ModalityTokens, arrays: ArrayTable) -> dict[str, Any]:
    """Return tokens as JSON; their arrays are added to the table."""
    plain = {name: value for name, value in vars(tokens).items() if name not in ARRAYS_OF_TOKENS}
    return {**plain, **{name: arrays.add(getattr(tokens, name)) for name in ARRAYS_OF_TOKENS}}


def tokens_from_json(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ModalityTokens:
    """Read the result of :func:`tokens_to_json`.  Raises KeyError, TypeError or TokensError."""
    parts = {name: arrays[entry[name]] for name in ARRAYS_OF_TOKENS if name in entry}
    lists = {name: tuple(entry.get(name, ())) for name in ('sources', 'source_stamps_ns', 'concerns')}
    return ModalityTokens(**{**entry, **parts, **lists})

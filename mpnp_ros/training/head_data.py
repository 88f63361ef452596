"""Training data of heads: cached inputs of key frames, objects counted by sector, and batches of both."""
from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from mpnp_ros.errors import TrainingError
from mpnp_ros.files import cache_root, cached_folder, write_file
from mpnp_ros.modalities.camera.ground_network import STRIDE
from mpnp_ros.modalities.head_training import HeadInput, Inputs
from mpnp_ros.modalities.heads import covered
from mpnp_ros.questions.generator import Scope
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.tokens import SECTORS, sector_of
from mpnp_ros.training.key_frames import frame_identity, twins
from mpnp_ros.training.true_objects import TrueObjects

ARRAYS = 'inputs.safetensors'
HEADINGS = 288
"""Number of headings that move a polar grid by whole cells."""


def cached_inputs(frame: KeyFrame, source: HeadInput, cache: str | Path | None = None) -> Inputs:
    """Return the inputs of a key frame, cached by its files; cache: see cached_file."""
    return load_file(cached_file(frame, source, cache))


def cached_file(frame: KeyFrame, source: HeadInput, cache: str | Path | None = None) -> Path:
    """Return the file with the inputs of a key frame, made if it is not there.

    cache: folder, default :func:`mpnp_ros.files.cache_root`.
    """
    recipe, identity = recipe_of(source), frame_identity(frame, source.kind)
    folder = cache_root(cache) / 'inputs' / f'{source.kind}-{recipe[:12]}'
    folder.mkdir(parents=True, exist_ok=True)

    def build(empty: Path) -> None:
        write_file(empty / ARRAYS, save({name: tensor.contiguous()
                                         for name, tensor in source.read(frame).items()}))

    return cached_folder(folder / identity[:16], f'{recipe} {identity}', build) / ARRAYS


def recipe_of(source: HeadInput) -> str:
    """Return a sha256 of everything that shapes the inputs besides the frame."""
    text = json.dumps([source.kind, source.version, source.backbone, source.options, source.shape],
                      sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class SectorTargets:
    """The objects of a frame.

    azimuth: [N] radians in the base frame.  weights: float32 [N, C], the share of each object in each
    channel, 1 in all.
    """

    azimuth: np.ndarray
    weights: np.ndarray

    def counts(self, turn: float = 0.0, mirrored: bool = False) -> np.ndarray:
        """Return the number of objects by sector, float32 [SECTORS, C].

        mirrored: left for right.  turn: radians to the left, after that.
        """
        azimuth = (-self.azimuth if mirrored else self.azimuth) + turn
        counts = np.zeros((SECTORS, self.weights.shape[1]), np.float32)
        np.add.at(counts, sector_of(azimuth), self.weights)
        return counts


def sector_targets(frame: KeyFrame, scope: Scope) -> SectorTargets:
    """Return the objects of a key frame in the scope of questions."""
    tokens = TrueObjects(scope).encode(frame)
    there = np.isfinite(tokens.azimuth)
    return SectorTargets(tokens.azimuth[there].astype(np.float64), tokens.values[there])


@dataclass(frozen=True, eq=False)
class SectorDataset:
    """N frames: inputs [N, ...] by name, and the objects and the scene of each frame."""

    inputs: Inputs
    targets: tuple[SectorTargets, ...]
    scenes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scenes)

    def split(self, share: float, seed: int = 0) -> tuple[SectorDataset, SectorDataset]:
        """Return (rest, held out), with a random share of the scenes held out; twins stay together.

        Raises TrainingError if there are fewer than two scenes that are not twins.
        """
        rest, held = held_out(self.scenes, share, seed)
        return self.part(rest), self.part(held)

    def part(self, places: Sequence[int]) -> SectorDataset:
        """Return some of the frames."""
        return SectorDataset({name: values[list(places)] for name, values in self.inputs.items()},
                             tuple(self.targets[place] for place in places),
                             tuple(self.scenes[place] for place in places))

    def batch(self, places: Sequence[int], headings: Sequence[int] | None = None, mirrored: bool = False,
              hidden: Sequence[Sequence[int]] = ()) -> tuple[Inputs, Tensor]:
        """Return inputs of some frames, and their counts [B, SECTORS, C].

        headings: turns to the left, of :data:`HEADINGS`.  mirrored: left for right, before that.  hidden: the
        views of each frame that are left out.  Objects that no camera looks at are not counted.
        """
        headings = headings or [0] * len(places)
        turns = [heading * math.tau / HEADINGS for heading in headings]
        inputs = {name: values[list(places)] for name, values in self.inputs.items()}
        counts = torch.stack([torch.from_numpy(self.targets[place].counts(turn, mirrored))
                              for place, turn in zip(places, turns, strict=True)])
        if 'grid' in inputs:
            return {'grid': turn_grid(inputs['grid'], headings, mirrored)}, counts
        inputs = turn_ring(inputs, torch.tensor(turns, dtype=torch.float32), mirrored)
        for row, views in enumerate(hidden):
            inputs['edges'][row, list(views)] = math.nan
        return inputs, counts * covered(inputs['edges'])[..., None]


def held_out(scenes: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the places of the rest and of a random share of the scenes; twins stay together.

    scenes: of each frame.  Raises TrainingError if there are fewer than two scenes that are not twins.
    """
    groups = sorted({twins(scene) for scene in scenes})
    if len(groups) < 2:
        raise TrainingError(f'all {len(scenes)} frames are of one scene or its twins; training needs '
                            'others to be measured on: add scenes of another seed')
    count = min(max(1, round(share * len(groups))), len(groups) - 1)
    held = set(random.Random(seed).sample(groups, count))
    return ([place for place, scene in enumerate(scenes) if twins(scene) not in held],
            [place for place, scene in enumerate(scenes) if twins(scene) in held])


def turn_grid(grid: Tensor, headings: Sequence[int], mirrored: bool) -> Tensor:
    """Turn polar grids [B, F, A, R] to the left, each by its heading of HEADINGS; mirrored before."""
    grid = grid.flip(2) if mirrored else grid
    steps = [heading * grid.shape[2] // HEADINGS for heading in headings]
    return torch.stack([frame.roll(step, 1) for frame, step in zip(grid, steps, strict=True)])


def turn_places(inputs: Inputs, headings: Sequence[int], mirrored: bool, grid: tuple[int, int]) -> Inputs:
    """Turn grids whose cells appear in images to the left, each by its heading of HEADINGS; mirrored before.

    inputs: of :class:`~mpnp_ros.modalities.camera.ground_network.GroundNetwork`, images uint8
    [B, 2, V, height, width, 3].  grid: its cells, all around and outwards.
    """
    turned, images = dict(inputs), inputs['images']
    views, height, width = images.shape[2:5]
    columns, nothing = width // STRIDE, views * (height // STRIDE) * (width // STRIDE)
    for name in ('rows', 'parts', 'earlier_rows', 'earlier_parts'):
        cells = turn_grid(inputs[name].reshape(len(images), -1, *grid), headings, mirrored).flatten(1)
        cells = cells.long() if name.endswith('rows') else cells.float()
        if mirrored and name.endswith('rows'):
            other = cells + columns - 1 - 2 * (cells % columns)
            cells = torch.where(cells < nothing, other, cells)
        turned[name] = cells
    turned['images'] = images.flip(4) if mirrored else images
    return turned


def turn_ring(inputs: Inputs, turns: Tensor, mirrored: bool) -> Inputs:
    """Turn the mountings of cameras to the left, turns [B] radians; mirrored before."""
    features, slopes, edges = (inputs[name] for name in ('features', 'slopes', 'edges'))
    if mirrored:
        features, slopes, edges = features.flip(3), slopes.flip(3), -edges.flip(2)
    return {'features': features, 'slopes': slopes, 'edges': edges + turns[:, None, None]}


def sector_dataset(frames: Iterable[KeyFrame], source: HeadInput, scope: Scope,
                   cache: str | Path | None = None,
                   progress: Callable[[int], None] | None = None) -> SectorDataset:
    """Return the inputs of key frames, cached, with their objects in a scope.

    progress: called with the number of frames done.  Raises TrainingError if frames differ in their number of
    cameras, or there are none.
    """
    inputs: list[Inputs] = []
    targets: list[SectorTargets] = []
    scenes: list[str] = []
    for frame in frames:
        inputs.append(cached_inputs(frame, source, cache))
        targets.append(sector_targets(frame, scope))
        scenes.append(frame.scene)
        if progress is not None:
            progress(len(inputs))
    if len({tuple(values.shape for values in entry.values()) for entry in inputs}) != 1:
        raise TrainingError(f'{len(inputs)} key frames, not all of the same number of cameras: '
                            'train on frames of one rig')
    return SectorDataset({name: torch.stack([entry[name] for entry in inputs]) for name in inputs[0]},
                         tuple(targets), tuple(scenes))

"""Training data of heads that find objects: cached inputs, read in batches, and objects in their cells."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mpnp_ros.errors import TrainingError
from mpnp_ros.modalities.detection_network import AZIMUTHS, LENGTH, RANGES
from mpnp_ros.modalities.head_training import STEPS, HeadInput, Inputs, PretrainingConfig
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS
from mpnp_ros.training.head_data import (
    HEADINGS,
    SectorTargets,
    cached_file,
    held_out,
    sector_targets,
    turn_grid,
    turn_places,
)

UNKNOWN = -1
"""Channel of an object whose status is not known."""


@dataclass(frozen=True, eq=False)
class DetectionTargets:
    """The objects of a frame that show enough points, as far as the grid goes.

    position: [N, 2] metres in the base frame.  category: [N] index of it.  channel: [N] of category and
    status, or UNKNOWN.  counted: those of them that count, by direction.
    """

    position: np.ndarray
    category: np.ndarray
    channel: np.ndarray
    counted: SectorTargets


class Cells(NamedTuple):
    """The cells of N objects in a batch of grids.

    frame, azimuth, ring: [N] place.  category, channel: [N] as of DetectionTargets.  offsets: float32 [N, 2]
    of the object from the middle of its cell, metres outwards and to the left.
    """

    frame: Tensor
    azimuth: Tensor
    ring: Tensor
    category: Tensor
    channel: Tensor
    offsets: Tensor


def detection_targets(frame: KeyFrame, config: PretrainingConfig, reach: float) -> DetectionTargets:
    """Return the objects of a key frame.  reach: metres, of the grid."""
    objects = [item for item in frame.objects
               if item.num_lidar_pts >= config.min_points and item.distance < reach]
    channel = [CHANNELS.index((item.category, item.attribute)) if (item.category, item.attribute) in CHANNELS
               else UNKNOWN for item in objects]
    return DetectionTargets(
        np.array([item.centre[:2] for item in objects]).reshape(-1, 2),
        np.array([CATEGORIES.index(item.category) for item in objects], np.int64),
        np.array(channel, np.int64), sector_targets(frame, config.scope))


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """N frames: the files of their inputs, and the objects and the scene of each.

    grid: cells of the grid, all around and outwards.
    """

    files: tuple[Path, ...]
    targets: tuple[DetectionTargets, ...]
    scenes: tuple[str, ...]
    grid: tuple[int, int] = (AZIMUTHS, RANGES)

    def __len__(self) -> int:
        return len(self.scenes)

    def split(self, share: float, seed: int = 0) -> tuple[DetectionDataset, DetectionDataset]:
        """Return (rest, held out) as SectorDataset.split does."""
        rest, held = held_out(self.scenes, share, seed)
        return self.part(rest), self.part(held)

    def part(self, places: Sequence[int]) -> DetectionDataset:
        """Return some of the frames."""
        return DetectionDataset(tuple(self.files[place] for place in places),
                                tuple(self.targets[place] for place in places),
                                tuple(self.scenes[place] for place in places), self.grid)

    def batch(self, places: Sequence[int], headings: Sequence[int] | None = None, mirrored: bool = False,
              ) -> tuple[Inputs, Cells]:
        """Return the arguments of the network for some frames, and the cells of their objects.

        headings, mirrored: as of SectorDataset.batch.
        """
        headings = headings or [0] * len(places)
        read = [load_file(self.files[place]) for place in places]
        inputs = {name: torch.stack([frame[name] for frame in read]) for name in read[0]}
        if 'grid' in inputs:
            grid = turn_grid(inputs['grid'], headings, mirrored).float() / STEPS
            inputs = {'grid': grid.contiguous(memory_format=torch.channels_last)}
        else:
            inputs = turn_places(inputs, headings, mirrored, self.grid)
            inputs['images'] = inputs['images'].permute(0, 1, 2, 5, 3, 4).float() / STEPS
        turns = [heading * math.tau / HEADINGS for heading in headings]
        parts = [cells_of(self.targets[place], turn, mirrored, row, self.grid[0])
                 for row, (place, turn) in enumerate(zip(places, turns, strict=True))]
        return inputs, Cells(*(torch.cat(values) for values in zip(*parts, strict=True)))


def cells_of(targets: DetectionTargets, turn: float, mirrored: bool, frame: int, azimuths: int) -> Cells:
    """Return the cells of the objects of one frame, mirrored and then turned to the left by radians."""
    x, y = targets.position.T
    angle = np.arctan2(-y if mirrored else y, x) + turn
    place = (angle / math.tau + 0.5) % 1 * azimuths
    azimuth = place.astype(np.int64) % azimuths
    far = np.hypot(x, y)
    ring = (far / LENGTH).astype(np.int64)
    middle = (ring + 0.5) * LENGTH
    offsets = np.stack([far - middle, (place - azimuth - 0.5) * math.tau / azimuths * middle], 1)
    return Cells(torch.full((len(far),), frame), *map(torch.from_numpy, (
        azimuth, ring, targets.category, targets.channel, offsets.astype(np.float32))))


def detection_dataset(frames: Iterable[KeyFrame], source: HeadInput, config: PretrainingConfig,
                      cache: str | Path | None = None,
                      progress: Callable[[int], None] | None = None) -> DetectionDataset:
    """Return the inputs of key frames, cached, with their objects.

    progress: called with the number of frames done.  Raises TrainingError if there are none.
    """
    files, targets, scenes = [], [], []
    grid = source.shape.get('azimuths', AZIMUTHS), source.shape.get('ranges', RANGES)
    for frame in frames:
        files.append(cached_file(frame, source, cache))
        targets.append(detection_targets(frame, config, grid[1] * LENGTH))
        scenes.append(frame.scene)
        if progress is not None:
            progress(len(files))
    if not files:
        raise TrainingError('there are no key frames to train on')
    return DetectionDataset(tuple(files), tuple(targets), tuple(scenes), grid)

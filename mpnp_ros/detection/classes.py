"""Categories of questions for the classes of detectors, and shares of statuses that detectors do not give.

A class map is a YAML file: for each class of the detector the categories that it may be, with probabilities.
A class that is left out is ignored.  Shipped maps are in ``mpnp_ros/data/classes``.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import yaml

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.questions.vocabulary import CATEGORIES, CHANNELS, STATUSES_OF_CATEGORY

CATEGORY_COUNT = len(CATEGORIES)
CHANNEL_COUNT = len(CHANNELS)
MOVING = {'pedestrian': 0.75, 'vehicle': 0.3}
"""Probability that an object moves, where nothing is known; an assumption, not fitted to any drive."""
STILL = {'vehicle': {'parked': 0.79, 'stopped': 0.21}, 'pedestrian': {'standing': 0.9, 'not standing': 0.1}}
"""Shares of the statuses of what does not move, where nothing is known."""
RIDER = 0.5
"""Probability that a cycle has a rider, where nothing is known."""


def load_class_map(name: str | Path) -> dict[str, np.ndarray]:
    """Return class name -> probability of each category, float64 [10].

    name: a shipped map (``coco``, ``open_images``, ``nuscenes``, ``street``) or the path of a YAML file.
    Raises ConfigurationError that names the entry at fault.
    """
    path = Path(name)
    if path.suffix in ('.yaml', '.yml'):
        if not path.is_file():
            raise ConfigurationError(f'there is no class map {path}; name a file, or one of {shipped_maps()}')
        text = path.read_text()
    else:
        shipped = resources.files('mpnp_ros') / 'data' / 'classes' / f'{name}.yaml'
        if not shipped.is_file():
            raise ConfigurationError(f'there is no class map {name!r}; shipped are '
                                     f'{", ".join(shipped_maps())}; or name a YAML file')
        text = shipped.read_text()
    return read_class_map(yaml.safe_load(text), str(name))


def with_words(class_map: Mapping[str, np.ndarray], words: Sequence[str]) -> dict[str, np.ndarray]:
    """Return a class map with further entries, each ``word: category`` or a category.

    Raises ConfigurationError for what names no category.
    """
    parted = [text.rpartition(':') for text in words]
    added = {(word or category).strip(): category.strip() for word, _, category in parted}
    return {**class_map, **(read_class_map(added, 'words') if added else {})}


def shipped_maps() -> list[str]:
    """Return the names of the class maps that come with the package."""
    folder = resources.files('mpnp_ros') / 'data' / 'classes'
    return sorted(file.name.removesuffix('.yaml') for file in folder.iterdir() if file.name.endswith('.yaml'))


def read_class_map(entries: object, name: str) -> dict[str, np.ndarray]:
    """Return class name -> probability of each category from what a YAML file holds; see load_class_map."""
    if not isinstance(entries, Mapping) or not entries:
        raise ConfigurationError(f'class map {name}: expected class: category, or class: '
                                 '{category: probability}')
    made = {}
    for key, value in entries.items():
        given = {value: 1.} if isinstance(value, str) else value
        if not isinstance(given, Mapping) or not given:
            raise ConfigurationError(f'class map {name}: {key}: {value!r} is no category and no mapping')
        odd = [category for category in given if category not in CATEGORIES]
        if odd:
            raise ConfigurationError(f'class map {name}: {key}: {odd[0]!r} is no category; there are '
                                     f'{", ".join(CATEGORIES)}')
        row = np.zeros(CATEGORY_COUNT)
        for category, share in given.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ConfigurationError(f'class map {name}: {key}: {category}: {share!r} is no probability')
            row[CATEGORIES.index(category)] = share
        if not 0 < row.sum() <= 1 + 1e-9:
            raise ConfigurationError(f'class map {name}: {key}: its probabilities add up to {row.sum():g}; '
                                     'they may add up to at most 1')
        made[str(key)] = row
    return made


def status_shares(moving: np.ndarray, rider: np.ndarray) -> list[tuple[list[int], np.ndarray]]:
    """Return for each category its channels and the shares of its statuses, [n, channels]; rows sum to 1.

    moving, rider: [n] probabilities; NaN: not known, so that MOVING and RIDER count.
    """
    made = []
    for category in CATEGORIES:
        statuses = STATUSES_OF_CATEGORY[category]
        channels = [place for place, (name, _) in enumerate(CHANNELS) if name == category]
        if not statuses:
            made.append((channels, np.ones((len(moving), 1))))
            continue
        if 'with rider' in statuses:
            share = np.where(np.isnan(rider), RIDER, rider)
            made.append((channels, np.stack([share, 1 - share], 1)))
            continue
        kind = 'pedestrian' if category == 'pedestrian' else 'vehicle'
        share = np.where(np.isnan(moving), MOVING[kind], moving)
        made.append((channels, np.stack([share if status == 'moving' else (1 - share) * STILL[kind][status]
                                         for status in statuses], 1)))
    return made


def known_channels(categories: Sequence[bool] | np.ndarray) -> np.ndarray:
    """Return which channels are known where these categories are, bool [24]."""
    return np.array([bool(categories[CATEGORIES.index(name)]) for name, _ in CHANNELS])

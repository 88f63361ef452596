"""Results of a study: means over seeds with intervals, as JSON and as a page."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpnp_ros.errors import ConfigurationError

DRAWS = 2000
ROWS: dict[str, str] = {
    'majority': 'most frequent answer of each text',
    'blind': 'links on learned constants instead of a sensor',
    'true_objects': '**links on true objects**',
    'rule_true_objects': 'rule on true objects',
    'camera_day': '**camera by day**',
    'rule_camera_day': 'rule on the same camera tokens',
    'camera_night': 'camera at night',
    'rule_camera_night': 'rule on the same camera tokens',
    'lidar_day': 'LiDAR by day',
    'rule_lidar_day': 'rule on the same LiDAR tokens',
    'lidar_night': '**LiDAR at night**',
    'rule_lidar_night': 'rule on the same LiDAR tokens',
    'camera_lidar_day': 'camera + LiDAR by day',
    'camera_lidar_night': 'camera + LiDAR at night',
}
"""Row -> its description, in the order of the page."""


@dataclass(frozen=True)
class Figure:
    """Percent right: mean over seeds, 95 % interval, number of questions of each seed."""

    mean: float
    ci95: tuple[float, float]
    n: int

    def __str__(self) -> str:
        return f'{self.mean:.1f} [{self.ci95[0]:.1f}, {self.ci95[1]:.1f}]'


@dataclass(frozen=True)
class StudyReport:
    """Figures of every row: overall, by type and by number of hops."""

    seeds: tuple[int, ...]
    overall: Mapping[str, Figure]
    by_type: Mapping[str, Mapping[str, Figure]]
    by_hops: Mapping[str, Mapping[int, Figure]]

    @classmethod
    def of(cls, results: Sequence[Mapping[str, Any]]) -> StudyReport:
        """From what :meth:`Study.run_seed` gave, one entry a seed.

        Raises ConfigurationError where the seeds did not answer the same questions.
        """
        first = results[0]
        if any(one[name] != first[name] for one in results for name in ('scenes', 'types', 'hops')):
            raise ConfigurationError('the seeds of this study answered different questions; remove its '
                                     'seed-*.json and evaluate again')
        rows = [row for row in (*ROWS, *sorted(first['right'].keys() - ROWS.keys()))
                if all(row in one['right'] for one in results)]
        right = {row: np.array([one['right'][row] for one in results], float) for row in rows}
        scenes, types, hops = (np.array(first[name]) for name in ('scenes', 'types', 'hops'))

        def figures(chosen: np.ndarray) -> dict[str, Figure]:
            return {row: figure(right[row][:, chosen], scenes[chosen]) for row in rows}

        everything = np.ones(len(scenes), bool)
        return cls(tuple(one['seed'] for one in results), figures(everything),
                   _transposed({str(name): figures(types == name) for name in sorted(set(types))}, rows),
                   _transposed({int(count): figures(hops == count) for count in sorted(set(hops))}, rows))

    def to_json(self) -> str:
        """{row: {mean, ci95, n, by_type, by_hops}, seeds: [...]}."""
        rows = {row: {'mean': round(one.mean, 2), 'ci95': [round(edge, 2) for edge in one.ci95], 'n': one.n,
                      'by_type': {name: round(part.mean, 2) for name, part in self.by_type[row].items()},
                      'by_hops': {str(name): round(part.mean, 2) for name, part in self.by_hops[row].items()}}
                for row, one in self.overall.items()}
        return json.dumps({**rows, 'seeds': list(self.seeds)}, indent=1) + '\n'

    def table(self) -> str:
        """A Markdown table: every row overall, by type and by hops."""
        types = list(next(iter(self.by_type.values())))
        hops = list(next(iter(self.by_hops.values())))
        heads = ['answers', 'right, %', *types, *(f'{count} hop' for count in hops)]
        lines = [f'| {" | ".join(heads)} |', f'|{"---|" * len(heads)}']
        for row, one in self.overall.items():
            parts = [self.by_type[row][name] for name in types] + [self.by_hops[row][name] for name in hops]
            cells = [ROWS.get(row, row.replace('_', ' ')), str(one), *(f'{part.mean:.1f}' for part in parts)]
            lines.append(f'| {" | ".join(cells)} |')
        return '\n'.join(lines)


def figure(right: np.ndarray, scenes: np.ndarray) -> Figure:
    """Return mean and 95 % interval by the bootstrap over seeds and scenes.

    right: [seeds, questions] 0 or 1.  scenes: [questions].  Questions of one scene are correlated, so scenes
    are resampled, not questions; seeds are resampled too.
    """
    names, place = np.unique(scenes, return_inverse=True)
    hits = np.stack([np.bincount(place, one, len(names)) for one in right])
    sizes = np.bincount(place, minlength=len(names))
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(right), size=(DRAWS, len(right)))
    chosen = rng.integers(len(names), size=(DRAWS, len(names)))
    drawn = np.array([hits[one][:, two].sum() / (len(one) * sizes[two].sum())
                      for one, two in zip(seeds, chosen, strict=True)])
    low, high = np.percentile(100 * drawn, [2.5, 97.5])
    return Figure(100 * float(right.mean()), (float(low), float(high)), right.shape[1])


def _transposed(table: Mapping[Any, Mapping[str, Figure]], rows: Sequence[str]) -> dict[str, dict]:
    return {row: {name: column[row] for name, column in table.items()} for row in rows}

"""Where a link comes from: data, licence, and what was measured when it was made."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COPIED = 'copied'


@dataclass(frozen=True)
class Adaptation:
    """How a robot trained a link by itself, and what it took.

    supervision: ``labelled``, ``distilled``, or ``copied`` from other links without training.  started_from:
    <modality>/<version> of the links it began with; empty: from nothing.  macs: multiply-accumulates.
    peak_bytes: of the training process.
    Accuracies are those on held-out questions in [0, 1], before and after training and of the most frequent
    answer to each type of question; None: not measured.
    """

    supervision: str
    started_from: str = ''
    questions: int = 0
    steps: int = 0
    seconds: float = 0.
    macs: float = 0.
    peak_bytes: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    accuracy_blind: float | None = None

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Adaptation:
        """From JSON values; TypeError for unknown keys and wrong types."""
        for name, value in _mapping(entries, 'adaptation').items():
            fits = (isinstance(value, str) if name in ('supervision', 'started_from') else
                    _is_number(value) or value is None and name.startswith('accuracy_'))
            if not fits:
                raise TypeError(f'adaptation: {name} is {value!r}')
        return cls(**entries)


@dataclass(frozen=True)
class Provenance:
    """Where a link comes from: licence, free text (data, recipe, seed) and measured accuracies in [0, 1].

    adaptation: of links that were trained on a robot.
    """

    licence: str = ''
    text: str = ''
    accuracy: Mapping[str, float] = field(default_factory=dict)
    adaptation: Adaptation | None = None

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Provenance:
        """From JSON values; TypeError for unknown keys and wrong types."""
        adaptation = _mapping(entries, 'provenance').get('adaptation')
        if adaptation is not None:
            entries = {**entries, 'adaptation': Adaptation.from_dict(adaptation)}
        return cls(**entries)


def _mapping(entries: object, name: str) -> Mapping[str, Any]:
    if not isinstance(entries, dict):
        raise TypeError(f'{name} must be a mapping')
    return entries


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

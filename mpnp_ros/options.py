"""Options of a component, declared once: default, help, unit and limits of each are metadata of its field."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mpnp_ros.errors import ConfigurationError

Own = TypeVar('Own', bound='Options')


def option(default: Any, text: str, *, unit: str = '', low: float | None = None, high: float | None = None,
           choices: Sequence[str] = (), **more: Any) -> Any:
    """Declare a field of :class:`Options`: its default, help text, unit and limits.

    ``low`` and ``high`` are inclusive; for a tuple they and ``choices`` bind every item.  ``more`` is kept
    in the field's metadata too.
    """
    return dataclasses.field(default=default, metadata={
        'help': text, 'unit': unit, 'low': low, 'high': high, 'choices': tuple(choices), **more})


@dataclass(frozen=True)
class Options:
    """Base of dataclasses whose fields are all made by :func:`option`.

    Raises ConfigurationError, naming the key and the limit, for a value of the wrong type or out of range.
    """

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))

    @classmethod
    def from_mapping(cls: type[Own], values: Mapping[str, Any]) -> Own:
        """Return the options with ``values`` over the defaults.

        Raises ConfigurationError, naming the key and the limit, for an unknown key, a value of the
        wrong type or one out of range.
        """
        known = [item.name for item in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigurationError(f'{cls.__name__} has no option {key!r}; it has {", ".join(known)}')
        return cls(**values)


def _checked(item: dataclasses.Field, value: Any) -> Any:
    if not isinstance(item.default, tuple):
        return _checked_scalar(item, type(item.default), value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigurationError(f'{item.name} must be a list, not {value!r}')
    return tuple(_checked_scalar(item, type(item.default[0]), entry) for entry in value)


def _checked_scalar(item: dataclasses.Field, kind: type, value: Any) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ConfigurationError(f'{item.name} must be of type {kind.__name__}, not {value!r}')
    low, high, choices = (item.metadata[key] for key in ('low', 'high', 'choices'))
    if choices and value not in choices:
        raise ConfigurationError(f'{item.name} is {value!r}; it must be one of {", ".join(choices)}')
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        limits = f'[{low}, {high}] {item.metadata["unit"]}'.rstrip()
        raise ConfigurationError(f'{item.name} is {value}; it must be within {limits}')
    return value

"""Which modalities there are, found by looking: subfolders of this package and third parties' entry points.

A new modality is one new folder here with a ``registration.py`` in it, or a package elsewhere that
names a module in the entry point group ``mpnp_ros.modalities``.  Either way the module registers a
function that builds the encoder::

    @register_encoder('radar', RadarConfig)
    def build(config: RadarConfig) -> Encoder:
        from .encoder import RadarEncoder       # torch is imported only when an encoder is built
        return RadarEncoder(config)

and, where it can tell a good frame from a bad one, gives the limits of its judge as a third argument.
"""
from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from mpnp_ros import modalities
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.modalities.base import Encoder, EncoderConfig
from mpnp_ros.modalities.health import HealthLimits, Judge

ENTRY_POINTS = 'mpnp_ros.modalities'
_registered: dict[str, Registration] = {}


@dataclass(frozen=True)
class Registration:
    """How to build the encoder of one modality, and the limits of its judge where it has one."""

    modality: str
    config: type[EncoderConfig]
    build: Callable[[Any], Encoder]
    limits: type[HealthLimits] | None = None


def register_encoder(modality: str, config: type[EncoderConfig],
                     limits: type[HealthLimits] | None = None) -> Callable[[Callable], Callable]:
    """Register the decorated function, ``config -> Encoder``, and perhaps a judge under ``modality``.

    Raises ConfigurationError where another module has taken that name.
    """
    def register(build: Callable[[Any], Encoder]) -> Callable[[Any], Encoder]:
        taken = _registered.get(modality)
        if taken and taken.build.__module__ != build.__module__:
            raise ConfigurationError(f'modality {modality!r} is registered by {taken.build.__module__}; '
                                     f'{build.__module__} needs another name')
        _registered[modality] = Registration(modality, config, build, limits)
        return build
    return register


def registered_modalities() -> tuple[str, ...]:
    """Return the names of all modalities, sorted."""
    _discover()
    return tuple(sorted(_registered))


def find_modality(modality: str) -> Registration:
    """Return the registration of ``modality``; raises ConfigurationError naming those there are."""
    if modality not in _registered:
        _discover()
    if modality not in _registered:
        raise ConfigurationError(f'modality {modality!r} is unknown; '
                                 f'there are {", ".join(sorted(_registered))}')
    return _registered[modality]


def create_encoder(modality: str, config: Mapping[str, Any] | EncoderConfig | None = None) -> Encoder:
    """Build the encoder of ``modality`` from its config, or from a mapping of the options that differ.

    Raises ConfigurationError for an unknown modality or option, WeightsError where weights are missing.
    """
    entry = find_modality(modality)
    if not isinstance(config, EncoderConfig):
        config = entry.config.from_mapping(config or {})
    if not isinstance(config, entry.config):
        raise ConfigurationError(f'modality {modality!r} takes a {entry.config.__name__}, '
                                 f'not a {type(config).__name__}')
    return entry.build(config)


def create_judge(modality: str, limits: Mapping[str, Any] | HealthLimits | None = None) -> Judge | None:
    """Return a judge of frames of ``modality``, from limits or those that differ; None where it has none.

    Raises ConfigurationError for an unknown modality or limit.
    """
    known = find_modality(modality).limits
    if isinstance(limits, HealthLimits):
        return limits.judge()
    return known.from_mapping(limits or {}).judge() if known else None


def _discover() -> None:
    for folder in pkgutil.iter_modules(modalities.__path__):
        if folder.ispkg:
            importlib.import_module(f'{modalities.__name__}.{folder.name}.registration')
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # a stranger's broken package must not take ours down
            logging.getLogger(__name__).warning('modality %r of %s cannot be loaded: %s', point.name,
                                                point.value, error)

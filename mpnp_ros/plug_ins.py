"""Sensors and methods that other packages add by entry points."""
from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Container, Iterator
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import TypeVar

from mpnp_ros.errors import ConfigurationError

T = TypeVar('T')
LOG = logging.getLogger(__name__)


def plug_ins(group: str, kind: type[T], attribute: str, taken: Container[str],
             wanted: Callable[[str], bool]) -> Iterator[T]:
    """Yield the plug-ins of a group of entry points; those that cannot be used are logged and left out.

    An entry point names a value of the class `kind`, or a module that has one as `attribute`; its ``name``
    is that of the entry point.  taken: names of built-in ones.  wanted: whether a name is asked for; others
    are not imported.
    """
    for point in _entry_points(group, tuple(sys.path)):
        if not wanted(point.name):
            continue
        try:
            if point.name in taken:
                raise ConfigurationError('the name is taken; choose another one')
            loaded = point.load()
            found = getattr(loaded, attribute, loaded)
            if not isinstance(found, kind) or getattr(found, 'name', None) != point.name:
                raise TypeError(f'it has no {kind.__name__} of the name {point.name!r} as {attribute}')
        except Exception as error:  # a broken third-party plug-in must not stop start-up
            LOG.warning('plug-in %r of %s cannot be used: %s', point.name, point.value, error)
            continue
        yield found


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    """Return the entry points of a group, read once for a search path: it takes several milliseconds."""
    return entry_points(group=group)

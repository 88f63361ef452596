"""Reader of .msg, .srv and .action files with their comments, for the documentation."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SECTIONS = {'msg': ('',), 'srv': ('request', 'response'), 'action': ('goal', 'result', 'feedback')}
FOLDERS = tuple(SECTIONS)
_FIELD = re.compile(r"""
    (?P<type> [\w/]+ (?: \[ [<=\d]* \] )? )  \s+
    (?P<name> \w+ )                          \s*
    (?: = \s* (?P<value> [^#]*? ) )?         \s*
    (?: \# \s* (?P<comment> .* ) )?          $""", re.X)


@dataclass(frozen=True)
class Field:
    """A field, or a constant if it has a value."""

    type: str
    name: str
    comment: str
    value: str = ''


@dataclass(frozen=True)
class Interface:
    """One message, service or action. sections: fields of each part, by its name ('' for a message)."""

    kind: str
    name: str
    summary: str
    sections: dict[str, tuple[Field, ...]]

    @property
    def full_name(self) -> str:
        """Return its ROS name, e.g. ``mpnp_ros/msg/Answer``."""
        return f'mpnp_ros/{self.kind}/{self.name}'


def read_interfaces(folder: Path) -> list[Interface]:
    """Return all interfaces of a source checkout or share folder: messages, services, then actions."""
    return [read_interface(file) for kind in FOLDERS for file in sorted((folder / kind).glob(f'*.{kind}'))]


def read_interface(file: Path) -> Interface:
    """Read one file; the comment before its first field is its summary."""
    kind = file.suffix[1:]
    parts = re.split(r'^---$', file.read_text('utf-8'), flags=re.M)
    comments = re.match(r'(?:#.*\n)*', parts[0])[0].splitlines()  # type: ignore[index]  # it always matches
    fields = (tuple(Field(match['type'], match['name'], match['comment'] or '', match['value'] or '')
                    for match in map(_FIELD.match, part.splitlines()) if match) for part in parts)
    return Interface(kind, file.stem, ' '.join(line.lstrip('# ') for line in comments),
                     dict(zip(SECTIONS[kind], fields, strict=True)))

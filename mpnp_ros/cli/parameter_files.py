"""Checks of the user's parameter files: readability, and keys that match no started node."""
from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.options import read_yaml

MARK = 'ros__parameters'


def check_parameter_file(path: Path) -> list[str]:
    """Return the node names of a parameter file, such as ``/**/camera_encoder``.

    Raises ConfigurationError if the file is missing, is not YAML, or is not a parameter file: a node would
    end with a traceback, or silently use its defaults.
    """
    if not Path(path).is_file():
        raise ConfigurationError(f'parameter file {path} does not exist')
    content = read_yaml(path)
    return list(_node_names(content, path)) if content else []


def unmatched(path: Path, nodes: Sequence[str], namespace: str, known: Sequence[str]) -> list[str]:
    """Return a sentence for each key of a parameter file that matches no started node.

    nodes: names of the started nodes, in ``namespace``, which is empty or begins with a slash.
    known: names of all nodes that could be started.
    """
    full = {f'{namespace}/{node}': node for node in nodes}
    said = []
    for key in check_parameter_file(path):
        if any(matches(key, name) for name in full):
            continue
        last = key.rpartition('/')[2]
        if last in nodes:
            hint = f'{last} runs in the namespace {namespace or "/"}; write /**/{last}'
        elif last in known:
            hint = f'{last} is not started'
        elif near := difflib.get_close_matches(last, known, 1, .6) or _parts(last, known):
            hint = f'did you mean /**/{near[0]}?'
        else:
            hint = f'there are {", ".join(full)}'
        said.append(f'{path}: {key} matches no node and is ignored; {hint}')
    return said


def matches(key: str, name: str) -> bool:
    """Return whether a key of a parameter file matches the node of that name; * is one part, ** are any."""
    parts = [{'*': r'/\w+', '**': r'(/\w+)*'}.get(part, '/' + re.escape(part))
             for part in key.strip('/').split('/')]
    return re.fullmatch(''.join(parts), name) is not None


def _parts(last: str, known: Sequence[str]) -> list[str]:
    """Return nodes with a part of that name, such as ``camera`` of ``camera_encoder``."""
    return [node for node in known if set(last.lower().split('_')) & set(node.split('_'))]


def _node_names(content: Any, path: Path, above: str = '') -> Iterator[str]:
    if not isinstance(content, Mapping):
        where = f'{above} is' if above else 'it is'
        raise ConfigurationError(f'parameter file {path}: {where} not a table of nodes with {MARK}; '
                                 f'write /**/fusion: {{{MARK}: {{...}}}}')
    for key, inner in content.items():
        if key == MARK:
            if not above or not isinstance(inner, Mapping):
                raise ConfigurationError(f'parameter file {path}: {MARK} is not a table of parameters below '
                                         f'the name of a node; write /**/fusion: {{{MARK}: {{...}}}}')
            yield above
        else:
            yield from _node_names(inner, path, f'{above}/{str(key).strip("/")}')

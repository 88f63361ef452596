"""Detection of files with unexpected content, and reading of JSON, with one-line errors."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mpnp_ros.errors import MpnpError

GIT_LFS = b'version https://git-lfs.github.com/spec/'
ENOUGH = 512
"""Bytes at the start of a file that identify its content."""


def mistaken(data: bytes) -> str:
    """Return what a file that begins with ``data`` really is, with the remedy, or ''."""
    if not data:
        return 'is empty; copy or download it again'
    text = data[:ENOUGH].lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if text.startswith(GIT_LFS):
        return 'is a Git LFS pointer, not the file itself; run `git lfs pull`'
    if text.startswith((b'<!doctype html', b'<html', b'<?xml')):
        return 'is a web page, not the file itself; log in where that is asked for and download it again'
    if not any(data[:ENOUGH]) and len(data) >= ENOUGH:
        return 'begins with zeros only, as a download that has stopped; download it again'
    return ''


def head_of(path: str | Path) -> bytes:
    """Return the first :data:`ENOUGH` bytes of a file.  Raises OSError."""
    with open(path, 'rb') as stream:
        return stream.read(ENOUGH)


def read_json(path: Path, name: str, remedy: str, error: type[MpnpError], absent: str = '') -> Any:
    """Return the content of a JSON file in UTF-8, with or without byte order mark, UTF-16 or UTF-32.

    Raises ``error`` with ``name``, the path and ``remedy``, or ``absent`` if the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise error(f'{name} {path} cannot be read ({reason.strerror}); {absent or remedy}') from None
    if fault := mistaken(data):
        raise error(f'{name} {path} {fault}')
    try:
        return json.loads(data)
    except UnicodeDecodeError as reason:
        raise error(f'{name} {path} is not valid JSON: it is not in UTF-8 (byte {reason.start}); {remedy}'
                    ) from None
    except (ValueError, RecursionError) as reason:
        raise error(f'{name} {path} is not valid JSON ({reason}); {remedy}') from None

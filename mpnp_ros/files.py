"""Files: written so that they are complete or absent, found where they are installed, and checked when read.

Everything is written under another name in the same folder, flushed to disk and then renamed, so that a
process killed at any point never leaves a partial file under the final name.  A cached folder has a manifest
with the sha256 of each of its files and of its source; one that is damaged, incomplete or of another source
is made again.
"""
from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mpnp_ros.errors import ConfigurationError, MpnpError, StorageError

GIT_LFS = b'version https://git-lfs.github.com/spec/'
ENOUGH = 512
"""Bytes at the start of a file that identify its content."""

MANIFEST, CHECKED = 'manifest.json', '.checked.json'
SCHEMA = 1
SETTLED = 2_000_000_000
"""Nanoseconds after a change of a file from which on its times tell a further change."""
UNWRITABLE = {errno.ENOSPC: 'the disk is full', errno.EDQUOT: 'the quota is used up',
              errno.EROFS: 'the disk can only be read', errno.EIO: 'the disk fails'}
_SAFETENSORS_ERROR = re.compile(r'Os \{ code: (\d+)')
"""How safetensors reports an error of the operating system."""


def source_folder() -> Path | None:
    """Return the source checkout of the running code, or None for an installed package."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / 'package.xml').is_file() else None


def shared_file(relative: str | Path) -> Path:
    """Return a file of the source checkout or, failing that, of the installed share folder.

    relative: such as ``config/mpnp.yaml``.  Raises ConfigurationError where it is in none of them.
    """
    prefixes = [*filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    places = [*filter(None, [source_folder()]), *(Path(prefix, 'share', 'mpnp_ros') for prefix in prefixes)]
    for place in places:
        if (place / relative).exists():
            return place / relative
    raise ConfigurationError(f'{relative} is in none of {", ".join(map(str, places))}; '
                             'install the package again')


def mistaken(data: bytes) -> str:
    """Return why a file that begins with ``data`` is not the file itself, with the remedy; empty if it is."""
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

    Raises ``error`` with ``name``, the path and ``remedy``; with ``absent`` instead if it cannot be read.
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


def cache_root(folder: str | Path | None = None) -> Path:
    """Return the cache folder, created if necessary: the argument, $MPNP_CACHE or ~/.cache/mpnp_ros.

    Raises ConfigurationError if it cannot be written.
    """
    root = Path(folder or os.environ.get('MPNP_CACHE') or '~/.cache/mpnp_ros').expanduser()
    return _writable(root, 'cache', 'MPNP_CACHE')


def state_root(namespace: str = '') -> Path:
    """Return the folder of learned data that cannot be recreated, such as links; created if necessary.

    $MPNP_STATE or ~/.local/state/mpnp_ros, not the cache: clearing caches must not delete learned links.
    namespace: of the robot's nodes; each has its own folder, so that robots on one machine learn separately.
    Raises ConfigurationError if it cannot be written.
    """
    root = Path(os.environ.get('MPNP_STATE') or '~/.local/state/mpnp_ros').expanduser()
    return _writable(root.joinpath(*filter(None, namespace.split('/'))), 'state', 'MPNP_STATE')


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, 64 hex digits."""
    digest, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
    with open(path, 'rb', buffering=0) as stream:
        while count := stream.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def write_file(path: str | Path, data: bytes, durable: bool = True) -> None:
    """Write a file so that readers and crashes see the old bytes or the new ones, never a part.

    durable: wait until it is on the disk, milliseconds; otherwise the guarantee holds for killed processes,
    but a file of the last seconds may be damaged by a power failure. Raises StorageError, naming folder and
    remedy, if the disk is full or read-only.
    """
    path = Path(path)
    with _on_disk(path.parent):
        handle, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
        try:
            with os.fdopen(handle, 'wb') as stream:
                stream.write(data)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        if durable:
            _sync(path.parent)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces `path` if the block succeeds and is removed otherwise.

    Raises StorageError, naming folder and remedy, if the disk is full or read-only.
    """
    path = Path(path)
    with _on_disk(path.parent):
        temporary = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob('*'):
                _sync(file)
            _sync(temporary)
            _replace_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync(path.parent)


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the lock of `path` among threads and processes; released if its holder dies."""
    path = Path(path)
    lock = path.with_name(f'.{path.name}.lock')
    with _on_disk(path.parent):
        lock.touch()
    with open(lock, 'w') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def cached_folder(path: str | Path, source: str, build: Callable[[Path], object], size: int = 0) -> Path:
    """Return the folder at `path`, made by `build(empty folder)` unless a valid one of `source` exists.

    source: identity of its source (a sha256 and a version of the recipe).  size: its approximate bytes;
    StorageError before the start if there is not enough space. Two processes that want the same folder make
    it once.
    """
    path = Path(path)
    with locked(path):
        if not is_whole(path, source):
            for left in path.parent.glob(f'.{path.name}.*'):  # unfinished work of killed processes
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
            if shutil.disk_usage(path.parent).free < size:
                raise _storage_error(path.parent, 'the disk is full', size)
            with new_folder(path) as folder:
                build(folder)
                files = {file.relative_to(folder).as_posix(): sha256_of(file)
                         for file in sorted(folder.rglob('*')) if file.is_file()}
                manifest = {'schema': SCHEMA, 'source': source, 'files': files}
                write_file(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    return path


def is_whole(path: str | Path, source: str) -> bool:
    """Return whether a cached folder was made from `source` and none of its files has changed since.

    Files are read once, and all again when the size or times of one differ: half a gigabyte takes half a
    second.
    """
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if (manifest['schema'], manifest['source']) != (SCHEMA, source):
            return False
        found = {name: [digest, *_stamp(path / name)] for name, digest in manifest['files'].items()}
        if found == _checked(path):
            return True
        if any(sha256_of(path / name) != digest for name, digest in manifest['files'].items()):
            return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    # A file could be changed again within one tick of the clock of the file system.
    if all(time.time_ns() - max(times) > SETTLED for _, _, _, *times in found.values()):
        with suppress(StorageError, OSError):  # a cache that can only be read
            write_file(path / CHECKED, json.dumps(found).encode(), durable=False)
    return True


def _checked(path: Path) -> object:
    """Return digest and stamp of the files of a cached folder when they were read last; None: never."""
    try:
        return json.loads((path / CHECKED).read_bytes())
    except (OSError, ValueError):
        return None


def _stamp(path: Path) -> tuple[int, int, int, int]:
    """Return inode, size and the times of the last changes of content and inode, ns, of a file."""
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _replace_folder(new: Path, path: Path) -> None:
    """Replace `path` by `new`; the old folder is moved aside first, because folders cannot be swapped."""
    if not path.exists():
        os.rename(new, path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    try:
        os.rename(path, aside / 'old')
        os.rename(new, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    """Turn errors of a full, read-only or broken disk into a StorageError with folder, reason and remedy."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        found = _SAFETENSORS_ERROR.search(str(error))
        reason = UNWRITABLE.get(int(found.group(1)) if found else getattr(error, 'errno', None) or 0)
        if reason is None:
            raise
        raise _storage_error(folder, reason) from error


def _storage_error(folder: Path, reason: str, size: int = 0) -> StorageError:
    needed = f'{size / 1e6:.0f} MB are needed, ' if size else ''
    try:
        free = f'{needed}{shutil.disk_usage(folder).free / 1e6:.1f} MB are free'
    except OSError:
        free = needed
    places = {'MPNP_CACHE': os.environ.get('MPNP_CACHE') or '~/.cache/mpnp_ros',
              'MPNP_STATE': os.environ.get('MPNP_STATE') or '~/.local/state/mpnp_ros'}
    inside = [name for name, place in places.items()
              if folder.resolve().is_relative_to(Path(place).expanduser().resolve())]
    remedy = f'set {inside[0]} to a folder on another disk' if inside else 'give a folder on another disk'
    return StorageError(f'{folder} cannot be written: {reason} ({free}); make room, or {remedy}')


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _writable(root: Path, what: str, variable: str) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        reason = '' if os.access(root, os.W_OK | os.X_OK) else 'no permission'
    except OSError as error:
        reason = str(error)
    if reason:
        raise ConfigurationError(f'{what} folder {root} cannot be written ({reason}); '
                                 f'set {variable} to one that can')
    return root

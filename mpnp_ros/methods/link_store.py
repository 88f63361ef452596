"""The link store: versions of links per modality on disk, safe for several writers and readers.

    <folder>/<modality>/000001/   a version, see methods/link_files.py
    <folder>/<modality>/current   versions that were in use, and versions that were withdrawn

Shipped links lie in a store of their own, ``mpnp_ros/data/links/driving-world``; links that a robot has
trained in :func:`default_store`.
"""
from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import mpnp_ros
from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.files import locked, sha256_of, state_root, write_file
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_files import MANIFEST, TENSORS, Provenance, read_manifest, save_link

LOG = logging.getLogger(__name__)
CURRENT = 'current'
REMEMBERED = 4
"""Versions of a modality in use: the current one, and earlier ones to roll back to."""


@dataclass(frozen=True)
class StoredLink:
    """One version of one modality's link; sha256 is that of its manifest."""

    modality: str
    version: str
    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """For messages and provenance, e.g. ``camera/000001``."""
        return f'{self.modality}/{self.version}'


StoredLinks: TypeAlias = list[StoredLink]  # inside LinkStore, `list` is a method


@dataclass(frozen=True)
class Usage:
    """Versions of one modality that were put into use, oldest first.

    used: the last one is current, rollbacks go back to those before it; empty: the shipped links are in use.
    withdrawn: taken back by a rollback; they are not used again unless asked for.
    """

    used: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()

    def at(self, version: str | None) -> Usage:
        """Return the usage with another version current: rolled back to if it was in use, else put on top."""
        if version is None or version in self.used:
            kept = self.used[:self.used.index(version) + 1] if version else ()
            return Usage(kept, (*self.withdrawn, *self.used[len(kept):]))
        return Usage((*self.used, version)[-REMEMBERED:],
                     tuple(name for name in self.withdrawn if name != version))

    @classmethod
    def from_json(cls, data: bytes) -> Usage:
        """Read strictly; raises ValueError, KeyError or TypeError."""
        entries = json.loads(data)
        used, withdrawn = entries['used'], entries['withdrawn']
        if not all(isinstance(version, str) and version.isdigit() for version in [*used, *withdrawn]):
            raise ValueError('versions are named by digits')
        return cls(tuple(used), tuple(withdrawn))


class LinkStore:
    """<folder>/<modality>/<version>, versions counted up from 000001.

    A version appears by one rename and is never written again, so readers need no lock.
    """

    def __init__(self, folder: str | Path) -> None:
        """folder: created if missing; ConfigurationError where it cannot be."""
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f'link store {self.folder} cannot be made ({error.strerror}); '
                                     'give a folder that can be written') from None

    def save(self, link: Link, provenance: Provenance | None = None, half: bool = False) -> StoredLink:
        """Write a link as the next version of its modality; the current version does not change.

        half: see save_link.
        """
        modality = link.config.modality
        with self._writing(modality) as folder:
            numbers = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
            path = folder / f'{max(numbers, default=0) + 1:06d}'
            return StoredLink(modality, path.name, path, save_link(link, path, provenance, half))

    def list(self, modality: str | None = None) -> StoredLinks:
        """Return all versions, of one modality or of all, oldest first within a modality."""
        found = (path.parent for path in sorted(self.folder.glob(f'[a-z]*/[0-9]*/{MANIFEST}')))
        return [link for path in found if modality in (None, path.parent.name)
                if (link := _stored(path)) is not None]

    def latest(self, modality: str) -> StoredLink | None:
        """Return the newest version of a modality, None if there is none."""
        return max(self.list(modality), key=lambda link: link.version, default=None)

    def path(self, modality: str, version: str) -> Path:
        """Return the folder of a version; LinksError if it is not there."""
        versions = {link.version: link.path for link in self.list(modality)}
        if version not in versions:
            raise LinksError(f'there is no version {version!r} of {modality} links in {self.folder}; '
                             f'there are: {", ".join(versions) or "none"}')
        return versions[version]

    def find(self, path: str | Path) -> StoredLink | None:
        """Return the version in a folder; None where that is not a folder of this store."""
        path = Path(path).resolve()
        inside = path.name.isdigit() and path.parent.parent == self.folder.resolve()
        return _stored(self.folder / path.parent.name / path.name) if inside else None

    def fitting(self, modality: str, encoder: str, lm_fingerprint: str) -> StoredLink | None:
        """Return the version to plug for an encoder and a language model: the last in use, else the newest.

        Only manifests are read.  Withdrawn versions are left out, and damaged ones, which are logged.
        """
        usage, versions = self.usage(modality), self.list(modality)
        rank = {version: place for place, version in enumerate(usage.used)}
        versions.sort(key=lambda link: (rank.get(link.version, -1), link.version), reverse=True)
        for link in versions:
            if link.version in usage.withdrawn:
                continue
            try:
                config = read_manifest(link.path).config
            except LinksError as error:
                LOG.warning('%s is left out: %s', link.path, error)
                continue
            if (config.encoder, config.base_model) == (encoder, lm_fingerprint):
                return link
        return None

    def usage(self, modality: str) -> Usage:
        """Return the versions that were put into use and withdrawn, without those that are gone."""
        usage, there = self._read_usage(modality), {link.version for link in self.list(modality)}
        used, withdrawn = (tuple(version for version in versions if version in there)
                           for versions in (usage.used, usage.withdrawn))
        return Usage(used, withdrawn)

    def used(self, modality: str) -> StoredLinks:
        """Return the versions in use, the current one last; empty: the shipped links are in use."""
        versions = {link.version: link for link in self.list(modality)}
        return [versions[name] for name in self._read_usage(modality).used if name in versions]

    def current(self, modality: str) -> StoredLink | None:
        """Return the current version; None: the shipped links are in use."""
        return next(reversed(self.used(modality)), None)

    def set_current(self, modality: str, version: str | None) -> None:
        """Make a version current.  Going back to an earlier version withdraws those after it.

        None: the shipped links; all versions in use are withdrawn.  Raises LinksError for a missing version.
        """
        with self._writing(modality) as folder:
            if version is not None:
                self.path(modality, version)
            before = self.usage(modality)
            after = before.at(version)
            if after != before:
                write_file(folder / CURRENT, json.dumps(asdict(after)).encode())

    def prune(self, keep: int, modality: str | None = None) -> StoredLinks:
        """Remove all but the newest versions of each modality, and return the removed ones.

        keep: how many, at least 1.  Versions in use or kept for rollback stay, and those that any process
        is :func:`holding`.
        """
        if keep < 1:
            raise ConfigurationError(f'keep is {keep}; at least 1 version is kept')
        removed: StoredLinks = []
        for name in sorted({link.modality for link in self.list(modality)}):
            with self._writing(name) as folder:
                for left in folder.glob('.*'):  # by killed writers: this is the only writer now
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                used = self._read_usage(name).used
                old = [link for link in self.list(name)[:-keep] if link.version not in used]
                removed += [link for link in old if _remove(link)]
        return removed

    def _read_usage(self, modality: str) -> Usage:
        path = self.folder / modality / CURRENT
        try:
            return Usage.from_json(path.read_bytes())
        except FileNotFoundError:
            return Usage()
        except (OSError, ValueError, KeyError, TypeError) as error:
            LOG.warning('%s is damaged (%s); no links of this store count as in use', path, error)
            return Usage()

    @contextmanager
    def _writing(self, modality: str) -> Iterator[Path]:
        folder = self.folder / modality
        folder.mkdir(exist_ok=True)
        with locked(folder):
            yield folder


@contextmanager
def holding(path: str | Path) -> Iterator[None]:
    """Keep the folder of a link from being pruned by any process; the hold ends with this process.

    Raises LinksError where the folder is not there.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise LinksError(f'link {path} cannot be read ({error.strerror}); a link is a folder') from None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        if not Path(path).is_dir():
            raise LinksError(f'link {path} was pruned; take another version')
        yield
    finally:
        os.close(handle)


def whole(links: Iterable[StoredLink]) -> Iterator[StoredLink]:
    """Yield the links whose files are as they were saved; every other one is logged."""
    for link in links:
        try:
            if sha256_of(link.path / TENSORS) == read_manifest(link.path, sha256=link.sha256).sha256:
                yield link
            else:
                LOG.warning('%s is damaged and left out: its tensors were changed', link.path)
        except (LinksError, OSError) as error:
            LOG.warning('%s is damaged and left out: %s', link.path, error)


def name_of(path: str | Path) -> str:
    """Return <modality>/<version> of a link's folder."""
    return '/'.join(Path(path).parts[-2:])


def default_store(namespace: str = '') -> LinkStore:
    """Return the store of the links that a robot has trained; namespace: of its nodes.  See state_root."""
    return LinkStore(state_root(namespace) / 'links')


def shipped_links() -> dict[str, StoredLink]:
    """Return the newest of the links that are part of the package, by modality."""
    return {link.modality: link for link in all_shipped_links()}


def all_shipped_links() -> StoredLinks:
    """Return all links that are part of the package, oldest first within a modality."""
    folder = Path(mpnp_ros.__file__).parent / 'data' / 'links' / 'driving-world'
    return LinkStore(folder).list() if folder.is_dir() else []


def shipped_link(modality: str, encoder: str, token_width: int, reads_like: str) -> StoredLink | None:
    """Return the shipped links that read the tokens of an encoder: trained with it, or to be copied for it.

    encoder: fingerprint.  reads_like: name of links that count what its tokens count, as in
    :class:`mpnp_ros.modalities.registry.Sensor`.  None if there are no such links.
    """
    shipped = all_shipped_links()
    for link in reversed(shipped):
        if link.modality == modality and read_manifest(link.path).config.encoder == encoder:
            return link
    return next((link for link in reversed(shipped) if link.modality == reads_like
                 and read_manifest(link.path).config.token_width == token_width), None)


def _stored(path: Path) -> StoredLink | None:
    """Return the version in a folder; None where it was pruned meanwhile."""
    with suppress(FileNotFoundError):
        return StoredLink(path.parent.name, path.name, path, sha256_of(path / MANIFEST))
    return None


def _remove(link: StoredLink) -> bool:
    """Remove a version at once, unless a process holds it; return whether it was removed."""
    handle = os.open(link.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside = link.path.with_name(f'.{link.version}.pruned')
        link.path.rename(aside)
        shutil.rmtree(aside)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True

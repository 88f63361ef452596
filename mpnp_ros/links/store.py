"""The link store: versions of links per modality on disk, safe for several writers and readers.

Links that are shipped lie in a store of their own, ``mpnp_ros/data/links/driving-world``.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mpnp_ros
from mpnp_ros.cache import locked, sha256_of
from mpnp_ros.errors import LinksError
from mpnp_ros.links.files import MANIFEST, Link, Provenance, save_link


@dataclass(frozen=True)
class StoredLink:
    """One version of one modality's link; sha256 is that of its manifest."""

    modality: str
    version: str
    path: Path
    sha256: str


class LinkStore:
    """<folder>/<modality>/<version>, versions counted up from 000001.

    A version appears by one rename and is never written again, so readers need no lock.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, link: Link, provenance: Provenance | None = None) -> StoredLink:
        """Write a link as the next version of its modality."""
        modality = link.config.modality
        folder = self.folder / modality
        folder.mkdir(exist_ok=True)
        with locked(folder):
            numbers = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
            path = folder / f'{max(numbers, default=0) + 1:06d}'
            return StoredLink(modality, path.name, path, save_link(link, path, provenance))

    def list(self, modality: str | None = None) -> list[StoredLink]:
        """All versions, of one modality or of all, oldest first within a modality."""
        found = (path.parent for path in sorted(self.folder.glob(f'[a-z]*/[0-9]*/{MANIFEST}')))
        return [StoredLink(path.parent.name, path.name, path, sha256_of(path / MANIFEST))
                for path in found if modality in (None, path.parent.name)]

    def latest(self, modality: str) -> StoredLink | None:
        """The newest version of a modality, None if there is none."""
        return max(self.list(modality), key=lambda link: link.version, default=None)

    def path(self, modality: str, version: str) -> Path:
        """The folder of a version; LinksError if it is not there."""
        versions = {link.version: link.path for link in self.list(modality)}
        if version not in versions:
            raise LinksError(f'there is no version {version!r} of {modality} links in {self.folder}; '
                             f'there are: {", ".join(versions) or "none"}')
        return versions[version]


def shipped_links() -> dict[str, StoredLink]:
    """The newest of the links that are part of the package, by modality; none where none are."""
    folder = Path(mpnp_ros.__file__).parent / 'data' / 'links' / 'driving-world'
    links = LinkStore(folder).list() if folder.is_dir() else ()
    return {link.modality: link for link in links}

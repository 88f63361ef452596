"""Links plugged into the method, and their predecessors; kept across a restart in a store."""
from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mpnp_ros.errors import LinksError
from mpnp_ros.files import sha256_of
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.connections import check_fit
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_files import MANIFEST, copied_link, load_link
from mpnp_ros.methods.link_store import REMEMBERED, LinkStore, StoredLink, holding, name_of, whole
from mpnp_ros.methods.method import Method
from mpnp_ros.serving.modality_state import LinkFit

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LinkVersion:
    """A link and its folder.

    sha256: of its manifest.  Both texts are empty for a link created in memory.
    """

    link: Link
    path: str = ''
    sha256: str = ''

    @property
    def modality(self) -> str:
        """Return its modality."""
        return self.link.config.modality

    @property
    def version(self) -> str:
        """Return its name for messages."""
        return self.link.version or self.sha256[:12] or 'unsaved'

    @property
    def fit(self) -> LinkFit:
        """Return what it requires of tokens."""
        config = self.link.config
        return LinkFit(config.encoder, config.token_width, self.version, getattr(config, 'channels', ()))


class LinkVersions:
    """Versions of the links of one method by modality, newest last, with a few old ones for rollback.

    Changes are made by one thread, between two answers; reading is safe from any thread, because every change
    replaces the mapping.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._store: LinkStore | None = None
        self._versions: dict[str, tuple[LinkVersion, ...]] = {
            name: (LinkVersion(link),) for name, link in method.links().items()}

    def __iter__(self) -> Iterator[tuple[LinkVersion, bool]]:
        """Yield every version and whether it is in use, the newest of each modality first."""
        for versions in self._versions.values():
            for version in reversed(versions):
                yield version, version is versions[-1]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities with links."""
        return tuple(sorted(self._versions))

    @property
    def name(self) -> str:
        """Return the name of the set of links in use, e.g. ``camera=1f3a lidar=77b0``."""
        return ' '.join(f'{name}={self._versions[name][-1].version}' for name in self.modalities)

    def fits(self) -> dict[str, LinkFit]:
        """Return the requirements of the links in use on tokens."""
        return {name: versions[-1].fit for name, versions in self._versions.items()}

    def keep_in(self, store: LinkStore) -> None:
        """Record every change of the current versions in a store, for the next start.

        Call it when the links of the start are in use.  Links outside the store are not recorded; a rollback
        to such ones, or to the shipped ones, is recorded as none.
        """
        self._store = store

    def install(self, version: LinkVersion) -> LinkVersion:
        """Install a link.  If the method refuses it, the previous one stays and the error is raised.

        A link that is in use already gets no rollback entry to itself, because links can be offered twice.
        """
        self._method.replace(version.link)
        before = self._versions.get(version.modality, ())
        if before and version.path and before[-1].path == version.path:
            before = before[:-1]
        self._versions = {**self._versions, version.modality: (*before, version)[-REMEMBERED:]}
        self._note(version)
        return version

    def rollback(self, modality: str) -> LinkVersion:
        """Use the previous version again and drop the current one.  Raises LinksError if there is none."""
        versions = self._versions.get(modality, ())
        if len(versions) < 2:
            raise LinksError(f'{modality[:80] or "(unnamed)"} has no earlier links to go back to; '
                             f'load them from their file, or unplug the modality')
        self._method.replace(versions[-2].link)
        self._versions = {**self._versions, modality: versions[:-1]}
        self._note(versions[-2], back=True)
        return versions[-2]

    def _note(self, version: LinkVersion, back: bool = False) -> None:
        """Record the links in use; a failure to write does not affect them."""
        if self._store is None:
            return
        try:
            stored = self._store.find(version.path) if version.path else None
            if stored is not None or back:
                self._store.set_current(version.modality, stored.version if stored else None)
        except (LinksError, OSError) as error:
            LOG.warning('%s links %s are in use, but after a restart others will be: %s', version.modality,
                        version.version, error)


def read_link_version(path: str | Path, sha256: str, lm: LanguageModel) -> LinkVersion:
    """Read a link folder for a model.

    sha256: required hash of its manifest; empty: any.  Raises LinksError if it does not fit.
    """
    with holding(path):
        link = load_link(path, lm=lm, sha256=sha256 or None)
        return LinkVersion(link, str(path), sha256 or sha256_of(Path(path) / MANIFEST))


def copied_link_version(path: str | Path, modality: str, encoder: str, lm: LanguageModel) -> LinkVersion:
    """Copy a link for the tokens of another encoder with the same channels; the copy has no folder.

    It is called as the link at `path`, such as ``objects/000001``.  Raises LinksError if that does not fit.
    """
    link = copied_link(path, modality, encoder)
    check_fit(link.config, lm)
    link.version = name_of(path)
    return LinkVersion(link)


def links_at_start(store: LinkStore, shipped: Mapping[str, StoredLink],
                   modalities: Iterable[str]) -> list[StoredLink]:
    """Return what to install when a node starts, in this order, so that the last good links are in use again.

    For each modality the shipped link, then the versions of the store that were put into use, oldest first.
    A version that does not fit the model is skipped, so the previous one stays and a rollback finds its
    predecessor.  Damaged versions are skipped with a log line.
    """
    begun = [(name, [shipped[name]] if name in shipped else []) for name in modalities]
    return [link for name, first in begun for link in whole([*first, *store.used(name)])]

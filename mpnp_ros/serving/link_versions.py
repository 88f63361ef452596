"""Which links are plugged into the method, and which were before them."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpnp_ros.cache import sha256_of
from mpnp_ros.errors import LinksError
from mpnp_ros.links.files import MANIFEST, Link, load_link
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.base import Method
from mpnp_ros.serving.modality_watch import LinkFit

KEPT = 3


@dataclass(frozen=True, eq=False)
class LinkVersion:
    """A link and the folder it came from.

    sha256: of its manifest.  Both texts are empty for a link that was made in memory.
    """

    link: Link
    path: str = ''
    sha256: str = ''

    @property
    def modality(self) -> str:
        """The modality it connects."""
        return self.link.config.modality

    @property
    def version(self) -> str:
        """A name for messages."""
        return self.link.version or self.sha256[:12] or 'unsaved'

    @property
    def fit(self) -> LinkFit:
        """What it asks of tokens."""
        return LinkFit(self.link.config.encoder, self.link.config.token_width, self.version)


class LinkVersions:
    """The links of one method by modality, newest last, a few old ones kept for rollback.

    Changes are made by one thread, between two answers; reading is safe from any thread, because every
    change puts a new mapping in the place of the old one.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._versions: dict[str, tuple[LinkVersion, ...]] = {
            name: (LinkVersion(link),) for name, link in method.links().items()}

    def __iter__(self) -> Iterator[tuple[LinkVersion, bool]]:
        """Every version at hand and whether it is the one in use, the newest of each modality first."""
        for versions in self._versions.values():
            for version in reversed(versions):
                yield version, version is versions[-1]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have links."""
        return tuple(sorted(self._versions))

    @property
    def name(self) -> str:
        """Of the set of links in use, e.g. ``camera=1f3a lidar=77b0``."""
        return ' '.join(f'{name}={self._versions[name][-1].version}' for name in self.modalities)

    def fits(self) -> dict[str, LinkFit]:
        """What the links in use ask of tokens."""
        return {name: versions[-1].fit for name, versions in self._versions.items()}

    def install(self, version: LinkVersion) -> LinkVersion:
        """Put a link into use.  Where the method refuses it, the one before stays and the error goes on."""
        self._method.replace(version.link)
        before = self._versions.get(version.modality, ())
        self._versions = {**self._versions, version.modality: (*before, version)[-KEPT - 1:]}
        return version

    def rollback(self, modality: str) -> LinkVersion:
        """Use the version before again and drop the present one.  Raises LinksError where there is none."""
        versions = self._versions.get(modality, ())
        if len(versions) < 2:
            raise LinksError(f'{modality[:80] or "(unnamed)"} has no earlier links to go back to; '
                             f'load them from their file, or unplug the modality')
        self._method.replace(versions[-2].link)
        self._versions = {**self._versions, modality: versions[:-1]}
        return versions[-2]


def read_link_version(path: str | Path, sha256: str, lm: LanguageModel) -> LinkVersion:
    """Read a link folder for a model.

    sha256: that its manifest must have; empty: any.  Raises LinksError for whatever does not fit.
    """
    link = load_link(path, lm=lm, sha256=sha256 or None)
    return LinkVersion(link, str(path), sha256 or sha256_of(Path(path) / MANIFEST))

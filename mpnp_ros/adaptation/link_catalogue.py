"""Link versions as described by their manifests."""
from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mpnp_ros.adaptation.policy import StoredVersion
from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link_files import LinkManifest, read_manifest
from mpnp_ros.methods.link_store import LinkStore

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LinkInUse:
    """Links in use by the fusion node; path: their folder, empty if they have none."""

    modality: str
    version: str
    path: str
    encoder: str


class LinkCatalogue:
    """Reads each manifest once; unreadable ones are skipped with a log line.

    kind: of the links of the current method; versions of other kinds are not offered.
    """

    def __init__(self, store: LinkStore, kind: str) -> None:
        self.store, self.kind = store, kind
        self._read: dict[str, LinkManifest | None] = {}

    def manifest(self, path: str | Path) -> LinkManifest | None:
        """Return the manifest of a link folder; None if it is unreadable."""
        key = str(path)
        if key not in self._read:
            try:
                self._read[key] = read_manifest(key)
            except LinksError as error:
                LOG.warning('%s is left out: %s', key, error)
                self._read[key] = None
        return self._read[key]

    def accuracy(self, path: str | Path) -> float:
        """Return the accuracy measured at training, 0..1; NaN: not measured."""
        manifest = self.manifest(path) if path else None
        adapted = manifest.provenance.adaptation if manifest else None
        measured = adapted.accuracy_after if adapted else None
        return math.nan if measured is None else measured

    def is_trained(self, path: str | Path) -> bool:
        """Return whether links were trained on tokens of their modality, not only evaluated as a start."""
        manifest = self.manifest(path) if path else None
        adapted = manifest.provenance.adaptation if manifest else None
        return adapted is None or adapted.steps > 0

    def stored(self) -> Iterator[StoredVersion]:
        """Return all versions of the store."""
        usage = {}
        for link in self.store.list():
            manifest = self.manifest(link.path)
            if manifest is None or manifest.kind != self.kind:
                continue
            if link.modality not in usage:
                usage[link.modality] = self.store.usage(link.modality)
            used, config = usage[link.modality], manifest.config
            yield StoredVersion(link.modality, link.version, config.encoder, config.base_model,
                                len(config.blocks), self.accuracy(link.path), link.version in used.used[-1:],
                                link.version in used.withdrawn)

    def language_model(self, name: str, paths: Iterable[str | Path]) -> str:
        """Return the fingerprint of a language model from links made for it; empty without any."""
        for path in paths:
            manifest = self.manifest(path)
            if manifest is not None and manifest.config.base_model_name == Path(name).name:
                return manifest.config.base_model
        return ''

"""Known facts of the adaptation: stored versions of links, and the state observed from topics."""
from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mpnp_ros.adaptation.policy import DEGRADED, ModalityCondition, StoredVersion
from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link_files import LinkManifest, read_manifest
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.modalities.registry import sensors
from mpnp_ros.questions.subjects import MOTION, SOUNDS
from mpnp_ros.tokens import ModalityTokens

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LinkInUse:
    """Links in use by the fusion node; path: their folder, empty if they have none."""

    modality: str
    version: str
    path: str
    encoder: str


@cache
def learns_objects(modality: str) -> bool:
    """Return whether questions about objects, which labelled ones are, teach the links of a modality."""
    sensor = sensors().get(modality)
    return sensor is None or sensor.reads_like not in (MOTION.name, SOUNDS.name)


class LinkCatalogue:
    """Reads each link manifest once; unreadable ones are skipped with a log line.

    kind: of the links of the current method; versions of other kinds are not listed.
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
        """Return whether links were trained on tokens of their modality, not only evaluated as a start.

        Links without a folder are copies that the fusion node made.
        """
        if not path:
            return False
        manifest = self.manifest(path)
        adapted = manifest.provenance.adaptation if manifest else None
        return adapted is None or adapted.steps > 0

    def stored(self) -> Iterator[StoredVersion]:
        """Yield all versions of the store."""
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


class ObservedState:
    """Modalities, the width of their tokens, and the links in use.  Mappings are replaced, never changed.

    conditions, widths, in_use: by modality.  counting: modalities whose tokens are numbers of things.
    """

    def __init__(self) -> None:
        self.conditions: dict[str, ModalityCondition] = {}
        self.widths: dict[str, int] = {}
        self.counting: set[str] = set()
        self.in_use: dict[str, LinkInUse] = {}

    def take_tokens(self, tokens: ModalityTokens) -> None:
        """Record the form of the newest tokens of a modality."""
        self.widths[tokens.modality] = tokens.width
        if len(tokens.known):
            self.counting.add(tokens.modality)
        else:
            self.counting.discard(tokens.modality)

    def counts_otherwise(self, modality: str, other: str) -> bool:
        """Return whether the tokens of both are numbers, but of different things."""
        return {modality, other} <= self.counting and self.widths[modality] != self.widths[other]

    @property
    def concerns(self) -> tuple[str, ...]:
        """Return the degraded modalities, in words."""
        return tuple(f'{name} {DEGRADED}' for name, condition in self.conditions.items()
                     if condition.state == DEGRADED)

    def take_conditions(self, conditions: Iterable[ModalityCondition], now: float) -> None:
        """Record the states published by the fusion node, and since when they hold."""
        new = {}
        for condition in conditions:
            before = self.conditions.get(condition.modality)
            since = before.since if before is not None and before.state == condition.state else now
            new[condition.modality] = replace(condition, since=since)
        self.conditions = new

    def take_links(self, links: Iterable[LinkInUse]) -> list[LinkInUse]:
        """Record the links in use; return previous ones that are no longer in use."""
        before, self.in_use = self.in_use, {link.modality: link for link in links}
        now = {link.path for link in self.in_use.values()}
        return [link for link in before.values() if link.path not in now]

    def plugged(self, link: LinkInUse) -> None:
        """Record installed links before the fusion node publishes them."""
        self.in_use = {**self.in_use, link.modality: link}
        if known := self.conditions.get(link.modality):
            self.conditions = {**self.conditions, link.modality: replace(known, links_version=link.version)}

    def linked_conditions(self, catalogue: LinkCatalogue) -> list[ModalityCondition]:
        """Return the conditions with the facts of the links in use; unknown links count as fitting."""
        conditions = []
        for name, condition in self.conditions.items():
            link = self.in_use.get(name)
            if link is None or link.version != condition.links_version:
                conditions.append(replace(condition, links_encoder=condition.encoder))
            else:
                conditions.append(replace(
                    condition, links_encoder=link.encoder, links_accuracy=catalogue.accuracy(link.path),
                    links_trained=catalogue.is_trained(link.path) or not learns_objects(name)))
        return conditions

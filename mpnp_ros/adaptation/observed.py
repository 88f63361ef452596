"""The current state of the modalities as published by other nodes."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mpnp_ros.adaptation.link_catalogue import LinkCatalogue, LinkInUse
from mpnp_ros.adaptation.policy import DEGRADED, Condition
from mpnp_ros.tokens import ModalityTokens


class Observed:
    """Modalities, the width of their tokens, and the links in use.  Mappings are replaced, never changed.

    conditions, widths, in_use: by modality.  counting: those whose tokens hold numbers of things.
    """

    def __init__(self) -> None:
        self.conditions: dict[str, Condition] = {}
        self.widths: dict[str, int] = {}
        self.counting: set[str] = set()
        self.in_use: dict[str, LinkInUse] = {}

    def take_tokens(self, tokens: ModalityTokens) -> None:
        """What the newest tokens of a modality are like."""
        self.widths[tokens.modality] = tokens.width
        if len(tokens.known):
            self.counting.add(tokens.modality)
        else:
            self.counting.discard(tokens.modality)

    @property
    def concerns(self) -> tuple[str, ...]:
        """Return the degraded modalities, in words."""
        return tuple(f'{name} {DEGRADED}' for name, one in self.conditions.items() if one.state == DEGRADED)

    def take_conditions(self, conditions: Iterable[Condition], now: float) -> None:
        """Record the states published by the fusion node, and since when they hold."""
        fresh = {}
        for one in conditions:
            before = self.conditions.get(one.modality)
            same = before is not None and before.state == one.state
            fresh[one.modality] = replace(one, since=before.since if same else now)
        self.conditions = fresh

    def take_links(self, links: Iterable[LinkInUse]) -> list[LinkInUse]:
        """Record the links in use; returns previous ones that are no longer in use."""
        before, self.in_use = self.in_use, {link.modality: link for link in links}
        now = {link.path for link in self.in_use.values()}
        return [link for link in before.values() if link.path not in now]

    def plugged(self, link: LinkInUse) -> None:
        """Record installed links before the fusion node publishes them."""
        self.in_use = {**self.in_use, link.modality: link}
        if known := self.conditions.get(link.modality):
            self.conditions = {**self.conditions, link.modality: replace(known, links_version=link.version)}

    def linked_conditions(self, catalogue: LinkCatalogue) -> list[Condition]:
        """Return the conditions with the manifests of the links in use; unknown links count as fitting."""
        return [self._linked(one, self.in_use.get(name), catalogue) for name, one in self.conditions.items()]

    def _linked(self, condition: Condition, link: LinkInUse | None, catalogue: LinkCatalogue) -> Condition:
        if link is None or link.version != condition.links_version:
            return replace(condition, links_encoder=condition.encoder)
        return replace(condition, links_encoder=link.encoder, links_accuracy=catalogue.accuracy(link.path),
                       links_trained=catalogue.is_trained(link.path))

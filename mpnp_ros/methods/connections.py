"""The links plugged into one language model."""
from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import Reach
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_options import LinkConfig


def check_fit(config: LinkConfig, lm: LanguageModel) -> None:
    """Raise LinksError unless a link was made for this language model."""
    name = f'the {config.modality} link'
    if config.base_model != lm.fingerprint:
        raise LinksError(f'{name} was made for {config.base_model_name} ({config.base_model[:8]}), not for '
                         f'{lm.name} ({lm.fingerprint[:8]}); train one for this model or load that one')
    made, wanted = (config.kv_heads, config.head_dim, config.text_width), (lm.kv_heads, lm.head_dim, lm.width)
    if made != wanted:
        raise LinksError(f'{name} has key/value heads, head and text width {made}; {lm.name} has {wanted}; '
                         'make its configuration with LinkConfig.for_model')
    if config.blocks[-1] >= lm.blocks:
        raise LinksError(f'{name} links block {config.blocks[-1]}; {lm.name} has blocks 0..{lm.blocks - 1}')


class Connections:
    """Links by modality; their order does not matter.

    Plugging never changes a mapping that a reader holds: :meth:`snapshot` taken before an answer serves
    that answer to its end, whatever is plugged or unplugged meanwhile (from any thread).
    """

    def __init__(self, lm: LanguageModel, links: Mapping[str, Link] | None = None) -> None:
        self.lm = lm
        self._links: Mapping[str, Link] = dict(sorted((links or {}).items()))
        self._lock = threading.Lock()

    @property
    def links(self) -> Mapping[str, Link]:
        """Modality -> link, as plugged now."""
        return dict(self._links)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities whose tokens are read: plugged, not pruned away and not blind; sorted."""
        return tuple(name for name, link in self._links.items()
                     if link.open_blocks and link.soft_tokens is None)

    @property
    def first_block(self) -> int:
        """Blocks below this one see the text only; the number of blocks if nothing is linked."""
        firsts = (link.first_block for link in self._links.values())
        return min((first for first in firsts if first is not None), default=self.lm.blocks)

    @property
    def reach(self) -> Reach:
        """Which rows of a text see the prefix; the same for all links plugged together; 'all' with none."""
        return cast('Reach', next((link.config.reach for link in self._links.values()), 'all'))

    @property
    def question_blocks(self) -> tuple[int, ...]:
        """Blocks at whose input links read the states of the question alone, ascending; none by default."""
        return ()

    def plug(self, link: Link) -> None:
        """Add a link for a modality that has none; moves it to the model's device."""
        if link.config.modality in self._links:
            raise LinksError(f'{link.config.modality} is already plugged; unplug it first, or replace it')
        self.replace(link)

    def replace(self, link: Link) -> Link | None:
        """Plug a link in place of the modality's present one, which is returned."""
        check_fit(link.config, self.lm)
        link.to(self.lm.device)
        modality = link.config.modality
        with self._lock:
            for name, other in self._links.items():
                if name != modality and other.config.reach != link.config.reach:
                    raise LinksError(f'the {modality} link reaches {link.config.reach!r}, the plugged {name} '
                                     f'link {other.config.reach!r}; links that are used together must reach '
                                     'the same rows')
            before = self._links.get(modality)
            self._links = dict(sorted({**self._links, modality: link}.items()))
            self._plugged(link)
        return before

    def unplug(self, modality: str) -> Link:
        """Remove and return a modality's link."""
        with self._lock:
            if modality not in self._links:
                raise LinksError(f'{modality} is not plugged; plugged: {", ".join(self._links) or "none"}')
            link = self._links[modality]
            self._links = {name: other for name, other in self._links.items() if name != modality}
        return link

    def prune(self, threshold: float) -> dict[str, int]:
        """Close all gates below the threshold exactly; return how many were newly closed per modality."""
        return {modality: link.prune(threshold) for modality, link in self._links.items()}

    def snapshot(self) -> Connections:
        """Return the connections as they are now, untouched by later plugging."""
        return type(self)(self.lm, self._links)

    def _plugged(self, link: Link) -> None:
        """Called under the lock when a link was plugged; methods whose links share parts override it."""


class SharingConnections(Connections):
    """Links to the same blocks of one model that have one part in common.

    shared_name: attribute of the links that holds the part.  The part of the link plugged last serves all
    modalities, so plugging another link replaces that of the others.  Answers read it as :attr:`shared`.
    """

    shared_name: str

    def __init__(self, lm: LanguageModel, links: Mapping[str, Any] | None = None) -> None:
        super().__init__(lm, links)
        self._shared: Any = next(
            (getattr(link, self.shared_name) for link in self._links.values()), None)

    @property
    def shared(self) -> Any:
        """The part that all links have in common; None without links."""
        return self._shared if self._links else None

    def snapshot(self) -> SharingConnections:
        """See Connections; with the shared part of this moment."""
        with self._lock:
            taken = type(self)(self.lm, self._links)
            taken._shared = self._shared
        return taken

    def replace(self, link: Any) -> Any:
        """Plug a link in place of the modality's present one; its shared part now serves all modalities.

        Raises LinksError where others have other blocks, or a shared part of another form.
        """
        for name, other in self._links.items():
            if name == link.config.modality:
                continue
            if other.config.blocks != link.config.blocks:
                raise LinksError(f'the {link.config.modality} link has blocks {list(link.config.blocks)}, '
                                 f'the {name} link {list(other.config.blocks)}; links of kind {link.kind!r} '
                                 'have the same blocks for all modalities')
            if other.together != link.together:
                raise LinksError(f'what the {link.config.modality} link and the {name} link have in common '
                                 'is not made alike; train one of them with the other plugged')
        return super().replace(link)

    def _plugged(self, link: Any) -> None:
        self._shared = getattr(link, self.shared_name)
        for other in self._links.values():
            setattr(other, self.shared_name, self._shared)


def join(parts: Iterable[BlockPrefix], dtype: torch.dtype) -> BlockPrefix:
    """Return prefixes of one block side by side along P; a batch of 1 is repeated for the largest batch."""
    parts = list(parts)
    if len(parts) == 1:
        keys, values, gates = parts[0].keys, parts[0].values, parts[0].log_gate
        return BlockPrefix(keys.to(dtype), values.to(dtype), gates.expand(len(keys), -1, keys.shape[2]))
    batch = max(part.keys.shape[0] for part in parts)
    keys, values = (torch.cat([getattr(part, name).expand(batch, -1, -1, -1) for part in parts], 2).to(dtype)
                    for name in ('keys', 'values'))
    gates = torch.cat([part.log_gate.expand(batch, -1, part.keys.shape[2]) for part in parts], 2)
    return BlockPrefix(keys, values, gates)

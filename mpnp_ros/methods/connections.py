"""The latent connections plugged into one language model."""
from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import torch

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prefix import BlockPrefix, Prefix
from mpnp_ros.llm.prepared import Reach
from mpnp_ros.methods.inputs import QuestionStates, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.counting import Evidence
from mpnp_ros.methods.mpnp.link import LatentLink, Question
from mpnp_ros.methods.mpnp.worth import fuse


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


class LatentConnections:
    """Links by modality.  Their order does not matter, and with none plugged the prefix is empty.

    Plugging never changes a mapping that a reader holds: :meth:`snapshot` taken before an answer serves
    that answer to its end, whatever is plugged or unplugged meanwhile (from any thread).
    """

    def __init__(self, lm: LanguageModel, links: Mapping[str, LatentLink] | None = None) -> None:
        self.lm = lm
        self._links: dict[str, LatentLink] = dict(sorted((links or {}).items()))
        self._lock = threading.Lock()

    @property
    def links(self) -> Mapping[str, LatentLink]:
        """Modality -> link, as plugged now."""
        return dict(self._links)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities whose tokens have a say: plugged, not pruned away and not blind; sorted."""
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
        return next((link.config.reach for link in self._links.values()), 'all')

    @property
    def question_blocks(self) -> tuple[int, ...]:
        """Blocks at whose input the links want the states of the question alone, ascending."""
        return tuple(sorted({link.config.question_block for link in self._links.values()
                             if link.pooling is not None and link.open_blocks}))

    def plug(self, link: LatentLink) -> None:
        """Add a link for a modality that has none; moves it to the model's device."""
        if link.config.modality in self._links:
            raise LinksError(f'{link.config.modality} is already plugged; unplug it first, or replace it')
        self.replace(link)

    def replace(self, link: LatentLink) -> LatentLink | None:
        """Plug a link in place of the modality's present one, which is given back."""
        check_fit(link.config, self.lm)
        link.to(self.lm.device)
        with self._lock:
            self._check_reach(link.config)
            before = self._links.get(link.config.modality)
            self._links = dict(sorted({**self._links, link.config.modality: link}.items()))
            self._plugged(link)
        return before

    def unplug(self, modality: str) -> LatentLink:
        """Remove and give back a modality's link."""
        with self._lock:
            if modality not in self._links:
                raise LinksError(f'{modality} is not plugged; plugged: {", ".join(self._links) or "none"}')
            link = self._links[modality]
            self._links = {name: other for name, other in self._links.items() if name != modality}
        return link

    def prune(self, threshold: float) -> dict[str, int]:
        """Close all gates below the threshold exactly; gives how many were newly closed per modality."""
        return {modality: link.prune(threshold) for modality, link in self._links.items()}

    def snapshot(self) -> LatentConnections:
        """The connections as they are now, untouched by later plugging."""
        return type(self)(self.lm, self._links)

    def prefix(self, tokens: Mapping[str, TokenBatch | tuple],
               question: QuestionStates | None = None, evidence: Evidence | None = None) -> Prefix:
        """What the linked blocks attend to beside the text.

        tokens: modality -> TokenBatch (or a tuple of its first fields); modalities without a link, and
        links without tokens, add nothing; a link on soft tokens is always there.  question: needed by
        links with question pooling.  evidence: gets what links that count have to say beside the prefix.
        Keys and values are of the model's dtype.
        """
        parts: dict[int, list[BlockPrefix]] = {}
        for modality, link in self._links.items():
            if link.config.pooling == 'counting' or (link.soft_tokens is None and modality not in tokens):
                continue
            batch = TokenBatch(*tokens[modality]) if link.soft_tokens is None else None
            for block, part in link(batch, self._asked(link, question)).items():
                parts.setdefault(block, []).append(part)
        for group in self._readers(tokens).values():
            for block, part in self._fused(group, question, evidence).items():
                parts.setdefault(block, []).append(part)
        return {block: join(parts[block], self.lm.dtype) for block in sorted(parts)}

    def _readers(self, tokens: Mapping[str, TokenBatch | tuple],
                 ) -> dict[int, list[tuple[LatentLink, TokenBatch]]]:
        """The links that count, have tokens and are not closed, by the reader that they share."""
        readers: dict[int, list[tuple[LatentLink, TokenBatch]]] = {}
        for modality, link in self._links.items():
            if modality in tokens and link.config.pooling == 'counting' and bool(link.gates.any()):
                readers.setdefault(id(link.pooling), []).append((link, TokenBatch(*tokens[modality])))
        return readers

    def _fused(self, group: Sequence[tuple[LatentLink, TokenBatch]], question: QuestionStates | None,
               evidence: Evidence | None) -> dict[int, BlockPrefix]:
        """One prefix for the links of a reader: their counts are fused, and the most open one opens it."""
        reader = group[0][0]
        pooling, states = reader.pooling, self._asked(reader, question)
        if states is None:
            return reader(group[0][1])
        asked = pooling.probes(*states)
        parts = [(link.count(batch), link.worth, link.gates.max()) for link, batch in group]
        tally = pooling.tally(fuse(parts), asked)
        if evidence is not None:
            warmths = [link.temperature(asked, tally) for link, _ in group]
            before = [] if evidence.temperature is None else [evidence.temperature]
            evidence.temperature = torch.stack(before + warmths).amax(0)
        if evidence is not None and evidence.alone:
            several = len(group) > 1
            evidence.counted += pooling.counted(tally, asked, '' if several else reader.config.modality)
            if several:
                for (link, _), (counts, _, _) in zip(group, parts, strict=True):
                    own = pooling.tally(counts, asked)
                    evidence.counted += pooling.counted(own, asked, link.config.modality)
            answerable = pooling.can_answer(asked).sigmoid().item()
            evidence.answerable = min(evidence.answerable, answerable)
        columns = [link.columns(batch) for link, batch in group]
        texts = max(column.shape[1] for column in columns)
        opened = torch.stack([column.expand(-1, texts) for column in columns]).amax(0)
        return reader.prefix_of(pooling.entries_of(tally, asked), opened)

    def _plugged(self, link: LatentLink) -> None:
        """A link has been plugged, under the lock: with those that read alike it shares their reader."""
        for other in self._links.values():
            if other is not link and link.reads_like(other):
                link.share_reader(other)
                return

    def _check_reach(self, config: LinkConfig) -> None:
        for name, other in self._links.items():
            if name != config.modality and other.config.reach != config.reach:
                raise LinksError(f'the {config.modality} link reaches {config.reach!r}, the plugged {name} '
                                 f'link {other.config.reach!r}; links that are used together must reach '
                                 'the same rows')

    @staticmethod
    def _asked(link: LatentLink, question: QuestionStates | None) -> Question | None:
        """The states of the question that a link pools by, None for one that does not."""
        if link.pooling is None or not link.open_blocks or question is None:
            return None
        return question.at(link.config.question_block)


def join(parts: Iterable[BlockPrefix], dtype: torch.dtype) -> BlockPrefix:
    """Prefixes of one block side by side along P; a batch of 1 is repeated for the largest batch."""
    parts = list(parts)
    batch = max(part.keys.shape[0] for part in parts)
    keys, values = (torch.cat([getattr(part, name).expand(batch, -1, -1, -1) for part in parts], 2).to(dtype)
                    for name in ('keys', 'values'))
    gates = torch.cat([part.log_gate.expand(batch, -1, part.keys.shape[2]) for part in parts], 2)
    return BlockPrefix(keys, values, gates)

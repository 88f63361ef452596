"""The default method: gated latent links over cached lower blocks (arXiv:2312.07886)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mpnp_ros.llm.attention import BlockPrefix, Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion, QuestionCache
from mpnp_ros.methods.connections import Connections, join
from mpnp_ros.methods.link import QuestionStates, TokenBatch
from mpnp_ros.methods.method import Method, PrefixCompletion
from mpnp_ros.methods.mpnp.cost import LATENT_COST
from mpnp_ros.methods.mpnp.counting import CountingPooling, Counts, Tally
from mpnp_ros.methods.mpnp.grounding import SensorTokens, grounding_of
from mpnp_ros.methods.mpnp.link import (
    LEAST_PART,
    LatentLink,
    Question,
    fuse,
    overlap_of,
    shares_of_asked,
)
from mpnp_ros.methods.questions import AskedQuestion, Evidence, Tokens, question_states
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.tokens import SECTORS

STATES_BYTES = 32_000_000
"""Of the states of questions that are asked again of every frame."""

#: Learning rate groups of the parameters of latent links.
LATENT_GROUPS = {'gates': ('gate_weights',), 'trust': ('worth.trust', 'worth.presence'),
                 'worth': ('worth.*',), 'aligners': ('*_aligner.*',)}


LinksOfReader = list[tuple[LatentLink, TokenBatch]]
"""Links that share a reader, with their tokens."""


class LatentConnections(Connections):
    """Connections whose links give a prefix; with none plugged the prefix is empty."""

    _links: Mapping[str, LatentLink]

    @property
    def question_blocks(self) -> tuple[int, ...]:
        """Blocks at whose input the links read the states of the question alone, ascending."""
        return tuple(sorted({link.config.question_block for link in self._links.values()
                             if link.pooling is not None and link.open_blocks}))

    def prefix(self, tokens: Mapping[str, TokenBatch | tuple[torch.Tensor, ...]],
               question: QuestionStates | None = None, evidence: Evidence | None = None,
               dtype: torch.dtype | None = None) -> Prefix:
        """Return the prefix that the linked blocks attend to beside the text; dtype: by default the model's.

        tokens: modality -> TokenBatch (or a tuple of its first fields).  Modalities without a link, and links
        without tokens, add nothing; a link on soft tokens always adds its part.  question: needed by links
        with question pooling.  evidence: filled in by links that count.

        A question is about one subject.  If any reader says that it can answer it, those that cannot have no
        say, nor those of another subject than the surest, which count other channels: their links are then as
        if not plugged.
        """
        parts: dict[int, list[BlockPrefix]] = {}
        for modality, link in self._links.items():
            if link.config.pooling == 'counting':
                continue
            if link.soft_tokens is None and modality not in tokens:
                continue
            batch = TokenBatch(*tokens[modality]) if link.soft_tokens is None else None
            for block, part in link(batch, self._asked(link, question)).items():
                parts.setdefault(block, []).append(part)
        readers = self._readers(tokens)
        for group, (asked, silent) in zip(readers, self._silent(readers, question), strict=True):
            warmth = None if evidence is None else evidence.temperature
            if evidence is not None and silent is not None:
                evidence.silent.update((link.config.modality, silent) for link, _ in group)
            if silent is not None and bool(silent.all()):
                continue
            for block, part in self._fused(group, question, evidence, asked, silent).items():
                if silent is not None:
                    part = replace(part, log_gate=torch.where(
                        silent[:, None, None], -torch.inf, part.log_gate))
                parts.setdefault(block, []).append(part)
            if evidence is not None and evidence.temperature is not None and silent is not None:
                before = torch.zeros_like(evidence.temperature) if warmth is None else warmth
                evidence.temperature = torch.where(silent, before, evidence.temperature)
        if evidence is not None and evidence.temperature is not None:  # 0 where nothing counts
            evidence.temperature = torch.where(evidence.temperature > 0, evidence.temperature, 1.)
        return {block: join(parts[block], dtype or self.lm.dtype) for block in sorted(parts)}

    def silent(self, tokens: Mapping[str, TokenBatch], question: QuestionStates | None) -> frozenset[str]:
        """Return the modalities that have no say in any of the questions, see :meth:`prefix`."""
        readers = self._readers(tokens)
        return frozenset(link.config.modality
                         for group, (_, silent) in zip(readers, self._silent(readers, question), strict=True)
                         if silent is not None and bool(silent.all()) for link, _ in group)

    def last_counting(self, left: Iterable[str], names: Iterable[str]) -> set[str]:
        """Return those of some modalities whose links count, by a reader that none of those left has."""
        counting = {name: link for name, link in self._links.items()
                    if link.config.pooling == 'counting' and bool(link.gates.any())}
        readers = {id(counting[name].pooling) for name in left if name in counting}
        return {name for name in names
                if name in counting and id(counting[name].pooling) not in readers}

    @property
    def several_readers(self) -> bool:
        """Whether links count by readers that differ."""
        return len({id(link.pooling) for link in self._links.values()
                    if link.config.pooling == 'counting'}) > 1

    def _readers(self, tokens: Mapping[str, TokenBatch | tuple[torch.Tensor, ...]]) -> list[LinksOfReader]:
        """Return the open links that count, with their tokens, by their reader."""
        readers: dict[int, LinksOfReader] = {}
        for modality, link in self._links.items():
            if link.config.pooling == 'counting' and modality in tokens and bool(link.gates.any()):
                readers.setdefault(id(link.pooling), []).append((link, TokenBatch(*tokens[modality])))
        return list(readers.values())

    @staticmethod
    def _silent(readers: Sequence[LinksOfReader], question: QuestionStates | None,
                ) -> list[tuple[torch.Tensor | None, torch.Tensor | None]]:
        """Return for each reader its probes, and the texts in which it has no say, bool [B].

        None: they have not been computed, and it has a say in all.
        """
        if len(readers) < 2 or question is None:
            return [(None, None)] * len(readers)
        probes, odds = [], []
        for group in readers:
            pooling = group[0][0].pooling
            assert isinstance(pooling, CountingPooling)
            asked = pooling.asked(question, group[0][0].config.question_block)
            with torch.no_grad():
                there = [(link.columns(batch) > -torch.inf).any(0) for link, batch in group]
                sees = torch.stack(torch.broadcast_tensors(*there)).any(0)
                odds.append(pooling.can_answer(asked.detach()).where(sees, -torch.inf))
            probes.append(asked)
        subjects: dict[tuple[str, ...], list[torch.Tensor]] = {}
        for group, own in zip(readers, odds, strict=True):
            subjects.setdefault(group[0][0].config.channels, []).append(own)
        best = {channels: torch.stack(several).amax(0) for channels, several in subjects.items()}
        surest = torch.stack(list(best.values())).amax(0)
        return [(asked, (surest > 0) & ((own <= 0) | (best[group[0][0].config.channels] < surest)))
                for group, asked, own in zip(readers, probes, odds, strict=True)]

    def _fused(self, group: LinksOfReader, question: QuestionStates | None, evidence: Evidence | None,
               asked: torch.Tensor | None = None, silent: torch.Tensor | None = None,
               ) -> dict[int, BlockPrefix]:
        """Return one prefix for the links of a reader: their counts are fused; the most open gate holds.

        asked: its probes, if they have been computed.  silent: the texts in which it has no say, bool [B].
        """
        reader = group[0][0]
        pooling, states = reader.pooling, self._asked(reader, question)
        if states is None or question is None:
            return reader(group[0][1])
        assert isinstance(pooling, CountingPooling)
        if asked is None:
            asked = pooling.asked(question, reader.config.question_block)
        parts = []
        for link, batch in group:
            worth = link.worth
            assert worth is not None
            parts.append((link.count(batch), worth, link.gates.max()))
        told = evidence is not None and evidence.told and len(group) > 1
        made = pooling.reading(asked)
        fused = fuse(parts)
        counted = [fused.counts, *(counts for counts, _, _ in parts if told)]
        tally, *alone = pooling.tallies(counted, asked, made)
        columns = [link.columns(batch) for link, batch in group]
        if evidence is not None:
            there = torch.stack([(column > -torch.inf).any(0).expand(len(asked)) for column in columns])
            shares = fused.shares * there[:, :, None, None]
            looks = shares_of_asked(shares, made[0], pooling.supervised)
            overlap = overlap_of(shares, made[0], pooling.supervised)
            logs = torch.stack([link.log_temperature(asked, tally, overlap) for link, _ in group])
            says = looks + LEAST_PART * there  # a link without tokens for a text says nothing
            mean = (says * logs).sum(0) / says.sum(0).clamp(min=LEAST_PART)
            before = [] if evidence.temperature is None else [evidence.temperature]
            evidence.temperature = torch.stack([*before, mean.exp().where(there.any(0), 0.)]).amax(0)
        if evidence is not None and evidence.told:
            self._tell(evidence, group, [counts for counts, _, _ in parts], fused.shares, [tally, *alone],
                       asked, silent)
        texts = max(column.shape[1] for column in columns)
        opened = torch.stack([column.expand(-1, texts) for column in columns]).amax(0)
        return reader.prefix_of(pooling.entries_of(tally, asked, made), opened)

    @staticmethod
    def _tell(evidence: Evidence, group: LinksOfReader, counts: Sequence[Counts], shares: torch.Tensor,
              tallies: Sequence[Tally], asked: torch.Tensor, silent: torch.Tensor | None) -> None:
        """Fill in the evidence of the first questions, but for those in which the reader has no say.

        group: links that share the reader, with their counts and their shares in the fused ones, see Fused.
        tallies: of all together, then of each of several.  asked: probes [B, K, width].  silent: as for
        `_fused`.
        """
        pooling = group[0][0].pooling
        assert isinstance(pooling, CountingPooling)
        names = [link.config.modality for link, _ in group]
        says = [True] * evidence.told if silent is None else (~silent).expand(len(asked)).tolist()
        counted = [pooling.counted(own, asked, name)
                   for name, own in zip(['', *names] if len(names) > 1 else names, tallies, strict=True)]
        answerable = pooling.can_answer(asked).sigmoid().tolist()
        told = slice(evidence.told)
        grounding = grounding_of(pooling, tallies[0].masks[told], [
            SensorTokens(name, [batch.tokens_of(question) for question in range(evidence.told)],
                         own.windows[told], seen.numbers[told], seen.azimuth[told], share[told])
            for name, (_, batch), own, seen, share in zip(
                names, group, tallies[-len(names):], counts, shares, strict=True)])
        for question in range(evidence.told):
            if says[question]:
                evidence.counted[question] += [count for own in counted for count in own[question]]
                evidence.answerable[question] = min(evidence.answerable[question], answerable[question])
                evidence.grounding[question] += grounding[question]

    def _plugged(self, link: LatentLink) -> None:
        """See Connections; a link shares the reader of others that read alike."""
        for other in self._links.values():
            if other is not link and link.reads_like(other):
                link.share_reader(other)
                return

    @staticmethod
    def _asked(link: LatentLink, question: QuestionStates | None) -> Question | None:
        """Return the states of the question that a link pools by; None for one that does not pool."""
        if link.pooling is None or not link.open_blocks or question is None:
            return None
        return question.at(link.config.question_block)


class Mpnp(Method):
    """Linked blocks attend to a gated prefix that the links make of tokens, for each question anew."""

    connections_type = LatentConnections
    tells_influence = True

    def __init__(self, lm: LanguageModel, **options: Any) -> None:
        super().__init__(lm, **options)
        self._states: QuestionCache[QuestionStates] = QuestionCache(STATES_BYTES)

    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: LatentConnections, evidence: Evidence | None = None) -> PrefixCompletion:
        """See Method."""
        states = self._read(questions, connections, evidence is not None and bool(evidence.told))
        packed = self.packed
        if packed is not None and (torch.is_grad_enabled() or packed.lm is not self.lm):
            packed = None  # packed blocks have no gradients, and not the blocks of a model altered since
        prefix = connections.prefix(self.frames(tokens, connections), states, evidence,
                                    torch.float32 if packed else None)
        return PrefixCompletion(self.lm, prefix, packed)

    def closed(self, tokens: Tokens, names: Set[str], connections: Connections) -> Tokens:
        """See Method.  A reader whose sensors are all closed counts nothing, in no direction."""
        assert isinstance(connections, LatentConnections)
        left = {name: frame for name, frame in tokens.items() if name not in names}
        nothing = connections.last_counting(left, names)
        return {**left, **{name: replace(tokens[name], values=np.zeros_like(tokens[name].values),
                                         looked=np.zeros(SECTORS, bool)) for name in nothing & set(tokens)}}

    @torch.no_grad()
    def answering(self, question: AskedQuestion, tokens: Tokens) -> tuple[str, ...]:
        """See Method."""
        connections = self._connections.snapshot()
        assert isinstance(connections, LatentConnections)
        used = super().answering(question, tokens)
        if not connections.several_readers or len(used) < 2:
            return used
        states = self._read(self._batch([question], connections, True).questions, connections, True)
        silent = connections.silent(self.frames([tokens], connections), states)
        return tuple(name for name in used if name not in silent)

    def _read(self, questions: Sequence[PreparedQuestion], connections: LatentConnections,
              keep: bool) -> QuestionStates | None:
        """Return the states that links read of questions; None if they read none.

        keep: whether they are kept, as the same questions may be asked again of every frame.
        """
        blocks = connections.question_blocks
        if not blocks:
            return None
        if not keep:
            return question_states(self.lm, questions, blocks)
        return self._states.get((self.lm, tuple(questions), blocks), lambda: replace(
            question_states(self.lm, questions, blocks),
            beside=sum(question.nbytes for question in questions)))


SPEC = MethodSpec(
    'mpnp', 'latent links: the question pools the tokens of a modality into a few gated keys and values of '
    'the upper blocks',
    Mpnp, LatentLink, any_depth=True, cost=LATENT_COST, parameter_groups=LATENT_GROUPS)

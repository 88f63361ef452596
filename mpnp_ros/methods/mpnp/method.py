"""The default method: gated latent links over cached lower blocks (arXiv:2312.07886)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from mpnp_ros.llm.attention import BlockPrefix, Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.methods.connections import Connections, join
from mpnp_ros.methods.link import QuestionStates, TokenBatch
from mpnp_ros.methods.method import Method, PrefixCompletion
from mpnp_ros.methods.mpnp.cost import LATENT_COST
from mpnp_ros.methods.mpnp.counting import CountingPooling, Counts, Tally
from mpnp_ros.methods.mpnp.grounding import SensorCounts, grounding_of
from mpnp_ros.methods.mpnp.link import (
    LatentLink,
    Question,
    Worth,
    fuse,
    fused_parts,
    nothing_of,
)
from mpnp_ros.methods.questions import Evidence, Tokens, question_states
from mpnp_ros.methods.registry import MethodSpec

#: Learning rate groups of the parameters of latent links.
LATENT_GROUPS = {'gates': ('gate_weights',), 'trust': ('worth.trust', 'worth.presence'),
                 'worth': ('worth.*',), 'aligners': ('*_aligner.*',)}

#: Fields of a Tally that follow from the counts; windows and masks follow from the question.
COUNTED_FIELDS = ('number', 'probabilities', 'kinds', 'covered')


class LatentConnections(Connections):
    """Connections whose links give a prefix; with none plugged the prefix is empty."""

    _links: Mapping[str, LatentLink]

    @property
    def question_blocks(self) -> tuple[int, ...]:
        """Blocks at whose input the links read the states of the question alone, ascending."""
        return tuple(sorted({link.config.question_block for link in self._links.values()
                             if link.pooling is not None and link.open_blocks}))

    def prefix(self, tokens: Mapping[str, TokenBatch | tuple[torch.Tensor, ...]],
               question: QuestionStates | None = None, evidence: Evidence | None = None) -> Prefix:
        """Return the prefix that the linked blocks attend to beside the text, in the model's dtype.

        tokens: modality -> TokenBatch (or a tuple of its first fields).  Modalities without a link, and links
        without tokens, add nothing; a link on soft tokens always adds its part.  question: needed by links
        with question pooling.  evidence: filled in by links that count.
        """
        closed = evidence.closed if evidence is not None else ()
        parts: dict[int, list[BlockPrefix]] = {}
        readers: dict[int, list[tuple[LatentLink, TokenBatch]]] = {}  # links that count, by their reader
        for modality, link in self._links.items():
            if link.config.pooling == 'counting':
                if modality in tokens and bool(link.gates.any()):
                    readers.setdefault(id(link.pooling), []).append((link, TokenBatch(*tokens[modality])))
                continue
            if link.soft_tokens is None and modality not in tokens:
                continue
            batch = TokenBatch(*tokens[modality]) if link.soft_tokens is None else None
            opened = [True, *(shut is not None and (batch is None or modality not in shut)
                              for shut in closed)]
            for block, part in link(batch, self._asked(link, question)).items():
                parts.setdefault(block, []).append(_with_rows(part, opened) if closed else part)
        for group in readers.values():
            for block, part in self._fused(group, question, evidence).items():
                parts.setdefault(block, []).append(part)
        if evidence is not None and evidence.temperature is not None:  # 0 where nothing counts
            evidence.temperature = torch.where(evidence.temperature > 0, evidence.temperature, 1.)
        return {block: join(parts[block], self.lm.dtype) for block in sorted(parts)}

    def _fused(self, group: Sequence[tuple[LatentLink, TokenBatch]], question: QuestionStates | None,
               evidence: Evidence | None) -> dict[int, BlockPrefix]:
        """Return one prefix for the links of a reader: their counts are fused; the most open gate holds."""
        reader = group[0][0]
        pooling, states = reader.pooling, self._asked(reader, question)
        if states is None or question is None:
            return reader(group[0][1])
        assert isinstance(pooling, CountingPooling)
        asked = pooling.asked(question, reader.config.question_block)
        parts = []
        for link, batch in group:
            worth = link.worth
            assert worth is not None
            parts.append((link.count(batch), worth, link.gates.max()))
        columns = [link.columns(batch) for link, batch in group]
        if evidence is not None and evidence.alone:
            opens, tally = self._told([(link, batch.values.shape[1]) for link, batch in group], parts,
                                      pooling, asked, evidence)
            asked = asked.expand(len(tally.number), -1, -1)
            columns = [column.masked_fill(~row, -torch.inf)
                       for column, row in zip(columns, opens, strict=True)]
        else:
            opens, tally = None, pooling.tally(fuse(parts), asked)
        if evidence is not None:
            warmths = torch.stack([link.temperature(asked, tally) for link, _ in group])
            warmths = warmths if opens is None else warmths * opens
            before = [] if evidence.temperature is None else [evidence.temperature]
            evidence.temperature = torch.stack([*before, *warmths]).amax(0)
        texts = max(column.shape[1] for column in columns)
        opened = torch.stack([column.expand(-1, texts) for column in columns]).amax(0)
        return reader.prefix_of(pooling.entries_of(tally, asked), opened)

    @staticmethod
    def _told(group: Sequence[tuple[LatentLink, int]], parts: Sequence[tuple[Counts, Worth, torch.Tensor]],
              pooling: CountingPooling, asked: torch.Tensor, evidence: Evidence,
              ) -> tuple[torch.Tensor, Tally]:
        """Fill in the evidence of a single question, and count for each of its rows.

        group: links that share a reader, and the numbers of their tokens; parts: their counts, as for `fuse`.
        Returns whose gates are open in which row, bool [links, B], and the counts of the B rows.  In the
        first row all sensors count; in a row in which none does, the gates are as in the first.
        """
        names = [link.config.modality for link, _ in group]
        rows = [tuple(shut is not None and name not in shut for name in names)
                for shut in (frozenset[str](), *evidence.closed)]
        tallies: dict[tuple[bool, ...], Tally] = {}

        def tally_of(opened: tuple[bool, ...]) -> Tally:
            if opened not in tallies:
                counting = [part for part, yes in zip(parts, opened, strict=True) if yes]
                counts = fuse(counting) if counting else nothing_of(parts[0][0])
                tallies[opened] = pooling.tally(counts, asked)
            return tallies[opened]

        whole, several = tally_of(rows[0]), len(group) > 1
        evidence.counted += pooling.counted(whole, asked, '' if several else names[0])
        for name in names if several else ():
            own = tally_of(tuple(name == other for other in names))
            evidence.counted += pooling.counted(own, asked, name)
        shares = fused_parts(parts)
        evidence.grounding += grounding_of(pooling, asked, whole, [
            SensorCounts(name, counts, tokens, share[0]) for name, (_, tokens), (counts, _, _), share
            in zip(names, group, parts, shares, strict=True)])
        evidence.answerable = min(evidence.answerable, pooling.can_answer(asked).sigmoid().item())
        each = [tally_of(row) for row in rows]
        stacked = (torch.cat([getattr(tally, name) for tally in each]) for name in COUNTED_FIELDS)
        opens = torch.tensor([row if any(row) else [shut is not None] * len(names) for row, shut
                              in zip(rows, (frozenset(), *evidence.closed), strict=True)])
        return opens.T.to(asked.device), Tally(whole.windows, whole.masks, *stacked)

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


def _with_rows(part: BlockPrefix, opened: Sequence[bool]) -> BlockPrefix:
    """Return the prefix of one text as that of one text for each of `opened`, closed where that is False."""
    rows = torch.tensor(opened, device=part.keys.device)[:, None, None]
    gate = part.log_gate if part.log_gate.ndim == 3 else part.log_gate.expand(1, 1, 1)
    keys, values = (each.expand(len(opened), -1, -1, -1) for each in (part.keys, part.values))
    return BlockPrefix(keys, values, torch.where(rows, gate, -torch.inf))


class Mpnp(Method):
    """Linked blocks attend to a gated prefix that the links make of tokens, for each question anew."""

    connections_type = LatentConnections
    closes_gates = True

    def __init__(self, lm: LanguageModel, **options: Any) -> None:
        super().__init__(lm, **options)
        self._kept: WeakKeyDictionary[PreparedQuestion, tuple[object, QuestionStates]] = WeakKeyDictionary()

    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: LatentConnections, evidence: Evidence | None = None) -> PrefixCompletion:
        """See Method."""
        blocks, states = connections.question_blocks, None
        if blocks and len(questions) == 1 and not torch.is_grad_enabled():
            # A single question may be asked again of every frame, so its states are kept with it.
            made_by, states = self._kept.get(questions[0], (None, None))
            if states is None or made_by != (self.lm, blocks):
                states = question_states(self.lm, questions, blocks)
                self._kept[questions[0]] = (self.lm, blocks), states
        elif blocks:
            states = question_states(self.lm, questions, blocks)
        prefix = connections.prefix(self.frames(tokens, connections), states, evidence)
        return PrefixCompletion(self.lm, prefix)


SPEC = MethodSpec(
    'mpnp', 'latent links: the question pools the tokens of a modality into a few gated keys and values of '
    'the upper blocks',
    Mpnp, LatentLink, any_depth=True, cost=LATENT_COST, parameter_groups=LATENT_GROUPS)

"""The default method: gated latent links over cached lower blocks (arXiv:2312.07886)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mpnp_ros.llm.attention import BlockPrefix, Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion, QuestionCache
from mpnp_ros.methods.connections import Connections, join
from mpnp_ros.methods.link import QuestionStates, TokenBatch
from mpnp_ros.methods.method import Method, PrefixCompletion
from mpnp_ros.methods.mpnp.cost import LATENT_COST
from mpnp_ros.methods.mpnp.counting import CountingPooling
from mpnp_ros.methods.mpnp.link import LatentLink, Question, fuse
from mpnp_ros.methods.questions import Evidence, Tokens, question_states
from mpnp_ros.methods.registry import MethodSpec

STATES_BYTES = 32_000_000
"""Of the states of questions that are asked again of every frame."""

#: Learning rate groups of the parameters of latent links.
LATENT_GROUPS = {'gates': ('gate_weights',), 'trust': ('worth.trust', 'worth.presence'),
                 'worth': ('worth.*',), 'aligners': ('*_aligner.*',)}


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
        """
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
            for block, part in link(batch, self._asked(link, question)).items():
                parts.setdefault(block, []).append(part)
        for group in readers.values():
            for block, part in self._fused(group, question, evidence).items():
                parts.setdefault(block, []).append(part)
        return {block: join(parts[block], dtype or self.lm.dtype) for block in sorted(parts)}

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
        told = evidence is not None and evidence.told and len(group) > 1
        tally, *alone = pooling.tallies([fuse(parts), *(counts for counts, _, _ in parts if told)], asked)
        if evidence is not None:
            warmths = [link.temperature(asked, tally) for link, _ in group]
            before = [] if evidence.temperature is None else [evidence.temperature]
            evidence.temperature = torch.stack(before + warmths).amax(0)
        if evidence is not None and evidence.told:
            names = [link.config.modality for link, _ in group]
            for name, own in zip(['', *names] if told else names, [tally, *alone], strict=True):
                evidence.tell(pooling.counted(own, asked, name))
            answerable = pooling.can_answer(asked).sigmoid().tolist()
            evidence.answerable = list(map(min, evidence.answerable, answerable))
        columns = [link.columns(batch) for link, batch in group]
        texts = max(column.shape[1] for column in columns)
        opened = torch.stack([column.expand(-1, texts) for column in columns]).amax(0)
        return reader.prefix_of(pooling.entries_of(tally, asked), opened)

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

    def __init__(self, lm: LanguageModel, **options: Any) -> None:
        super().__init__(lm, **options)
        self._states: QuestionCache[QuestionStates] = QuestionCache(STATES_BYTES)

    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: LatentConnections, evidence: Evidence | None = None) -> PrefixCompletion:
        """See Method."""
        blocks, states = connections.question_blocks, None
        if blocks and evidence is not None and evidence.told:
            # The same questions may be asked again of every frame, so their states are kept.
            states = self._states.get((self.lm, tuple(questions), blocks),
                                      lambda: question_states(self.lm, questions, blocks))
        elif blocks:
            states = question_states(self.lm, questions, blocks)
        packed = self.packed
        if packed is not None and (torch.is_grad_enabled() or packed.lm is not self.lm):
            packed = None  # packed blocks have no gradients, and not the blocks of a model altered since
        prefix = connections.prefix(self.frames(tokens, connections), states, evidence,
                                    torch.float32 if packed else None)
        return PrefixCompletion(self.lm, prefix, packed)


SPEC = MethodSpec(
    'mpnp', 'latent links: the question pools the tokens of a modality into a few gated keys and values of '
    'the upper blocks',
    Mpnp, LatentLink, any_depth=True, cost=LATENT_COST, parameter_groups=LATENT_GROUPS)

"""The base class of methods that hand modalities to the language model as columns of the text.

The columns of a frame stand in front of the text and are causal, so they are run once for each distinct
frame of a batch, alone, into a K/V cache; the texts are then run behind it, each behind those of its frame.
Where the tokenizer begins every text with the same token (BOS), columns stand behind it (option `bos`): they
see that token, which is the same in all texts, and it does not see them.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.columns.link import ColumnConnections, ColumnLink, ModalityColumns, Prompts
from mpnp_ros.methods.link import TokenBatch
from mpnp_ros.methods.method import Method, of_encoder
from mpnp_ros.methods.questions import Evidence, QuestionBatch, Tokens

#: Modalities of whose columns a text is behind.
Seen = frozenset[str]


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of F frames in front of a text: C of modalities, and behind them S that links share.

    states: block -> [F, C, d], where columns enter first, and where they are overwritten.
    seen: [F, C] bool, False on padding.  shared: [F, S, d] at the first block.
    """

    states: Mapping[int, torch.Tensor]
    seen: torch.Tensor
    shared: torch.Tensor

    @property
    def of_modalities(self) -> int:
        """C."""
        return self.seen.shape[1]

    @cached_property
    def real(self) -> torch.Tensor:
        """[F, C + S] bool, False on padding."""
        return torch.cat([self.seen, self.shared.new_ones(self.shared.shape[:2], dtype=torch.bool)], 1)


class ColumnMethod(Method):
    """A language model that reads modalities as columns of the text, from one block on.

    Columns and texts are run by the models that :meth:`model_for` gives.  counted: columns have positions of
    their own and the text goes on behind them, as at the input layer; else they are all at position 0.
    """

    connections_type = ColumnConnections
    counted = True
    _connections: ColumnConnections

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> ColumnLink:
        """Return an untrained link; its shared part is a copy of that of the plugged links.

        Raises LinksError where they share a part of another form.
        """
        link: Any = super().new_link(modality, encoder, token_width, **options)
        connections = self._connections.snapshot()
        shared = connections.shared
        if shared is not None and link.config.blocks == next(iter(connections.links.values())).config.blocks:
            try:
                link.shared.load_state_dict(shared.state_dict())
            except RuntimeError:
                raise LinksError(f'a {modality} link with such options cannot share what those that are '
                                 'plugged have in common; give it their options, or unplug them') from None
        return link

    def model_for(self, connections: ColumnConnections, seen: Sequence[Seen]) -> LanguageModel:
        """Return the model that runs a batch whose row i sees the modalities seen[i]: by default as it is."""
        return self.lm

    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: ColumnConnections, evidence: Evidence | None = None) -> ColumnCompletion:
        """See Method."""
        begun = self.begun(tokens, connections)
        seen: dict[int, Seen] = dict(zip(begun.rows, begun.seen, strict=True))
        model = self.model_for(connections, [seen[frame] for frame in sorted(seen)])
        first = begun.columns.shared[:1, :0]
        if begun.ahead:
            first = self.text_states(model, QuestionBatch.stack(questions[:1]))[:, :begun.ahead]
        cache = self._run_columns(begun.columns, model, connections.first_block, first)
        return replace(begun, lm=model, cache=cache)

    def begun(self, tokens: Sequence[Tokens], connections: ColumnConnections) -> ColumnCompletion:
        """Return a completion on the method's own model whose columns have not been run."""
        # Frames that differ in what is read of them, and which of them each text has.
        keys = [tuple(id(frame.get(name)) for name in connections.modalities) for frame in tokens]
        distinct: Mapping[tuple[int, ...], Tokens] = dict(zip(keys, tokens, strict=True))
        place = {key: number for number, key in enumerate(distinct)}
        frames, rows = list(distinct.values()), [place[key] for key in keys]
        columns = self._columns(frames, connections)
        seen = [frozenset(name for name in connections.modalities if name in frame) for frame in frames]
        links: Mapping[str, Any] = connections.links
        ahead = int(self.lm.first_token is not None
                    and any(link.config.bos == 'before' for link in links.values()))
        return ColumnCompletion(self, connections, self.lm, columns, TextCache(), ahead, tuple(rows),
                                tuple(seen[row] for row in rows))

    def _columns(self, frames: Sequence[Tokens], connections: ColumnConnections) -> Columns:
        """Return the columns of F distinct frames: of each modality, and behind them the learned prompts."""
        parts: list[ModalityColumns] = []
        count = len(frames)
        for name, link in connections.links.items():
            if link.soft_tokens is not None:
                own = link()
                states = {block: columns.expand(count, -1, -1) for block, columns in own.states.items()}
                parts.append(ModalityColumns(states, own.seen.expand(count, -1)))
            elif any(name in frame for frame in frames):
                parts.append(link(TokenBatch.stack([of_encoder(frame.get(name), link.config)
                                                    for frame in frames], self.lm.device)))
        if isinstance(connections.shared, Prompts):
            shared = connections.shared.states.expand(count, -1, -1)
        else:
            shared = torch.zeros(count, 0, self.lm.width, device=self.lm.device)
        entering = sorted({block for part in parts for block in part.states})
        seen = torch.cat([shared.new_ones(count, 0).bool(), *(part.seen for part in parts)], 1)
        return Columns({block: torch.cat([part.states[block] for part in parts], 1) for block in entering},
                       seen, shared)

    def _run_columns(self, columns: Columns, model: LanguageModel, first: int,
                     before: torch.Tensor) -> TextCache:
        """Return keys and values of the columns in blocks first..L-1.

        before: [1, A, d] the input of block `first` for the tokens that all texts have before the columns.
        """
        ahead, shared, total = before.shape[1], columns.shared.shape[1], columns.real.shape[1]
        before = before.to(model.dtype).expand(len(columns.shared), -1, -1)
        cache, hidden = TextCache(), torch.cat([before, columns.shared.to(model.dtype)], 1)
        for block, stop in pairwise([*sorted({first, *columns.states}), self.lm.blocks]):
            if block in columns.states:
                own = columns.states[block].to(hidden.dtype)
                hidden = torch.cat([hidden[:, :ahead], own, hidden[:, hidden.shape[1] - shared:]], 1)
            count = hidden.shape[1] - ahead
            if count:
                real = torch.cat([columns.real.new_ones(len(hidden), ahead),
                                  columns.real[:, total - count:]], 1)
                layout = TextLayout.causal(torch.zeros_like(real, dtype=torch.long), real)
                if not self.counted:
                    nowhere = torch.zeros_like(layout.positions)
                    layout = TextLayout(layout.ids, nowhere, nowhere, layout.full_visible())
                hidden = model.run_blocks(hidden, layout, block, stop, cache=cache)
        return cache.without(ahead) if ahead else cache

    def text_states(self, model: LanguageModel, batch: QuestionBatch) -> torch.Tensor:
        """Return the texts of a batch at the first block, [B, R, d]: as prepared."""
        return batch.hidden


@dataclass(frozen=True, eq=False)
class ColumnCompletion:
    """Texts behind the columns of their frames.

    lm: the model that has run the columns; of more than one text only its norm and head are used.  columns:
    of F distinct frames.  cache: their keys and values.  ahead: tokens of each text before the columns.
    rows: the frame of each text.  seen: the modalities of each text.
    """

    method: ColumnMethod
    connections: ColumnConnections
    lm: LanguageModel
    columns: Columns
    cache: TextCache
    ahead: int
    rows: tuple[int, ...]
    seen: tuple[Seen, ...]

    @property
    def writer(self) -> LanguageModel:
        """The model that one text is continued by."""
        return self._behind_columns(self.lm)

    def run(self, batch: QuestionBatch, texts: torch.Tensor) -> torch.Tensor:
        """See Completion."""
        places = texts.tolist()
        frames = torch.tensor([self.rows[place] for place in places], device=texts.device)
        model = self.method.model_for(self.connections, [self.seen[place] for place in places])
        layout = batch.layout.behind(self.columns.real[frames], self.method.counted, self.ahead)
        return self._behind_columns(model).run_blocks(
            self.method.text_states(model, batch), layout, batch.first, model.blocks,
            cache=self.cache.rows(frames))

    def begin(self, question: PreparedQuestion) -> tuple[LanguageModel, PreparedQuestion, None]:
        """See Completion; the text is behind its columns."""
        layout = question.layout.behind(self.columns.real, self.method.counted, self.ahead)
        hidden = self.method.text_states(self.lm, QuestionBatch.stack([question]))
        rows = replace(question.rows, layout=layout, hidden=hidden, cache=self.cache)
        behind = replace(question, layout=layout, hidden=hidden, rows=rows)
        return self.writer, behind, None

    def _behind_columns(self, model: LanguageModel) -> LanguageModel:
        entering = min(self.columns.states, default=model.blocks)
        absent = {0: self.columns.real.shape[1]}
        absent |= {self.connections.first_block: self.columns.of_modalities, entering: 0}
        return BehindColumns(model, absent, int(self.columns.real[:1].sum()) if self.method.counted else 0)


class BehindColumns(LanguageModel):
    """A view of a model that reads texts behind columns, of which not all blocks know all.

    absent: block -> how many of the first columns of a layout are missing from there on, to the next one.
    begin: the position of the text's first token, which is 0 to the table of learned positions.
    """

    def __init__(self, lm: LanguageModel, absent: Mapping[int, int], begin: int) -> None:
        vars(self).update(vars(lm))
        self._lm, self._absent, self._begin = lm, absent, begin

    def embed(self, layout: TextLayout) -> torch.Tensor:
        """Return the input of block 0 for more of the text."""
        return self._lm.embed(replace(layout, positions=layout.positions - self._begin))

    def run_blocks(self, hidden: torch.Tensor, layout: TextLayout, first: int, last: int,
                   prefix: Prefix | None = None, cache: TextCache | None = None) -> torch.Tensor:
        """Run blocks as the model does; each sees the columns that it knows."""
        stops = [*self._absent, self._lm.blocks][1:]
        for (start, absent), stop in zip(self._absent.items(), stops, strict=True):
            lowest, end = max(first, start), min(last, stop)
            if lowest < end:
                known = layout.without(absent) if absent else layout
                hidden = self._lm.run_blocks(hidden, known, lowest, end, prefix, cache)
        return hidden

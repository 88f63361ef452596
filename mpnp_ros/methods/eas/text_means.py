"""EAS with means over the text, as published (arXiv:2403.15226): routing and propagation by each question.

With u the normed input of a block, the means being over columns and question:

    w = softmax((W_r mean(u) + b_r) / tau),   m = mean(A u + b_A)

m is over the modality token too, as in the authors' code for LaVIN, where that token has no other effect.
No mean is over the answer.  (The code for LaVIN takes them over answer and padding in training.)  Columns
depend on the question, so they are run with each text.  Answers from a list take one pass, in which a fold
costs more than it saves.  Generated answers go on with the means of the prompt, folded.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.block_parts import BlockParts
from mpnp_ros.llm.families import BlockContext
from mpnp_ros.llm.language_model import AlteredModel, LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.prepared import OpenRows, PreparedQuestion
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.columns.method import ColumnCompletion
from mpnp_ros.methods.mma import Mixture
from mpnp_ros.methods.questions import QuestionBatch

if TYPE_CHECKING:
    from mpnp_ros.methods.eas.method import Eas, EasAdapters


@dataclass(frozen=True, eq=False)
class JointRows:
    """Modality token, C columns and T text tokens of each text as rows of one run.

    layout: [B, 1 + C + T].  token, read: [B, 1 + C + T] shares of each row in the mean over columns and
    question, with the modality token and without it.
    """

    layout: TextLayout
    token: torch.Tensor
    read: torch.Tensor

    @classmethod
    def of(cls, behind: TextLayout, seen: torch.Tensor, prompt: torch.Tensor, ahead: int) -> JointRows:
        """Return the rows.

        behind: texts behind C columns.  seen: [B, C] bool, False on padding.  prompt: [B, T] bool, rows of
        the question.  ahead: tokens of each text before the columns.
        """
        batch, columns = seen.shape
        count = 1 + columns + behind.tokens
        visible = torch.eye(count, dtype=torch.bool, device=seen.device).repeat(batch, 1, 1)
        causal = torch.ones(columns, columns, dtype=torch.bool, device=seen.device).tril()
        visible[:, 1:1 + columns, 1:1 + columns] |= causal & seen[:, None]
        visible[:, 1:1 + columns, 1 + columns:1 + columns + ahead] = True
        visible[:, 1 + columns:, 1:] = behind.full_visible()
        positions = torch.cat([behind.positions.new_zeros(batch, 1), behind.column_positions[:, :columns],
                               behind.positions], 1)
        ids = torch.cat([behind.ids.new_zeros(batch, 1 + columns), behind.ids], 1)
        read = torch.cat([seen.new_zeros(batch, 1), seen, prompt], 1).float()
        token = torch.cat([read.new_ones(batch, 1), read[:, 1:]], 1)
        token, read = (rows / rows.sum(1, keepdim=True) for rows in (token, read))
        return cls(TextLayout(ids, positions, positions, visible), token, read)


class MeanBlock:
    """The form of a block whose routing is by means over its rows; keeps the mixture."""

    def __init__(self, adapters: EasAdapters, block: int, rows: JointRows) -> None:
        self.adapters, self.block, self.rows = adapters, block, rows
        self.caches = block not in adapters.skipped
        self.mixture: Mixture

    def __call__(self, parts: BlockParts, hidden: torch.Tensor, context: BlockContext,
                 prefix: BlockPrefix | None, cache: TextCache | None) -> torch.Tensor:
        """See BlockForm."""
        normed = parts.attention_norm(hidden).float()
        read, token = ((share[:, None] @ normed)[:, 0] for share in (self.rows.read, self.rows.token))
        self.mixture = self.adapters.mix_means(self.block, read, token)
        return self.adapters.form(self.block, self.mixture)(parts, hidden, context, prefix, cache)


@dataclass(frozen=True, eq=False)
class TextMeansCompletion(ColumnCompletion):
    """Columns and text in one run for each text; `cache` is empty."""

    method: Eas
    adapters: EasAdapters

    def run(self, batch: QuestionBatch, texts: torch.Tensor) -> torch.Tensor:
        """See Completion."""
        return self._run(batch, texts, None)[0]

    def begin(self, question: PreparedQuestion) -> tuple[LanguageModel, PreparedQuestion, None]:
        """See Completion; the question but for its last token has been run."""
        cache = TextCache()
        batch = QuestionBatch.stack([question])
        _, forms = self._run(batch, torch.zeros(1, dtype=torch.long, device=self.lm.device), cache)
        layout = batch.layout.behind(self.columns.real, self.method.counted, self.ahead)
        last, hidden = question.layout.tokens - 1, self.method.text_states(self.lm, batch)
        cache = cache.without(1).head(self.columns.real.shape[1] + last)
        rows = OpenRows('all', layout.tail(last), hidden[:, last:], last, cache)
        model = self._behind_columns(self._fixed({block: form.mixture for block, form in forms.items()}))
        return model, replace(question, layout=layout, hidden=hidden, rows=rows), None

    def _run(self, batch: QuestionBatch, texts: torch.Tensor,
             cache: TextCache | None) -> tuple[torch.Tensor, Mapping[int, MeanBlock]]:
        """Return the last block's output on the texts [B, R, d], and the forms that the blocks had."""
        places = texts.tolist()
        frames = torch.tensor([self.rows[place] for place in places], device=texts.device)
        real = self.columns.real[frames]
        behind = batch.layout.behind(real, self.method.counted, self.ahead)
        lengths = torch.tensor([question.prompt_tokens for question in batch.questions], device=texts.device)
        prompt = torch.arange(behind.tokens, device=texts.device) < lengths[:, None]
        rows = JointRows.of(behind, real, prompt, self.ahead)
        links: Mapping[str, Any] = self.connections.links
        constant = {name for name, link in links.items() if link.soft_tokens is not None}
        keys = [[links[name].key for name in self.seen[place] | constant] for place in places]
        token = torch.stack([sum(own, self.adapters.token) for own in keys])
        states = [token[:, None], *(own[frames] for own in self.columns.states.values()),
                  self.method.text_states(self.lm, batch)]
        hidden = torch.cat([part.to(self.lm.dtype) for part in states], 1)
        forms = {block: MeanBlock(self.adapters, block, rows) for block in self.adapters.blocks}
        model = AlteredModel(self.lm, forms)
        hidden = model.run_blocks(hidden, rows.layout, batch.first, model.blocks, cache=cache)
        return hidden[:, 1 + real.shape[1]:], forms

    def _fixed(self, mixtures: Mapping[int, Mixture]) -> LanguageModel:
        """Return the model with the mixtures of one text, folded unless the method is not to fold."""
        own = self.adapters
        if not self.method.fold:
            return AlteredModel(self.lm, {block: own.form(block, mixture)
                                          for block, mixture in mixtures.items()})
        return AlteredModel(self.lm, {block: own.folded(own.fold(self.lm.parts(block), mixture, 0))
                                      for block, mixture in mixtures.items()})

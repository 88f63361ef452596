"""Input-layer tuning of a frozen language model as in PromptFuse, for comparison in benchmarks.

Tokens of a modality are projected to the model's width and placed in front of the text, behind a few learned
entries.  Gradients flow through all blocks and all rows.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mpnp_ros.llm.choices import ChoiceTrie
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import OpenRows, PreparedQuestion, PromptTemplate
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.questions import QuestionBatch, rows_to_decide

PROMPTS = 10


class InputTuning(nn.Module):
    """Trains a projection and learned entries on minus the log-probability of choices.

    recompute: store only the states between blocks and run each block again in the backward pass.
    """

    def __init__(self, lm: LanguageModel, width: int, columns: int, recompute: bool = False) -> None:
        """width: of a token.  columns: entries per frame, to which its tokens are averaged."""
        super().__init__()
        self.lm, self.columns, self.recompute = lm, columns, recompute
        self.projection = nn.Linear(width, lm.width)
        self.prompts = nn.Parameter(.02 * torch.randn(PROMPTS, lm.width))
        self.to(lm.device)

    def prepare(self, question: str, trie: ChoiceTrie, answer: str) -> PreparedQuestion:
        """The layout of entries and text, as far as the true answer needs it; no block runs."""
        prompt = PromptTemplate().ids(self.lm.tokenizer, question)
        ids = torch.cat([prompt.new_zeros(PROMPTS + self.columns), prompt])
        layout = trie.layout_with_branches(ids).to(self.lm.device)
        hidden = torch.empty(1, layout.tokens, 0)
        whole = PreparedQuestion(layout, len(ids), hidden, 0, OpenRows('all', layout, hidden, 0, TextCache()),
                                 trie, TextCache())
        count = rows_to_decide(whole, trie.choices.index(answer))
        return PreparedQuestion(layout, len(ids), hidden, 0, whole.rows.head(count), trie, TextCache())

    def losses(self, questions: Sequence[PreparedQuestion], answers: Sequence[str],
               tokens: torch.Tensor) -> torch.Tensor:
        """[B] minus log-probability of each answer; tokens: [B, P, D], P a multiple of the columns."""
        batch = QuestionBatch.stack(questions)
        frames = tokens.unflatten(1, (self.columns, -1)).mean(2)
        entries = torch.cat([self.prompts.expand(len(questions), -1, -1), self.projection(frames)], 1)
        with torch.no_grad():
            text = self.lm.embed(batch.layout)[:, entries.shape[1]:]
        hidden = self._run(torch.cat([entries.to(text.dtype), text], 1), batch)
        return -batch.answer_log_probabilities(
            self.lm, hidden, [question.trie.choices.index(answer) for question, answer in
                              zip(questions, answers, strict=True)])

    def _run(self, hidden: torch.Tensor, batch: QuestionBatch) -> torch.Tensor:
        if not self.recompute:
            return self.lm.run_blocks(hidden, batch.layout, 0, self.lm.blocks)
        for block in range(self.lm.blocks):
            hidden = checkpoint(self.lm.run_blocks, hidden, batch.layout, block, block + 1,
                                use_reentrant=False)
        return hidden

"""Ways to answer a standing question from a new frame, and their costs.

All ways score the same choices at the same rows of the same text.  They differ in what they recompute.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import nn

from mpnp_ros.llm.cost import macs
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion, PromptTemplate, open_rows, prepare
from mpnp_ros.methods.link import Aligner
from mpnp_ros.methods.mpnp.pooling import CONTENTS
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens

Frame = Mapping[str, ModalityTokens]


class Variant(Protocol):
    """A way to answer one question, which is given at construction.

    about: its description in the table.
    """

    about: str

    def answer(self, frame: Frame) -> Sequence[float]:
        """Probabilities of the choices."""

    def macs(self, frame: Frame) -> int:
        """Multiply-accumulates of `answer`: the language model by llm/cost.py, and linear layers."""


class Split:
    """Split execution: blocks below the links and rows without a prefix run once per question."""

    about = 'split execution'

    def __init__(self, lm: LanguageModel, question: str, choices: Sequence[str], frame: Frame,
                 **link_options: object) -> None:
        """frame: an example of the tokens.  link_options: as in LinkConfig.for_model."""
        self.lm, self.method = lm, create_method('mpnp', lm)
        for modality, tokens in frame.items():
            self.method.plug(self.method.new_link(modality, tokens.encoder, tokens.width, **link_options))
        self.question = self.method.prepare(question, choices)

    def answer(self, frame: Frame) -> Sequence[float]:
        """Probabilities of the choices."""
        return self.method.answer(self.question, frame).probabilities

    def macs(self, frame: Frame) -> int:
        """Multiply-accumulates of the upper blocks, the head and the links."""
        prepared, links = self.question.prepared, nn.ModuleDict(dict(self.method.links()))
        columns, looking = Counter[int](), 0  # entries of the prefix by block; MACs of pooling
        for config in (link.config for link in links.values()):
            tokens = frame[config.modality].count
            entries = tokens if config.pooling == 'none' else config.entries
            columns.update(dict.fromkeys(config.blocks, entries))
            if config.pooling == 'question':  # weighs and sums tokens in all its layers
                contents = config.token_width if config.additive else CONTENTS
                weighing = config.pooling_heads * (2 * config.harmonics + 1 + contents + 1)
                looking += tokens * config.entries * config.pooling_layers * (weighing + config.pooling_width)
        upper = macs(self.lm.shape, prepared.first, self.lm.blocks, prepared.rows.layout.tokens,
                     columns, prepared.rows.start, len(prepared.choice_tree.positions(0)),
                     len(prepared.choice_tree.vocabulary))
        return upper + looking + linear_macs(links, lambda: self.answer(frame))


class Reread(Split):
    """Split execution without a cache: all blocks run on the question again for each frame."""

    about = 'the same, nothing cached'

    def answer(self, frame: Frame) -> Sequence[float]:
        """Probabilities of the choices."""
        question = replace(self.question, prepared=reread(self.lm, self.question.prepared))
        return self.method.answer(question, frame).probabilities

    def macs(self, frame: Frame) -> int:
        """Multiply-accumulates of all blocks, the head and the links."""
        prepared, shape = self.question.prepared, self.lm.shape
        lower = macs(shape, 0, prepared.first, prepared.layout.tokens)
        return lower + macs(shape, prepared.first, self.lm.blocks, prepared.rows.start) + super().macs(frame)


class InputTokens:
    """Projected modality tokens in front of the text; all blocks run for each frame."""

    about = 'tokens at the input layer'

    def __init__(self, lm: LanguageModel, question: str, choices: Sequence[str], frame: Frame) -> None:
        """frame: an example; later frames must have as many tokens of the same width."""
        self.lm = lm
        self.projections = nn.ModuleDict({
            modality: nn.Linear(tokens.width, lm.width) for modality, tokens in frame.items()}).to(lm.device)
        prompt = PromptTemplate().ids(lm.tokenizer, question)
        self.trie = prepare(lm, PromptTemplate(), question, choices, 0).trie
        self.columns = sum(tokens.count for tokens in frame.values())
        ids = torch.cat([prompt.new_zeros(self.columns), prompt])
        self.layout = self.trie.layout_with_branches(ids).to(lm.device)
        self.deciding = self.trie.positions(self.columns + len(prompt)).to(lm.device)
        self.vocabulary = self.trie.vocabulary.to(lm.device)

    @torch.no_grad()
    def answer(self, frame: Frame) -> Sequence[float]:
        """Probabilities of the choices."""
        text = self.lm.embed(self.layout)[:, self.columns:]
        projected = [projection(torch.from_numpy(frame[modality].values).to(self.lm.device))[None]
                     for modality, projection in self.projections.items()]
        hidden = torch.cat([*(columns.to(self.lm.dtype) for columns in projected), text], 1)
        hidden = self.lm.run_blocks(hidden, self.layout, 0, self.lm.blocks)[0, self.deciding]
        return self.trie.log_probabilities(self.lm.logits(hidden, self.vocabulary)).exp().tolist()

    def macs(self, frame: Frame) -> int:
        """Multiply-accumulates of all blocks, the head and the projections."""
        model = macs(self.lm.shape, 0, self.lm.blocks, self.layout.tokens,
                     positions=len(self.deciding), vocabulary=len(self.vocabulary))
        return model + linear_macs(self.projections, lambda: self.answer(frame))


def variants(lm: LanguageModel, question: str, choices: Sequence[str], frame: Frame,
             **link_options: object) -> dict[str, Variant]:
    """The variants to compare, by short name.  link_options: as in LinkConfig.for_model."""
    reach_all = Split(lm, question, choices, frame, **{**link_options, 'reach': 'all'})
    reach_all.about = 'split execution, every row sees the prefix'
    return {'ours': Split(lm, question, choices, frame, **link_options), 'ours, reach all': reach_all,
            'a': Reread(lm, question, choices, frame, **link_options),
            'b': InputTokens(lm, question, choices, frame)}


@torch.no_grad()
def reread(lm: LanguageModel, prepared: PreparedQuestion) -> PreparedQuestion:
    """A prepared question, recomputed from its tokens."""
    hidden = lm.run_blocks(lm.embed(prepared.layout), prepared.layout, 0, prepared.first)
    rows = open_rows(lm, prepared.layout, hidden, prepared.first, prepared.prompt_tokens, prepared.rows.reach)
    return replace(prepared, hidden=hidden, rows=rows)


def random_frame(shapes: Mapping[str, tuple[int, int]], seed: int) -> dict[str, ModalityTokens]:
    """A frame of random tokens; shapes: modality -> (tokens, width)."""
    random = np.random.default_rng(seed)

    def tokens(modality: str, count: int, width: int) -> ModalityTokens:
        azimuth = random.uniform(-np.pi, np.pi, count).astype(np.float32)
        return ModalityTokens(modality, 'random', random.standard_normal((count, width), np.float32), azimuth)

    return {modality: tokens(modality, *shape) for modality, shape in shapes.items()}


def linear_macs(module: nn.Module, call: Callable[[], object]) -> int:
    """MACs of all linear layers in `module` during `call()`, exact; without products of activations."""
    counts: list[int] = []

    def linear(layer: nn.Linear, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        counts.append(output.numel() * layer.in_features)

    def aligner(layer: Aligner, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        counts.append(output.numel() * layer.output.in_features)  # multiplies by these itself

    hooks = [part.register_forward_hook(linear if isinstance(part, nn.Linear) else aligner)
             for part in module.modules() if isinstance(part, nn.Linear | Aligner)]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)

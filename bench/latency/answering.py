"""Ways to answer a standing question from a new frame, and their costs.

All ways score the same choices at the same rows of the same text.  They differ in what they recompute.
"""
from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import nn

from mpnp_ros.errors import UnsupportedModelError
from mpnp_ros.llm.cost import macs
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion, PromptTemplate, open_rows, prepare
from mpnp_ros.methods.link import Aligner
from mpnp_ros.methods.mpnp.pooling import CONTENTS
from mpnp_ros.methods.registry import create_method
from mpnp_ros.serving.answer_server import TOGETHER
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.budget import measure_macs

Frame = Mapping[str, ModalityTokens]
QUESTIONS = 16, 100
"""Numbers of questions about one frame."""


class Variant(Protocol):
    """A way to answer one question, which is given at construction.

    about: its description in the table.
    """

    about: str

    def answer(self, frame: Frame) -> Sequence[float]:
        """Probabilities of the choices."""

    def macs(self, frame: Frame) -> int:
        """Multiply-accumulates of `answer`: the language model by llm/cost.py, and linear layers."""

    def counted(self, frame: Frame) -> int:
        """Multiply-accumulates of `answer` by the counter of torch."""


class Split:
    """Split execution: blocks below the links and rows without a prefix run once per question."""

    about = 'split execution'

    def __init__(self, lm: LanguageModel, question: str, choices: Sequence[str], frame: Frame,
                 **link_options: object) -> None:
        """frame: an example of the tokens.  link_options: as in LinkConfig.for_model."""
        self.lm, self.method = lm, create_method('mpnp', lm)
        for modality, tokens in frame.items():
            link = self.method.new_link(modality, tokens.encoder, tokens.width, **link_options)
            for other in self.method.links().values():  # as those that are shipped, which share a reader
                link.start_from(other)
            self.method.plug(link)
        self.question = self.method.prepare(question, choices)

    def answer(self, frame: Frame) -> Sequence[float]:
        """Probabilities of the choices."""
        return self.method.answer(self.question, frame).probabilities

    def macs(self, frame: Frame) -> int:
        """Multiply-accumulates of the upper blocks, the head and the links."""
        upper, looking = self.upper_macs(self.question.prepared, frame)
        links = nn.ModuleDict(dict(self.method.links()))
        return upper + looking + linear_macs(links, lambda: self.answer(frame))

    def counted(self, frame: Frame) -> int:
        """Multiply-accumulates of `answer` by the counter of torch."""
        return measure_macs(lambda: self.answer(frame))

    def upper_macs(self, prepared: PreparedQuestion, frame: Frame) -> tuple[int, int]:
        """Multiply-accumulates of the upper blocks with the head, and of looking at the tokens."""
        links = self.method.links()
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
        return upper, looking


class Packed(Split):
    """Split execution on packed upper blocks, as the fusion node runs it."""

    about = 'split execution, packed'

    four_bit = True

    def __init__(self, lm: LanguageModel, question: str, choices: Sequence[str], frame: Frame,
                 **link_options: object) -> None:
        """Raises UnsupportedModelError for a model that cannot be packed."""
        super().__init__(lm, question, choices, frame, **link_options)
        if not self.method.pack(self.four_bit):
            raise UnsupportedModelError(f'{lm.name} cannot be packed')
        assert self.method.packed is not None  # as pack() returned True
        self.method.packed.prepare(self.method.first_block)

    def counted(self, frame: Frame) -> int:
        """As of the blocks that are not packed, as torch does not count the kernels of packed ones."""
        packed, self.method.packed = self.method.packed, None
        try:
            return measure_macs(lambda: self.answer(frame))
        finally:
            self.method.packed = packed


class PackedExact(Packed):
    """The same in the number format of the model."""

    about, four_bit = 'the same, in the number format of the model', False


class Together(Packed):
    """Different questions about one frame, packed, as many in one pass as the answer server takes."""

    def __init__(self, lm: LanguageModel, questions: Sequence[str], choices: Sequence[str], frame: Frame,
                 **link_options: object) -> None:
        super().__init__(lm, questions[0], choices, frame, **link_options)
        self.about = f'{len(questions)} questions, {TOGETHER} in a pass'
        self.questions = [self.method.prepare(question, choices) for question in questions]

    def answer(self, frame: Frame) -> Sequence[float]:
        """Probabilities of the choices of the first question."""
        passes = [self.questions[start:start + TOGETHER] for start in range(0, len(self.questions), TOGETHER)]
        return [self.method.answer_each(part, [frame] * len(part))[0] for part in passes][0].probabilities

    def macs(self, frame: Frame) -> int:
        """Of one question, times the number of questions; the links are counted as if each read the frame."""
        links = len(self.questions) * linear_macs(nn.ModuleDict(dict(self.method.links())),
                                                  lambda: Packed.answer(self, frame))
        return links + sum(self.upper_macs(question.prepared, frame)[0] for question in self.questions)


class WeightPass:
    """One matrix-vector product with each weight of the linked blocks: the bytes that must be read."""

    about = 'one pass over the weights'

    def __init__(self, lm: LanguageModel, first: int) -> None:
        blocks = (lm.family.blocks[index] for index in range(first, lm.blocks))
        self.weights = [part.weight for block in blocks for part in block.modules()
                        if isinstance(part, nn.Linear)]
        self.vectors = {weight.shape[1]: torch.ones(weight.shape[1], dtype=weight.dtype, device=weight.device)
                        for weight in self.weights}

    @torch.no_grad()
    def answer(self, frame: Frame) -> Sequence[float]:
        """The first number of each product."""
        return [float((weight @ self.vectors[weight.shape[1]])[0]) for weight in self.weights]

    def macs(self, frame: Frame) -> int:
        """The number of weights."""
        return sum(weight.numel() for weight in self.weights)

    def counted(self, frame: Frame) -> int:
        """The same: torch does not count products with a vector."""
        return self.macs(frame)


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

    def counted(self, frame: Frame) -> int:
        """Multiply-accumulates of `answer` by the counter of torch."""
        return measure_macs(lambda: self.answer(frame))


def variants(lm: LanguageModel, question: str, choices: Sequence[str], frame: Frame,
             **link_options: object) -> dict[str, Variant]:
    """The variants to compare, by short name.  link_options: as in LinkConfig.for_model."""
    reach_all = Split(lm, question, choices, frame, **{**link_options, 'reach': 'all'})
    reach_all.about = 'split execution, every row sees the prefix'
    found: dict[str, Variant] = {}
    with contextlib.suppress(UnsupportedModelError):  # as on a GPU
        found['packed'] = ours = Packed(lm, question, choices, frame, **link_options)
        found['packed, exact'] = PackedExact(lm, question, choices, frame, **link_options)
        others = [f'{question} And {number}?' for number in range(max(QUESTIONS))]
        for count in QUESTIONS:
            found[f'packed, {count}'] = Together(lm, [question, *others[:count - 1]], choices, frame,
                                                 **link_options)
        found['weights'] = WeightPass(lm, ours.method.first_block)
    return {**found, 'ours': Split(lm, question, choices, frame, **link_options),
            'ours, reach all': reach_all, 'a': Reread(lm, question, choices, frame, **link_options),
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

"""The training step of each method at any size: its trained parts and its pass through the blocks.

bench.paper_scale counts these steps on fake tensors.  They use the blocks and links of this package and
its precision: frozen weights in bfloat16, trained parts in float32.  The peers are as published; their
columns are rows of the text.
"""
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn.functional import cross_entropy

from bench.adaptation_memory.training_process import PROMPTS
from bench.paper_scale.models import TOKEN_WIDTH, TOKENS_OF_A_VIEW, AdaptationTask
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.link import QuestionStates, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.mpnp.method import LatentConnections
from mpnp_ros.methods.mpnp_published import PublishedConfig, PublishedConnections, PublishedLink

#: Modality -> tokens [B, P, D].
Tokens = Mapping[str, torch.Tensor]


class Step(nn.Module):
    """A method's trained parts on a language model.

    first: the lowest block with trained parts; blocks below depend on the text only.
    """

    first = 0
    weights = torch.bfloat16

    def __init__(self, lm: LanguageModel, task: AdaptationTask) -> None:
        super().__init__()
        self.task = task
        self._model = (lm,)

    @property
    def lm(self) -> LanguageModel:
        """The language model; its weights are not part of this module."""
        return self._model[0]

    @abstractmethod
    def hidden(self, tokens: Tokens, texts: torch.Tensor) -> torch.Tensor:
        """The output [B, R, d] of the last block on all rows of a step.

        texts: [B, T, d], the result of :meth:`read`.
        """

    def loss(self, tokens: Tokens, texts: torch.Tensor, positions: int) -> torch.Tensor:
        """The mean loss; the head runs on the last `positions` rows, or on all if there are fewer."""
        with self.precision():
            rows = self.hidden(tokens, texts)[:, -positions:]
            scores = self.lm.logits(rows).float().flatten(0, 1)
        return cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))

    def read(self, count: int) -> torch.Tensor:
        """The states of `count` questions at block `first`, [count, T, d]; independent of the sensors."""
        layout = causal(count, self.task.text)
        with torch.no_grad(), self.precision():
            return self.lm.run_blocks(self.lm.embed(layout), layout, 0, self.first)

    def trained(self) -> Sequence[nn.Parameter]:
        """The trained parameters."""
        return list(self.parameters())

    def precision(self) -> AbstractContextManager[None]:
        """A context with the precision of the language model's operations."""
        return nullcontext()

    def all_blocks(self, hidden: torch.Tensor) -> torch.Tensor:
        """Causal rows [B, T, d] after all blocks from `first` on."""
        return self.lm.run_blocks(hidden, causal(*hidden.shape[:2]), self.first, self.lm.blocks)


def causal(count: int, rows: int) -> TextLayout:
    """The layout of `count` texts of `rows` tokens, on the default device."""
    return TextLayout.causal(torch.zeros(count, rows, dtype=torch.long))


class PromptFuseStep(Step):
    """Learned prompts and projected tokens in front of the text, from block 0 on."""

    prompts = PROMPTS

    def __init__(self, lm: LanguageModel, task: AdaptationTask) -> None:
        super().__init__(lm, task)
        self.projection = nn.Linear(TOKEN_WIDTH, lm.width)
        self.prompt = nn.Parameter(torch.randn(self.prompts, lm.width))

    def columns(self, tokens: Tokens) -> torch.Tensor:
        """The columns in front of the text, [B, C, d]."""
        projected = self.projection(torch.cat(list(tokens.values()), 1))
        return torch.cat([self.prompt.expand(len(projected), -1, -1), projected], 1)

    def hidden(self, tokens: Tokens, texts: torch.Tensor) -> torch.Tensor:
        """See Step."""
        return self.all_blocks(torch.cat([self.columns(tokens).to(texts.dtype), texts], 1))


class FullLlmStep(PromptFuseStep):
    """Projected tokens in front of the text; all weights are trained in float32 under autocast."""

    prompts = 0
    weights = torch.float32

    def __init__(self, lm: LanguageModel, task: AdaptationTask) -> None:
        super().__init__(lm, task)
        lm.model.requires_grad_()

    def trained(self) -> Sequence[nn.Parameter]:
        """The trained parameters, including the language model."""
        return [*self.lm.model.parameters(), *self.projection.parameters()]

    def read(self, count: int) -> torch.Tensor:
        """The embeddings of `count` texts; they are trained, so nothing is read beforehand."""
        return self.lm.embed(causal(count, self.task.text))

    def precision(self) -> AbstractContextManager[None]:
        """A context with products in bfloat16."""
        return torch.autocast(self.lm.device.type, torch.bfloat16)


class EpAlmStep(Step):
    """A column per view, overwritten in the last 40 % of the blocks except the last (arXiv:2303.11403).

    published: learned prompts are at the input; otherwise at the first linked block, like the columns.
    """

    states, share = TOKENS_OF_A_VIEW, .6

    def __init__(self, lm: LanguageModel, task: AdaptationTask, published: bool) -> None:
        super().__init__(lm, task)
        self.linked = int(self.share * lm.blocks)
        self.first = 0 if published else self.linked
        self.connectors = nn.ModuleList(nn.Linear(TOKEN_WIDTH, lm.width) for _ in range(self.states))
        self.prompt = nn.Parameter(torch.randn(PROMPTS, lm.width))
        self.prompt_layers = nn.Sequential(nn.Linear(lm.width, lm.width), nn.Tanh(),
                                           nn.Linear(lm.width, lm.width))

    def hidden(self, tokens: Tokens, texts: torch.Tensor) -> torch.Tensor:
        """See Step."""
        lm, views = self.lm, torch.cat(list(tokens.values()), 1).unflatten(1, (-1, self.states))
        prompts = self.prompt_layers(self.prompt).to(texts.dtype).expand(len(texts), -1, -1)
        hidden = torch.cat([prompts, texts], 1)
        hidden = lm.run_blocks(hidden, causal(*hidden.shape[:2]), self.first, self.linked)
        columns, injected = views.shape[1], range(self.linked, lm.blocks - 1)
        layout = causal(len(texts), columns + hidden.shape[1])
        hidden = nn.functional.pad(hidden, (0, 0, columns, 0))
        for block in range(self.linked, lm.blocks):
            if block in injected:
                state = min((block - self.linked) // max(1, len(injected) // self.states), self.states - 1)
                own = self.connectors[state](views[:, :, state]).to(hidden.dtype)
                hidden = torch.cat([own, hidden[:, columns:]], 1)
            hidden = lm.run_blocks(hidden, layout, block, block + 1)
        return hidden


class Routed(nn.Module):
    """Two up-projections of one down-projection, mixed by a router; each in two groups.

    mean: also add the mean of all rows to each row, by a second down-projection.
    """

    def __init__(self, width: int, rank: int, mean: bool = False) -> None:
        super().__init__()
        self.router, self.down = nn.Linear(width, 2), nn.Linear(width, rank)
        self.up = nn.ModuleList(nn.Conv1d(rank, width, 1, groups=2) for _ in range(2))
        self.spread = nn.Linear(width, rank) if mean else None

    def forward(self, normed: torch.Tensor, routing: torch.Tensor) -> torch.Tensor:
        """The adapted rows, [B, T, d].  normed: [B, T, d].  routing: input of the router, [B, d]."""
        dtype = normed.dtype
        shares = _linear(self.router, routing).softmax(-1)[:, :, None, None]
        low = _linear(self.down, normed)
        if self.spread is not None:
            low = (low + _linear(self.spread, normed).mean(1, keepdim=True)) / 2
        ups = [nn.functional.conv1d(low.mT, up.weight.to(dtype), up.bias.to(dtype), groups=2).mT
               for up in self.up]
        return normed + shares[:, 0] * ups[0] + shares[:, 1] * ups[1]


def _linear(layer: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    """The output of a layer in the precision of its input."""
    return nn.functional.linear(inputs, layer.weight.to(inputs.dtype), layer.bias.to(inputs.dtype))


class LavinStep(Step):
    """Modality token and neck at the input, routed adapters in front of every attention (arXiv:2305.15023).

    skipped: in the last `skipped` blocks, adapters that also mix rows replace the attention (EAS,
    arXiv:2403.15226).
    """

    rank, skipped_rank, neck_width = 8, 32, 128

    def __init__(self, lm: LanguageModel, task: AdaptationTask, skipped: int = 0) -> None:
        super().__init__(lm, task)
        self.kept = lm.blocks - skipped
        self.modality = nn.Parameter(torch.randn(1, lm.width))
        self.neck = nn.Sequential(nn.Linear(TOKEN_WIDTH, self.neck_width), nn.SiLU(),
                                  nn.Linear(self.neck_width, lm.width))
        self.adapters = nn.ModuleList(
            Routed(lm.width, self.skipped_rank if self._skips(block) else self.rank, self._skips(block))
            for block in range(lm.blocks))

    def hidden(self, tokens: Tokens, texts: torch.Tensor) -> torch.Tensor:
        """See Step."""
        columns = self.neck(torch.cat(list(tokens.values()), 1)).to(texts.dtype)
        key = self.modality.to(texts.dtype).expand(len(texts), 1, -1)
        hidden = torch.cat([key, columns, texts], 1)
        context = self.lm.family.context(hidden, causal(*hidden.shape[:2]))
        for block, adapter in enumerate(self.adapters):
            parts = self.lm.parts(block)
            normed = parts.attention_norm(hidden)
            adapted = adapter(normed, normed[:, 0])
            if self._skips(block):
                opening = adapted * parts.scale.to(adapted.dtype)
            else:
                hidden = hidden + parts.attend(adapted, context)
                opening = parts.feed_forward_norm(hidden)
            hidden = hidden + parts.feed_forward(opening)
        return hidden

    def _skips(self, block: int) -> bool:
        return block >= self.kept


class MpnpPublishedStep(Step):
    """One pair of aligners for all linked blocks, zero prefixes in all others (arXiv:2312.07886).

    The modalities of a task stay the same, so the zero prefixes below the links are constants, and the blocks
    there depend on the text only.  lora: rank of LoRA on keys and values of the linked blocks, as in the
    runtime scripts of the authors.
    """

    def __init__(self, lm: LanguageModel, task: AdaptationTask, linked: int, lora: int = 0) -> None:
        super().__init__(lm, task)
        self.links = nn.ModuleDict({sensor.modality: PublishedLink(PublishedConfig.for_model(
            lm, sensor.modality, 'encoder', TOKEN_WIDTH, last=linked, lora=lora, directions=False))
            for sensor in task.sensors})
        shared = self.links[task.sensors[-1].modality].shared
        for link in self.links.values():
            link.shared = shared
        self.first = lm.blocks - linked

    def read(self, count: int) -> torch.Tensor:
        """The states of `count` questions beside the zero prefixes of the blocks below the links."""
        tokens = {sensor.modality: torch.zeros(count, sensor.tokens, TOKEN_WIDTH)
                  for sensor in self.task.sensors}
        with torch.no_grad():
            return self._run(tokens, self.lm.embed(causal(count, self.task.text)), 0, self.first)

    def hidden(self, tokens: Tokens, texts: torch.Tensor) -> torch.Tensor:
        """See Step."""
        return self._run(tokens, texts, self.first, self.lm.blocks)

    def _run(self, tokens: Tokens, texts: torch.Tensor, first: int, last: int) -> torch.Tensor:
        batches = {name: TokenBatch(values, values[..., 0]) for name, values in tokens.items()}
        connections = PublishedConnections(self.lm, dict(self.links))
        return connections.model.run_blocks(texts, causal(*texts.shape[:2]), first, last,
                                            connections.prefix(batches))


class MpnpStep(Step):
    """Latent links that pool by the question; rows without a prefix are read once per question.

    reach: which rows see the prefix, as in LinkConfig.
    """

    def __init__(self, lm: LanguageModel, task: AdaptationTask, linked: int, reach: str = 'answer') -> None:
        super().__init__(lm, task)
        self.first, self.reach = lm.blocks - linked, reach
        self.links = nn.ModuleDict()
        for sensor in task.sensors:
            link = LatentLink(LinkConfig.for_model(lm, sensor.modality, 'encoder', TOKEN_WIDTH, last=linked,
                                                   reach=reach))
            with unset_fake_temporarily():  # open gates are real tensors, also under FakeTensorMode
                link.closed = torch.zeros(len(link.config.blocks), dtype=torch.bool, device='cpu')
            self.links[sensor.modality] = link

    @property
    def prompt(self) -> int:
        """Tokens of a question; rows from its last token on predict the answer."""
        return self.task.text - self.task.answer + 1

    @property
    def past(self) -> int:
        """Number of rows without a prefix."""
        return self.prompt - 1 if self.reach == 'answer' else 0

    def read(self, count: int) -> torch.Tensor:
        """The states of `count` questions; also runs rows without a prefix through all blocks."""
        texts = super().read(count)
        with torch.no_grad():
            self.lm.run_blocks(texts[:, :self.past], causal(count, self.past), self.first,
                               self.lm.blocks if self.past else self.first, cache=TextCache())
        return texts

    def hidden(self, tokens: Tokens, texts: torch.Tensor) -> torch.Tensor:
        """See Step."""
        layout = causal(*texts.shape[:2]).tail(self.past)
        return self.lm.run_blocks(texts[:, self.past:], layout, self.first, self.lm.blocks,
                                  self._prefix(tokens, texts), self.cached(len(texts)))

    def _prefix(self, tokens: Tokens, texts: torch.Tensor) -> Prefix:
        """The prefix; its inputs are freed before the blocks run, so they are not part of the peak."""
        asked = QuestionStates({self.first: texts[:, :self.prompt]},
                               torch.ones(len(texts), self.prompt, dtype=torch.bool))
        batches = {name: TokenBatch(values, values[..., 0]) for name, values in tokens.items()}
        return LatentConnections(self.lm, dict(self.links)).prefix(batches, asked)

    def cached(self, count: int) -> TextCache:
        """Keys and values of the rows without a prefix, as read from disk."""
        cache, lm = TextCache(), self.lm
        for block in range(self.first, lm.blocks if self.past else self.first):
            keys, values = (torch.zeros(count, lm.kv_heads, self.past, lm.head_dim, dtype=lm.dtype)
                            for _ in range(2))
            cache.update(keys, values, block)
        return cache


#: Makes the step of a method from a language model and an adaptation.
MakeStep = Callable[[LanguageModel, AdaptationTask], Step]

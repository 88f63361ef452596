"""Attention skipping (EAS): in some blocks an adapter before the feed-forward replaces the attention.

arXiv:2403.15226, corrected as in docs/guide/methods.md.  A block that keeps its attention has the adapter of
:mod:`mpnp_ros.methods.mma` before it.  A skipped block is

    u = attention_norm(x),   z = (m + C u + b_C) / 2,   p = u + sum_k w_k (B_k z + b_k)
    x <- x + FFN(gamma * p + beta)

with gamma and beta of the feed-forward norm, which itself is gone.  By the option `means`, the routing w and
the propagated m are

set: constants of the set of modalities: every plugged modality adds its part of m, and that of the text is
    b_C.  So the block is causal, and folds into the first matrices of the feed-forward, once for a set.
text: means over columns and question, as published; see :mod:`mpnp_ros.methods.eas.text_means`.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import nn

from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.llm.block_parts import BlockParts
from mpnp_ros.llm.families import BlockContext
from mpnp_ros.llm.language_model import BlockForm, LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.columns.link import ColumnConnections
from mpnp_ros.methods.columns.method import ColumnCompletion
from mpnp_ros.methods.eas.redundancy import SearchConfig, SkipProfile, measure_skips, search_skips
from mpnp_ros.methods.eas.text_means import TextMeansCompletion
from mpnp_ros.methods.mma import Adapter, Adapters, Mixture, Mma, MmaConfig, MmaLink, new_adapter
from mpnp_ros.methods.questions import AnsweredQuestion, Evidence, Tokens
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.options import option

if TYPE_CHECKING:
    from typing_extensions import Self

MEANS = ('set', 'text')
BATCH = 16
"""Questions of a training step of the search."""


@dataclass(frozen=True)
class EasConfig(MmaConfig):
    """Options of an EAS link."""

    alike: ClassVar[tuple[str, ...]] = ('bos', 'means')

    skipped: int = option(1, 'number of blocks without attention; they are chosen before training', low=0)
    skipped_rank: int = option(32, 'r of the adapters that stand in for attention', low=1)
    means: str = option(
        'set', 'what routes adapters, and what blocks without attention propagate: set, constants of the '
               'plugged modalities; text, means over columns and question (as published)', choices=MEANS)

    @classmethod
    def for_model(cls, lm: LanguageModel, modality: str, encoder: str, token_width: int,
                  **options: Any) -> Self:
        """Return options of a link; by default three blocks of eight are skipped, as published."""
        blocks = options.get('blocks', range(lm.blocks))
        return super().for_model(lm, modality, encoder, token_width,
                                 **{'skipped': 3 * len(blocks) // 8, **options})

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """See ColumnConfig; links saved without the option `means` have constants."""
        return super().from_dict({'means': 'set', **entries})

    @property
    def skippable(self) -> tuple[int, ...]:
        """The blocks that may go without attention: all but block 0."""
        return tuple(block for block in self.blocks if block)

    def check(self) -> Iterator[str]:
        """Only linked blocks above block 0 are skipped, and groups must divide the rank of stand-ins."""
        yield from super().check()
        if self.skipped > len(self.skippable):
            yield f'{self.skipped} skipped blocks; at most {len(self.skippable)} can be, never block 0'
        if self.skipped_rank % self.groups:
            yield 'skipped_rank must be a multiple of groups'


class StandIn(Adapter):
    """The adapter of a block without attention."""

    def propagating(self, weights: torch.Tensor, signals: torch.Tensor) -> Mixture:
        """Return the experts mixed by weights [S, experts]; signals: the propagated m, [S, r]."""
        mixture = self.mixed(weights)
        up = mixture.up / 2
        return Mixture(up, mixture.shift + (up @ signals[..., None])[..., 0])


class MeanStandIn(StandIn):
    """The adapter of a block without attention that propagates a mean over rows; mean: A and b_A."""

    def __init__(self, width: int, rank: int, experts: int, groups: int, temperature: float) -> None:
        super().__init__(width, rank, experts, groups, temperature)
        self.mean = nn.Linear(width, rank)
        nn.init.xavier_uniform_(self.mean.weight)
        nn.init.zeros_(self.mean.bias)


@dataclass(frozen=True, eq=False)
class SkippedBlock:
    """The form of a block without attention.

    A linked block keeps attention over its prefix alone.  change: the replacement of attention,
    [B, T, d] -> [B, T, d]; or folded: parts that have it, and the feed-forward norm, in their matrices.
    """

    change: Callable[[torch.Tensor], torch.Tensor] | None = None
    folded: BlockParts | None = None
    caches: ClassVar[bool] = False

    def __call__(self, parts: BlockParts, hidden: torch.Tensor, _: BlockContext, prefix: BlockPrefix | None,
                 __: TextCache | None) -> torch.Tensor:
        """See BlockForm."""
        normed = parts.attention_norm(hidden)
        if self.folded is not None:
            branch = self.folded.feed_forward(normed)
        else:
            assert self.change is not None
            changed = self.change(normed).float()
            branch = parts.feed_forward((parts.scale * changed + parts.shift).to(normed.dtype))
        if prefix is not None:
            branch = branch + parts.attend_prefix(normed, prefix)
        return hidden + branch


class EasAdapters(Adapters):
    """The shared part of links: t_text, an adapter for each block, and which blocks go without attention.

    skip: [k] those blocks, ascending.  measured: whether they have been chosen; until then they are the
    uppermost, as on the paper's first data set.
    """

    def __init__(self, config: EasConfig) -> None:
        super().__init__(config)
        self.skippable = config.skippable
        kind = MeanStandIn if config.means == 'text' else StandIn
        self.stand_ins = nn.ModuleList(
            new_adapter(config, kind, config.skipped_rank) for _ in range(config.skipped))
        last = self.skippable[len(self.skippable) - config.skipped:]
        self.register_buffer('skip', torch.tensor(last, dtype=torch.long))
        self.register_buffer('measured', torch.tensor(False))

    @staticmethod
    def adapted(config: Any) -> int:
        """Return how many blocks have an adapter before their attention."""
        return len(config.blocks) - config.skipped

    @property
    def skipped(self) -> tuple[int, ...]:
        """The blocks without attention, ascending."""
        return tuple(self.skip.tolist())

    @torch.no_grad()
    def choose(self, blocks: Iterable[int]) -> None:
        """Set for good which blocks go without attention; their number does not change."""
        self.skip.copy_(torch.tensor(sorted(blocks)))
        self.measured.fill_(True)

    def slot(self, block: int) -> int:
        """Which of the stand-ins a skipped block has."""
        return self.skipped.index(block)

    def adapter(self, block: int) -> Adapter:
        """See Adapters."""
        skipped = self.skipped
        if block in skipped:
            return self.stand_ins[self.slot(block)]
        return self.adapters[self.blocks.index(block) - sum(other < block for other in skipped)]

    def mix(self, block: int, weights: torch.Tensor, sets: Sequence[Sequence[EasLink]]) -> Mixture:
        """See Adapters."""
        adapter = self.adapter(block)
        if not isinstance(adapter, StandIn):
            return adapter.mixed(weights)
        none, slot = torch.zeros_like(adapter.down.bias), self.slot(block)
        own = [[link.signals[slot] for link in links if link.signals is not None] for links in sets]
        return adapter.propagating(weights, torch.stack([sum(signals, none) for signals in own]))

    def mix_means(self, block: int, read: torch.Tensor, token: torch.Tensor) -> Mixture:
        """Return the experts of a block mixed for texts, by means of its normed input, [B, d] each.

        read: over columns and question.  token: over these and the modality token.
        """
        adapter = self.adapter(block)
        weights = adapter.weigh(read)
        if isinstance(adapter, MeanStandIn):
            return adapter.propagating(weights, adapter.mean(token))
        return adapter.mixed(weights)

    def form(self, block: int, mixture: Mixture) -> BlockForm:
        """See Adapters."""
        adapter = self.adapter(block)
        if not isinstance(adapter, StandIn):
            return super().form(block, mixture)
        return SkippedBlock(lambda normed: adapter(normed, mixture))

    def fold(self, parts: BlockParts, mixture: Mixture, row: int) -> BlockParts:
        """See Adapters."""
        adapter = self.adapter(parts.index)
        if not isinstance(adapter, StandIn):
            return super().fold(parts, mixture, row)
        return parts.opening_after(adapter.affine(mixture, row).then(parts.scale, parts.shift))

    def folded(self, parts: BlockParts) -> BlockForm:
        """See Adapters."""
        return SkippedBlock(folded=parts) if parts.index in self.skipped else super().folded(parts)


class EasLink(MmaLink):
    """Tokens of one modality -> columns.

    signals: [k, r], added by the modality to what skipped blocks propagate; initially zero.  None where these
    propagate means over the text.
    """

    kind = 'eas'
    config_type = EasConfig
    config: EasConfig
    shared: EasAdapters

    def __init__(self, config: EasConfig) -> None:
        super().__init__(config)
        signals = torch.zeros(config.skipped, config.skipped_rank)
        self.signals = nn.Parameter(signals) if config.means == 'set' else None

    def new_shared(self) -> EasAdapters:
        """Return t_text, the adapters and the choice of skipped blocks."""
        return EasAdapters(self.config)

    @property
    def together(self) -> object:
        """Also what is propagated, and the skipped blocks, to which signals belong."""
        return super().together, self.config.means, self.shared.skipped

    @property
    def routing(self) -> tuple[nn.Parameter, ...]:
        """The parameters of this link that decide how blocks run."""
        return (self.key,) if self.signals is None else (self.key, self.signals)


class Supernet(EasAdapters):
    """Every block in both forms, for a search that skips other blocks at every step.

    config: of links that skip all blocks that may be.
    """

    def __init__(self, config: EasConfig) -> None:
        super().__init__(config)
        self.now: tuple[int, ...] = ()

    @staticmethod
    def adapted(config: Any) -> int:
        """Return the number of all blocks."""
        return len(config.blocks)

    def begin_with(self, own: EasAdapters) -> None:
        """Copy the adapters that links share, each at its block in its form."""
        self.token = nn.Parameter(own.token.detach().clone())
        for block in self.blocks:
            self.now = (block,) if block in own.skipped else ()
            self.adapter(block).load_state_dict(own.adapter(block).state_dict())
        self.now = ()

    def placed(self, signals: torch.Tensor, own: EasAdapters) -> torch.Tensor:
        """Return signals [k, r] of a link that shares `own`, at the slots that its blocks have here."""
        placed = signals.new_zeros(len(self.skippable), signals.shape[1])
        placed[[self.slot(block) for block in own.skipped]] = signals.detach()
        return placed

    @property
    def skipped(self) -> tuple[int, ...]:
        """The blocks that are without attention now."""
        return self.now

    def slot(self, block: int) -> int:
        """Return the index of the stand-in that a block has when it is skipped."""
        return self.skippable.index(block)

    def adapter(self, block: int) -> Adapter:
        """See Adapters."""
        if block in self.now:
            return self.stand_ins[self.slot(block)]
        return self.adapters[self.blocks.index(block)]


class Eas(Mma):
    """As mma, but some blocks have no attention: they cost their feed-forward, and no keys and values.

    :meth:`calibrate` chooses them by measurement before links are trained; the choice is saved with links.
    """

    def __init__(self, lm: LanguageModel, *, calibration_questions: int = 8, breadth: int = 2,
                 **options: Any) -> None:
        """calibration_questions: by which blocks are chosen; breadth: as in measure_skips."""
        super().__init__(lm, **options)
        self.calibration_questions, self.breadth = calibration_questions, breadth

    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: ColumnConnections, evidence: Evidence | None = None) -> ColumnCompletion:
        """See Method."""
        links: Mapping[str, Any] = connections.links
        if not any(link.config.means == 'text' for link in links.values()):
            return super().completion(questions, tokens, connections, evidence)
        return TextMeansCompletion(**vars(self.begun(tokens, connections)), adapters=connections.shared)

    def calibrate(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens]) -> None:
        """Measure statistics as other methods do, and choose the blocks without attention, once.

        The choice is by texts alone, as the columns of untrained links are noise.
        """
        super().calibrate(questions, tokens)
        shared: EasAdapters | None = self._connections.shared
        if shared is not None and len(shared.skipped) and not shared.measured:
            shared.choose(self.profile(questions, [{}], len(shared.skipped)).order)

    def profile(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens],
                count: int) -> SkipProfile:
        """Measure how far skipping up to `count` blocks moves the log-probabilities of true answers.

        Not how far down: a model that knows little gets better by whatever makes it less sure.
        """
        trial = Trial(self)
        # A few questions from all over, with some frame each.
        asked = list(questions[::max(1, len(questions) // self.calibration_questions)])
        asked = asked[:self.calibration_questions]
        frames = [tokens[place % len(tokens)] for place in range(len(asked))]
        whole = trial.losses(asked, frames, frozenset())
        return measure_skips(
            lambda skipped: float((trial.losses(asked, frames, skipped) - whole).abs().mean()),
            trial.supernet.skippable, count, self.breadth)

    def search(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens], count: int,
               config: SearchConfig | None = None) -> frozenset[int]:
        """Return the blocks to skip by the paper's search; questions and their frames in step.

        Every eighth question is held out for rewards.
        """
        trial, pairs = Trial(self), list(zip(questions, tokens, strict=True))
        held, rest = pairs[::8], [pair for place, pair in enumerate(pairs) if place % 8]
        train = cycle([rest[start:start + BATCH] for start in range(0, len(rest), BATCH)])
        optimiser = torch.optim.AdamW(trial.trainable_parameters(), lr=1e-3)

        def step(skipped: frozenset[int]) -> None:
            optimiser.zero_grad()
            trial.supernet.now = tuple(sorted(skipped))
            trial.answer_losses(*zip(*next(train), strict=True)).mean().backward()
            optimiser.step()

        return search_skips(lambda skipped: float(trial.losses(*zip(*held, strict=True), skipped).mean()),
                            step, trial.supernet.skippable, count, config or SearchConfig())


class Trial(Eas):
    """Copies of a method's links that try every block in both forms; nothing is folded."""

    def __init__(self, method: Eas) -> None:
        super().__init__(method.lm, template=method.template, fold=False)
        for link in cast('Mapping[str, EasLink]', method.links()).values():
            config = replace(link.config, skipped=len(link.config.skippable))
            copied = EasLink(config).to(self.lm.device)
            copied.start_from(link)
            copied.shared = Supernet(config).to(self.lm.device)
            copied.shared.begin_with(link.shared)
            if link.signals is not None:
                copied.signals = nn.Parameter(copied.shared.placed(link.signals, link.shared))
            self.plug(copied)
        self.supernet: Supernet = self._connections.shared

    @torch.no_grad()
    def losses(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens],
               skipped: frozenset[int]) -> torch.Tensor:
        """Return the loss [B] of each question with some blocks skipped."""
        self.supernet.now = tuple(sorted(skipped))
        return self.answer_losses(questions, tokens)


SPEC = MethodSpec(
    'eas', 'Efficient Attention Skipping (arXiv:2403.15226): as `mma`, and some blocks have no attention',
    Eas, EasLink)

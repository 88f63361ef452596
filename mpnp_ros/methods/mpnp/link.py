"""Latent links: tokens of one modality as a gated K/V prefix of the linked blocks."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.attention import BlockPrefix
from mpnp_ros.methods.link import Aligner, Direction, Link, Standardise, TokenBatch, take_over
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.counting import CountingPooling, Counts, Reading, Tally, sector_centres
from mpnp_ros.methods.mpnp.pooling import QuestionPooling
from mpnp_ros.tokens import SECTORS

#: Options that a link and the one it starts from have in common.
SAME_AT_START = (
    'base_model', 'blocks', 'kv_heads', 'head_dim', 'text_width', 'hidden', 'per_block', 'pooling', 'entries',
    'pooling_width', 'pooling_layers', 'pooling_heads', 'harmonics', 'additive', 'channels', 'probes',
    'supervised')

#: Modules that links share when they count together; each keeps its own worth.
READER = ('pooling', 'key_aligner', 'value_aligner')
LEAST_PART = 1e-6
"""Added to the parts of sensors in what is asked: where none looks, all say alike how sure an answer is."""
Question = tuple[torch.Tensor, torch.Tensor]


class Worth(nn.Module):
    """Counts of a sensor -> expected numbers of objects.

    confusion: [C, C], how much of each sort (row) there is for one seen object of each sort (column), missed
    and imagined ones included; initially the identity.  missed: [C], the number of each sort to expect in a
    sector that is looked at, whatever is seen; initially 0.  trust: [C], log weight of this sensor beside
    others; presence: [C], added to it where the sensor sees something.  turn: radians to the left by which
    counts are turned; it is learned from answers only while one sensor counts, as several are fused by
    sector.

    Answers tell little about a single entry.  So entries of one category taken for another change together
    for all statuses, entries of one status taken for another for all categories, and no others change; see
    :func:`confusion_groups`.
    """

    def __init__(self, channels: Sequence[str]) -> None:
        """channels: "category: status" or "category" each."""
        super().__init__()
        self.channels, width = tuple(channels), len(channels)
        self.confusion = nn.Parameter(torch.eye(width))
        self.missed = nn.Parameter(torch.zeros(width))
        self.trust, self.presence = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.turn = nn.Parameter(torch.zeros(()))

    def forward(self, counts: Counts) -> Counts:
        """Return corrected counts; what is missed is one more token for each sector."""
        confusion, missed = self.confusion, self.missed
        if torch.is_grad_enabled():
            groups = confusion_groups(self.channels)
            confusion = with_shared_gradient(confusion, groups)
            missed = with_shared_gradient(missed, groups.diagonal())
        numbers = counts.numbers @ confusion.clamp(0).T
        nowhere, distance, frames = counts.azimuth.isnan(), counts.distance, len(numbers)
        azimuth = torch.where(nowhere, counts.azimuth, counts.azimuth + self.turn)
        numbers = torch.cat([numbers, missed.clamp(0) * counts.covered], 1)
        azimuth = torch.cat([azimuth, sector_centres(azimuth.device).expand(frames, -1)], 1)
        distance = torch.cat([distance, distance.new_full((frames, SECTORS), math.nan)], 1)
        covered = counts.covered if not bool(self.turn) else torch.roll(
            counts.covered, round(self.turn.item() / math.tau * SECTORS), 1)
        return Counts(numbers, azimuth, distance, covered)


@cache
def confusion_groups(names: tuple[str, ...]) -> np.ndarray:
    """Return int64 [C, C]: entries of a confusion that change together share a number; -1: no change.

    One group is all statuses of one category taken for another (or for itself), or all categories of one
    status taken for another.  A category without statuses is taken for all statuses alike.
    """
    parts = [name.partition(': ')[::2] for name in names]
    numbers: dict[tuple[str, str, str], int] = {}

    def group(true: tuple[str, str], seen: tuple[str, str]) -> int:
        if true[1] == seen[1] or not (true[1] and seen[1]):
            return numbers.setdefault(('category', true[0], seen[0]), len(numbers))
        if true[0] == seen[0]:
            return numbers.setdefault(('status', true[1], seen[1]), len(numbers))
        return -1

    return np.array([[group(true, seen) for seen in parts] for true in parts])


def with_shared_gradient(parameter: torch.Tensor, groups: np.ndarray) -> torch.Tensor:
    """Return the same values; every entry gets the mean gradient of its group, those of group -1 none."""
    group = torch.tensor(groups.flatten() + 1, device=parameter.device)
    sums = parameter.new_zeros(int(group.max()) + 1).index_add(0, group, parameter.flatten())
    mean = sums / group.bincount(minlength=len(sums)).clamp(min=1) * (torch.arange(len(sums)).to(group) > 0)
    shared = mean[group].view_as(parameter)
    return parameter.detach() + (shared - shared.detach())


class Fused(NamedTuple):
    """The counts [B, ...] of several sensors as one.

    shares: [sensors, B, SECTORS, C], the part of each sensor in them; they add up to 1, or 0 if none looks.
    """

    counts: Counts
    shares: torch.Tensor


def fuse(parts: Sequence[tuple[Counts, Worth, torch.Tensor]]) -> Fused:
    """Fuse the counts [B, ...] of several sensors: their weighted mean in each sector, of each sort.

    parts: of each sensor its counts, their worth and the gate of its link, a scalar in 0..1 that scales its
    weight.  A sensor that does not look into a sector, or cannot tell a sort, has no weight there.
    """
    if len(parts) == 1:
        counts = parts[0][0]
        return Fused(counts, torch.ones_like(counts.covered)[None])
    together = Counts.beside([counts for counts, _, _ in parts])
    covered = together.covered
    numbers, distance = in_sectors(Counts(*(part.flatten(0, 1) for part in together)))
    numbers, distance = numbers.unflatten(0, covered.shape[:2]), distance.unflatten(0, covered.shape[:2])
    trust, presence = (torch.stack([getattr(worth, name) for _, worth, _ in parts])[:, None, None]
                       for name in ('trust', 'presence'))
    openness = torch.stack([gate for _, _, gate in parts])[:, None, None, None]
    weight = covered * openness * torch.exp(trust + presence * numbers.clamp(max=1.))
    shares = weight / weight.sum(0).clamp(min=1e-9)
    azimuth = sector_centres(covered.device).expand(len(covered[0]), -1)
    return Fused(Counts((numbers * shares).sum(0), azimuth, distance.nanmean(0), covered.amax(0)), shares)


def what_doubt_reads(asked: torch.Tensor, tally: Tally) -> torch.Tensor:
    """Return what temperatures depend on, [B, K (width + 2)], for probes [B, K, width] and their tally."""
    entropy = torch.special.entr(tally.probabilities).sum(-1)
    return torch.cat([asked.flatten(1), entropy, tally.covered.expand_as(entropy)], 1)


def shares_of_asked(shares: torch.Tensor, reading: Reading, supervised: int) -> torch.Tensor:
    """Return the part of each sensor in what is asked, [sensors, B] in 0..1.

    shares: [sensors, B or 1, SECTORS, C], see Fused.  reading: of the probes, of which the supervised count.
    """
    around, masks = (part[None, :, :supervised] for part in (reading.around, reading.masks))
    parts = ((around @ shares) * masks).sum((2, 3))
    return parts / reading.region[:, :supervised].sum(1)


def overlap_of(shares: torch.Tensor, reading: Reading, supervised: int) -> torch.Tensor:
    """Return how far several sensors look at the same that is asked, [B].

    0 where one or none looks, 1 - 1/n where n look alike; the mean over what is asked, so that two sensors
    that look at different places do not overlap.  Arguments as for :func:`shares_of_asked`.
    """
    both = shares.sum(0, keepdim=True).square() - shares.square().sum(0, keepdim=True)
    return shares_of_asked(both, reading, supervised)[0]


def in_sectors(counts: Counts) -> tuple[torch.Tensor, torch.Tensor]:
    """Return numbers [B, SECTORS, C] added up by sector, and the mean distance of objects, [B, SECTORS].

    Tokens without a direction are spread over all sectors.  The distance is NaN where it is unknown for most
    objects.
    """
    batch, _, channels = counts.numbers.shape
    nowhere = counts.azimuth.isnan()
    turns = counts.azimuth.nan_to_num() / math.tau + 0.5
    sector = ((turns - turns.floor()) * SECTORS).long().clamp(0, SECTORS - 1)
    placed = counts.numbers.masked_fill(nowhere[..., None], 0.)
    sums = counts.numbers.new_zeros(batch, SECTORS, channels)
    sums = sums.scatter_add(1, sector[..., None].expand(-1, -1, channels), placed)
    sums = sums + (counts.numbers - placed).sum(1, keepdim=True) / SECTORS
    each = placed.detach().sum(-1)
    total = each.new_zeros(batch, SECTORS).scatter_add(1, sector, each)
    known = each.masked_fill(counts.distance.isnan(), 0.)
    measured = each.new_zeros(batch, SECTORS).scatter_add(1, sector, known)
    far = each.new_zeros(batch, SECTORS).scatter_add(1, sector, known * counts.distance.nan_to_num())
    return sums, torch.where(measured > total / 2, far / measured, torch.nan)


class LatentLink(Link):
    """Tokens of one modality -> a gated K/V prefix for every linked block (arXiv:2312.07886).

    Parameters are float32 and all of them are trained.  Each linked block has its own gate
    g = sigmoid(w / temperature), passed on as log g; a pruned gate is exactly 0 and its block gets no
    prefix at all.
    """

    kind = 'latent'
    closed: torch.Tensor

    def __init__(self, config: LinkConfig) -> None:
        super().__init__(config)
        blind, counting = config.soft_tokens > 0, config.pooling == 'counting'
        self.standard = None if counting else Standardise(config.token_width)
        self.norm = None if counting else nn.LayerNorm(config.token_width)
        self.direction = None if blind or counting else Direction(config.token_width)
        self.worth = Worth(config.channels) if counting else None
        self.doubt = nn.Linear(config.probes * (config.pooling_width + 2), 1) if counting else None
        self.agreement: nn.Linear | None = None
        pooling_sizes = (config.text_width, config.pooling_width, config.entries, config.pooling_layers,
                         config.pooling_heads, config.harmonics)
        self.pooling: CountingPooling | QuestionPooling | None = None
        if counting:
            self.pooling = CountingPooling(config.channels, *pooling_sizes, config.probes,
                                           config.masks == 'sorts', config.supervised)
        elif config.pooling == 'question':
            self.pooling = QuestionPooling(config.token_width, *pooling_sizes, config.additive)
        sizes = (config.token_width if self.pooling is None else config.pooling_width, config.hidden,
                 len(config.blocks) if config.per_block else 1, config.kv_heads, config.head_dim)
        self.key_aligner, self.value_aligner = Aligner(*sizes), Aligner(*sizes)
        self.gate_weights = nn.Parameter(torch.full((len(config.blocks),), config.gate))
        self.register_buffer('closed', torch.zeros(len(config.blocks), dtype=torch.bool))
        nn.init.normal_(self.key_aligner.output.weight, std=config.key_gain / config.hidden ** 0.5)
        if self.doubt is not None:
            nn.init.zeros_(self.doubt.weight)
            nn.init.zeros_(self.doubt.bias)
        if config.zero_values:
            nn.init.zeros_(self.value_aligner.output.weight)
            nn.init.zeros_(self.value_aligner.output.bias)

    @classmethod
    def empty(cls, config: LinkConfig, shapes: Mapping[str, Sequence[int]]) -> LatentLink:
        """See Link; a link has an agreement only once it has been fitted."""
        link = cls(config)
        if any(name.startswith('agreement.') for name in shapes):
            link.agreement = link.new_agreement()
        return link

    def forward(self, tokens: TokenBatch | None = None,
                question: Question | None = None) -> dict[int, BlockPrefix]:
        """Return the prefix of every linked block that is not pruned.

        tokens: None for a link on soft tokens.  question: states [B, T, d] at the input of block
        `config.question_block` and their mask [B, T]; only needed, and only read, by links that pool.
        """
        linked = self._open_places()
        if not linked:
            return {}
        pooling = self.pooling
        if isinstance(pooling, CountingPooling):
            tokens = self._checked(tokens)
            entries = pooling(self.count(tokens), self._asked(question))
            return self.prefix_of(entries, self.columns(tokens))
        valid, rows = (None, None) if tokens is None else (tokens.valid, tokens.rows)
        read = self._read(tokens)
        if pooling is not None:
            azimuth = None if tokens is None or self.soft_tokens is not None else tokens.azimuth
            seen = pooling.see(read, azimuth)
            read = pooling(seen.of_rows(rows, valid), self._asked(question))
            valid = valid if valid is None or rows is None else valid[rows]
            valid, rows = None if valid is None else valid.any(1, keepdim=True).expand(read.shape[:2]), None
        keys, values = (aligner(read, linked) for aligner in (self.key_aligner, self.value_aligner))
        if rows is not None:
            keys, values, valid = keys[:, rows], values[:, rows], None if valid is None else valid[rows]
        gates = self._log_gates()[linked, None, None, None]
        if valid is not None:
            gates = torch.where(valid[:, None, :], gates, -torch.inf)
        return self._blocks(keys, values, gates)

    def count(self, tokens: TokenBatch) -> Counts:
        """Return the counts of the tokens, corrected by their worth, of each text [B, ...]."""
        worth = self.worth
        assert worth is not None  # links that count have one
        return worth(self.counts_of(tokens)).of_rows(tokens.rows)

    def counts_of(self, tokens: TokenBatch) -> Counts:
        """Return the counts of the tokens of F frames as they are."""
        self._checked(tokens)
        values, azimuth = tokens.values.float().clamp(0), tokens.azimuth.float()
        frames, places = values.shape[:2]
        distance, looked, known = tokens.distance, tokens.looked, tokens.known
        distance = values.new_full((frames, places), torch.nan) if distance is None else distance
        looked = values.new_ones(frames, SECTORS) if looked is None else looked.float()
        known = values.new_ones(frames, values.shape[2]) if known is None else known.float()
        if tokens.valid is not None:
            values = values.masked_fill(~tokens.valid[..., None], 0.)
        return Counts(values * known[:, None], azimuth, distance, looked[:, :, None] * known[:, None])

    def log_temperature(self, asked: torch.Tensor, tally: Tally, overlap: torch.Tensor | None = None,
                        ) -> torch.Tensor:
        """Return the logarithm of the divisor of log-probabilities of answers, [B].

        asked: probes [B, K, width].  overlap: [B], see :func:`overlap_of`; None: 0.  It depends on the
        question, the uncertainty of its numbers and the share of it that is seen; so does what the overlap
        adds.  0 until it has been fitted, see training/calibration.py (Guo et al., arXiv:1706.04599, section
        4.2).
        """
        doubt = self.doubt
        assert doubt is not None  # links that count have one
        known = what_doubt_reads(asked, tally)
        log = doubt(known)[:, 0]
        if overlap is not None and self.agreement is not None:
            log = log + overlap * self.agreement(known)[:, 0]
        return log.clamp(-3, 3)

    def new_agreement(self) -> nn.Linear:
        """Return an agreement that adds nothing; raises LinksError for a link that does not count."""
        if self.doubt is None:
            raise LinksError(f'the {self.config.modality} link does not count and has no agreement; '
                             'make it with pooling: counting')
        agreement = nn.Linear(self.doubt.in_features, 1, device=self.doubt.weight.device)
        if not agreement.weight.is_meta:
            nn.init.zeros_(agreement.weight)
            nn.init.zeros_(agreement.bias)
        return agreement

    def columns(self, tokens: TokenBatch) -> torch.Tensor:
        """Return log g of every linked block for each text, [N, B or 1]; -inf: closed or without tokens."""
        gates = self._log_gates().masked_fill(self.closed, -torch.inf)[:, None]
        if tokens.valid is None:
            return gates
        there = tokens.valid.any(1)
        return torch.where(there if tokens.rows is None else there[tokens.rows], gates, -torch.inf)

    def prefix_of(self, entries: torch.Tensor, columns: torch.Tensor) -> dict[int, BlockPrefix]:
        """Return the prefix made of entries [B, M, w], which may rest on the counts of several links.

        columns: [N, B or 1] log g of every linked block, open where one of those links is open.
        """
        opened = (columns > -torch.inf).any(1).nonzero()[:, 0].tolist()
        keys, values = (aligner(entries, opened) for aligner in (self.key_aligner, self.value_aligner))
        return self._blocks(keys, values, columns[opened, :, None, None], opened)

    @property
    def gates(self) -> torch.Tensor:
        """The gate g of each linked block in config.blocks, [N] in [0, 1]; exactly 0 where pruned."""
        return torch.sigmoid(self.gate_weights / self.config.temperature).masked_fill(self.closed, 0.)

    @property
    def open_blocks(self) -> tuple[int, ...]:
        """The linked blocks that are not pruned."""
        return tuple(block for block, closed in zip(self.config.blocks, self.closed.tolist(), strict=True)
                     if not closed)

    @property
    def first_block(self) -> int | None:
        """The lowest block whose input this link reads; None if it is pruned away."""
        if not self.open_blocks:
            return None
        return self.open_blocks[0] if self.pooling is None else self.config.question_block

    @torch.no_grad()
    def calibrate(self, questions: Sequence[Question], values: torch.Tensor | None) -> None:
        """Measure the statistics of inputs, once; a link that has been measured keeps them.

        questions: as in forward, of the training set; read by a link that pools.  values: [n, D] tokens of
        the training set; None without a sensor.
        """
        standard = None if self.config.additive else self.standard
        if values is not None and standard is not None and not standard.measured:
            standard.measure(values.to(standard.mean.device))
        if self.pooling is not None and not self.pooling.measured:
            self.pooling.measure(questions)

    def start_from(self, other: LatentLink) -> tuple[str, ...]:
        """Take over what another link has learned; gives the names of tensors that were not taken over.

        Everything of equal name and shape is, with its statistics: a link to another sensor whose tokens
        count the same things begins with all of it, but for what the other sensor's counts are worth.  Raises
        LinksError where their pooling, blocks or heads differ.
        """
        odd = [name for name in SAME_AT_START if getattr(self.config, name) != getattr(other.config, name)]
        if odd:
            raise LinksError(f'a {self.config.modality} link cannot start from the {other.config.modality} '
                             f'link: {", ".join(odd)} differ; make it with the same options')
        self.agreement = None if other.agreement is None else self.new_agreement()
        left = take_over(self, other)
        if self.worth is not None and self.config.modality != other.config.modality:
            self.worth.load_state_dict(Worth(self.config.channels).state_dict())
        return left

    def prune(self, threshold: float) -> int:
        """Close all gates below the threshold for good; return how many were open before."""
        closed = self.closed | (self.gates.detach() < threshold)
        newly = int((closed & ~self.closed).sum())
        self.closed = closed
        return newly

    def share_reader(self, other: LatentLink) -> None:
        """Count with the reader of another link, so that the counts of both can be fused."""
        self.pooling, self.key_aligner, self.value_aligner = (
            other.pooling, other.key_aligner, other.value_aligner)

    def reads_like(self, other: LatentLink) -> bool:
        """Whether both count, and by readers that are the same in every number that counts depend on.

        What tells which questions counts can answer may differ.
        """
        if not (self.config.pooling == other.config.pooling == 'counting'):
            return False
        if any(getattr(self.config, name) != getattr(other.config, name) for name in SAME_AT_START):
            return False
        if self.pooling is other.pooling:
            return True
        own, its = ([tensor for part in READER for name, tensor in getattr(link, part).state_dict().items()
                     if not name.startswith('answerable.')] for link in (self, other))
        return all(torch.equal(ours, theirs.to(ours.device)) for ours, theirs in zip(own, its, strict=True))

    def _read(self, tokens: TokenBatch | None) -> torch.Tensor:
        """Return normalised tokens with their direction, [F, P, D]."""
        norm, standard, direction = self.norm, self.standard, self.direction
        assert norm is not None and standard is not None  # only links that count have none
        if self.soft_tokens is not None:
            return norm(self.soft_tokens)[None]
        tokens = self._checked(tokens)
        values = tokens.values
        if tokens.valid is not None:
            values = values.masked_fill(~tokens.valid[..., None], 0.)
        if self.config.additive:
            return values
        assert direction is not None  # only links on soft tokens have none
        return direction(norm(standard(values)), tokens.azimuth.float())

    def _checked(self, tokens: TokenBatch | None) -> TokenBatch:
        if tokens is None or tokens.values.shape[-1] != self.config.token_width:
            width = 'no tokens' if tokens is None else f'tokens of width {tokens.values.shape[-1]}'
            raise LinksError(f'the {self.config.modality} link reads tokens of width '
                             f'{self.config.token_width}, but was given {width}; use the encoder it was '
                             'trained with')
        return tokens

    def _asked(self, question: Question | None) -> Question:
        if question is None:
            raise LinksError(f'the {self.config.modality} link pools by the question; hand it the states of '
                             f'the question at block {self.config.question_block}')
        return question

    def _open_places(self) -> list[int]:
        return [place for place, closed in enumerate(self.closed.tolist()) if not closed]

    def _log_gates(self) -> torch.Tensor:
        """Return log g of all linked blocks, [N], closed ones included."""
        return logsigmoid(self.gate_weights / self.config.temperature)

    def _blocks(self, keys: torch.Tensor, values: torch.Tensor, gates: torch.Tensor,
                places: Sequence[int] | None = None) -> dict[int, BlockPrefix]:
        """Return the prefixes of the linked blocks at some places (default: all open ones).

        keys, values: [n or 1, B, ...].
        """
        places = self._open_places() if places is None else places
        each_keys, each_values = (part.unbind() * (len(places) if len(part) == 1 else 1)
                                  for part in (keys, values))
        return {self.config.blocks[place]: BlockPrefix(*part) for place, *part in zip(
            places, each_keys, each_values, gates.unbind(), strict=True)}

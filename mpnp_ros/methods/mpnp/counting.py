"""Counting: the question chooses what to count and where, and each sum goes on as probabilities of numbers.

Tokens that hold expected numbers of objects are added up here and nowhere else.  The question's states choose
probes.  Each probe has a window over directions and distances and a mask over sorts of objects, and sums what
both let through.  It passes on the probability of every number, for independent objects that are there or not
(the Poisson binomial distribution), the expected number by sort, the share of each category and status, and
the share of the asked region that sensors see.  Every sum is linear in the tokens: half an object counts one
half.
"""
from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, cross_entropy, dropout, linear, pad
from torch.utils.weak import WeakTensorKeyDictionary

from mpnp_ros.methods.link import QuestionStates, Standardise, fourier
from mpnp_ros.methods.mpnp.pooling import end_state, with_one, without_first
from mpnp_ros.methods.questions import Counted
from mpnp_ros.tokens import SECTORS

NUMBERS = 13
"""The probability of each number below this one is passed on, and that of all others together."""
FREQUENCIES, DAMPING = 24, 0.7
"""Of the Fourier transform that adds up independent objects; numbers 24 higher leak in by 0.7^24."""
EDGES = tuple(2.5 * step for step in range(1, 21))
"""Distances, metres, at which windows may end; those between are blends."""
DISTANCES = 2.0
"""Metres over which a distance passes from one side of an edge to the other."""


UNTAUGHT = 3.0
"""Log-odds that a reader can answer a question, until it has been taught which ones it can."""


class Counts(NamedTuple):
    """Expected numbers of objects, the input of a reader.

    numbers: [F, P, C], not negative.  azimuth: [F, P] radians and distance: [F, P] metres; NaN: unknown.
    covered: [F, SECTORS, C] in 0..1, whether a sensor looks into a sector and can tell a sort of objects.
    """

    numbers: torch.Tensor
    azimuth: torch.Tensor
    distance: torch.Tensor
    covered: torch.Tensor

    def of_rows(self, rows: torch.Tensor | None) -> Counts:
        """Return the counts of each text: of the frames in rows [B]; None: one frame each.

        Those of a single frame stay one, [1, ...], and serve all texts.
        """
        return self if rows is None or len(self.numbers) == 1 else Counts(*(part[rows] for part in self))

    @classmethod
    def beside(cls, parts: Sequence[Counts]) -> Counts:
        """Return several counts as one, each part [n, F, ...]; shorter ones get empty tokens.

        Counts of a single frame are repeated for the largest number of frames.
        """
        longest = max(counts.azimuth.shape[-1] for counts in parts)
        frames = max(len(counts.numbers) for counts in parts)
        filled = []
        for counts in parts:
            more = longest - counts.azimuth.shape[-1]
            if more:
                counts = Counts(pad(counts.numbers, (0, 0, 0, more)), pad(counts.azimuth, (0, more)),
                                pad(counts.distance, (0, more), value=math.nan), counts.covered)
            filled.append([part.expand(frames, *part.shape[1:]) for part in counts])
        return cls(*(torch.stack(each) for each in zip(*filled, strict=True)))


class ProbeAim(NamedTuple):
    """What a probe counts: sectors, reach and sort as in Counted."""

    probe: int
    sectors: np.ndarray
    reach: float
    sort: str


class Wishes(NamedTuple):
    """How the entries of B questions are made of their counts, as far as it follows from the text alone.

    chosen: [B, numbers], factors of the counts that pass straight on.  combined: [B, 2 width], the part of
    the first combining layer.
    """

    chosen: torch.Tensor
    combined: torch.Tensor


class Tally(NamedTuple):
    """The counts of the probes of B questions.

    windows: [B, K, P] and masks: [B, K, C] in 0..1.  number: [B, K] expected; probabilities:
    [B, K, NUMBERS + 1] of 0, 1, ... and of more; kinds: [B, K, C] the expected number by sort; covered:
    [B, K] share of the asked region that is seen, 0..1.
    """

    windows: torch.Tensor
    masks: torch.Tensor
    number: torch.Tensor
    probabilities: torch.Tensor
    kinds: torch.Tensor
    covered: torch.Tensor


class Reading(NamedTuple):
    """What the probes of B questions ask for and what follows from the text alone.

    towards: [B, K, 2 harmonics + 1], see :meth:`Probes.window_of`.  within: [B, K, edges + 1], see
    :meth:`Probes.reach_of`.  masks: [B, K, C] in 0..1.  around: [B, K, SECTORS], the windows over sectors.
    region: [B, K], the size of the asked region.
    """

    towards: torch.Tensor
    within: torch.Tensor
    masks: torch.Tensor
    around: torch.Tensor
    region: torch.Tensor


def sort_of(chosen: Sequence[str], names: Sequence[str]) -> str:
    """Return what the chosen channels have in common, such as "car", "parked car", "moving thing" or "thing".

    names: of all channels, "category: status" or "category".  Channels with nothing in common are listed.
    """
    if set(chosen) == set(names):
        return 'thing'
    parts = {name: name.partition(': ')[::2] for name in names}
    categories, statuses = ({parts[name][place] for name in chosen} for place in (0, 1))
    if len(categories) == 1 and len(chosen) == sum(parts[name][0] in categories for name in names):
        return categories.pop()
    alike = sum(parts[name][1] in statuses for name in names)
    if len(categories) > 1 and len(statuses) == 1 and len(chosen) == alike:
        return _with_status('thing', statuses.pop())
    return ' or '.join(_with_status(*parts[name]) for name in chosen) or 'nothing'


@cache
def sorts_of(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the categories and the statuses of channels named "category: status" or "category"."""
    parts = [name.partition(': ')[::2] for name in names]
    return (tuple(dict.fromkeys(category for category, _ in parts)),
            tuple(dict.fromkeys(status for _, status in parts if status)))


@cache
def sort_groups(names: tuple[str, ...]) -> np.ndarray:
    """Return float32 [C, G], 1 where a channel is of a category or has a status.

    G: all categories, then all statuses.
    """
    parts, (categories, statuses) = [name.partition(': ')[::2] for name in names], sorts_of(names)
    return np.array([[own == category for category in categories] + [state == status for status in statuses]
                     for own, state in parts], np.float32)


def _with_status(category: str, status: str) -> str:
    if not status:
        return category
    return f'{category} {status}' if status.endswith('rider') else f'{status} {category}'


@cache
def sector_centres(device: torch.device | str = 'cpu') -> torch.Tensor:
    """Return the azimuths of sector centres, [SECTORS] radians, rising; the same tensor each time."""
    return (torch.arange(SECTORS, device=device) + 0.5) * math.tau / SECTORS - math.pi


@cache
def edges(device: torch.device | str = 'cpu') -> torch.Tensor:
    """Return EDGES as a tensor, the same each time."""
    return torch.tensor(EDGES, device=device)


def number_probabilities(each: torch.Tensor) -> torch.Tensor:
    """Return the probabilities [..., NUMBERS + 1] of 0, 1, ... objects, and of more; each: [..., P] expected.

    Objects are independent.  Of an expected number above 1 the whole part is certain.  The generating
    function of the sum is evaluated on a circle of radius DAMPING and transformed back.  So the cost grows
    with P only, and higher numbers hardly leak into lower ones.
    """
    point, damping = _circle(each.device)
    whole = each.detach().floor()
    part = (each - whole)[..., None]
    product = (1 - part + part * point).prod(-2)
    if bool((certain := whole.sum(-1, keepdim=True)).any()):
        product = product * point ** certain
    series = torch.fft.irfft(product.conj().resolve_conj(), FREQUENCIES)[..., :NUMBERS]
    below = (series / damping).clamp(0, 1)
    return torch.cat([below, (1 - below.sum(-1, keepdim=True)).clamp(0, 1)], -1)


@cache
def _circle(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the points on the circle, complex, and the damping of each number."""
    with torch.inference_mode(False):
        angle = torch.arange(FREQUENCIES // 2 + 1, device=device) * math.tau / FREQUENCIES
        return (torch.polar(torch.full_like(angle, DAMPING), angle),
                DAMPING ** torch.arange(NUMBERS, device=device))


class Probes(nn.Module):
    """Probes of a question: K vectors, and the windows and masks that they stand for.

    dropout: of the question's states; 0 except while words are learned.  by_sort: a probe chooses one
    category or any, and one status or any, and its mask is their product; else it weighs each channel.
    """

    def __init__(self, channels: tuple[str, ...], text_width: int, probes: int, width: int, layers: int,
                 heads: int, harmonics: int, by_sort: bool) -> None:
        super().__init__()
        self.harmonics, self.dropout, self.by_sort = harmonics, 0., by_sort
        self.channels, (categories, statuses) = channels, sorts_of(channels)
        self.standard_question, self.standard_end = Standardise(text_width), Standardise(text_width)
        self.read = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width), nn.GELU())
        self.read_end = nn.Linear(text_width, width)
        self.queries = nn.Parameter(torch.randn(probes, width) * 0.3)
        self.attention = nn.ModuleList(nn.MultiheadAttention(width, heads, batch_first=True)
                                       for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.think = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(),
                                   nn.Linear(2 * width, width))
        self.direction = nn.Linear(width, 2 * harmonics + 1)
        self.reach = nn.Linear(width, len(EDGES) + 1)
        if by_sort:
            self.category = nn.Linear(width, len(categories) + 1)
            self.status = nn.Linear(width, len(statuses) + 1)
        else:
            self.mask = nn.Linear(width, len(channels))
        with torch.no_grad():
            self.direction.bias[-1] = 1.
            self.reach.bias[-1] = 1.
            if not by_sort:
                self.mask.bias.fill_(1.)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """States [B, T, d] and mask [B, T] of the questions -> [B, K, width]."""
        asked = self.queries + self.read_end(self.standard_end(end_state(states, mask)))[:, None]
        read = dropout(self.read(self.standard_question(states)), self.dropout)
        padding = ~without_first(mask)
        for attention, norm in zip(self.attention, self.norms, strict=True):
            found, _ = attention(norm(asked), read, read, key_padding_mask=padding, need_weights=False)
            asked = asked + dropout(found, self.dropout)
        return asked + self.think(asked)

    def measure(self, questions: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Measure mean and deviation of question states, from pairs of states and masks."""
        self.standard_question.measure(torch.cat([states[without_first(mask)] for states, mask in questions]))
        self.standard_end.measure(torch.cat([end_state(states, mask) for states, mask in questions]))

    def directions(self, asked: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
        """Return the window of a probe over directions, [B, K, P] in 0..1; azimuth: [B or 1, P] radians."""
        return self.window_of(4 * self.direction(asked), azimuth)

    def window_of(self, towards: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
        """Return the window of what a probe looks towards, [B, K, 2 harmonics + 1]; as :meth:`directions`."""
        return torch.sigmoid(towards @ with_one(fourier(azimuth.float(), self.harmonics)).mT)

    def reaches(self, asked: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
        """Return the window over distances [B or 1, P] in metres; 1 where the distance is unknown."""
        return self.reach_of(4 * self.reach(asked), distance)

    def reach_of(self, within: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
        """Return the window of how far a probe looks, [B, K, edges + 1]; see :meth:`reaches`."""
        features = torch.tanh((distance.float().nan_to_num()[..., None] - edges(distance.device)) / DISTANCES)
        reaches = torch.sigmoid(within @ with_one(features).mT)
        return torch.where(distance.isnan()[..., None, :], 1., reaches)

    def masks(self, asked: torch.Tensor) -> torch.Tensor:
        """Return the weight of each sort in a probe, [B, K, C] in 0..1."""
        if not self.by_sort:
            return torch.sigmoid(2 * self.mask(asked))
        category, status = (layer(asked).softmax(-1) for layer in (self.category, self.status))
        groups = torch.from_numpy(sort_groups(self.channels)).to(asked.device).T
        categories = category.shape[-1] - 1
        return ((category[..., :-1] @ groups[:categories] + category[..., -1:])
                * (status[..., :-1] @ groups[categories:] + status[..., -1:]))


class CountingPooling(nn.Module):
    """Counts -> M entries for each question, which aligners turn into keys and values."""

    def __init__(self, channels: Sequence[str], text_width: int, width: int, entries: int, layers: int,
                 heads: int, harmonics: int, probes: int, by_sort: bool = True, supervised: int = 2) -> None:
        """channels: "category: status" or "category" each.

        supervised: the first probes, which training may supervise with the meaning of the question.
        """
        super().__init__()
        self.channels, self.supervised = tuple(channels), supervised
        self.probes = Probes(self.channels, text_width, probes, width, layers, heads, harmonics, by_sort)
        sorts = sort_groups(self.channels).shape[1]
        features = NUMBERS + 3 + len(channels) + sorts
        self.number = nn.Sequential(nn.Linear(features, width), nn.GELU(),
                                    nn.Linear(width, width))
        self.combine = nn.Sequential(nn.Linear(2 * probes * width + sorts, 2 * width), nn.GELU(),
                                     nn.Linear(2 * width, entries * width))
        plain = supervised * features + sorts
        self.choose = nn.Linear(probes * width, plain)
        self.straight = nn.Linear(plain, entries * width, bias=False)
        self.answerable = nn.Sequential(nn.Linear(probes * width, width), nn.GELU(), nn.Linear(width, 1))
        nn.init.constant_(cast('nn.Linear', self.answerable[-1]).bias, UNTAUGHT)
        self.entries, self.norm = entries, nn.LayerNorm(width)
        self._kept: WeakKeyDictionary[QuestionStates, tuple[int, torch.Tensor]] = WeakKeyDictionary()
        self._readings: MutableMapping[torch.Tensor, tuple[int, tuple[Reading, Wishes]]] = (
            WeakTensorKeyDictionary())
        self._kept_aims: MutableMapping[torch.Tensor, tuple[int, list[list[ProbeAim]]]] = (
            WeakTensorKeyDictionary())
        self._tensors: tuple[torch.Tensor, ...] = ()

    def measure(self, questions: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """See :meth:`Probes.measure`."""
        self.probes.measure(questions)

    @property
    def measured(self) -> bool:
        """Whether :meth:`measure` has been called."""
        return self.probes.standard_end.measured

    def asked(self, question: QuestionStates, block: int) -> torch.Tensor:
        """Return the probes [B, K, width] of questions, whose states are read at the input of a block.

        They depend on the text only, so they are kept with the states while the weights stay the same.  A
        question that is asked again of every frame is read once.
        """
        if torch.is_grad_enabled():
            return self.probes(*question.at(block))
        weights = self._version()
        version, asked = self._kept.get(question, (-1, None))
        if asked is None or version != weights:
            asked = self.probes(*question.at(block))
            self._kept[question] = weights, asked
        return asked

    def reading(self, asked: torch.Tensor) -> tuple[Reading, Wishes]:
        """Return what follows from the probes [B, K, width] alone; kept with them as :meth:`asked` does."""
        if torch.is_grad_enabled():
            return self._read(asked)
        weights = self._version()
        version, made = self._readings.get(asked, (-1, None))
        if made is None or version != weights:
            made = self._read(asked)
            self._readings[asked] = weights, made
        return made

    def _read(self, asked: torch.Tensor) -> tuple[Reading, Wishes]:
        probes, flat = self.probes, asked.flatten(1)
        masks, around = probes.masks(asked), probes.directions(asked, sector_centres(asked.device)[None])
        own = self.combine[0].weight[:, flat.shape[1]:2 * flat.shape[1]]
        return (Reading(4 * probes.direction(asked), 4 * probes.reach(asked), masks, around,
                        around.sum(-1) * masks.sum(-1) + 1e-6),
                Wishes(1 + self.choose(flat), linear(flat, own, self.combine[0].bias)))

    def _version(self) -> int:
        """Return a number that changes with every change of the weights."""
        if not self._tensors:
            self._tensors = (*self.parameters(), *self.buffers())
        return sum(tensor._version for tensor in self._tensors)

    def forward(self, counts: Counts, question: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return entries [B, M, w], each about its own frame; question: states [B, T, d], mask [B, T]."""
        asked = self.probes(*question)
        made = self.reading(asked)
        return self.entries_of(self.tally(counts, asked, made), asked, made)

    def entries_of(self, tally: Tally, asked: torch.Tensor,
                   made: tuple[Reading, Wishes] | None = None) -> torch.Tensor:
        """Return entries [B, M, w] of the probes [B, K, width] and their counts; made: as by `reading`."""
        groups = torch.from_numpy(sort_groups(self.channels)).to(asked.device)
        shares = tally.kinds @ groups / (tally.number[..., None] + 0.1)
        numbers = torch.cat([tally.probabilities, tally.number[..., None].asinh(), tally.kinds.asinh(),
                             shares, tally.covered[..., None]], -1)
        alike = shares[:, 0] * shares[:, 1]
        wishes, combine = (made or self.reading(asked))[1], self.combine
        found, weight = self.number(numbers).flatten(1), combine[0].weight
        own = found.shape[1]
        found = linear(found, weight[:, :own]) + wishes.combined + linear(alike, weight[:, 2 * own:])
        plain = torch.cat([numbers[:, :self.supervised].flatten(1), alike], -1)
        entries = combine[2](combine[1](found)) + self.straight(plain * wishes.chosen)
        return self.norm(entries.unflatten(-1, (self.entries, -1)))

    @torch.no_grad()
    def counted(self, tally: Tally, asked: torch.Tensor, modality: str) -> list[list[Counted]]:
        """Return the counts of the first probes of each question [B, K, width].

        Probes of a question that count the same appear once.
        """
        number, none, covered = (part.expand(len(asked), -1)[:, :self.supervised].tolist() for part in (
            tally.number, tally.probabilities[..., 0], tally.covered))
        return [[Counted(modality, aim.sectors, aim.reach, aim.sort, number[row][aim.probe],
                         none[row][aim.probe], covered[row][aim.probe]) for aim in aims]
                for row, aims in enumerate(self._aims(asked))]

    def _aims(self, asked: torch.Tensor) -> list[list[ProbeAim]]:
        """Return what the first probes of each question count, without those that count the same again."""
        weights = self._version()
        version, aims = self._kept_aims.get(asked, (-1, None))
        if aims is not None and version == weights:
            return aims
        names, reading = self.channels, self.reading(asked)[0]
        distances = edges(asked.device)[None] - EDGES[0] / 2
        around, within, masks = (part[:, :self.supervised].cpu().numpy() > 0.5 for part in (
            reading.around, self.probes.reach_of(reading.within, distances), reading.masks))
        aims = [[] for _ in around]
        for row, own in enumerate(aims):
            for probe, sectors in enumerate(around[row]):
                sort = sort_of([names[channel] for channel in masks[row, probe].nonzero()[0]], names)
                if not any((sectors == other.sectors).all() and sort == other.sort for other in own):
                    beyond = (~within[row, probe]).nonzero()[0]
                    own.append(ProbeAim(probe, sectors, EDGES[beyond[0]] if len(beyond) else math.inf, sort))
        self._kept_aims[asked] = weights, aims
        return aims

    def can_answer(self, asked: torch.Tensor) -> torch.Tensor:
        """Return log-odds [B] that counts can answer the question of the probes [B, K, width] at all."""
        return self.answerable(asked.flatten(1))[:, 0]

    def tally(self, counts: Counts, asked: torch.Tensor,
              made: tuple[Reading, Wishes] | None = None) -> Tally:
        """Add up the counts that the probes [B, K, width] ask for; made: as by `reading`.

        Counts of one frame serve all questions.  Tokens without a direction are spread over all directions,
        as in the fusion of several sensors.
        """
        reading, there = (made or self.reading(asked))[0], counts.numbers
        towards = self.probes.window_of(reading.towards, counts.azimuth)
        towards = torch.where(counts.azimuth.isnan()[..., None, :], reading.around.mean(-1, keepdim=True),
                              towards)
        windows = towards * self.probes.reach_of(reading.within, counts.distance)
        masks = reading.masks
        each = (masks @ there.mT) * windows
        covered = ((reading.around @ counts.covered) * masks).sum(-1)
        return Tally(windows, masks, each.sum(-1), number_probabilities(each), (windows @ there) * masks,
                     covered / reading.region)

    def tallies(self, parts: Sequence[Counts], asked: torch.Tensor,
                made: tuple[Reading, Wishes] | None = None) -> list[Tally]:
        """Return the tally of each of several counts, such as those of each sensor, made in one pass.

        Their windows cover as many tokens as the longest has, those that are added are empty.
        """
        if len(parts) == 1:
            return [self.tally(parts[0], asked, made)]
        tally = self.tally(Counts.beside(parts), asked, made)
        masks = tally.masks
        return [Tally(windows, masks, *rest) for windows, *rest in zip(
            tally.windows, tally.number, tally.probabilities, tally.kinds, tally.covered, strict=True)]

    def sort_index(self, category: str | None, status: str | None) -> tuple[int, int]:
        """Return the places of a category and a status among those that probes choose from; None: any.

        Raises ValueError for one that no channel counts.
        """
        categories, statuses = sorts_of(self.channels)
        return (len(categories) if category is None else categories.index(category),
                len(statuses) if status is None else statuses.index(status))

    def supervision(self, asked: torch.Tensor, directions: torch.Tensor, reaches: torch.Tensor,
                    sorts: torch.Tensor) -> torch.Tensor:
        """Return the loss of the first probes against the meaning of the questions, a mean over B.

        asked: probes [B, K, width] that choose by sort; S of them are supervised.  directions: [B, S,
        SECTORS], 0 or 1.  reaches: [B, S, len(EDGES)], 0 or 1, of distances half an edge below each edge.
        sorts: int64 [B, S, 2], see :meth:`sort_index`.
        """
        asked, probes = asked[:, :self.supervised], self.probes
        distances = torch.tensor(EDGES, device=asked.device)[None] - EDGES[0] / 2
        around = sector_centres(asked.device)[None]
        return (binary_cross_entropy(probes.directions(asked, around), directions)
                + binary_cross_entropy(probes.reaches(asked, distances), reaches)
                + cross_entropy(probes.category(asked).flatten(0, 1), sorts[..., 0].flatten())
                + cross_entropy(probes.status(asked).flatten(0, 1), sorts[..., 1].flatten()))

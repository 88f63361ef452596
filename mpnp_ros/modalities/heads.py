"""Heads: small frozen networks from sensor features to objects, and their files.

Those of the form ``sectors`` give expected object counts by direction, those of the form ``detections``
single objects, and those of the form ``motion`` probabilities of own motion.  Heads are trained on boxes
(:mod:`mpnp_ros.training.head_trainer`, :mod:`mpnp_ros.training.detection_trainer`).  They are equivariant:
turning the input turns the output. A head is a folder with head.safetensors and a manifest, read
strictly.  Shipped heads lie in ``mpnp_ros/data/heads`` and are found by name.
"""
from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

import mpnp_ros
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.files import head_of, mistaken, new_folder, read_json, sha256_of, write_file
from mpnp_ros.modalities.registry import EncoderConfig, find_sensor, sensors
from mpnp_ros.modalities.vision_weights import read_safetensors
from mpnp_ros.questions.vocabulary import CHANNELS, Channel
from mpnp_ros.tokens import SECTORS

if TYPE_CHECKING:
    from mpnp_ros.modalities.camera.ground_network import GroundNetwork
    from mpnp_ros.modalities.detection_network import DetectionNetwork
    from mpnp_ros.modalities.imu.network import MotionNetwork

FINE = 2  # bins a sector that a camera's columns are spread over
HIGHEST_LOG_RATE = 3.0  # twenty objects of one kind in a sector
LARGEST_SCORE = 15.0
WIDTH_SCALE = 10.0  # brings the widths of columns, radians, to about 0.5

WEIGHTS, MANIFEST = 'head.safetensors', 'manifest.json'
SCHEMA = 1
AGAIN = 'fetch or train it again'
Config = TypeVar('Config', bound=EncoderConfig)
HeadNetwork: TypeAlias = ('CameraSectorHead | PolarSectorHead | DetectionNetwork | GroundNetwork | '
                          'MotionNetwork')


class SectorRates(nn.Module):
    """States [B, width, S] to the log of the expected number of objects, [B, S, C].

    The number of a category and the shares of its statuses are predicted separately: the number is seen well,
    the shares badly.
    """

    def __init__(self, width: int, channels: Sequence[Channel]) -> None:
        super().__init__()
        names = list(dict.fromkeys(category for category, _ in channels))
        place = torch.tensor([names.index(category) for category, _ in channels])
        self.category = nn.Linear(width, len(names))
        self.status = nn.Linear(width, len(channels))
        self.register_buffer('place', place, persistent=False)
        self.register_buffer('member', functional.one_hot(place).float(), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """[B, width, S] -> log rates [B, S, C]."""
        states = states.transpose(1, 2)
        scores = self.status(states).clamp(-LARGEST_SCORE, LARGEST_SCORE)
        shares = scores - (scores.exp() @ self.member).log()[..., self.place]
        return (self.category(states)[..., self.place] + shares).clamp(max=HIGHEST_LOG_RATE)

    @torch.no_grad()
    def start_at(self, rates: Tensor) -> None:
        """Initialise with these mean numbers a sector [C], independent of the input."""
        rates = rates.clamp(min=1e-5)
        for layer, bias in ((self.category, (rates @ self.member).log()), (self.status, rates.log())):
            layer.weight.mul_(0.1)
            layer.bias.copy_(bias)


class Ring(nn.Module):
    """Residual circular convolutions around the vehicle, [B, width, S] to the same."""

    def __init__(self, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(
            nn.GroupNorm(1, width),
            nn.Conv1d(width, width, 3, padding=2 ** place, dilation=2 ** place, padding_mode='circular'),
            nn.GELU(), nn.Dropout(dropout), nn.Conv1d(width, width, 1)) for place in range(depth))

    def forward(self, states: Tensor) -> Tensor:
        """[B, width, S] -> [B, width, S]."""
        for block in self.blocks:
            states = states + block(states)
        return states


class CameraSectorHead(nn.Module):
    """Patch features of any number of calibrated views to log rates.

    features: width of one patch's features; rows: of patches a view.  hidden, ring, depth: sizes.
    """

    def __init__(self, channels: Sequence[Channel], features: int = 768, rows: int = 4, columns: int = 28,
                 hidden: int = 64, ring: int = 128, depth: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.register_buffer('mean', torch.zeros(features))
        self.register_buffer('deviation', torch.ones(features))
        self.patch = nn.Linear(features, hidden)
        self.drop = nn.Dropout(dropout)
        self.column = nn.Linear(rows * (hidden + 1) + 1, ring)
        self.unseen = nn.Parameter(torch.zeros(ring))
        self.narrow = nn.Conv1d(ring, ring, FINE + 2, stride=FINE, padding=1, padding_mode='circular')
        self.ring = Ring(ring, depth, dropout)
        self.rates = SectorRates(ring, channels)

    def forward(self, features: Tensor, slopes: Tensor, edges: Tensor) -> Tensor:
        """Return log rates [B, S, C].

        features: [B, V, rows, columns, features]; slopes: [B, V, rows, columns], rise of the line of sight a
        metre ahead; edges: [B, V, columns + 1], azimuths between columns, NaN for a view that is not there.
        """
        weight = self.patch.weight / self.deviation  # standardises on the way, without a copy of the features
        patches = functional.linear(features.float(), weight, self.patch.bias - weight @ self.mean)
        bands = self.drop(functional.gelu(patches)).transpose(2, 3).flatten(3)
        widths = wrapped(edges.diff()).abs().unsqueeze(-1)
        columns = self.column(torch.cat(
            [bands, slopes.transpose(2, 3), WIDTH_SCALE * widths.nan_to_num()], -1))
        shares = ring_shares(edges, FINE * SECTORS)
        cover = shares.sum((1, 2))
        states = torch.einsum('bvcr,bvcw->bwr', shares, columns) / cover.clamp(min=1)[:, None]
        states = states + (1 - cover.clamp(max=1))[:, None] * self.unseen[:, None]
        return self.rates(self.ring(self.narrow(states)))

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation from features [..., features]."""
        rows = features.flatten(0, -2).float()
        self.mean.copy_(rows.mean(0))
        self.deviation.copy_(rows.std(0).clamp(min=1e-3))


class PolarConvolution(nn.Sequential):
    """A convolution over [B, channels, azimuth, range], circular in azimuth, with norm and ReLU.

    No batch norm: its running statistics made the trained network another one than that in training.
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__(
            nn.CircularPad2d((0, 0, 1, 1)),
            nn.Conv2d(channels, out, (3 if stride == 1 else 4, 3), stride, (0, 1), bias=False),
            nn.GroupNorm(1, out), nn.ReLU())


class PolarSectorHead(nn.Module):
    """A polar bird's-eye grid to log rates.

    features: of a cell; azimuths, ranges: cells; azimuths are 4 a sector, ranges a multiple of 4.
    """

    def __init__(self, channels: Sequence[Channel], features: int = 6, azimuths: int = 288, ranges: int = 40,
                 hidden: int = 16, ring: int = 128, depth: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.azimuths, self.ranges = azimuths, ranges
        self.register_buffer('mean', torch.zeros(features, 1, 1))
        self.register_buffer('deviation', torch.ones(features, 1, 1))
        self.first = PolarConvolution(features, hidden)
        self.distance = nn.Parameter(torch.zeros(hidden, 1, ranges))
        self.rest = nn.Sequential(
            PolarConvolution(hidden, 2 * hidden, 2), PolarConvolution(2 * hidden, 2 * hidden),
            PolarConvolution(2 * hidden, 4 * hidden, 2), PolarConvolution(4 * hidden, 4 * hidden))
        self.sector = nn.Sequential(nn.Dropout(dropout), nn.Conv1d(4 * hidden * (ranges // 4), ring, 1))
        self.ring = Ring(ring, depth, dropout)
        self.rates = SectorRates(ring, channels)

    def forward(self, grid: Tensor) -> Tensor:
        """grid: [B, features, azimuths, ranges] -> log rates [B, S, C]."""
        cells = self.rest(self.first((grid.float() - self.mean) / self.deviation) + self.distance)
        columns = cells.transpose(1, 2).flatten(2).transpose(1, 2)
        return self.rates(self.ring(self.sector(columns)))

    @torch.no_grad()
    def standardise(self, grid: Tensor) -> None:
        """Take mean and deviation from grids [B, features, azimuths, ranges]."""
        self.mean.copy_(grid.float().mean((0, 2, 3))[:, None, None])
        self.deviation.copy_(grid.float().std((0, 2, 3)).clamp(min=1e-2)[:, None, None])


def ring_shares(edges: Tensor, bins: int) -> Tensor:
    """Return which share of each of ``bins`` equal parts of the circle each column covers.

    edges: [B, V, columns + 1] radians -> [B, V, columns, bins], 0 for a view whose edges are NaN.
    """
    half = math.pi / bins
    spans = wrapped(edges.diff())
    middles = edges[..., :-1] + spans / 2
    centres = torch.arange(bins, device=edges.device) * 2 * half + half - math.pi
    apart, reach = wrapped(middles[..., None] - centres), spans.abs()[..., None] / 2
    shared = (apart + reach).clamp(max=half) - (apart - reach).clamp(min=-half)
    return (shared.clamp(min=0) / (2 * half)).nan_to_num()


def covered(edges: Tensor) -> Tensor:
    """Return whether some view sees most of each sector: edges as above -> bool [B, S]."""
    return ring_shares(edges, SECTORS).sum((1, 2)) > 0.5


def wrapped(angles: Tensor) -> Tensor:
    """Return angles in [-pi, pi)."""
    return (angles + math.pi).remainder(2 * math.pi) - math.pi


@dataclass(frozen=True)
class HeadManifest:
    """The manifest of a head: form, input and origin.

    kind: name of the sensor.  channels: of its numbers, (category, status) each.  max_distance,
    min_points: of the objects that it counts, metres and measured points; of a
    head of motion, which counts none, 1 and 0.  backbone: sha256 of the
    weights whose features it reads, empty where it reads the sensor itself.  input: the encoder's options
    that it was trained with.  shape: arguments of its network.  sha256: of head.safetensors.  accuracy:
    measured on held-out scenes.  known: the channels that it can tell at all according to these scenes; None:
    all.  It is no part of the encoder's fingerprint.  form: sectors, detections or motion.  calibration: of
    detections, pairs of the sum of the probabilities of an object's cells and the probability that it is
    there, both rising; none: the sum is the probability.
    """

    kind: str
    channels: tuple[Channel, ...]
    max_distance: float
    min_points: int
    backbone: str
    input: Mapping[str, Any]
    shape: Mapping[str, Any]
    sha256: str = ''
    licence: str = ''
    provenance: str = ''
    accuracy: Mapping[str, float] = field(default_factory=dict)
    known: tuple[Channel, ...] | None = None
    form: str = 'sectors'
    calibration: tuple[float, ...] = ()
    sectors: int = SECTORS
    schema: int = SCHEMA

    def build(self) -> HeadNetwork:
        """Return the network, untrained; raises ValueError where it cannot find objects of the channels."""
        if self.form == 'detections' and tuple(self.channels) != CHANNELS:
            raise ValueError(f'{len(self.channels)} channels; expected the {len(CHANNELS)} of questions')
        network: HeadNetwork = find_sensor(self.kind).networks[self.form](self.channels, **self.shape)
        return network


@dataclass(frozen=True, eq=False)
class Head:
    """A network, frozen where it was loaded, with its manifest and its folder."""

    manifest: HeadManifest
    network: HeadNetwork
    folder: Path = Path()

    @property
    def limits(self) -> dict[str, Any]:
        """Limits of its tokens: the entries known and max_distance of ModalityTokens."""
        known = self.manifest.known
        told = [] if known is None else [channel in known for channel in self.manifest.channels]
        return {'known': np.array(told, bool), 'max_distance': self.manifest.max_distance}

    def configure(self, config: Config) -> Config:
        """Return the options with the values that the head was trained with.

        Raises WeightsError for an option that the encoder does not have, or a value that it does not take.
        """
        known = {row.name for row in type(config).declared() if row.notes.get('shapes_tokens', True)}
        if odd := self.manifest.input.keys() - known:
            raise WeightsError(f'head {self.folder}: input of its {MANIFEST} has options that the encoder of '
                               f'the {self.manifest.kind} does not have: {", ".join(sorted(odd))}; {AGAIN}')
        try:
            return config.changed(**self.manifest.input)
        except ConfigurationError as error:
            raise WeightsError(f'head {self.folder}: input of its {MANIFEST} cannot be used: {error}; {AGAIN}'
                               ) from None


def shipped_heads() -> Path:
    """Return the folder of the heads that are part of the package."""
    return Path(mpnp_ros.__file__).parent / 'data' / 'heads'


def find_head(name: str | Path) -> Path:
    """Return the folder of a shipped head, or the folder; raises WeightsError where there is no head."""
    folder = next((folder for folder in (shipped_heads() / name, Path(name))
                   if (folder / MANIFEST).is_file()), None)
    if folder is None:
        shipped = sorted(path.parent.name for path in shipped_heads().glob(f'*/{MANIFEST}'))
        raise WeightsError(f'head {str(name)!r} is neither a folder with a {MANIFEST} nor shipped '
                           f'({", ".join(shipped) or "none is"}); train one with mpnp pretrain')
    return folder


def load_head(name: str | Path, kind: str, backbone: str = '') -> Head:
    """Load a head for inference.

    name: of a shipped head, or a folder.  backbone: sha256 of the weights whose features it will read.
    Raises WeightsError, naming the remedy, where it is missing, damaged, of another kind or for another
    backbone.
    """
    folder = find_head(name)
    manifest = read_manifest(folder)
    if manifest.kind != kind:
        raise WeightsError(f'head {name} is for the {manifest.kind}, not the {kind}; choose another')
    if manifest.backbone != backbone:
        raise WeightsError(f'head {name} reads features of other weights ({manifest.backbone[:12]}) than '
                           f'those of the backbone ({backbone[:12]}); choose the backbone it was trained on')
    path = folder / WEIGHTS
    if path.is_file() and sha256_of(path) != manifest.sha256:
        fault = mistaken(head_of(path)) or f'is not the file that its manifest names; {AGAIN}'
        raise WeightsError(f'{path} {fault}')
    tensors = read_safetensors(path)
    if broken := next((key for key, tensor in tensors.items() if not bool(tensor.isfinite().all())), ''):
        raise WeightsError(f'{path} holds NaN or Inf in {broken}; {AGAIN}')
    try:
        network = manifest.build()
        network.load_state_dict(tensors)
    except (RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        raise WeightsError(f'the weights of head {folder} do not fit its manifest: {error}; {AGAIN}'
                           ) from None
    return Head(manifest, network.eval().requires_grad_(False), folder)


def read_manifest(folder: Path) -> HeadManifest:
    """Return the manifest of the head in a folder; raises WeightsError."""
    content = read_json(folder / MANIFEST, 'head manifest', AGAIN, WeightsError)
    if not isinstance(content, dict):
        raise WeightsError(f'head manifest {folder / MANIFEST} is not an object; {AGAIN}')
    known = {entry.name: entry for entry in fields(HeadManifest)}
    if odd := content.keys() - known.keys():
        raise WeightsError(f'head manifest {folder / MANIFEST} has unknown keys {", ".join(sorted(odd))}; '
                           f'{AGAIN}')
    for name, entry in known.items():
        if name not in content:
            if entry.default is MISSING and entry.default_factory is MISSING:
                raise WeightsError(f'head manifest {folder / MANIFEST} lacks {name}; {AGAIN}')
            continue
        fits, expected = FORMS[str(entry.type)]
        if not fits(content[name]):
            raise WeightsError(f'head manifest {folder / MANIFEST}: {name} is {content[name]!r:.80}, '
                               f'expected {expected}; {AGAIN}')
    lists = {name: tuple(map(tuple, content[name])) for name in ('channels', 'known')
             if content.get(name) is not None}
    manifest = HeadManifest(**{**content, **lists, 'calibration': tuple(content.get('calibration', ()))})
    kinds = {name: sensor.networks for name, sensor in sensors().items() if sensor.networks}
    if (manifest.schema, manifest.sectors) != (SCHEMA, SECTORS) or manifest.kind not in kinds:
        raise WeightsError(f'head {folder} is of schema {manifest.schema}, kind {manifest.kind!r} and '
                           f'{manifest.sectors} sectors; this package reads {SCHEMA}, {", ".join(kinds)} '
                           f'and {SECTORS}')
    if manifest.form not in kinds[manifest.kind]:
        raise WeightsError(f'head {folder} is of the form {manifest.form!r}; this package reads heads of the '
                           f'{manifest.kind} of the form {", ".join(kinds[manifest.kind])}; {AGAIN}')
    if strange := set(manifest.known or ()).difference(manifest.channels):
        names = ', '.join(sorted(': '.join(filter(None, channel)) for channel in strange))
        raise WeightsError(f'head manifest {folder / MANIFEST}: known names what is not among its channels: '
                           f'{names}; take it out, or {AGAIN}')
    return manifest


def save_head(folder: Path, head: Head, **changes: Any) -> HeadManifest:
    """Write a head, all of it or nothing, and return its manifest.

    changes: entries of the manifest, such as licence, provenance and accuracy.
    """
    data = save({name: value.cpu().contiguous() for name, value in head.network.state_dict().items()})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as empty:
        write_file(empty / WEIGHTS, data)
        entries = {**asdict(head.manifest), **changes, 'sha256': sha256_of(empty / WEIGHTS)}
        write_file(empty / MANIFEST, json.dumps(entries, indent=1).encode() + b'\n')
    return read_manifest(folder)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_channel(value: Any) -> bool:
    return (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
            and (value[1] is None or isinstance(value[1], str)))


def _are_channels(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_channel, value))


def _are_rising_pairs(value: Any) -> bool:
    if not isinstance(value, list) or len(value) % 2 or not all(map(_is_number, value)):
        return False
    return all(0 <= chance <= 1 for chance in value[1::2]) and all(
        list(numbers) == sorted(numbers) for numbers in (value[::2], value[1::2]))


# Annotation of an entry of HeadManifest -> whether a JSON value fits, and the expected form in words.
FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    'str': (lambda value: isinstance(value, str), 'text'),
    'int': (lambda value: type(value) is int and value >= 0, 'a whole number, 0 or more'),
    'float': (lambda value: _is_number(value) and value > 0, 'a number above 0'),
    'tuple[Channel, ...]': (lambda value: bool(value) and _are_channels(value),
                            'a list of pairs [category, status or null]'),
    'tuple[Channel, ...] | None': (lambda value: value is None or _are_channels(value),
                                   'a list of pairs [category, status or null], or null'),
    'tuple[float, ...]': (_are_rising_pairs,
                          'a list of pairs [sum, probability, ...], both rising, probabilities up to 1'),
    'Mapping[str, Any]': (lambda value: isinstance(value, dict), 'an object'),
    'Mapping[str, float]': (lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
                            'an object of numbers'),
}

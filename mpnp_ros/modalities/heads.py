"""Frozen heads on disk: a folder with head.safetensors and a manifest, read strictly.

Those that are shipped lie in ``mpnp_ros/data/heads`` and are found by name.
"""
from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.torch import save

import mpnp_ros
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.files import head_of, mistaken, new_folder, read_json, sha256_of, write_file
from mpnp_ros.modalities.base import EncoderConfig
from mpnp_ros.modalities.geometry import SECTORS
from mpnp_ros.modalities.registry import find_sensor, sensors
from mpnp_ros.modalities.sector_head import CameraSectorHead, Channel, PolarSectorHead
from mpnp_ros.modalities.vision_weights import read_safetensors

WEIGHTS, MANIFEST = 'head.safetensors', 'manifest.json'
SCHEMA = 1
AGAIN = 'fetch or train it again'


Config = TypeVar('Config', bound=EncoderConfig)


@dataclass(frozen=True)
class HeadManifest:
    """What a head is, what it reads and where it comes from.

    kind: name of the sensor.  channels: what its numbers count, (category, status) each.  max_distance,
    min_points: of the objects that it counts, metres and measured points.  backbone: sha256 of the
    weights whose features it reads, empty where it reads the sensor itself.  input: the encoder's options
    that it was trained with.  shape: arguments of its network.  sha256: of head.safetensors.  accuracy:
    measured on held-out scenes.  known: which of the channels it can tell at all, as these scenes have shown;
    None: all.  It is no part of the encoder's fingerprint.
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
    sectors: int = SECTORS
    schema: int = SCHEMA

    def build(self) -> CameraSectorHead | PolarSectorHead:
        """Return the network, untrained."""
        training = find_sensor(self.kind).head
        assert training is not None  # read_manifest has seen to that
        return training.network(self.channels, **self.shape)


@dataclass(frozen=True, eq=False)
class Head:
    """A network, frozen where it was loaded, with its manifest and the folder that it comes from."""

    manifest: HeadManifest
    network: CameraSectorHead | PolarSectorHead
    folder: Path = Path()

    @property
    def limits(self) -> dict[str, Any]:
        """What its tokens cannot know: the entries known and max_distance of ModalityTokens."""
        known = self.manifest.known
        told = [] if known is None else [channel in known for channel in self.manifest.channels]
        return {'known': np.array(told, bool), 'max_distance': self.manifest.max_distance}

    def configure(self, config: Config) -> Config:
        """Return the options with those that the head was trained with over them.

        Raises WeightsError for one that the encoder does not have, or a value that it does not take.
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


def load_head(name: str | Path, kind: str, backbone: str = '') -> Head:
    """Load a head for inference.

    name: of a shipped head, or a folder.  backbone: sha256 of the weights that it will get features from.
    Raises WeightsError, naming the remedy, where it is missing, damaged, of another kind or for another
    backbone.
    """
    folder = _folder(name)
    manifest = read_manifest(folder)
    if manifest.kind != kind:
        raise WeightsError(f'head {name} is for the {manifest.kind}, not the {kind}; choose another')
    if manifest.backbone != backbone:
        raise WeightsError(f'head {name} reads features of other weights ({manifest.backbone[:12]}) than '
                           f'those of the backbone ({backbone[:12]}); choose the backbone it was trained on')
    return Head(manifest, _read_network(folder, manifest), folder)


def read_manifest(folder: Path) -> HeadManifest:
    """Return what a folder says about its head; raises WeightsError."""
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
        elif not _CHECKS[entry.type](content[name]):
            raise WeightsError(f'head manifest {folder / MANIFEST}: {name} is {content[name]!r:.80}, '
                               f'expected {_WORDS[entry.type]}; {AGAIN}')
    lists = {name: tuple(map(tuple, content[name])) for name in ('channels', 'known')
             if content.get(name) is not None}
    manifest = HeadManifest(**{**content, **lists})
    kinds = [name for name, sensor in sensors().items() if sensor.head]
    if (manifest.schema, manifest.sectors) != (SCHEMA, SECTORS) or manifest.kind not in kinds:
        raise WeightsError(f'head {folder} is of schema {manifest.schema}, kind {manifest.kind!r} and '
                           f'{manifest.sectors} sectors; this package reads {SCHEMA}, {", ".join(kinds)} '
                           f'and {SECTORS}')
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


def _folder(name: str | Path) -> Path:
    for folder in (shipped_heads() / name, Path(name)):
        if (folder / MANIFEST).is_file():
            return folder
    shipped = sorted(path.parent.name for path in shipped_heads().glob(f'*/{MANIFEST}'))
    raise WeightsError(f'head {str(name)!r} is neither a folder with a {MANIFEST} nor shipped '
                       f'({", ".join(shipped) or "none is"}); train one with mpnp pretrain')


def _read_network(folder: Path, manifest: HeadManifest) -> CameraSectorHead | PolarSectorHead:
    path = folder / WEIGHTS
    if path.is_file() and sha256_of(path) != manifest.sha256:
        fault = mistaken(head_of(path)) or f'is not the file that its manifest names; {AGAIN}'
        raise WeightsError(f'{path} {fault}')
    tensors = read_safetensors(path)
    if broken := next((name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())), ''):
        raise WeightsError(f'{path} holds NaN or Inf in {broken}; {AGAIN}')
    try:
        network = manifest.build()
        network.load_state_dict(tensors)
    except (RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        raise WeightsError(f'the weights of head {folder} do not fit its manifest: {error}; {AGAIN}'
                           ) from None
    return network.eval().requires_grad_(False)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_channel(value: Any) -> bool:
    return (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
            and (value[1] is None or isinstance(value[1], str)))


_CHECKS = {
    'str': lambda value: isinstance(value, str),
    'int': lambda value: type(value) is int and value >= 0,
    'float': lambda value: _is_number(value) and value > 0,
    'tuple[Channel, ...]': lambda value: isinstance(value, list) and value and all(map(_is_channel, value)),
    'tuple[Channel, ...] | None': lambda value: value is None or (
        isinstance(value, list) and all(map(_is_channel, value))),
    'Mapping[str, Any]': lambda value: isinstance(value, dict),
    'Mapping[str, float]': lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
}
_WORDS = {
    'str': 'text', 'int': 'a whole number, 0 or more', 'float': 'a number above 0',
    'tuple[Channel, ...]': 'a list of pairs [category, status or null]',
    'tuple[Channel, ...] | None': 'a list of pairs [category, status or null], or null',
    'Mapping[str, Any]': 'an object', 'Mapping[str, float]': 'an object of numbers',
}

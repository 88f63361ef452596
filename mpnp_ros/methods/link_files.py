"""The file form of a link: a folder of safetensors and a manifest, read strictly.

    <folder>/link.safetensors   parameters and closed gates
    <folder>/manifest.json      options, origin, and the sha256 of the tensors

A folder is whole or absent.  The sha256 of the manifest stands for all of it.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from mpnp_ros.errors import ConfigurationError, LinksError
from mpnp_ros.files import mistaken, new_folder, write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.connections import check_fit
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.registry import find_link

COPIED = 'copied'

SCHEMA = 2
MANIFEST = 'manifest.json'
TENSORS = 'link.safetensors'
PICKLE_STARTS = (b'\x80', b'PK\x03\x04')
HEADER = 8
"""Bytes of the length in front of a safetensors header; the header begins with a brace."""


@dataclass(frozen=True)
class AdaptationRecord:
    """How a robot trained a link by itself, and at what cost.

    supervision: ``labelled``, ``distilled``, or ``copied`` from other links without training.  started_from:
    <modality>/<version> of the initial link; empty: none.  macs: multiply-accumulates.  peak_bytes: of the
    training process.  Accuracies are in [0, 1] on held-out questions: before and after training, and of the
    most frequent answer to each type of question; None: not measured.
    """

    supervision: str
    started_from: str = ''
    questions: int = 0
    steps: int = 0
    seconds: float = 0.
    macs: float = 0.
    peak_bytes: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    accuracy_blind: float | None = None

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> AdaptationRecord:
        """Read JSON values; TypeError for unknown keys and wrong types."""
        for name, value in _mapping(entries, 'adaptation').items():
            if name in ('supervision', 'started_from'):
                fits = isinstance(value, str)
            elif value is None:
                fits = name.startswith('accuracy_')
            else:
                fits = isinstance(value, int | float) and not isinstance(value, bool)
            if not fits:
                raise TypeError(f'adaptation: {name} is {value!r}')
        return cls(**entries)


@dataclass(frozen=True)
class Provenance:
    """Origin of a link: licence, free text (data, recipe, seed) and measured accuracies in [0, 1].

    adaptation: of links that were trained on a robot.
    """

    licence: str = ''
    text: str = ''
    accuracy: Mapping[str, float] = field(default_factory=dict)
    adaptation: AdaptationRecord | None = None

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Provenance:
        """Read JSON values; TypeError for unknown keys and wrong types."""
        adaptation = _mapping(entries, 'provenance').get('adaptation')
        if adaptation is not None:
            entries = {**entries, 'adaptation': AdaptationRecord.from_dict(adaptation)}
        return cls(**entries)


def _mapping(entries: object, name: str) -> Mapping[str, Any]:
    if not isinstance(entries, dict):
        raise TypeError(f'{name} must be a mapping')
    return entries


@dataclass(frozen=True)
class LinkManifest:
    """The content of manifest.json; config holds modality, base model, encoder and blocks."""

    schema: int
    kind: str
    version: str
    config: LinkConfig
    shapes: Mapping[str, list[int]]
    sha256: str
    provenance: Provenance

    def to_json(self) -> bytes:
        """Return the bytes of manifest.json."""
        return json.dumps({**asdict(self), 'config': self.config.to_dict()}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> LinkManifest:
        """Read strictly; raises ValueError, KeyError, TypeError or ConfigurationError."""
        entries: dict[str, Any] = json.loads(data)
        if not isinstance(entries, dict):
            raise TypeError('it is not an object')
        if 'schema' not in entries:
            raise ValueError('it has no schema')
        if entries['schema'] != SCHEMA:
            raise ValueError(f'schema version {entries["schema"]!r}, but this package reads {SCHEMA}')
        if set(entries) != {entry.name for entry in fields(cls)}:
            raise ValueError('missing or unknown keys')
        link = find_link(entries['kind'])
        if not isinstance(entries['version'], str) or not isinstance(entries['sha256'], str):
            raise TypeError('version and sha256 must be text')
        if not isinstance(entries['shapes'], dict):
            raise TypeError('shapes must be a mapping')
        entries['config'] = link.config_type.from_dict(entries['config'])
        entries['provenance'] = Provenance.from_dict(entries['provenance'])
        return cls(**entries)


def save_link(link: Link, path: str | Path, provenance: Provenance | None = None, half: bool = False) -> str:
    """Write a link as the folder `path`, all of it or nothing, and return the sha256 of its manifest.

    The folder's name becomes the link's version.  half: in half precision, as links are shipped.  Raises
    LinksError for NaN or Inf in the tensors.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in link.state_dict().items()}
    if half:
        tensors = {name: tensor.half() if tensor.dtype == torch.float32 else tensor
                   for name, tensor in tensors.items()}
    _check_finite(tensors, f'the {link.config.modality} link')
    data = save(tensors)
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    manifest = LinkManifest(SCHEMA, link.kind, path.name, link.config, shapes,
                            hashlib.sha256(data).hexdigest(), provenance or Provenance()).to_json()
    with new_folder(path) as folder:
        write_file(folder / TENSORS, data)
        write_file(folder / MANIFEST, manifest)
    link.version = path.name
    return hashlib.sha256(manifest).hexdigest()


def load_link(path: str | Path, *, lm: LanguageModel | None = None, encoder: str | None = None,
              sha256: str | None = None, root: str | Path | None = None) -> Link:
    """Read a link strictly; nothing in it is executed.

    lm, encoder: language model and fingerprint of the encoder that it must be made for; None: not checked.
    sha256: of its manifest, as returned by save_link.  root: folder that `path` must not leave.
    Raises LinksError, which names the fault and the remedy.
    """
    manifest = read_manifest(path, sha256=sha256, root=root)
    if lm is not None:
        check_fit(manifest.config, lm)
    if encoder is not None and manifest.config.encoder != encoder:
        raise LinksError(f'link {path} was trained on tokens of encoder {manifest.config.encoder[:12]}, not '
                         f'{encoder[:12]}; use that encoder or train a link for this one')
    tensors = _read_tensors(Path(path), manifest)
    with torch.device('meta'):
        link = find_link(manifest.kind).empty(manifest.config, manifest.shapes)
    _check_tensors(tensors, link.state_dict(), manifest, path)
    link.load_state_dict(tensors, assign=True)
    link.version = manifest.version
    return link


def copied_link(path: str | Path, modality: str, encoder: str) -> Link:
    """Return a copy of the counting link at `path` for tokens of another encoder with the same channels.

    Raises LinksError where that link cannot be read.
    """
    other = load_link(path)
    link = type(other)(replace(other.config, modality=modality, encoder=encoder))
    link.start_from(other)
    return link


def read_manifest(path: str | Path, *, sha256: str | None = None,
                  root: str | Path | None = None) -> LinkManifest:
    """Read a link's manifest; arguments and errors as in load_link."""
    folder = Path(path)
    if '..' in folder.parts:
        raise LinksError(f'link path {path} contains ..; give the path without it')
    if root is not None and not folder.resolve().is_relative_to(Path(root).resolve()):
        raise LinksError(f'link path {path} leaves {root}; copy the link there')
    data = _read(folder, MANIFEST)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise LinksError(f'the manifest of link {path} has another sha256 than was asked for; '
                         'it was changed or is another version')
    try:
        return LinkManifest.from_json(data)
    except (ValueError, KeyError, TypeError, RecursionError, ConfigurationError) as error:
        raise LinksError(f'the manifest of link {path} cannot be used ({error}); save the link again with '
                         'this version') from None


def _read(folder: Path, name: str) -> bytes:
    file = folder / name
    if file.resolve().parent != folder.resolve():
        raise LinksError(f'{file} is a symbolic link that leaves its folder; copy the file there')
    try:
        data = file.read_bytes()
    except OSError as error:
        raise LinksError(f'{file} cannot be read ({error.strerror}); a link is a folder with {TENSORS} and '
                         f'{MANIFEST}') from None
    if fault := mistaken(data):
        raise LinksError(f'{file} {fault}')
    return data


def _read_tensors(folder: Path, manifest: LinkManifest) -> dict[str, torch.Tensor]:
    data = _read(folder, TENSORS)
    if data.startswith(PICKLE_STARTS) and data[HEADER:HEADER + 1] != b'{':
        raise LinksError(f'{folder / TENSORS} is a pickle, which is never loaded; save it as safetensors')
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise LinksError(f'{folder / TENSORS} does not have the sha256 of its manifest; it is damaged, '
                         'copy it again')
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise LinksError(f'{folder / TENSORS} is not safetensors ({error}); save the link again') from None
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor
            for name, tensor in tensors.items()}


def _check_tensors(tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor],
                   manifest: LinkManifest, path: str | Path) -> None:
    """Raise LinksError unless names, shapes and dtypes equal those of manifest and options; all finite."""
    odd = tensors.keys() ^ wanted.keys() or tensors.keys() ^ manifest.shapes.keys()
    if odd:
        raise LinksError(f'link {path} has missing or unknown tensors ({", ".join(sorted(odd))}); '
                         'save it again')
    for name, tensor in tensors.items():
        shape, dtype = list(tensor.shape), tensor.dtype
        if shape != list(wanted[name].shape) or shape != manifest.shapes[name] or dtype != wanted[name].dtype:
            raise LinksError(f'link {path}: {name} is {dtype} {shape}, but its configuration asks for '
                             f'{wanted[name].dtype} {list(wanted[name].shape)}; save it again')
    _check_finite(tensors, f'link {path}')


def _check_finite(tensors: Mapping[str, torch.Tensor], name: str) -> None:
    broken = [key for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise LinksError(f'{name} holds NaN or Inf in {broken[0]}; train it again with a lower learning rate')

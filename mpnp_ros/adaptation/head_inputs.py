"""Inputs of heads from key frames: computed once and cached, one folder a frame."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors.torch import load_file, save

from mpnp_ros.adaptation.key_frames import frame_identity
from mpnp_ros.files import cache_root, cached_folder, write_file
from mpnp_ros.modalities.head_training import HeadInput, Inputs
from mpnp_ros.nuscenes.key_frame import KeyFrame

ARRAYS = 'inputs.safetensors'


def cached_inputs(frame: KeyFrame, source: HeadInput, cache: str | Path | None = None) -> Inputs:
    """Return the inputs of a key frame, cached by its files.

    cache: folder, default :func:`mpnp_ros.files.cache_root`.
    """
    recipe, identity = recipe_of(source), frame_identity(frame, source.kind)
    folder = cache_root(cache) / 'inputs' / f'{source.kind}-{recipe[:12]}'
    folder.mkdir(parents=True, exist_ok=True)

    def build(empty: Path) -> None:
        write_file(empty / ARRAYS, save({name: one.contiguous() for name, one in source.read(frame).items()}))

    return load_file(cached_folder(folder / identity[:16], f'{recipe} {identity}', build) / ARRAYS)


def recipe_of(source: HeadInput) -> str:
    """Return a sha256 of everything that shapes the inputs besides the frame."""
    text = json.dumps([source.kind, source.version, source.backbone, source.options, source.shape],
                      sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

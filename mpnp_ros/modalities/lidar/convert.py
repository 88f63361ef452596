"""Convert an official RangeViT checkpoint to a folder that the LiDAR encoder reads, offline and once::

    python -m mpnp_ros.modalities.lidar.convert model_nuscenes_cs_init.pth <folder>

Then set the LiDAR encoder's ``backbone`` to the folder.  The checkpoint is read without running any code
it may hold, and only the encoder is kept.

Network and projection agree with the published source of valeoai/rangevit (features to 3e-6 on random
weights, every pixel of a real sweep), but neither they nor this has been run on the true checkpoint: the
names in it are taken from that source, with any prefix before ``encoder.``.
"""
from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mpnp_ros.errors import MpnpError, WeightsError
from mpnp_ros.files import cached_folder, sha256_of
from mpnp_ros.modalities.lidar.rangevit import build_rangevit


def convert_rangevit(checkpoint: Path, folder: Path) -> Path:
    """Write the encoder of ``checkpoint`` to ``folder`` as safetensors with a manifest.

    Returns the folder.  Raises WeightsError where the checkpoint is missing, holds more than tensors, or is
    of another shape.
    """
    if not checkpoint.is_file():
        raise WeightsError(f'{checkpoint} is missing; the page of valeoai/rangevit links to them')
    source = sha256_of(checkpoint)

    def build(target: Path) -> None:
        state = encoder_state(read_checkpoint(checkpoint))
        save_file({name: value.contiguous() for name, value in state.items()}, target / 'model.safetensors')
        config = {'model_type': 'rangevit', 'source_sha256': source, 'origin': 'valeoai/rangevit'}
        (target / 'config.json').write_text(json.dumps(config, indent=1), encoding='utf-8')

    folder.parent.mkdir(parents=True, exist_ok=True)
    return cached_folder(folder, f'rangevit {source}', build)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .pth file; raises WeightsError where it holds anything that would run."""
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else 'it ends early'
        raise WeightsError(f'{path} is damaged or holds more than tensors; not read: {reason}') from None
    content = content.get('model', content) if isinstance(content, Mapping) else {}
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's weights under the names of :func:`build_rangevit`, their shapes checked."""
    key = next((name for name in state if name.endswith('encoder.cls_token')), None)
    if key is None:
        raise WeightsError('no encoder.cls_token among the weights: not a RangeViT checkpoint')
    start = key.removesuffix('cls_token')
    ours = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    try:
        build_rangevit().load_state_dict(ours)
    except RuntimeError as error:
        raise WeightsError('the checkpoint is not a RangeViT ViT-S with a convolutional stem for 32 x 384: '
                           f'{error}') from None
    return ours


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the converter from the command line."""
    parser = argparse.ArgumentParser(description='Convert a RangeViT checkpoint for the LiDAR encoder.')
    parser.add_argument('checkpoint', type=Path, help='the .pth file')
    parser.add_argument('folder', type=Path, help='where the converted weights go')
    options = parser.parse_args(arguments)
    try:
        print(convert_rangevit(options.checkpoint, options.folder))
    except MpnpError as error:
        parser.exit(1, f'{error}\n')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())

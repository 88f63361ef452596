"""Conversion of vision transformer weights to the names of timm.

Hugging Face's ViT and DINOv2 differ from timm in names, and in separate query, key and value.  An exported
ONNX file has lost the names of its matrices; they are found by the biases beside them.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpnp_ros.errors import WeightsError

OUTSIDE_BLOCKS = {
    'embeddings.cls_token': 'cls_token',
    'embeddings.position_embeddings': 'pos_embed',
    'embeddings.patch_embeddings.projection.weight': 'patch_embed.proj.weight',
    'embeddings.patch_embeddings.projection.bias': 'patch_embed.proj.bias',
    'layernorm.weight': 'norm.weight',
    'layernorm.bias': 'norm.bias',
}
INSIDE_BLOCKS = {  # of HF ViT and of HF DINOv2
    'attention.output.dense': 'attn.proj', 'layernorm_before': 'norm1', 'layernorm_after': 'norm2',
    'intermediate.dense': 'mlp.fc1', 'output.dense': 'mlp.fc2', 'norm1': 'norm1', 'norm2': 'norm2',
    'mlp.fc1': 'mlp.fc1', 'mlp.fc2': 'mlp.fc2', 'layer_scale1': 'ls1', 'layer_scale2': 'ls2',
}
ENDINGS = {'weight': 'weight', 'bias': 'bias', 'lambda1': 'gamma'}


def to_timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's weights under timm's names; heads, poolers and mask tokens are left out.

    Raises WeightsError where the names are not those of a Hugging Face ViT or DINOv2.
    """
    start = next((name.removesuffix('embeddings.cls_token') for name in state
                  if name.endswith('embeddings.cls_token')), None)
    if start is None:
        raise WeightsError('no embeddings.cls_token among the weights: not a Hugging Face ViT or DINOv2')
    ours = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    renamed = {new: ours[old] for old, new in OUTSIDE_BLOCKS.items() if old in ours}
    for name in ours:
        if name.startswith('encoder.layer.'):
            _rename_in_block(ours, name, renamed)
    return renamed


def _rename_in_block(state: Mapping[str, Tensor], name: str, renamed: dict[str, Tensor]) -> None:
    _, _, number, rest = name.split('.', 3)
    layer, ending = rest.rsplit('.', 1)
    if layer == 'attention.attention.query':
        parts = (name.replace('.query.', f'.{part}.') for part in ('query', 'key', 'value'))
        renamed[f'blocks.{number}.attn.qkv.{ending}'] = torch.cat([state[part] for part in parts])
    elif layer in INSIDE_BLOCKS:
        renamed[f'blocks.{number}.{INSIDE_BLOCKS[layer]}.{ENDINGS[ending]}'] = state[name]


def read_onnx_vit(path: Path, prefix: str = 'backbone.') -> dict[str, Tensor]:
    """Return the weights of a DINOv2 exported to ONNX, under Hugging Face's names.

    The exporter folds the matrices and the position embedding into unnamed constants: a matrix is
    found through the named bias that is added to its product, the position embedding by its shape.
    Raises WeightsError where the file is not such an export.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise WeightsError(f'{path.name} must be converted once, which needs the package onnx: '
                           'pip install onnx') from None
    graph = onnx.load(str(path)).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    named = {name.removeprefix(prefix): value for name, value in constants.items() if name.startswith(prefix)}
    named |= _matrices(graph.node, constants, prefix)
    named['embeddings.position_embeddings'] = _position_embedding(constants)
    return {name: torch.from_numpy(np.array(value, np.float32, order='C')) for name, value in named.items()}


def _matrices(nodes: Iterable, constants: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    products = {node.output[0]: node for node in nodes if node.op_type == 'MatMul'}
    found = {}
    for node in nodes:
        bias = next((name for name in node.input if name.startswith(prefix) and name.endswith('.bias')), None)
        product = next((products[name] for name in node.input if name in products), None)
        if node.op_type == 'Add' and bias and product:
            matrix = next(name for name in product.input if name in constants)
            found[bias.removeprefix(prefix).removesuffix('bias') + 'weight'] = constants[matrix].T
    return found


def _position_embedding(constants: Mapping[str, np.ndarray]) -> np.ndarray:
    unnamed = [value for name, value in constants.items() if name.startswith('onnx::') and value.ndim == 3]
    if len(unnamed) != 2:
        raise WeightsError('the ONNX file holds no position embedding in the two parts of a DINOv2 export')
    return np.concatenate(sorted(unnamed, key=lambda value: value.shape[1]), axis=1)

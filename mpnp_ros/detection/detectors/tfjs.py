"""Runs graph models of TensorFlow.js in torch: convolutional networks for inference, without TensorFlow."""
from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpnp_ros.errors import WeightsError

Node = Mapping[str, Any]
Operation = Callable[..., Tensor]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    'Relu': functional.relu, 'Relu6': functional.relu6, 'Sigmoid': torch.sigmoid}
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    'Relu': torch.relu_, 'Relu6': lambda value: value.clamp_(0, 6), 'Sigmoid': torch.sigmoid_}
CONVOLUTIONS = {'Conv2D': False, '_FusedConv2D': False, 'DepthwiseConv2dNative': True,
                'FusedDepthwiseConv2dNative': True}
"""Operation -> whether it is depthwise."""


class Graph:
    """The part of a graph model that computes the wanted outputs.

    Feature maps are [B, C, H, W], although the file has them as [B, H, W, C].  size: (height, width) of the
    input that the sizes in the file are of; with another input they grow with it.  Raises WeightsError for
    an operation that it does not know.
    """

    def __init__(self, nodes: Sequence[Node], weights: Mapping[str, np.ndarray], outputs: Sequence[str],
                 size: tuple[int, int], device: torch.device | str = 'cpu') -> None:
        self._outputs, self._device = tuple(outputs), torch.device(device)
        self._size, self._grown = size, size
        self._input = ''
        self._steps: list[tuple[str, Operation, list[str]]] = []
        needed = _needed({node['name']: node for node in nodes}, outputs)
        for node in nodes:
            if node['name'] in needed and node['op'] != 'Const':
                self._add(node, weights)
        last = {name: place for place, (_, _, names) in enumerate(self._steps) for name in names}
        self._spent = [[name for name in names if last[name] == place and name not in self._outputs]
                       for place, (_, _, names) in enumerate(self._steps)]

    def _add(self, node: Node, weights: Mapping[str, np.ndarray]) -> None:
        names = [name.split(':')[0] for name in node.get('input', ()) if not name.startswith('^')]
        if node['op'] == 'Placeholder':
            self._input = node['name']
            return
        constants = {place: weights[name] for place, name in enumerate(names) if name in weights}
        if node['op'] == 'ResizeBilinear' and not any(
                node['attr'].get(name, {}).get('b') for name in ('align_corners', 'half_pixel_centers')):
            size = constants[1]

            def operation(value: Tensor) -> Tensor:
                return _resized(value, [int(wanted) * now // then for wanted, now, then in
                                        zip(size, self._grown, self._size, strict=True)])
        else:
            operation = _operation(node, constants, self._device)
        self._steps.append((node['name'], operation, [name for name in names if name not in weights]))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of images [B, C, H, W]."""
        self._grown = images.shape[2], images.shape[3]
        values = {self._input: images.to(self._device).contiguous(memory_format=torch.channels_last)}
        for (name, operation, names), spent in zip(self._steps, self._spent, strict=True):
            values[name] = operation(*(values[each] for each in names))
            for each in spent:
                values.pop(each, None)
        return [values[name] for name in self._outputs]


def read_graph(path: Path) -> tuple[list[Node], dict[str, np.ndarray]]:
    """Return the nodes of a model.json, and its weights from the files beside it.

    Raises WeightsError where a file is absent or does not hold what the first one says.
    """
    try:
        model = json.loads(path.read_bytes())
        weights: dict[str, np.ndarray] = {}
        for group in model['weightsManifest']:
            data = b''.join((path.parent / name).read_bytes() for name in group['paths'])
            offset = 0
            for entry in group['weights']:
                stored = entry.get('quantization', {})
                kind = np.dtype(stored.get('dtype', entry['dtype']))
                count = math.prod(entry['shape'])
                value = np.frombuffer(data, kind, count, offset).reshape(entry['shape'])
                value = value.astype(np.float32 if entry['dtype'] == 'float32' else np.int64)
                if 'scale' in stored:
                    value = value * np.float32(stored['scale']) + np.float32(stored['min'])
                weights[entry['name']] = value
                offset += count * kind.itemsize
            if offset != len(data):
                raise ValueError(f'{len(data)} bytes of weights, {offset} are declared')
        return model['modelTopology']['node'], weights
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f'{path} is no graph model of TensorFlow.js ({error}); install it again') from None


def _needed(nodes: Mapping[str, Node], outputs: Sequence[str]) -> set[str]:
    """Return the names of the nodes that lead to the outputs."""
    found, pending = set(), list(outputs)
    while pending:
        name = pending.pop().lstrip('^').split(':')[0]
        if name not in nodes:
            raise WeightsError(f'the graph has no node {name!r}')
        if name not in found:
            found.add(name)
            pending += nodes[name].get('input', ())
    return found


def _operation(node: Node, constants: Mapping[int, np.ndarray], device: torch.device) -> Operation:
    kind = node['op']
    if kind in CONVOLUTIONS:
        return _convolution(node, constants, device)
    if kind in ACTIVATIONS:
        return ACTIVATIONS[kind]
    if kind in ('Add', 'AddV2', 'Mul', 'Sub'):
        return _arithmetic(kind, constants, device)
    if kind == 'Identity':
        return lambda value: value
    if kind == 'Mean' and sorted(constants[1].tolist()) == [1, 2] and node['attr']['keep_dims']['b']:
        return lambda value: value.mean((2, 3), keepdim=True)
    if kind == 'ConcatV2' and int(constants[max(constants)]) in (3, -1):
        return lambda *values: torch.cat(values, 1)
    raise WeightsError(f'node {node["name"]!r}: operation {kind} is not known in this form')


def _arithmetic(kind: str, constants: Mapping[int, np.ndarray], device: torch.device) -> Operation:
    apply = {'Mul': torch.mul, 'Sub': torch.sub}.get(kind, torch.add)
    if not constants:
        return apply
    (place, value), = constants.items()
    if value.ndim == 0:
        constant: Tensor | float = float(value)
    elif value.ndim == 1:
        constant = torch.from_numpy(value).to(device).view(1, -1, 1, 1)
    else:
        constant = torch.from_numpy(value).to(device).permute(0, 3, 1, 2)
    if place == 0 and kind == 'Sub':
        return lambda given: constant - given
    return lambda given: apply(given, constant)


def _convolution(node: Node, constants: Mapping[int, np.ndarray], device: torch.device) -> Operation:
    attributes, kernel = node['attr'], torch.from_numpy(constants[1]).to(device)
    strides, dilations = (tuple(int(number) for number in attributes[name]['list']['i'])[1:3]
                          for name in ('strides', 'dilations'))
    groups = 1
    if CONVOLUTIONS[node['op']]:
        height, width, groups, multiple = kernel.shape
        kernel = kernel.permute(2, 3, 0, 1).reshape(groups * multiple, 1, height, width)
    else:
        kernel = kernel.permute(3, 2, 0, 1)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    fused = [base64.b64decode(name).decode() for name in
             attributes.get('fused_ops', {}).get('list', {}).get('s', ())]
    bias = torch.from_numpy(constants[2]).to(device) if 'BiasAdd' in fused else None
    activations = [IN_PLACE[name] for name in fused if name != 'BiasAdd']
    same = base64.b64decode(attributes['padding']['s']) == b'SAME'

    if kernel.shape[2:] == (1, 1) and strides == (1, 1) and groups == 1:
        flat = kernel[:, :, 0, 0].contiguous()

        def mix(value: Tensor) -> Tensor:
            made = functional.linear(value.permute(0, 2, 3, 1), flat, bias).permute(0, 3, 1, 2)
            for activation in activations:
                activation(made)
            return made
        return mix  # with one thread torch copies maps before and after a convolution of 1 x 1

    def convolve(value: Tensor) -> Tensor:
        padding: tuple[int, int] = (0, 0)
        if same:
            (top, bottom), (left, right) = (
                _padding(value.shape[2 + axis], kernel.shape[2 + axis], strides[axis], dilations[axis])
                for axis in (0, 1))
            if (top, left) == (bottom, right):
                padding = (top, left)
            else:
                value = functional.pad(value, (left, right, top, bottom))
        made = functional.conv2d(value, kernel, bias, strides, padding, dilations, groups)
        for activation in activations:
            activation(made)
        return made
    return convolve


def _padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the zeros before and after, as TensorFlow's SAME counts them: an odd one comes after."""
    missing = (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size
    return max(missing, 0) // 2, max(missing, 0) - max(missing, 0) // 2


def _resized(value: Tensor, size: Sequence[int]) -> Tensor:
    """Return a feature map resized bilinearly as in TensorFlow 1: place times scale, without half pixels."""
    for axis, wanted in zip((2, 3), size, strict=True):
        have = value.shape[axis]
        if wanted == 2 * have:  # the usual case, without gathering
            shape = [side * (1 + (axis == each)) for each, side in enumerate(value.shape)]
            made = torch.empty(shape, dtype=value.dtype, device=value.device,
                               memory_format=torch.channels_last)
            even, odd = made.unflatten(axis, (have, 2)).unbind(axis + 1)
            even.copy_(value)
            torch.lerp(value.narrow(axis, 0, have - 1), value.narrow(axis, 1, have - 1), .5,
                       out=odd.narrow(axis, 0, have - 1))
            odd.narrow(axis, have - 1, 1).copy_(value.narrow(axis, have - 1, 1))
            value = made
            continue
        place = torch.arange(wanted, device=value.device) * (have / wanted)
        low = place.floor().long()
        share = (place - low).view([-1 if each == axis else 1 for each in range(4)])
        high = (low + 1).clamp(max=have - 1)
        value = torch.lerp(value.index_select(axis, low), value.index_select(axis, high), share)
    return value

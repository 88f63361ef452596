"""YAMNet: MobileNet v1 on log-mel patches, which tells the 521 classes of AudioSet apart.

As in the repository tensorflow/models, research/audioset/yamnet (Apache-2.0); the batch norms are folded into
the convolutions.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mpnp_ros.errors import WeightsError

RATE = 16000
"""Samples per second of the input."""
FRAME, HOP, FFT = 400, 160, 512
"""Samples of a frame of the spectrogram, between two frames, and of the transform."""
MELS, LOWEST, HIGHEST = 64, 125.0, 7500.0
"""Bands, and the frequencies in hertz that they span."""
PATCH, PATCH_HOP = 96, 48
"""Frames of a patch, and between two patches: 0.96 s and 0.48 s."""
LEAST = FRAME + (PATCH - 1) * HOP
"""Samples of one patch."""
LOG_OFFSET = 0.001
WIDTHS_AND_STRIDES = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
                      (512, 1), (512, 1), (1024, 2), (1024, 1))
"""Output channels and strides of the separable convolutions; before them is one with 32 and 2."""
CLASSES = 521


class Weights(NamedTuple):
    """Kernel and bias of one layer.

    kernel: [out, in, 3, 3] or [out, in, 1, 1] of a convolution, in = 1 of a depthwise one; [out, in] of the
    last layer.  bias: [out].
    """

    kernel: np.ndarray
    bias: np.ndarray


class YamNet(nn.Module):
    """Waveforms [B, N] at :data:`RATE`, -1..1, to logits [B, patches, CLASSES]."""

    mel: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Convolution(1, 32, 3, 2, 1)]
        width = 32
        for out, stride in WIDTHS_AND_STRIDES:
            layers += [_Convolution(width, width, 3, stride, width), _Convolution(width, out, 1, 1, 1)]
            width = out
        self.layers = nn.ModuleList(layers)
        self.last = nn.Linear(width, CLASSES)
        self.register_buffer('mel', torch.from_numpy(mel_matrix()), persistent=False)
        self.register_buffer('window', torch.hann_window(FRAME, periodic=True), persistent=False)

    def fill(self, weights: Sequence[Weights]) -> YamNet:
        """Take the weights of all layers in their order; raises WeightsError where they do not fit."""
        modules = [layer.convolution for layer in self.layers if isinstance(layer, _Convolution)]
        targets: list[nn.Conv2d | nn.Linear] = [*modules, self.last]
        if len(weights) != len(targets):
            raise WeightsError(f'{len(weights)} layers; YAMNet has {len(targets)}; fetch the file again')
        for number, (target, given) in enumerate(zip(targets, weights, strict=True)):
            bias = target.bias
            assert bias is not None
            if target.weight.shape != given.kernel.shape or bias.shape != given.bias.shape:
                raise WeightsError(f'layer {number} is {list(given.kernel.shape)}; that of YAMNet is '
                                   f'{list(target.weight.shape)}; fetch the file again')
            target.weight.data = torch.from_numpy(np.array(given.kernel, np.float32))
            bias.data = torch.from_numpy(np.array(given.bias, np.float32))
        return self

    def forward(self, waves: Tensor) -> Tensor:
        """See the class; waves shorter than a patch are continued with silence."""
        patches = self.patches(waves)
        value = patches.flatten(0, 1)[:, None]
        for layer in self.layers:
            value = layer(value)
        logits: Tensor = self.last(value.mean((2, 3)))
        return logits.unflatten(0, patches.shape[:2])

    def patches(self, waves: Tensor) -> Tensor:
        """Return log-mel patches [B, patches, PATCH, MELS] of waves [B, N]."""
        waves = functional.pad(waves, (0, max(0, LEAST - waves.shape[1])))
        frames = waves.unfold(1, FRAME, HOP) * self.window
        spectrum = torch.fft.rfft(frames, FFT).abs()
        return torch.log(spectrum @ self.mel + LOG_OFFSET).unfold(1, PATCH, PATCH_HOP).transpose(2, 3)


class _Convolution(nn.Module):
    """A convolution with TensorFlow's SAME padding, and a ReLU."""

    def __init__(self, width: int, out: int, size: int, stride: int, groups: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, out, size, stride, groups=groups)

    def forward(self, value: Tensor) -> Tensor:
        size, stride = self.convolution.kernel_size[0], self.convolution.stride[0]
        pads = []
        for length in (value.shape[3], value.shape[2]):
            missing = max(0, (-(-length // stride) - 1) * stride + size - length)
            pads += [missing // 2, missing - missing // 2]
        return functional.relu(self.convolution(functional.pad(value, pads) if any(pads) else value))


def mel_matrix() -> np.ndarray:
    """Return the mel filters of TensorFlow's linear_to_mel_weight_matrix, float32 [FFT / 2 + 1, MELS]."""
    def mel(frequency: np.ndarray) -> np.ndarray:
        return 1127.0 * np.log1p(frequency / 700.0)

    bins = mel(np.linspace(0, RATE / 2, FFT // 2 + 1)[1:])[:, None]
    low, high = mel(np.array([LOWEST, HIGHEST])).tolist()
    edges = np.linspace(low, high, MELS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    slopes = np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre))
    return np.pad(slopes.clip(0), ((1, 0), (0, 0))).astype(np.float32)

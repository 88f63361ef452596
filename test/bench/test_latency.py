"""The latency benchmark on a tiny model: what it counts, what it compares, what it prints; no times."""
from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from bench.common.timing import Summary
from bench.latency.__main__ import LatencyRow, answering_table, main, way_table
from bench.latency.answering import Reread, Split, random_frame, variants
from bench.latency.sensor_to_answer import Measured, SeenAnswer, SeenTokens, parts

SHAPES = {'camera': (24, 32), 'lidar': (16, 24)}
QUESTION = 'what is the status of the car to the front left?'
CHOICES = ('yes', 'no', 'with rider', 'without rider')
SMALL = {'last': 2, 'hidden': 16, 'pooling_width': 24, 'pooling_heads': 3, 'pooling_layers': 1, 'entries': 1}
NAMES = ('ours', 'ours, reach all', 'a', 'b')
PACKED = ('packed', 'packed, exact', 'packed, 16', 'packed, 100', 'weights')
SECOND = 1_000_000_000


@pytest.fixture(scope='module')
def compared(tiny_lm):
    """All variants on a tiny model of four blocks, the upper two linked."""
    return variants(tiny_lm(), QUESTION, CHOICES, random_frame(SHAPES, 0), **SMALL)


@pytest.mark.parametrize('name', NAMES)
def test_macs_agree_with_the_flop_counter(compared, name):
    frame = random_frame(SHAPES, 1)
    variant = compared[name]
    assert variant.macs(frame) == pytest.approx(variant.counted(frame), rel=.02)


@pytest.mark.parametrize('name', NAMES)
def test_answers_are_distributions_that_depend_on_the_frame(compared, name):
    first, second = (compared[name].answer(random_frame(SHAPES, seed)) for seed in (1, 2))
    assert len(first) == len(CHOICES)
    assert math.fsum(first) == pytest.approx(1, abs=1e-5)
    assert min(first) >= 0
    assert first != second


@pytest.mark.parametrize('name', PACKED[:-1])
def test_packed_variants_give_the_same_answer(compared, name):
    frame = random_frame(SHAPES, 2)
    assert compared[name].answer(frame) == pytest.approx(compared['ours'].answer(frame), abs=.02)
    assert compared[name].counted(frame) >= compared['ours'].counted(frame)


def test_nothing_cached_gives_the_same_answer(tiny_lm):
    frame = random_frame(SHAPES, 3)
    reread = Reread(tiny_lm(), QUESTION, CHOICES, frame, **SMALL)
    assert reread.answer(frame) == pytest.approx(Split.answer(reread, frame), abs=1e-6)


def test_macs_are_ordered(compared):
    frame = random_frame(SHAPES, 1)
    costs = [compared[name].macs(frame) for name in NAMES]
    assert costs == sorted(costs)


def test_the_way_adds_up_and_ends_at_the_first_answer():
    tokens = [SeenTokens('camera', 2 * SECOND, .01, .2), SeenTokens('camera', SECOND, .5, .5)]
    answers = [SeenAnswer(2 * SECOND + 100, {'camera': SECOND}, .1, .1),
               SeenAnswer(round(2.3 * SECOND), {'camera': 2 * SECOND, 'lidar': 7}, .05, .04),
               SeenAnswer(round(2.9 * SECOND), {'camera': 2 * SECOND, 'lidar': 8}, .05, .04)]
    found = parts({2 * SECOND}, tokens, answers)
    assert found['camera: stamp to answer'] == [pytest.approx(.3)]
    whole = ('stamp to encoder (transport)', 'encoder', 'fusion, from tokens to answer', 'hops')
    assert sum(found[f'camera: {part}'][0] for part in whole) == pytest.approx(.3)
    assert parts({3 * SECOND}, tokens, answers) == {}


def test_tables():
    rows = [LatencyRow('float32', 'ours', 'split', Summary(9, 5., 6.), .25, 10**6, 10**6),
            LatencyRow('float32', 'b', 'input', Summary(9, 20., 21.), 1., 4 * 10**6, 4 * 10**6)]
    measured = Measured('generated stand-in', 3, 5, {'camera: stamp to answer': [.1, .2, .3]})
    console = Console(file=io.StringIO(), width=140)
    console.print(answering_table(rows), way_table(measured))
    text = console.file.getvalue()
    assert '0.250' in text
    assert '0.2500' in text
    assert '200.0' in text
    assert '5 answers' in text


def test_the_program_writes_what_it_measured(tiny_lm_folder, tmp_path, capsys):
    file = tmp_path / 'latency.json'
    assert main(['--llm', str(tiny_lm_folder), '--rounds', '2', '--threads', '1', '--linked-blocks', '2',
                 '--no-ros', '--no-llama-cpp', '--json', str(file)]) == 0
    written = json.loads(file.read_text())
    names = [row['name'] for row in written['answering'] if row['dtype'] == 'float32']
    assert names == [*PACKED, *NAMES]
    assert written['sensor_to_answer'] is None
    assert written['machine']['cores'] > 0
    printed = capsys.readouterr().out
    assert 'GMAC' in printed and 'float32, packed: (b) takes' in printed


def test_a_wrong_model_is_an_exit_code_with_a_reason(tmp_path, capsys):
    assert main(['--llm', str(tmp_path), '--no-ros']) == 1
    assert str(tmp_path) in capsys.readouterr().err

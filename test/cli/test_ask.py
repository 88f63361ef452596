"""What `mpnp ask` prints."""
from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from mpnp_ros.cli.ask import StreamPrinter, as_dict, describe, show


def answer(**changes: object) -> SimpleNamespace:
    """An answer that rests on a camera, as the message has it."""
    stamp = SimpleNamespace(sec=12, nanosec=500_000_000)
    fields = {
        'id': 'q1', 'question': 'moving?', 'status': 0, 'error': '', 'text': 'yes', 'confidence': .75,
        'choices': ['yes', 'no'], 'probabilities': [.75, .25], 'used_modalities': ['camera'],
        'modality_stamps': [stamp], 'modality_ages': [.125], 'missing_modalities': ['lidar'],
        'header': SimpleNamespace(stamp=stamp), 'links_version': 'v3', 'method': 'mpnp', 'latency': .5,
        'compute_duration': .25}
    return SimpleNamespace(**{**fields, **changes})


def test_description():
    assert describe(answer()) == \
        'confidence 0.75, rests on camera (0.12 s old); missing lidar, took 0.50 s'
    blind = answer(used_modalities=[], modality_ages=[], missing_modalities=[])
    assert 'rests on no sensor,' in describe(blind)


def test_json_has_seconds_and_no_nan(capsys):
    show(answer(confidence=math.nan), as_json=True)
    data = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert data['confidence'] is None
    assert data['probabilities'] == {'yes': .75, 'no': .25}
    assert data['used_modalities'] == {'camera': {'stamp': 12.5, 'age': .125}}
    assert data == as_dict(answer(confidence=math.nan))


def test_a_stream_shows_each_part_once(capsys):
    printer = StreamPrinter()
    for text in ('a ca', 'a car', 'a car'):
        printer.update(text)
    show(answer(text='a car ahead'), as_json=False, printer=printer)
    assert capsys.readouterr().out.startswith('a car ahead\n  confidence')


def test_a_text_that_is_taken_back_starts_a_new_line(capsys):
    printer = StreamPrinter()
    printer.update('a bus')
    printer.update('a car')
    assert capsys.readouterr().out == 'a bus\na car'


def test_an_error_goes_to_stderr(capsys):
    show(answer(status=1, error='the queue is full; ask later'), as_json=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ('', 'mpnp ask: the queue is full; ask later\n')

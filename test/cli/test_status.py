"""What `mpnp status` prints."""
from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from mpnp_ros.cli.status import STATES, as_dict, show


def states(**changes: object) -> SimpleNamespace:
    """A report on one modality, as the message has it."""
    fields = {'modality': 'camera', 'state': 2, 'plugged': True, 'pinned': False, 'rate': 10., 'age': .05,
              'quality': math.nan, 'links_version': 'v3', 'encoder': 'camera-1', 'detail': ''}
    return SimpleNamespace(modalities=[SimpleNamespace(**{**fields, **changes})])


def test_plain_data():
    assert as_dict(states()) == {'camera': {
        'state': 'healthy', 'plugged': True, 'pinned': False, 'rate': 10., 'age': .05, 'quality': None,
        'links_version': 'v3', 'encoder': 'camera-1', 'detail': ''}}


def test_table(capsys):
    show(states(pinned=True, plugged=False), as_json=False)
    text = capsys.readouterr().out
    for part in ('camera', 'healthy', 'no, by hand', '10.00 Hz', '0.05 s'):
        assert part in text


def test_the_states_are_those_of_the_message():
    message = pytest.importorskip('mpnp_ros.msg', reason='the messages are not built').ModalityState
    assert [getattr(message, state.upper()) for state in STATES] == list(range(len(STATES)))

"""What the training of links has not seen of a recording."""
from __future__ import annotations

import pytest

from mpnp_ros.bags.held_out import RECORDING, held_out_from, note_held_out
from mpnp_ros.errors import LinksError


def test_the_later_stamp_of_a_recording_counts_and_others_stay(tmp_path):
    assert held_out_from(tmp_path) == held_out_from(tmp_path / 'absent') == {}
    note_held_out(tmp_path, {'monday': 30})
    note_held_out(tmp_path, {'monday': 20, 'tuesday': 5})
    assert held_out_from(tmp_path) == {'monday': 30, 'tuesday': 5}
    note_held_out(tmp_path, {})
    assert held_out_from(tmp_path) == {'monday': 30, 'tuesday': 5}


@pytest.mark.parametrize('content', ['', '[]', '{"held_out_from_ns": 3}', '{"held_out_from_ns": {"a": "b"}}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / RECORDING).write_text(content)
    with pytest.raises(LinksError, match='recording.json cannot be read .*train the links again'):
        held_out_from(tmp_path)

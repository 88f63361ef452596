"""What skipped attentions save on latent links, on a tiny model."""
from __future__ import annotations

import json

from bench import latent_skipping
from bench.latent_skipping import AGAIN, FRAME, QUESTION, WHOLE, paying, skipped_sets


def test_rows_are_within_the_blocks_they_name_and_never_block_0():
    rows = skipped_sets(30, 8)
    assert rows[WHOLE] == rows[AGAIN] == () and rows['4 of 8 linked blocks'] == (26, 27, 28, 29)
    assert rows['all 8 linked blocks'] == tuple(range(22, 30))
    assert rows['all 21 blocks below the links'] == tuple(range(1, 22))


def test_measures_and_writes(tiny_lm_folder, tmp_path, capsys):
    assert latent_skipping.main(['--llm', str(tiny_lm_folder), '--last', '2', '--rounds', '2', '--output',
                                 str(tmp_path)]) == 0
    found = json.loads((tmp_path / 'latent_skipping.json').read_text())
    assert found == json.loads(capsys.readouterr().out)
    rows = {row['row']: row for row in found['rows']}
    macs = {kind: {name: row[kind]['macs'] for name, row in rows.items()} for kind in (FRAME, QUESTION)}
    # A new frame runs the linked blocks only, a new question all of them.
    assert macs[FRAME]['all 1 blocks below the links'] == macs[FRAME][WHOLE] == macs[FRAME][AGAIN]
    assert macs[FRAME]['all 2 linked blocks'] < macs[FRAME]['1 of 2 linked blocks'] < macs[FRAME][WHOLE]
    assert macs[QUESTION]['all 1 blocks below the links'] < macs[QUESTION][WHOLE]
    assert all(row[kind]['count'] == 2 for row in rows.values() for kind in (FRAME, QUESTION))


def test_what_is_within_noise_does_not_pay():
    def row(name, frame, question):
        return {'row': name, FRAME: {'p50': frame, 'macs': 1}, QUESTION: {'p50': question, 'macs': 1}}

    rows = [row(WHOLE, 100, 100), row(AGAIN, 99, 90), row('few', 96, 85), row('all', 90, 79)]
    assert paying(rows) == {FRAME: ['all'], QUESTION: ['all']}

"""The page about the paper's sizes, from costs made up and from a tiny model."""
from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import OPTConfig

from bench.paper_scale import __main__ as paper_scale
from bench.paper_scale import costs as paper_costs
from bench.paper_scale.accounting import ROWS_OF_THE_PAPER, Reproduced
from bench.paper_scale.costs import (
    FULL,
    KEPT,
    LINKED,
    OURS,
    PROMPT_FUSE,
    PUBLISHED,
    Cost,
    Memory,
    PaperMethod,
    claims,
)
from bench.paper_scale.models import MODELS, SWITCH, AdaptationTask
from bench.paper_scale.page import PaperScale, as_json, cost_table, text_of

PETA = 10 ** 15


def made_up(method: str, way: str, steps: float, peak: int, **more: int) -> Cost:
    """A method whose encoders take 0.1 PMAC where they run once a frame and 2 where they always do."""
    encoders = (.1 if way == KEPT else 2.) * PETA
    return Cost('OPT-1.3B', SWITCH.name, method, way, 10 ** 6, encoders, 2. * PETA, 0., steps * PETA, 0.,
                Memory(peak, 0, 0, **more))


@pytest.fixture
def some() -> list[Cost]:
    return [made_up(FULL, PUBLISHED, 2, 20), made_up(FULL, KEPT, 1.9, 20),
            made_up(PROMPT_FUSE, PUBLISHED, 1, 5), made_up(PROMPT_FUSE, KEPT, .9, 4),
            made_up(OURS, KEPT, .1, 2, reading=3, stored=6)]


@pytest.fixture
def found(some: list[Cost]) -> PaperScale:
    paper = [Reproduced(row, row.derived, row.derived) for row in ROWS_OF_THE_PAPER]
    lengths = {length: {'mPnP / PromptFuse': .1, 'mPnP / Full LLM': .1, 'all rows linked / PromptFuse': .5,
                        'frames of their own: mPnP / PromptFuse': 8. / length,
                        'frames of their own: mPnP / Full LLM': .1} for length in (72, 20)}
    ratios = {('OPT-1.3B', SWITCH.name): claims(some, SWITCH)}
    return PaperScale(paper, some, {13: some[-1]}, lengths, ratios, 100.)


def test_ratios_are_given_in_every_reading(some: list[Cost]) -> None:
    ratios = {(claim.of, claim.reading): (claim.ratio, claim.holds) for claim in claims(some, SWITCH)}
    fuse, memory = f'operations / {PROMPT_FUSE}', f'memory / {PROMPT_FUSE}'
    assert ratios[fuse, 'each as it is run: theirs as published, ours kept'] == (pytest.approx(.2 / 3), True)
    assert ratios[fuse, 'both kept'] == (pytest.approx(.2), True)
    assert ratios[fuse, 'both kept, and every question about a frame of its own'] == (
        pytest.approx(.35 / 1.15), False)
    assert ratios[fuse, 'encoders in every epoch for both'] == (pytest.approx(2.1 / 3), False)
    assert ratios[memory, 'training step: both kept'] == (.5, True)
    assert ratios[memory, 'with reading beforehand: both kept'] == (.75, False)
    assert ratios[memory, 'what was read of all questions in memory too: both kept'] == (2., False)
    assert len(ratios) == 13


def test_the_page_hides_nothing(found: PaperScale) -> None:
    text = text_of(found)
    assert text.count('**no**') == sum(not claim.holds for claim in found.claims['OPT-1.3B', SWITCH.name]) > 0
    assert 'eP-ALM on OPT-1.3B (1.11, 1.088)' in text
    assert 'That part was not run' in text
    short = replace(found, lengths={72: found.lengths[72]})
    assert 'Both limits on operations hold with 72 tokens and frames of their own, too.' in text_of(short)
    assert 'Not reached with 20 tokens: frames of their own: mPnP / PromptFuse 0.400 (asked 0.25).' in text
    assert '{' not in text


def test_figures_are_those_of_the_table(found: PaperScale) -> None:
    written = json.loads(json.dumps(as_json(found)))
    assert [cost['macs'] for cost in written['costs']] == [cost.macs for cost in found.costs]
    assert written['claims'][0]['holds'] is True


def test_what_a_gpu_took_is_shown_where_there_was_one(some: list[Cost]) -> None:
    heads, rows = cost_table([made_up(OURS, KEPT, .1, 2, measured=3 * 10 ** 9)])
    assert heads[-1].startswith('on the GPU') and rows[0][-1] == '3.00'
    assert len(cost_table(some)[0]) == len(heads) - 1


@pytest.mark.skipif(torch.cuda.is_available(), reason='is about a machine without a GPU')
def test_a_gpu_that_is_not_there_is_an_exit_code_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert paper_scale.main(['--device', 'cuda']) == 1
    assert 'use auto or cpu' in capsys.readouterr().err


@pytest.mark.timeout(240)
def test_the_program_writes_table_page_and_picture(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(MODELS, 'OPT-1.3B', OPTConfig(
        hidden_size=64, ffn_dim=256, num_hidden_layers=4, num_attention_heads=4, vocab_size=500,
        word_embed_proj_dim=64, max_position_embeddings=128))
    monkeypatch.setattr(paper_scale, 'reproduce', lambda: [
        Reproduced(row, row.derived, row.derived) for row in ROWS_OF_THE_PAPER])
    monkeypatch.setattr(paper_costs, 'DEPTHS', (2,))
    monkeypatch.setattr(paper_costs, 'LENGTHS', (72, 20))
    monkeypatch.setitem(LINKED, 'OPT-1.3B', 2)
    asked, count = [], paper_costs.cost

    def noted(model: str, task: AdaptationTask, method: PaperMethod, way: str, device: str) -> Cost:
        asked.append((model, task, method.name, way))
        return count(model, task, method, way, device)

    monkeypatch.setattr(paper_costs, 'cost', noted)
    assert paper_scale.main(['--quick', '--output', str(tmp_path)]) == 0
    shown, written = capsys.readouterr().out, json.loads((tmp_path / 'paper_scale.json').read_text())
    assert len(set(asked)) == len(asked), 'no cost is counted twice'
    assert 'PromptFuse' in shown and 'ours by linked blocks' in shown
    assert {cost['method'] for cost in written['costs']} >= {FULL, PROMPT_FUSE, OURS}
    assert all(cost['peak'] > 0 < cost['macs'] for cost in written['costs'])
    assert (tmp_path / 'paper_scale.png').read_bytes().startswith(b'\x89PNG')
    assert '![costs](paper_scale.png)' in (tmp_path / 'paper_scale.md').read_text()

"""The paper's own accounting of operations: by its formula and by torch's counter (arXiv:2312.07886)."""
from __future__ import annotations

import pytest

from bench.paper_scale.accounting import (
    ROWS_OF_THE_PAPER,
    AccountingRow,
    count_sample,
    encoder_macs,
    petas,
    sample_macs,
    shape_of,
)
from bench.paper_scale.models import ADD, MODELS, SWITCH, language_model
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.llm.families import ModelShape

COUNTED = [row for row in ROWS_OF_THE_PAPER if row.linked in (4, 10, 32) or row.whole]


def name(row: AccountingRow) -> str:
    return f'{row.model} {row.method}'


@pytest.mark.parametrize('row', ROWS_OF_THE_PAPER, ids=name)
def test_the_formula_gives_every_row(row: AccountingRow) -> None:
    found = petas(sample_macs(shape_of(row.model), row.linked, row.whole))
    assert found == pytest.approx(row.derived, abs=.005)
    assert found == pytest.approx(row.published, abs=.02 if row.figure else .01)


@pytest.mark.parametrize('row', COUNTED, ids=name)
def test_the_counter_agrees_with_the_formula(row: AccountingRow) -> None:
    formula = sample_macs(shape_of(row.model), row.linked, row.whole)
    assert count_sample(row) == pytest.approx(formula, rel=.03)


def test_sizes_are_those_of_the_paper() -> None:
    assert shape_of('OPT-1.3B') == ModelShape(24, 2048, 32, 32, 64, 8192, False, 2048, 50272)
    assert (SWITCH.tokens, ADD.tokens, SWITCH.steps) == (4, 28, 42 * 8)
    # All views and all tokens of the encoders.
    assert 6 * encoder_macs(197) == pytest.approx(27e9, rel=.02)
    assert encoder_macs(4097) == pytest.approx(242e9, rel=.01)
    assert sample_macs(shape_of('OPT-1.3B'), 13) == pytest.approx(164.1e9, rel=.001)


def test_another_model_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match='OPT-1.3B, OPT-2.7B, BLOOMZ-1.1B'):
        language_model('OPT-6.7B')
    assert len(MODELS) == 3

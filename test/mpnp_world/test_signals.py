"""Traffic lights never let both streets go."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_world.scene.signals import ALL_RED, SignalCycle

times = st.floats(0, 500)
cycles = st.integers(0, 1000).map(lambda seed: SignalCycle.draw(np.random.default_rng(seed)))


@given(cycles, times)
def test_one_street_is_red(cycle: SignalCycle, time: float) -> None:
    """At any time at least one of both is red."""
    assert 'red' in (cycle.colour(True, time), cycle.colour(False, time))


@given(cycles, times, st.booleans())
def test_the_next_green_comes_at_once_after_red(cycle: SignalCycle, time: float, along_x: bool) -> None:
    """It is green from then on, and red just before; the other street has been red for a moment."""
    green = cycle.next_green(along_x, time)
    assert time <= green <= time + cycle.period
    assert cycle.colour(along_x, green + .01) == 'green'
    assert cycle.colour(along_x, green - .01) == 'red'
    assert cycle.colour(not along_x, green - ALL_RED / 2) == 'red'


def test_green_yellow_red() -> None:
    """The colours follow each other."""
    cycle = SignalCycle((10.0, 8.0), 0.0)
    assert [cycle.colour(True, time) for time in (0, 9.9, 10.1, 13.1, 26.9)] == \
        ['green', 'green', 'yellow', 'red', 'red']
    assert cycle.period == pytest.approx(27.0)

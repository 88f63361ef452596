"""Which earlier reading shows what has moved since."""
from __future__ import annotations

from mpnp_ros.modalities.earlier import earlier_of


def test_the_earlier_reading_is_about_half_a_second_old() -> None:
    assert earlier_of([.05, .1, .35, .55, .62, 1.]) == 3
    assert earlier_of([.3]) == 0 and earlier_of([.7]) == 0
    assert earlier_of([.29, .71]) is None and earlier_of([]) is None

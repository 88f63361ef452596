"""The newest messages of each sensor."""
from __future__ import annotations

from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from mpnp_ros.nodes.encoder_node import Input
from mpnp_ros.nodes.recent_inputs import RecentInputs

SECOND = 10 ** 9


def item(source: str, seconds: float) -> Input:
    stamp = Time(sec=int(seconds), nanosec=round(seconds % 1 * SECOND))
    return Input(f'/{source}', source, Image(header=Header(stamp=stamp)), 0., 0.)


def test_each_sensor_has_its_own_earlier_message() -> None:
    recent = RecentInputs(.09)
    for tenth in range(21):
        recent.keep(item('front', tenth / 10))
        if tenth % 3 == 0:
            recent.keep(item('back', tenth / 10))
    assert recent.earlier('front', 2 * SECOND).stamp_ns == 1.5 * SECOND
    assert recent.earlier('back', 2 * SECOND).stamp_ns == 1.5 * SECOND
    assert recent.earlier('left', 2 * SECOND) is None and not recent.is_slow('left', 2 * SECOND)


def test_messages_close_to_each_other_are_not_all_kept() -> None:
    recent = RecentInputs(.19)
    for hundredth in range(101):
        recent.keep(item('front', hundredth / 100))
    assert len(recent._kept['front']) == 6


def test_a_slow_sensor_is_told_from_one_that_has_just_begun() -> None:
    recent = RecentInputs(.09)
    recent.keep(item('front', 0.))
    assert recent.earlier('front', SECOND // 10) is None and not recent.is_slow('front', SECOND // 10)
    recent.keep(item('front', 2.))
    assert recent.earlier('front', 4 * SECOND) is None and recent.is_slow('front', 4 * SECOND)


def test_time_that_goes_back_starts_anew() -> None:
    recent = RecentInputs(.09)
    recent.keep(item('front', 9.))
    recent.keep(item('front', 1.))
    assert recent.earlier('front', round(1.5 * SECOND)).stamp_ns == SECOND

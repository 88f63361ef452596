"""Tokens are found again by the time they were sensed."""
from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.adaptation.supervision import TokenHistory, apart
from mpnp_ros.tokens import ModalityTokens

MS, SECOND = 10 ** 6, 10 ** 9


def tokens(modality: str, stamp_ns: int, *sources: int) -> ModalityTokens:
    return ModalityTokens(modality, 'e', np.ones((1, 1), np.float32), np.zeros(1, np.float32),
                          source_stamps_ns=sources, stamp_ns=stamp_ns)


def history(*held: ModalityTokens) -> TokenHistory:
    result = TokenHistory(seconds=2.)
    for one in held:
        result.add(one)
    return result


def stamps(frame: dict[str, ModalityTokens]) -> dict[str, int]:
    return {name: one.stamp_ns for name, one in frame.items()}


def test_sensors_of_one_moment_belong_together_though_they_stamp_apart():
    camera = tokens('camera', 960 * MS, 960 * MS, 1_010 * MS)
    lidar = [tokens('lidar', stamp * MS) for stamp in (950, 1_000, 1_050)]
    known = history(camera, *lidar)
    assert stamps(known.at(1_000 * MS)) == {'camera': 960 * MS, 'lidar': 1_000 * MS}
    assert stamps(known.at(1_065 * MS)) == {'camera': 960 * MS, 'lidar': 1_050 * MS}
    assert stamps(known.at(1_075 * MS)) == {'lidar': 1_050 * MS}
    assert known.at(1_200 * MS) == {} and TokenHistory().at(0) == {}
    assert known.exactly('lidar', 950 * MS) is lidar[0] and known.exactly('lidar', 951 * MS) is None


@given(st.lists(st.tuples(st.sampled_from('ab'), st.integers(0, 5 * SECOND)), min_size=1, max_size=30),
       st.integers(0, 5 * SECOND))
def test_what_is_found_is_the_nearest_of_what_is_held(arrivals, stamp):
    known = TokenHistory(seconds=5.)
    every = [tokens(name, at) for name, at in arrivals]
    for one in every:
        known.add(one)
    found = known.at(stamp)
    for name in 'ab':
        nearest = min((apart(one, stamp) for one in every if one.modality == name), default=10 * SECOND)
        assert (name in found) == (nearest <= known.tolerance_ns)
        assert name not in found or apart(found[name], stamp) == nearest


def test_old_tokens_are_forgotten_and_all_when_a_replay_starts_again():
    known = history(*(tokens('lidar', place * SECOND // 2) for place in range(20)),
                    tokens('camera', 9 * SECOND))
    assert known.at(7 * SECOND) == {} and set(known.at(8 * SECOND)) == {'lidar'}
    known.add(tokens('lidar', 0))
    assert known.modalities == ('lidar',) and known.at(9 * SECOND) == {}
    known.add(tokens('camera', 5 * SECOND))
    assert known.modalities == ('camera',)


def test_whether_anything_nearer_may_come():
    known = history(tokens('lidar', SECOND), tokens('camera', 960 * MS, 960 * MS, 990 * MS))
    assert known.passed(980 * MS) and not known.passed(1_000 * MS)
    known.add(tokens('camera', 1_200 * MS))
    assert known.passed(1_000 * MS)


def test_moments_of_several_modalities():
    known = history(*(tokens('lidar', place * 100 * MS) for place in range(11)),
                    tokens('camera', 210 * MS), tokens('camera', 590 * MS), tokens('camera', 2_000 * MS))
    assert [stamps(one) for one in known.moments(['camera', 'lidar'])] == [
        {'camera': 210 * MS, 'lidar': 200 * MS}, {'camera': 590 * MS, 'lidar': 600 * MS}]
    assert known.moments(['radar', 'lidar']) == [] and len(known.moments(['camera'])) == 3


def test_many_threads_may_add_and_ask():
    known, failures = TokenHistory(seconds=.01), []

    def work(name: str) -> None:
        try:
            for stamp in range(0, SECOND, MS):
                known.add(tokens(name, stamp))
                known.at(stamp)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ('a', 'b')]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures

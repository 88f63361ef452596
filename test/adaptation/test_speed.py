"""Rates from timed steps, and a measurement that is kept as long as it holds."""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.adaptation import cost_model
from mpnp_ros.adaptation.cost_model import Speed, TimedStep, fit_rates, machine_key
from mpnp_ros.adaptation.speedometer import machine_speed, measure_speed
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.registry import find_method

METHOD = find_method('mpnp')
WORK = [(depth, batch * (1e7 + 1e5 * depth), batch * depth * 5e6) for depth in (3, 15) for batch in (16, 64)]


def test_rates_are_found_again() -> None:
    true = Speed(.05, .01, 2e-10, 1e-11)
    found = fit_rates([TimedStep(*work, true.step(*work)) for work in WORK])
    assert found == pytest.approx((.05, .01, 2e-10, 1e-11), rel=1e-3)


@given(st.lists(st.floats(1e-4, 100), min_size=4, max_size=4))
def test_whatever_the_clock_says_more_work_never_takes_less_time(seconds: list[float]) -> None:
    rates = fit_rates([TimedStep(*work, took) for work, took in zip(WORK, seconds, strict=True)])
    assert all(rate >= 0 for rate in rates) and any(rates)


def test_a_damaged_or_old_file_is_not_used(tmp_path: Path) -> None:
    path, speed = tmp_path / 'speed.json', Speed(*range(1, 9))
    assert Speed.load(path) is None
    speed.save(path)
    assert Speed.load(path) == Speed.load(path, 7) == speed and Speed.load(path, 8) is None
    for text in (path.read_text()[:20], path.read_text().replace('"schema": 1', '"schema": 0'), '[]',
                 path.read_text().replace('"per_step": 1', '"per_step": -1'), '{"schema": 1, "odd": 2}'):
        path.write_text(text)
        assert Speed.load(path) is None


@pytest.fixture
def link(tiny_lm: Callable) -> LinkConfig:
    """A small link to a tiny model."""
    return LinkConfig.for_model(tiny_lm(), 'lidar', 'lidar-encoder', 8, hidden=16, pooling_width=16,
                                pooling_layers=1, pooling_heads=2)


def test_real_steps_are_measured(tiny_lm: Callable, link: LinkConfig) -> None:
    speed = measure_speed(tiny_lm(), METHOD, link, batch=4)
    assert all(getattr(speed, entry.name) >= 0 for entry in fields(Speed))
    assert speed.step(2, 1e6, 1e6) > 0 and speed.per_reading_mac > 0
    assert speed.startup > 0 and speed.process_bytes > 5e7 and speed.measured <= time.time()


def test_measured_again_only_when_old_or_another(tiny_lm: Callable, link: LinkConfig, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(lm: object, method: object, config: LinkConfig) -> Speed:
        measured.append(config.reach)
        return Speed(1, 1, 1, 1, measured=time.time())

    for _ in range(2):
        machine_speed(tiny_lm(), METHOD, link, tmp_path, measure=measure)
    assert len(measured) == 1
    machine_speed(tiny_lm(), METHOD, link, tmp_path, max_age=-1, measure=measure)
    machine_speed(tiny_lm('opt'), METHOD, link, tmp_path, measure=measure)
    monkeypatch.setattr(cost_model, '_processor', lambda: 'another processor')
    machine_speed(tiny_lm(), METHOD, link, tmp_path, measure=measure)
    assert len(measured) == 4


def test_threads_and_reach_count(tiny_lm: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {machine_key(tiny_lm(), reach) for reach in ('answer', 'all')}
    monkeypatch.setattr(cost_model.torch, 'get_num_threads', lambda: 77)
    assert len(keys | {machine_key(tiny_lm(), 'answer')}) == 3

from __future__ import annotations

import errno

import pytest
import torch

from mpnp_ros import device
from mpnp_ros.errors import ConfigurationError


def test_named_dtypes_are_taken_as_asked():
    assert device.choose_dtype('float32', 'cpu', 64) is torch.float32
    assert device.choose_dtype('bfloat16', torch.device('cpu'), 64) is torch.bfloat16


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """Give a function: the speed-up of bfloat16 that will be measured -> the widths it is measured for."""
    def speedup(factor: float) -> list[int]:
        widths = []
        monkeypatch.setattr(device, 'product_seconds',
                            lambda device, width: widths.append(width) or (1., 1. / factor))
        return widths
    device._gains.cache_clear()
    yield speedup
    device._gains.cache_clear()


@pytest.mark.parametrize('factor, expected',
                         [(4.0, torch.bfloat16), (1.1, torch.float32), (0.3, torch.float32)])
def test_auto_takes_bfloat16_only_where_it_is_clearly_faster(measured, factor, expected):
    measured(factor)
    assert device.choose_dtype('auto', 'cpu', 512) is expected


def test_the_first_measurement_stands_for_the_whole_process(measured):
    measured(4.)
    first = device.choose_dtype('auto', 'cpu', 512)
    again = measured(.3)
    assert device.choose_dtype('auto', 'cpu', 512) is first is torch.bfloat16
    assert again == []


def test_a_small_model_is_float32_whatever_the_clock_says(measured):
    widths = measured(4.)
    assert device.choose_dtype('auto', 'cpu', 64) is torch.float32
    assert widths == []


def test_both_formats_are_measured_on_this_machine():
    assert all(seconds > 0 for seconds in device.product_seconds(torch.device('cpu'), 128))


def test_auto_device_is_one_that_exists():
    assert device.choose_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')
    assert device.choose_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['gpu', 'cuda:99', '', 'meta'])
def test_a_device_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(ConfigurationError, match=repr(name)):
        device.choose_device(name)


def test_an_unknown_dtype_is_refused_with_the_choices():
    with pytest.raises(ConfigurationError, match="'int4'.*float32, bfloat16"):
        device.choose_dtype('int4', 'cpu', 64)


@pytest.mark.parametrize(('error', 'expected'), [
    (MemoryError(), True), (OSError(errno.ENOMEM, 'no'), True), (OSError(errno.EIO, 'no'), False),
    (RuntimeError('DefaultCPUAllocator: not enough memory: you tried'), True),
    (RuntimeError('shapes'), False),
    (ImportError('_imaging.so: failed to map segment from shared object'), True),
    (ImportError("No module named 'x'"), False), (ValueError('out of memory'), False)])
def test_memory_that_runs_out_is_told_from_other_errors(error, expected):
    assert device.is_out_of_memory(error) is expected

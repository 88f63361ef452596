from __future__ import annotations

import pytest
import torch

from mpnp_ros import precision
from mpnp_ros.errors import ConfigurationError


def test_named_dtypes_are_taken_as_asked():
    assert precision.choose_dtype('float32', 'cpu', 64) is torch.float32
    assert precision.choose_dtype('bfloat16', torch.device('cpu'), 64) is torch.bfloat16


@pytest.mark.parametrize('speedup, expected',
                         [(4.0, torch.bfloat16), (1.1, torch.float32), (0.3, torch.float32)])
def test_auto_takes_bfloat16_only_where_it_is_clearly_faster(monkeypatch, speedup, expected):
    monkeypatch.setattr(precision, 'product_seconds',
                        lambda dtype, device, width: 1.0 if dtype is torch.float32 else 1.0 / speedup)
    assert precision.choose_dtype('auto', 'cpu', 64) is expected


def test_auto_measures_this_machine():
    assert precision.product_seconds(torch.float32, torch.device('cpu'), 128) > 0
    assert precision.choose_dtype('auto', 'cpu', 128) in (torch.float32, torch.bfloat16)


def test_auto_device_is_one_that_exists():
    assert precision.choose_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')
    assert precision.choose_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['gpu', 'cuda:99', '', 'meta'])
def test_a_device_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(ConfigurationError, match=repr(name)):
        precision.choose_device(name)


def test_an_unknown_dtype_is_refused_with_the_choices():
    with pytest.raises(ConfigurationError, match="'int4'.*float32, bfloat16"):
        precision.choose_dtype('int4', 'cpu', 64)

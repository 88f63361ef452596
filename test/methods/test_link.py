"""Statistics that are measured once."""
from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.methods.link import BOUND, Standardise


def measured(samples: torch.Tensor) -> Standardise:
    standard = Standardise(samples.shape[1])
    standard.measure(samples)
    return standard


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 99), st.floats(-100., 100.), st.floats(.1, 100.))
def test_channels_get_mean_0_and_deviation_1_whatever_their_scale(seed, mean, spread):
    torch.manual_seed(seed)
    # Deviations far below the mean are rounding, see the test below.
    samples = torch.rand(50, 4) * (spread + .1 * abs(mean)) * torch.tensor([1., 2., 3., 4.]) + mean
    values = measured(samples)(samples)
    torch.testing.assert_close(values.mean(0), torch.zeros(4), rtol=0, atol=1e-2)
    torch.testing.assert_close(values.std(0, correction=0), torch.ones(4), rtol=0, atol=1e-2)


def test_a_heavy_tail_is_cut_off_measured_or_not():
    samples = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    for standard in (Standardise(3), measured(samples)):
        far = standard(torch.tensor([[1e6, -1e6, 0.]]))[0]
        assert far[:2].tolist() == [BOUND, -BOUND] and abs(far[2]) < 1


def test_until_measured_values_are_as_they_are():
    standard, values = Standardise(3), torch.tensor([[-4., .5, 3.]])
    assert not standard.measured and torch.equal(standard(values.half()), values)
    standard.measure(values.expand(2, 3) + torch.tensor([[0.], [1.]]))
    assert standard.measured and not torch.equal(standard(values), values)


def test_what_does_not_vary_is_not_blown_up():
    """A link trained on a single question must not read the rounding of its state as news."""
    state = torch.tensor([[300., -20., 0., 1.]])
    for samples in (state, state.repeat(9, 1), (state * (1 + 1e-3 * torch.randn(9, 4))).bfloat16()):
        standard = measured(samples)
        assert standard(state).abs().max() < 1.5
        assert (standard(state + .5) - standard(state)).abs().max() <= .5


def test_statistics_are_kept_but_not_trained():
    standard = measured(torch.randn(20, 3) + 1)
    again = Standardise(3)
    again.load_state_dict(standard.state_dict())
    values = torch.randn(4, 3)
    assert again.measured and torch.equal(again(values), standard(values))
    assert list(standard.parameters()) == []

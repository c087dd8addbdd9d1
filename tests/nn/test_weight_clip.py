"""Weights within some of their own standard deviations."""

import pytest
import torch

from analog_glue.nn.weight_clip import clip_to_spread


@pytest.mark.parametrize("shape", [(2, 1), (3, 5), (65, 129), (300, 768)], ids=str)
@pytest.mark.parametrize("mean", [0.0, 0.3])
def test_weights_are_clipped_at_so_many_standard_deviations(shape, mean, kernel):
    weight = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + mean
    bound = weight.double().std().item() * 1.5
    clipped = weight.clone()
    clip_to_spread.by(kernel, "cpu")(clipped, 1.5)
    # The bound is rounded to float32 twice, by 2⁻²⁴ of it each.
    expected = weight.double().clamp(-bound, bound)
    assert (clipped.double() - expected).abs().max() <= bound * 2**-22
    inside = weight.double().abs() < bound * (1 - 2**-22)
    assert torch.equal(clipped[inside], weight[inside])


def test_both_kernels_clip_at_the_same_bits(kernel):
    weight = 0.02 * torch.randn(768, 768, generator=torch.Generator().manual_seed(1))
    reference, other = weight.clone(), weight.clone()
    clip_to_spread(reference, 2.5)
    clip_to_spread.by(kernel, "cpu")(other, 2.5)
    assert torch.equal(reference, other)
    assert (reference != weight).float().mean() == pytest.approx(0.01242, abs=6e-4)  # of a normal number; 4 σ of 590,000


def test_weights_that_are_all_equal_leave_a_bound_of_a_rounding(kernel):
    weight = torch.full((300, 768), 0.1)
    clip_to_spread.by(kernel, "cpu")(weight, 2.5)
    assert (weight.abs() < 1e-5).all()

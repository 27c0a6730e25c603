"""Learning rate, order of the data and optimisers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from suite.jobs.sections import OptimizerArgs
from suite.training.optimizers import build_optimizer
from suite.training.schedule import Batches, derived_seed, effective_lr, generator, lr_factor


def args(**changes: object) -> OptimizerArgs:
    return OptimizerArgs(**{"name": "sgd", "base_lr": 0.2, "weight_decay": 0.1, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("batch", "lr"), [(256, 0.2), (64, 0.05), (4096, 3.2)])
def test_learning_rate_scales_linearly_with_the_batch(batch: int, lr: float) -> None:
    assert effective_lr(args(), batch) == pytest.approx(lr)
    assert effective_lr(args(reference_batch=512), batch) == pytest.approx(lr / 2)


def test_warm_up_then_half_a_cosine_to_zero() -> None:
    factors = [lr_factor(step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert lr_factor(0, 10, 0) == 1.0


def test_order_is_a_function_of_seed_and_step_alone() -> None:
    forwards, jumping = Batches(50, 8, 3, 1, "pretrain"), Batches(50, 8, 3, 1, "pretrain")
    expected = {step: forwards.indices(step).tolist() for step in range(forwards.total)}
    for step in (17, 3, 11, 0):
        assert jumping.indices(step).tolist() == expected[step]
    assert forwards.per_epoch == 6
    for epoch in range(3):
        seen = [i for step in range(6 * epoch, 6 * epoch + 6) for i in expected[step]]
        assert len(set(seen)) == 48
    assert expected[0] != expected[6]
    assert Batches(50, 8, 3, 2, "pretrain").indices(0).tolist() != expected[0]


def test_a_batch_larger_than_the_data_is_an_error() -> None:
    """The remedy names the field of the section whose batch it is."""
    with pytest.raises(ValueError, match=r"a batch of 64 is larger than the 50 images .* finetune.batch_size=50"):
        Batches(50, 64, 1, 0, "finetune")


def test_streams_are_independent_and_reproducible() -> None:
    assert derived_seed(0, "views", 1) == derived_seed(0, "views", 1)
    assert len({derived_seed(s, p, k) for s in (0, 1) for p in ("views", "order") for k in range(50)}) == 200
    assert torch.rand(3, generator=generator(0, "a")).tolist() == torch.rand(3, generator=generator(0, "a")).tolist()


def test_lars_leaves_biases_and_normalisation_out_of_weight_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    module[2].weight.requires_grad_(False)
    optimizer = build_optimizer(args(name="lars"), module, 0.1)
    decayed, plain = optimizer.param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 1, 1)]
    assert all(p.ndim == 1 for p in plain["params"])
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_adam_follows_its_algorithm_for_three_steps() -> None:
    """arXiv:1412.6980, algorithm 1, with the decay added to the gradient; beta_2 .999, epsilon 1e-8."""
    module = torch.nn.Linear(3, 2, bias=False).double()
    weight = module.weight.detach().clone()
    optimizer = build_optimizer(args(name="adam", momentum=0.8), module, 0.05)
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 4):
        given = torch.full_like(weight, float(step)) * torch.arange(6.0).reshape(2, 3)
        module.weight.grad = given.clone()
        optimizer.step()
        gradient = given + 0.1 * weight
        first, second = 0.8 * first + 0.2 * gradient, 0.999 * second + 0.001 * gradient**2
        weight = weight - 0.05 * (first / (1 - 0.8**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(module.weight.detach(), weight, rtol=0, atol=1e-12)

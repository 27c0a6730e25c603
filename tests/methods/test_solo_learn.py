"""The adapter: what it takes from solo-learn is what the papers say, and its absence is explained."""

from __future__ import annotations

from importlib import metadata

import pytest
import torch

from methods import solo_learn


def test_byol_loss_is_two_minus_two_cosines() -> None:
    rng = torch.Generator().manual_seed(0)
    p = torch.randn(4, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    z = torch.randn(4, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    loss = solo_learn.byol_loss(p, z)
    cosines = [(p[i] @ z[i]) / (p[i].norm() * z[i].norm()) for i in range(4)]
    assert loss.item() == pytest.approx(sum(2 - 2 * c.item() for c in cosines) / 4, abs=1e-12)
    loss.backward()  # type: ignore[no-untyped-call]
    assert z.grad is None


def reference_lars(
    w: torch.Tensor, g: torch.Tensor, v: torch.Tensor, lr: float, m: float, wd: float, eta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """arXiv:1708.03888, algorithm 1, with the momentum of torch's SGD (learning rate outside the buffer)."""
    if w.ndim > 1:
        ratio = eta * w.norm() / (g.norm() + wd * w.norm())
        g = ratio * (g + wd * w)
    v = m * v + g
    return w - lr * v, v


def test_lars_equals_its_algorithm_over_several_steps() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
    bias = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = solo_learn.Lars(groups, lr=0.5, momentum=0.9, eta=0.01)
    expected = {p: (p.detach().clone(), torch.zeros_like(p)) for p in (weight, bias)}
    for step in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 0.5 / (step + 1)
        for p in (weight, bias):
            p.grad = torch.randn_like(p)
            decay = 0.1 if p.ndim > 1 else 0.0
            expected[p] = reference_lars(*expected[p][:1], p.grad, expected[p][1], 0.5 / (step + 1), 0.9, decay, 0.01)
        optimizer.step()
        for p in (weight, bias):
            assert torch.allclose(p, expected[p][0], atol=1e-7)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_lars_guards_zero_norms() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = solo_learn.Lars([{"params": [weight], "weight_decay": 0.1}], lr=1.0, momentum=0.0, eta=0.001)
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(weight.detach(), -torch.ones(2, 2))  # ratio 1, not 0 or NaN


def test_lars_state_survives_saving() -> None:
    def run(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter, steps: range) -> None:
        for step in steps:
            weight.grad = torch.full_like(weight, step + 1.0)
            optimizer.step()

    def fresh() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.ones(2, 2))
        return weight, solo_learn.Lars([{"params": [weight], "weight_decay": 0.1}], lr=0.1, momentum=0.9, eta=0.1)

    straight, optimizer = fresh()
    run(optimizer, straight, range(6))
    half, optimizer = fresh()
    run(optimizer, half, range(3))
    resumed, second = fresh()
    resumed.data.copy_(half.data)
    second.load_state_dict(optimizer.state_dict())
    run(second, resumed, range(3, 6))
    assert torch.equal(straight, resumed)


@pytest.mark.parametrize("found", [None, "0.9.0"])
def test_missing_or_other_version_names_the_command(found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(_: str) -> str:
        if found is None:
            raise metadata.PackageNotFoundError
        return found

    solo_learn._module.cache_clear()
    monkeypatch.setattr(solo_learn, "_FUNCTIONS", {})
    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(solo_learn.SoloLearnMissing, match=r"pip install --no-deps solo-learn==1\.0\.2"):
        solo_learn.byol_loss(torch.ones(1, 2), torch.ones(1, 2))
    solo_learn._module.cache_clear()

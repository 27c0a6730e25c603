"""Probes against scikit-learn and scipy, and how the held-out part is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from methods.args import ResNetArgs
from methods.backbones.registry import build_backbone
from suite.cli.select import SelectorOptions
from suite.data.decoded.split import held_out
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import JobEnd, run_job
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.probe import KnnArgs, LinearArgs
from suite.planning.plan import Plan
from suite.store.store import Store
from suite.training.evaluation import network_input
from suite.training.features import features, knn_predict
from suite.training.finetune import with_best_lr
from suite.training.probe import LinearProbe, linear_top1

CPU = Device(accelerator="cpu", threads=1)


def clusters(images: int, classes: int, seed: int, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """Overlapping clusters around fixed centres: float64 [N, 6] and labels."""
    centres = torch.randn(classes, 6, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=rng)
    return centres[labels] + spread * torch.randn(images, 6, generator=rng, dtype=torch.float64), labels


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 1.0), (500, 0.1)])
def test_knn_is_scikit_learns_with_the_papers_weights(k: int, temperature: float) -> None:
    train, labels = clusters(200, 7, 0)
    test, _ = clusters(150, 7, 1)
    reference = KNeighborsClassifier(
        min(k, 200), metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / temperature)
    )
    expected = reference.fit(train.numpy(), labels.numpy()).predict(test.numpy())
    found = knn_predict(train, labels, test, KnnArgs(k=k, temperature=temperature), batch=64)
    assert found.tolist() == expected.tolist()


def test_knn_keeps_its_order_at_temperatures_that_would_overflow() -> None:
    train, labels = clusters(50, 3, 0)
    found = knn_predict(train.float(), labels, train.float(), KnnArgs(k=5, temperature=0.001))
    assert found.tolist() == labels.tolist()  # every image's nearest neighbour is itself


@pytest.mark.parametrize("strength", [1e-3, 1e-1, 1.0])
def test_the_linear_probe_is_scikit_learns_logistic_regression(strength: float) -> None:
    inputs, labels = clusters(300, 5, 0)
    probe = LinearProbe(5, inputs)
    probe.fit(inputs, labels, strength, iterations=500)
    standard = ((inputs - probe.shift) / probe.scale).numpy()
    reference = LogisticRegression(C=1 / (strength * len(inputs)), tol=1e-10, max_iter=10_000)
    reference.fit(standard, labels.numpy())
    # The penalty fixes the weights; a constant may still be moved between the biases.
    bias = probe.bias.detach() - probe.bias.detach().mean()
    np.testing.assert_allclose(probe.weight.detach().numpy(), reference.coef_, atol=2e-4)
    np.testing.assert_allclose(bias.numpy(), reference.intercept_ - reference.intercept_.mean(), atol=2e-4)


def test_the_strength_is_chosen_without_the_test_labels() -> None:
    train, labels = clusters(200, 5, 0)
    test, test_labels = clusters(100, 5, 1)
    args = LinearArgs(weakest=1e-4, strongest=10.0, strengths=6, held_out=0.25, iterations=200)
    top1, strength = linear_top1(train, labels, test, test_labels, 5, args, seed=3)
    wrong, same = linear_top1(train, labels, test, (test_labels + 1) % 5, 5, args, seed=3)
    assert strength == same
    assert top1 > 40 > wrong


def test_features_do_not_depend_on_the_batch_and_leave_the_statistics_alone() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    crops = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    one, all_at_once = (features(backbone, crops.split(batch), torch.device("cpu")) for batch in (1, 7))
    torch.testing.assert_close(one, all_at_once)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_cpu_gets_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))
    sizes: list[int] = []
    pooled = backbone.pooled
    monkeypatch.setattr(backbone, "pooled", lambda images: sizes.append(len(images)) or pooled(images))
    crops = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    vectors = features(backbone, crops.split(40), torch.device("cpu"))
    assert sizes == [16, 16, 8, 10]
    monkeypatch.setattr(backbone, "pooled", pooled)
    with torch.no_grad():
        torch.testing.assert_close(vectors, pooled(network_input(crops, torch.device("cpu"))))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.floats(0.05, 0.9), st.integers(0, 5))
def test_held_out_takes_its_share_of_every_class(sizes: list[int], share: float, seed: int) -> None:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    train, chosen = held_out(labels, share, torch.Generator().manual_seed(seed))
    assert sorted([*train.tolist(), *chosen.tolist()]) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        count = int((labels[chosen] == label).sum())
        assert count < size
        assert abs(count - share * size) <= 1


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> tuple[Plan, Store]:
    """A cell whose learning rate is chosen among three, one of them absurd, and every job of it done."""
    runs = tmp_path_factory.mktemp("rates")
    rates = ["finetune.lr_candidates=[1.0e-9, 0.4, 0.8]", "finetune.epochs=6"]
    plan = SelectorOptions("paper_table1", str(tiny_profile), drawn, runs, None, None, "random/cars", None, rates).plan(
        False
    )
    prepare(plan.jobs, plan.datasets, drawn, runs / "cache", lambda *_: None)
    for job in plan.jobs:
        assert run_job(job, JobContext(RunPaths(runs, runs / "cache"), CPU)) == JobEnd("done")
    return plan, Store(runs)


def test_the_rate_is_chosen_on_held_out_training_images(chosen: tuple[Plan, Store]) -> None:
    plan, store = chosen
    (item,) = plan.cell_jobs
    scores = {}
    for trial in item.trials:
        result = store.result(trial.key)
        assert result is not None
        assert "top1" not in result.metrics  # the test split was not read
        assert result.counts == {"n_train": 18, "n_held_out": 6}  # 3 classes of 8, two of each held out
        assert result.files == {}
        assert isinstance(trial.spec, FinetuneSpec)
        scores[trial.spec.train.optimizer.base_lr] = result.metrics["held_out_top1"]
    best = max(scores.values())
    final = store.result(item.finetune.key)
    assert final is not None
    assert final.metrics["base_lr"] == min(rate for rate, score in scores.items() if score == best)
    assert final.counts == {"n_train": 24, "n_test": 12}  # trained again on all of the training split


def test_equally_good_rates_the_lowest_wins(chosen: tuple[Plan, Store]) -> None:
    plan, _ = chosen
    (item,) = plan.cell_jobs
    spec = item.finetune.spec
    assert isinstance(spec, FinetuneSpec)

    class Equal(Store):
        def result(self, key: str):  # type: ignore[no-untyped-def]
            found = super().result(key)
            return found and found.model_copy(update={"metrics": {"held_out_top1": 50.0}})

    assert with_best_lr(spec, Equal(plan.workspace.runs)).train.optimizer.base_lr == 1e-9

"""Views that depend on the network: every batch sees the update before its epoch, and no later one."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.args import PhotometryArgs, ViewArgs
from methods.views.adaptive import AdaptiveViews
from methods.views.batch import Crops
from suite.training.adaptive import training_steps
from suite.training.feed import Feed, Loading
from suite.training.schedule import Batches, generator

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)
EPOCHS, BATCH, IMAGES, CPU = 5, 4, 12, torch.device("cpu")
PER_EPOCH = IMAGES // BATCH


class Grey:
    def __len__(self) -> int:
        return IMAGES

    def image(self, index: int) -> Tensor:
        return torch.full((3, 6, 8), 10 * index, dtype=torch.uint8)

    def saliency(self, index: int) -> Tensor:
        raise AssertionError("not read")

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("not read")


class Remembering(AdaptiveViews):
    """Each pixel of a view is what the network last said of the image; 255 before it was asked."""

    columns = 1

    def update_epochs(self, epochs: int) -> frozenset[int]:
        return frozenset({2, 4})

    def learn(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(1, 2, 3))[:, None]

    def crops(self, indices: Tensor, rng: torch.Generator) -> Crops:
        level = torch.full((len(indices), 1), 255.0) if self.learnt is None else self.learnt[indices]
        return Crops([level.to(torch.uint8)[:, :, None, None].expand(-1, 3, 4, 4).contiguous()])


class Counter(nn.Module):
    """Says how many steps were trained, whatever it sees."""

    steps = 0

    def forward(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 2, 1, 1), float(self.steps))


def feed(loading: Loading) -> Feed:
    views = Remembering(ViewArgs(photometry=(PLAIN,)), Grey(), 4)
    return Feed(views, Batches(IMAGES, BATCH, EPOCHS, 0, "pretrain"), partial(generator, 0, "views"), CPU, loading)


def seen(loading: Loading, start: int = 0, state: dict[str, Tensor] | None = None) -> dict[int, int]:
    """What the views of each step show: the number of trained steps at the last update, or 255."""
    made, network = feed(loading), Counter()
    made.views.load_state(state or {})
    network.steps = start
    levels = {}
    steps = training_steps(made, EPOCHS, start, network, CPU, loading)  # type: ignore[arg-type]
    with closing(steps):
        for step, views in steps:
            pixel = views.images[0][:, 0] * 0.229 + 0.485
            assert float(pixel.max() - pixel.min()) < 1e-6
            levels[step] = round(float(pixel[0, 0, 0]) * 255)
            network.steps += 1
    return levels


EXPECTED = {
    step: 255 if step < 2 * PER_EPOCH else 2 * PER_EPOCH if step < 4 * PER_EPOCH else 4 * PER_EPOCH
    for step in range(EPOCHS * PER_EPOCH)
}


@pytest.mark.parametrize("loading", [Loading(0), Loading(1), Loading(3, 7)], ids=["none", "one", "three"])
def test_loaders_never_run_past_an_update(loading: Loading) -> None:
    assert seen(loading) == EXPECTED


@pytest.mark.parametrize("start", [1, 2 * PER_EPOCH, 2 * PER_EPOCH + 1, 4 * PER_EPOCH])
@pytest.mark.parametrize("loaders", [0, 2])
def test_a_resumed_run_sees_the_same(start: int, loaders: int) -> None:
    """The checkpoint before an update's first step has the views of the epoch before; the update is done again."""
    before = [step for step in (2 * PER_EPOCH, 4 * PER_EPOCH) if step < start]
    state = {"learnt": torch.full((IMAGES, 1), float(before[-1]))} if before else {}
    assert seen(Loading(loaders), start, state) == {step: EXPECTED[step] for step in EXPECTED if step >= start}


def test_views_that_do_not_depend_on_the_network_have_one_run_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = feed(Loading(0)), list[Any]()
    monkeypatch.setattr(Remembering, "update_epochs", lambda self, epochs: frozenset())
    steps = made.steps

    def recorded(*span: int) -> Any:
        calls.append(span)
        return steps(*span)

    monkeypatch.setattr(made, "steps", recorded)
    assert len(list(training_steps(made, EPOCHS, 3, Counter(), CPU, Loading(0)))) == EPOCHS * PER_EPOCH - 3  # type: ignore[arg-type]
    assert calls == [(3, EPOCHS * PER_EPOCH)]

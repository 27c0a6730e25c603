"""Batches made ahead: order, bounded memory, errors, the end of threads, and the same bits as within the step."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from methods.args import RandomResizedCropArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, Views
from methods.views.random_resized_crop import RandomResizedCrop
from suite.training.evaluation import centre_crops
from suite.training.feed import Ahead, Feed, Loading, _tensors
from suite.training.schedule import Batches, generator

CPU = torch.device("cpu")
ARGS = RandomResizedCropArgs.model_validate(
    {
        "scale": 0.3,
        "photometry": [
            {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter_p": 0.8, "gray_p": 0.2,
             "blur_p": 0.5},
        ] * 2,
    }
)  # fmt: skip


class Noise:
    """Random pixels; image `broken` cannot be read."""

    def __init__(self, count: int = 20, broken: int | None = None) -> None:
        self.pixels = torch.randint(256, (count, 3, 24, 30), generator=generator(3), dtype=torch.uint8)
        self.broken = broken

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> Tensor:
        if index == self.broken:
            raise OSError(f"picture {index} is truncated")
        return self.pixels[index]

    def saliency(self, index: int) -> Tensor:
        return self.pixels[index, :1]

    def salient_box(self, _: int) -> tuple[int, int, int, int]:
        return 2, 2, 12, 12


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader-")]


def feed(views: ViewMaker, loading: Loading, labels: Tensor | None = None) -> Feed:
    return Feed(views, Batches(20, 4, 2, 9, "pretrain"), partial(generator, 1, "views"), CPU, loading, labels=labels)


@pytest.mark.parametrize("loading", [Loading(1), Loading(3), Loading(2, steps_ahead=1), Loading(2, steps_ahead=9)])
@pytest.mark.parametrize("start", [0, 7])
def test_the_views_have_the_same_bits_whatever_the_loaders(loading: Loading, start: int) -> None:
    views, labels = RandomResizedCrop(ARGS, Noise(), 16), torch.arange(20)
    straight = dict(feed(views, Loading(0), labels).steps())
    ahead = dict(feed(views, loading, labels).steps(start))
    assert list(ahead) == list(range(start, 10))
    for step, batch in ahead.items():
        for one, other in zip(batch.images, straight[step].images, strict=True):
            assert torch.equal(one, other)
        assert batch.labels is not None
        assert torch.equal(batch.labels, straight[step].labels)  # type: ignore[arg-type]
    assert not loader_threads()


def test_views_of_a_plugin_are_finished_within_the_step_in_order() -> None:
    """A plugin may draw from torch's own generator in `colours` or `__call__`: not for a background thread."""
    seen: list[str] = []

    class OwnColours(RandomResizedCrop):
        def colours(self, crops: Crops, rng: Generator, device: torch.device) -> Views:
            seen.append(threading.current_thread().name)
            return Views([image.float() + torch.rand(()) for image in crops.images])

    class OwnCall(RandomResizedCrop):
        def __call__(self, indices: Tensor, rng: Generator, device: torch.device) -> Views:
            seen.append(threading.current_thread().name)
            return Views([indices.float() + torch.rand(())])

    for kind in (OwnColours, OwnCall):
        runs = []
        for loading in (Loading(0), Loading(3)):
            torch.manual_seed(4)
            runs.append([views.images[0] for _, views in feed(kind(ARGS, Noise(), 16), loading).steps()])
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert set(seen) == {threading.current_thread().name}


def test_every_tensor_of_a_batch_is_kept_for_the_stream_that_uses_it() -> None:
    """What `_tensors` leaves out, a later batch's copy may overwrite on a GPU."""
    one = [torch.rand(2, 4) for _ in range(4)]
    views = Views([one[0]], masks=[one[1]], boxes=[one[2]], labels=one[3])
    assert {id(tensor) for tensor in _tensors(views)} == {id(tensor) for tensor in one}


def test_at_most_so_many_items_are_ahead() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step

    with Ahead(make, range(100), Loading(2, steps_ahead=3)) as ahead:
        for taken in range(5):
            time.sleep(0.05)
            assert len(made) <= taken + 3
            assert ahead.take() == taken
    assert len(made) <= 8
    assert not loader_threads()


def test_an_error_is_raised_at_its_step_and_ends_the_loaders() -> None:
    source = Noise(broken=5)
    views = RandomResizedCrop(ARGS, source, 16)
    order = Batches(20, 4, 2, 9, "pretrain")
    first = next(step for step in range(5) if 5 in order.indices(step))
    reached = []
    with pytest.raises(OSError, match="picture 5 is truncated"), closing(feed(views, Loading(2)).steps()) as steps:  # noqa: PT012
        for step, _ in steps:
            reached.append(step)
    assert reached == list(range(first))
    assert not loader_threads()


def test_leaving_the_loop_ends_the_loaders() -> None:
    views = RandomResizedCrop(ARGS, Noise(), 16)
    with pytest.raises(KeyboardInterrupt), closing(feed(views, Loading(2)).steps()) as steps:  # noqa: PT012
        for step, _ in steps:
            assert loader_threads()
            if step == 3:
                raise KeyboardInterrupt
    assert not loader_threads()


def test_loaders_work_while_the_step_waits() -> None:
    """Steps that sleep as long as the batches take: the longer of the two, not the sum."""
    with Ahead(lambda _: time.sleep(0.05), range(12), Loading(1)) as ahead:
        began = time.monotonic()
        for _ in range(12):
            ahead.take()
            time.sleep(0.05)
        assert time.monotonic() - began < 1.5 * 12 * 0.05


@pytest.mark.parametrize("loaders", [0, 2])
def test_crops_of_a_split_are_streamed(loaders: int) -> None:
    source = Noise(300)
    asked: list[int] = []
    whole = torch.cat(list(centre_crops(source, 16, 1.2)))
    for crops in centre_crops(source, 16, 1.2, Loading(loaders), lambda: asked.append(1)):
        assert len(crops) <= 128
        assert torch.equal(crops, whole[: len(crops)])
        whole = whole[len(crops) :]
    assert len(asked) == 3
    assert not len(whole)
    assert not loader_threads()


def test_a_request_to_stop_is_answered_between_batches() -> None:
    class Stopped(Exception):
        pass

    asked: list[int] = []

    def between() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        list(centre_crops(Noise(300), 16, 1.2, Loading(2), between))
    assert not loader_threads()

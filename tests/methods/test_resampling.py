"""Batches of crops and pastes equal the same operations on one image after the other, to the last bit."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from methods.views import dilo, instance_composition, resampling
from methods.views.resampling import crop_batch, four_turns, parts_batch, paste_batch, paste_maps, resample


def images(channels: int = 3) -> list[Tensor]:
    """Images of several sizes, stored as rows of pixels and, the last one, as planes."""
    rng = torch.Generator().manual_seed(4)
    sizes = [(40, 60), (33, 31), (64, 50)]
    stored = [torch.randint(0, 256, (h, w, channels), generator=rng, dtype=torch.uint8) for h, w in sizes]
    return [pixels.permute(2, 0, 1) for pixels in stored[:2]] + [stored[2].permute(2, 0, 1).contiguous()]


BOXES = torch.tensor([[3, 2, 50, 39], [0, 0, 31, 33], [10, 20, 11, 60]])
PLACES = torch.tensor([[0, 5, 9, 24], [3, 3, 4, 4], [0, 0, 24, 24]])
FLIPS = torch.tensor([True, False, True])
WHOLE = torch.tensor([[0, 0, 60, 40], [0, 0, 31, 33], [0, 0, 50, 64]])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_crops(mode: str, channels: int) -> None:
    turns = torch.tensor([1, 0, 3])
    made = crop_batch(images(channels), BOXES, (24, 24), mode, FLIPS, turns)
    for row, (image, (left, top, right, bottom)) in enumerate(zip(images(channels), BOXES.tolist(), strict=True)):
        crop = image[None, :, top:bottom, left:right]
        expected = interpolate(crop, size=(24, 24), mode=mode, antialias=True, align_corners=False)[0]
        assert torch.equal(resample(image, (left, top, right, bottom), (24, 24), mode), expected)
        expected = expected.flip(-1) if FLIPS[row] else expected
        assert torch.equal(made[row], torch.rot90(expected, int(turns[row]), (1, 2)))


def test_crops_need_neither_flips_nor_a_square() -> None:
    made = crop_batch(images(), BOXES, (8, 13), "bilinear")
    assert made.shape == (3, 3, 8, 13)
    assert torch.equal(made[1], resample(images()[1], (0, 0, 31, 33), (8, 13), "bilinear"))


def test_pastes() -> None:
    made = paste_batch(images()[::-1], WHOLE.flip(0), images(), BOXES, PLACES, FLIPS, 24, "bilinear")
    masks = paste_maps(images(1), BOXES, PLACES, FLIPS, 24)
    for row in range(3):
        box, (left, top, right, bottom) = tuple(BOXES[row].tolist()), PLACES[row].tolist()
        whole = tuple(WHOLE[2 - row].tolist())
        view = resample(images()[2 - row], whole, (24, 24), "bilinear")
        mask = torch.zeros(1, 24, 24, dtype=torch.uint8)
        size = (bottom - top, right - left)
        view[:, top:bottom, left:right] = resample(images()[row], box, size, "bilinear")
        mask[:, top:bottom, left:right] = resample(images(1)[row], box, size, "bilinear")
        turned = (lambda tensor: tensor.flip(-1)) if FLIPS[row] else (lambda tensor: tensor)
        assert torch.equal(made[row], turned(view))
        assert torch.equal(masks[row], turned(mask))


def test_parts() -> None:
    whole = crop_batch(images(), BOXES, (24, 24), "bilinear")
    corners = torch.randint(0, 17, (3, 5, 2), generator=torch.Generator().manual_seed(1))
    parts = parts_batch(whole, corners, 8)
    for row in range(3):
        for number, (left, top) in enumerate(corners[row].tolist()):
            assert torch.equal(parts[row, number], whole[row, :, top : top + 8, left : left + 8])


def test_turns() -> None:
    upright = crop_batch(images(), BOXES, (24, 24), "bilinear")
    expected = torch.stack([torch.rot90(upright, turns, (2, 3)) for turns in range(4)], dim=1).flatten(0, 1)
    assert torch.equal(four_turns(upright), expected)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="torch does not support TorchScript with this Python")
def test_the_loops_are_compiled() -> None:
    """Not compiled, they give the same pixels, but wait for the interpreter's lock: nothing else would show it."""
    loops = (
        resampling._crop_rows, resampling._paste_rows, resampling._paste_map_rows, resampling._copy_parts,
        resampling._copy_turns, dilo.composites, instance_composition._sampled_anchors,
    )  # fmt: skip
    assert all(isinstance(loop, torch.jit.ScriptFunction) for loop in loops)


def test_page_locked_memory_is_asked_for_within_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    empty = torch.empty

    def spy(*args: object, pin_memory: bool, **kwargs: object) -> Tensor:
        asked.append(pin_memory)
        return empty(*args, **kwargs)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch, "empty", spy)
    with resampling.page_locked():
        resampling.empty_batch(1, 3, 4, 4)
    resampling.empty_batch(1, 3, 4, 4)
    assert asked == [True, False]


def test_memory_is_used_again_once_nothing_refers_to_it() -> None:
    with resampling.reused():
        first, other = resampling.empty_batch(2, 3, 4, 4), resampling.empty_batch(2, 3, 4, 4)
        assert first.shape == (2, 3, 4, 4)
        assert first.is_contiguous(memory_format=torch.channels_last)
        assert first.data_ptr() != other.data_ptr()
        place, row = first.data_ptr(), first[1]
        del first
        assert resampling.empty_batch(2, 3, 4, 4).data_ptr() != place  # a row of it is still in use
        row.fill_(7)
        again = resampling.empty_batch(2, 3, 4, 4)
        assert torch.equal(row, torch.full((3, 4, 4), 7, dtype=torch.uint8))
        del row
        assert resampling.empty_batch(2, 3, 4, 4).data_ptr() == place
        turned = resampling.four_turns(again.contiguous())
        assert torch.equal(turned[::4], again)
    del again


def test_free_memory_of_another_size_is_returned() -> None:
    blocks = resampling._Blocks()
    kept = blocks.empty(8)
    for size in range(10, 20):
        blocks.empty(size)
    assert [len(block) for block, _ in blocks._blocks] == [8, 19]
    assert len(kept) == 8

"""One process and two (gloo, DDP): the same losses, gradients, queues, moving averages and running statistics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import shuffle_bn, sync_batchnorm
from methods.args import PatchesArgs, PhotometryArgs, RotationsArgs
from methods.views.base import ViewMaker, slice_views
from methods.views.batch import Views
from methods.views.patches import Patches
from methods.views.rotations import Rotations

SCRIPT = Path(__file__).with_name("distributed_run.py")
ALIGNED = tuple(f"{name} with alignment" for name in ("byol", "simclr", "moco_v2", "simsiam"))
CASES = (
    "byol", "simclr", "simsiam", "moco_v2", "looc", "insloc", "rot_pred", "rel_loc", "cast", "lcr", "barlow_twins",
    "vicreg", "dino", "swav", *ALIGNED,
)  # fmt: skip
# Everything is float64 but the inside of the alignment, which is single precision on purpose, and what is only logged.
TOLERANCE = dict.fromkeys(ALIGNED, 2e-6)
LOGGED = {"embedding_std", "pretext_top1", "attention_min", "attention_mean", "attention_max"}
PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)


def results(place: Path, processes: int) -> list[dict[str, Any]]:
    running = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(place), str(rank), str(processes)], stderr=subprocess.PIPE)
        for rank in range(processes)
    ]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
    return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(processes)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return results(tmp_path_factory.mktemp("two"), 2)


def largest(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference between two sets of tensors with the same names."""
    assert mine.keys() == theirs.keys()
    return max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine)


def test_every_objective_is_compared(script: ModuleType) -> None:
    assert script.CASES == CASES
    assert {name.split(maxsplit=1)[0] for name in CASES} == script.ARGS.keys()


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one(name: str, two: list[dict[str, Any]], script: ModuleType) -> None:
    one, tolerance = script.run(name), TOLERANCE.get(name, 1e-9)
    for other in (found[name] for found in two):
        for mine, theirs in zip(one["scalars"], other["scalars"], strict=True):
            assert mine.keys() == theirs.keys()
            for key, value in mine.items():
                assert theirs[key] == pytest.approx(value, abs=1e-4 if key in LOGGED else tolerance), key
        for mine, theirs in zip(one["gradients"], other["gradients"], strict=True):
            assert max(float(gradient.abs().max()) for gradient in mine.values()) > 1e-3
            assert largest(mine, theirs) < tolerance
        assert largest(one["state"], other["state"]) < tolerance
    # Among themselves the processes agree in every bit, or they would drift apart.
    assert largest(two[0][name]["state"], two[1][name]["state"]) == 0


def test_groups_that_processes_cannot_share_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for processes, rows, message in ((3, 8, "multiple of the 3 processes"), (2, 5, "divide their batch of 10")):
        monkeypatch.setattr(shuffle_bn, "world_size", lambda processes=processes: processes)
        with pytest.raises(ValueError, match=f"bn_splits 4 must be .*{message}"):
            shuffle_bn.in_groups(lambda x: x, 4, torch.zeros(rows, 2))


class Uniform:
    """Image n is n everywhere."""

    def __len__(self) -> int:
        return 6

    def image(self, index: int) -> Tensor:
        return torch.full((3, 24, 24), index, dtype=torch.uint8)

    def saliency(self, index: int) -> Tensor:
        raise AssertionError("neither view reads saliency")

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("neither view reads saliency")


@pytest.mark.parametrize(
    "maker",
    [
        Rotations(RotationsArgs(photometry=(PLAIN,), scale=0.2), Uniform(), 8),
        Patches(PatchesArgs(photometry=(PLAIN,), resize=1.0, grid_side=24, patch_side=6), Uniform(), 8),
    ],
    ids=["rotations", "patches"],
)
def test_views_of_an_image_stay_in_one_process(maker: ViewMaker) -> None:
    crops = maker.crops(torch.arange(6), torch.Generator().manual_seed(0))
    whole = Views(crops.images, labels=crops.labels)
    assert crops.labels is not None
    for rank in range(3):
        part = slice_views(whole, rank, 3)
        for images, all_images in zip(part.images, whole.images, strict=True):
            assert len(images) == len(all_images) / 3
            assert images.unique().tolist() == [2 * rank, 2 * rank + 1]
        assert part.labels is not None
        assert part.labels.tolist() == crops.labels.tolist()[: len(part.images[0])]


def test_views_without_labels_are_sliced_alike() -> None:
    rows = torch.arange(6.0)[:, None]
    part = slice_views(Views([rows, rows + 10], [rows + 20, rows + 30], [rows + 40, rows + 50]), 1, 2)
    assert [t.flatten().tolist() for t in part.images] == [[3, 4, 5], [13, 14, 15]]
    assert part.masks is not None
    assert part.boxes is not None
    assert [t.flatten().tolist() for t in part.masks] == [[23, 24, 25], [33, 34, 35]]
    assert [t.flatten().tolist() for t in part.boxes] == [[43, 44, 45], [53, 54, 55]]
    assert part.labels is None
    with pytest.raises(ValueError, match="6 rows cannot be shared evenly by 4 processes"):
        slice_views(Views([rows]), 0, 4)


def test_synchronising_keeps_parameters_and_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimiser built before still holds the parameters that are trained."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4, eps=1e-3, momentum=0.3))).double()
    norm = net[1][0]
    norm.bias.requires_grad_(False)
    norm(torch.randn(5, 4, dtype=torch.float64))
    before, parameters = {k: v.clone() for k, v in net.state_dict().items()}, dict(net.named_parameters())
    assert sync_batchnorm.convert_sync_batchnorm(net)[1][0] is norm  # one process: nothing to do
    monkeypatch.setattr(sync_batchnorm, "world_size", lambda: 2)
    assert sync_batchnorm.convert_sync_batchnorm(net.eval())[1][0] is not norm
    assert list(net.state_dict()) == list(before)
    assert largest(net.state_dict(), before) == 0
    assert all(parameter is parameters[name] for name, parameter in net.named_parameters())
    assert not net[1][0].bias.requires_grad
    x = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(net(x), norm(net[0](x)))  # eval mode, and the same eps

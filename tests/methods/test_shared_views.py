"""Each process makes the views of its own images, and together they are bit for bit those of the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import args, attention_guided_args, multi_crop_args
from methods.args import PhotometryArgs
from methods.registry import VIEWS
from methods.views import base
from methods.views.adaptive import AdaptiveViews
from methods.views.base import ViewMaker
from methods.views.batch import Views

BATCH, SIZE = 8, 24
STRONG = PhotometryArgs(
    brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, jitter_p=0.8, gray_p=0.3, blur_p=0.5, solarize_p=0.3
)
ARGS: dict[str, args.ViewArgs] = {
    "random_resized_crop": args.RandomResizedCropArgs(photometry=(STRONG, STRONG), scale=0.2),
    "saliency_swap": args.SaliencySwapArgs(photometry=(STRONG, STRONG), scale=0.4),
    "shared_augmentation": args.SharedAugmentationArgs(photometry=(STRONG,), scale=0.2, shared=("colour", "rotation")),
    "rotations": args.RotationsArgs(photometry=(STRONG,), scale=0.2),
    "patches": args.PatchesArgs(
        photometry=(STRONG.model_copy(update={"blur_p": 0.0}),), resize=1.2, grid_side=24, patch_side=6
    ),
    "dilo": args.DiloArgs(photometry=(STRONG, STRONG), scale=0.2, composite_p=0.5, blur_p=0.5, blur_sigma=0.05),
    "instance_composition": args.InstanceCompositionArgs(
        photometry=(STRONG, STRONG), scale=0.2, augment_boxes=(True, False)
    ),
    "crop_with_mask": attention_guided_args.CropWithMaskArgs(photometry=(STRONG, STRONG), scale=0.2),
    "cast_crop": attention_guided_args.CastCropArgs(photometry=(STRONG, STRONG), scale=0.2),
    "contrastive_crop": attention_guided_args.ContrastiveCropArgs(photometry=(STRONG, STRONG), scale=0.2),
    "multi_crop": multi_crop_args.MultiCropArgs(
        photometry=(STRONG, STRONG, STRONG),
        global_scale=(0.3, 1.0),
        local_scale=(0.05, 0.3),
        local_crops=2,
        local_size=12,
    ),
}


class NoiseImages:
    """Noise of several sizes, with a salient box each."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(7)
        self.sides = torch.randint(26, 48, (12, 2), generator=rng).tolist()
        self.images = [torch.randint(0, 256, (3, h, w), generator=rng, dtype=torch.uint8) for h, w in self.sides]
        self.maps = [torch.randint(0, 256, (1, h, w), generator=rng, dtype=torch.uint8) for h, w in self.sides]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        return self.images[index]

    def saliency(self, index: int) -> Tensor:
        return self.maps[index]

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        height, width = self.sides[index]
        return 3, 4, width - 5, height - 2


def shares(maker: ViewMaker, monkeypatch: pytest.MonkeyPatch, world: int, by_row: bool) -> list[Views]:
    found = []
    for rank in range(world):
        monkeypatch.setattr(base, "world_size", lambda: world)
        monkeypatch.setattr(base, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(base, "shard", lambda tensor, of=rank, among=world: base_share(tensor, of, among))
        found.append(maker.finish(maker.prepare(torch.arange(1, 1 + BATCH), rng(), by_row), torch.device("cpu")))
    monkeypatch.undo()
    return found


base_share = base.shard


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def tensors(views: Views) -> dict[str, Any]:
    found = {f"image {i}": t for i, t in enumerate(views.images)}
    found |= {f"mask {i}": t for i, t in enumerate(views.masks or [])}
    found |= {f"box {i}": t for i, t in enumerate(views.boxes or [])}
    return found if views.labels is None else {**found, "labels": views.labels}


def test_every_kind_of_views_is_compared() -> None:
    assert ARGS.keys() == VIEWS.keys()


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", ARGS)
def test_processes_make_the_rows_of_the_whole_batch(name: str, world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(NoiseImages):
        read = 0

        def image(self, index: int) -> Tensor:
            self.read += 1
            return super().image(index)

    source = Counting()
    maker = VIEWS[name].load()(ARGS[name], source, SIZE)
    if isinstance(maker, AdaptiveViews):
        maker.learnt = torch.tensor([[0.1, 0.3, 0.6, 0.9]]).expand(12, 4) + torch.arange(12)[:, None] / 200
    whole = tensors(maker(torch.arange(1, 1 + BATCH), rng(), torch.device("cpu")))
    reads, source.read = source.read, 0
    parts = [tensors(views) for views in shares(maker, monkeypatch, world, by_row=True)]
    assert source.read == reads  # of all processes together: nobody makes what another one does
    for key, tensor in whole.items():
        assert torch.equal(torch.cat([part[key] for part in parts]), tensor), key


def test_views_that_draw_in_their_own_way_are_made_whole_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(ViewMaker):
        def __call__(self, indices: Tensor, rng: torch.Generator, device: torch.device) -> Views:
            return Views([indices.double()[:, None] + torch.rand(len(indices), 1, generator=rng)])

        def crops(self, indices: Tensor, rng: torch.Generator) -> Any:
            raise NotImplementedError

    maker = Own(args.ViewArgs(photometry=(STRONG,)), NoiseImages(), SIZE)
    whole = maker(torch.arange(1, 1 + BATCH), rng(), torch.device("cpu")).images[0]
    for by_row in (False, True):
        parts = [views.images[0] for views in shares(maker, monkeypatch, 2, by_row)]
        assert torch.equal(torch.cat(parts), whole) is not by_row

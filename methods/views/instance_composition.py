"""InsLoc's views: crops of the image, pasted into two random other images (Yang et al. 2021, arXiv:2102.08318).

For each view a crop of the image is scaled down, keeping its proportions, until it fits a random size, and pasted as a
plain rectangle at a random place of a background: an image drawn from the whole training set, perhaps the same one,
squeezed to the view's size. Its place is the view's box. In the query's view the box is then replaced by an anchor
that overlaps it, "box augmentation": the query pools somewhat off the object and has to match all the same.

Sizes are the official code's in shares of its 256 px. As there, a crop's longer side is fitted to the larger of the
two numbers drawn, whichever way it lies; a paste never touches the right and bottom edges; an anchor may stick out of
the view. Different from there: crops and backgrounds are resampled with antialiasing, and colour changes come after
the flip, which is the same.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torchvision.ops import box_iou, nms

from methods.args import BoxAugmentationArgs, InstanceCompositionArgs
from methods.views.base import ViewMaker
from methods.views.batch import Crops, ImageSource
from methods.views.geometry import mirrored, random_boxes, uniform, whole_boxes
from methods.views.resampling import compiled, paste_batch


class InstanceComposition(ViewMaker):
    """Views with the boxes to pool from; see the module's docstring."""

    def __init__(self, args: InstanceCompositionArgs, source: ImageSource, size: int) -> None:
        super().__init__(args, source, size)
        self.args = args
        self._anchors = anchors(args.anchors, size)

    def crops(self, indices: Tensor, rng: Generator) -> Crops:
        """int64 [B] -> per view uint8 images [B, 3, S, S] and boxes [B, 4], augmented where the recipe says so."""
        count = len(indices)
        images = [self.source.image(i) for i in indices.tolist()]
        whole = whole_boxes(images)
        views, all_boxes = [], []
        for augmented in self.args.augment_boxes:
            others = (uniform(rng, (count,)) * len(self.source)).long().tolist()
            backgrounds = [self.source.image(i) for i in others]
            cuts = random_boxes(whole, self.args.scale, self.args.ratio, rng)
            boxes = self._places(cuts, rng)
            which = uniform(rng, (count,)) < self.args.flip_p
            views.append(
                paste_batch(
                    backgrounds,
                    whole_boxes(backgrounds),
                    images,
                    cuts,
                    boxes,
                    which,
                    self.size,
                    self.args.interpolation,
                )
            )
            boxes = torch.where(which[:, None], mirrored(boxes, self.size), boxes).float()
            all_boxes.append(augment(boxes, self._anchors, self.args.anchors, rng) if augmented else boxes)
        return Crops(views, boxes=all_boxes)

    def _places(self, cuts: Tensor, rng: Generator) -> Tensor:
        """Where crops of the given boxes [B, 4] go in the view: int64 [B, 4], at least one pixel wide and high."""
        low, high = self.args.paste
        target = uniform(rng, (len(cuts), 2), low * self.size, high * self.size).long()  # [B, 2]
        sides = (cuts[:, 2:] - cuts[:, :2]).double()  # [B, 2] width, height
        factor = (target.sort(dim=1).values / sides.sort(dim=1).values).min(dim=1, keepdim=True).values
        sides = (sides * factor + 0.5).long().clamp(min=1)
        start = (uniform(rng, (len(cuts), 2)) * (self.size - sides)).long()
        return torch.cat([start, start + sides], dim=1)


def anchors(args: BoxAugmentationArgs, size: int) -> Tensor:
    """float32 [grid * grid * scales * ratios, 4]: boxes of all sizes around every point of a grid that starts at 0."""
    stride = size / args.grid
    points = torch.arange(args.grid) * stride
    y, x = torch.meshgrid(points, points, indexing="ij")
    centres = torch.stack([x, y], dim=-1).view(-1, 1, 2)
    sides = torch.tensor([(scale / ratio**0.5, scale * ratio**0.5) for ratio in args.ratios for scale in args.scales])
    half = stride * sides / 2  # [scales * ratios, 2] width, height
    return torch.cat([centres - half, centres + half], dim=-1).flatten(0, 1).float()


def augment(boxes: Tensor, candidates: Tensor, args: BoxAugmentationArgs, rng: Generator) -> Tensor:
    """For each box [B, 4] a random anchor that overlaps it: float32 [B, 4].

    Anchors with an IoU above `iou`, or where there is none the best `fallback`, are thinned by non-maximum suppression
    with random scores, and one of those left is drawn. The thinning is not idle: drawn from all of them, an anchor
    would be likely to lie in the crowd around the box, while those left are spread out.
    """
    overlap = box_iou(boxes, candidates)  # [B, anchors]
    scores = uniform(rng, tuple(overlap.shape), dtype=torch.float32)
    pick = uniform(rng, (len(boxes),))
    return candidates[
        _sampled_anchors(overlap, candidates, scores, pick, args.iou, min(args.fallback, len(candidates)), args.nms)
    ]


@compiled
def _sampled_anchors(
    overlap: Tensor, candidates: Tensor, scores: Tensor, pick: Tensor, iou: float, fallback: int, threshold: float
) -> Tensor:
    """Positions of the sampled anchors, int64 [B]."""
    picks: list[float] = pick.tolist()
    sampled: list[Tensor] = []
    for row in range(len(picks)):
        near = (overlap[row] > iou).nonzero()[:, 0]
        if len(near) == 0:
            near = overlap[row].topk(fallback)[1]
        left = near[nms(candidates[near], scores[row][near], threshold)]
        sampled.append(left[int(picks[row] * len(left))])
    return torch.stack(sampled)

"""Photometric augmentation of a whole batch, each image with its own parameters (torchvision draws one set per call).

Order and meaning follow BYOL (arXiv:2006.07733, appendix B) and torchvision: colour jitter, whose four parts come in an
order drawn per image, greyscale, Gaussian blur, solarisation. All parameters are drawn on the CPU, so the views of a
batch are the same on every device.

A change is computed only for the images that it is applied to. Which images these are is worked out on the CPU, and
their row numbers travel to the device together with all other parameters in one copy. So the sizes of all tensors are
known without asking the device, and nothing here waits for it. (`torch.where` over the whole batch would not wait
either, but every part of the jitter would then process every image four times.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, pad

from methods.args import PhotometryArgs
from methods.views.geometry import uniform

_GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as torchvision


@dataclass(frozen=True, slots=True)
class JitterDraws:
    """Random numbers of one view, on the CPU. A change is applied where its `chance` is below its probability."""

    amounts: Tensor  # float64 [B, 4]: factors of brightness, contrast and saturation, shift of hue
    order: Tensor  # int64 [B, 4]: the part of the jitter that comes first, second, ...
    chance: Tensor  # float64 [B, 4]: of jitter, greyscale, blur, solarisation
    sigma: Tensor  # float64 [B]: of the blur, pixels

    def with_colour_of(self, other: JitterDraws) -> JitterDraws:
        """These numbers with the jitter and greyscale of `other`; blur and solarisation stay."""
        chance = torch.cat([other.chance[:, :2], self.chance[:, 2:]], dim=1)
        return JitterDraws(other.amounts, other.order, chance, self.sigma)


@dataclass(frozen=True, slots=True)
class ColourParameters:
    """Parameters of the colour changes of all views of a batch, in one tensor.

    `steps[view]` lists the changes of a view in the order in which they are applied, each with its number of rows.
    `values` holds row numbers and amounts of all steps of all views one after the other.
    """

    values: Tensor  # int32 [2, N]: row numbers; the bits of float32 amounts
    steps: tuple[tuple[tuple[str, int], ...], ...]

    def pin_memory(self) -> ColourParameters:
        """A copy in page-locked memory, from which `to(device, non_blocking=True)` does not block. Needs CUDA."""
        return ColourParameters(self.values.pin_memory(), self.steps)

    def to(self, device: torch.device, non_blocking: bool = False) -> ColourParameters:
        """The same parameters on `device`, in one copy."""
        return ColourParameters(self.values.to(device, non_blocking=non_blocking), self.steps)

    def of_views(self) -> list[list[tuple[str, Tensor, Tensor]]]:
        """Per view, (change, row numbers int64 [n], amounts float32 [n]) of each step, on the parameters' device."""
        rows, amounts = self.values[0].long(), self.values[1].view(torch.float32)
        views, start = [], 0
        for steps in self.steps:
            view = []
            for change, count in steps:
                view.append((change, rows[start : start + count], amounts[start : start + count]))
                start += count
            views.append(view)
        return views


def draw(batch: int, args: PhotometryArgs, rng: Generator) -> JitterDraws:
    """Random numbers for `batch` images. The amount drawn depends on `batch` only, not on `args`."""
    strengths = (args.brightness, args.contrast, args.saturation)
    factors = [uniform(rng, (batch,), max(0.0, 1 - s), 1 + s) for s in strengths]
    hue = uniform(rng, (batch,), -args.hue, args.hue)
    order = uniform(rng, (batch, 4)).argsort(dim=1)
    chance = uniform(rng, (batch, 4))
    sigma = uniform(rng, (batch,), *args.blur_sigma)
    return JitterDraws(torch.stack([*factors, hue], dim=1), order, chance, sigma)


def parameters(draws: Sequence[JitterDraws], args: Sequence[PhotometryArgs]) -> ColourParameters:
    """What has to be done to which images: the draws of every view, compared with its recipe's probabilities."""
    rows, amounts, steps = [], [], []
    for view, settings in zip(draws, args, strict=True):
        groups = [group for group in _groups(view, settings) if len(group[1])]
        rows += [group[1] for group in groups]
        amounts += [group[2] for group in groups]
        steps.append(tuple((change, len(numbers)) for change, numbers, _ in groups))
    row_numbers = torch.cat([torch.zeros(0, dtype=torch.int32), *rows]).to(torch.int32)
    bits = torch.cat([torch.zeros(0), *amounts]).to(torch.float32).view(torch.int32)
    return ColourParameters(torch.stack([row_numbers, bits]), tuple(steps))


def _groups(draws: JitterDraws, args: PhotometryArgs) -> list[tuple[str, Tensor, Tensor]]:
    """(change, rows, amounts) of one view in order, float32 amounts; a group may be empty."""
    probabilities = torch.tensor([args.jitter_p, args.gray_p, args.blur_p, args.solarize_p], dtype=torch.float64)
    applied = draws.chance < probabilities  # [B, 4]
    amounts = draws.amounts.float()
    groups = []
    for turn in range(4):
        for part, change in enumerate(("brightness", "contrast", "saturation", "hue")):
            rows = (applied[:, 0] & (draws.order[:, turn] == part)).nonzero()[:, 0]
            groups.append((change, rows, amounts[rows, part]))
    for column, change in ((1, "greyscale"), (2, "blur"), (3, "solarise")):
        rows = applied[:, column].nonzero()[:, 0]
        groups.append((change, rows, draws.sigma[rows].float()))
    return groups


def apply(images: Tensor, changes: Sequence[tuple[str, Tensor, Tensor]], blur_kernel: float) -> Tensor:
    """Change some images of a batch.

    Args:
        images: float32 [B, 3, H, W] in [0, 1]; not changed.
        changes: of one view, from `ColourParameters.of_views`, on the device of `images`.
        blur_kernel: side of the blur's kernel as a share of H.

    Returns:
        The same shape and range.
    """
    images = images.clone()
    for change, rows, amounts in changes:
        selected = images if len(rows) == len(images) else images.index_select(0, rows)
        changed = blur(selected, amounts, blur_kernel) if change == "blur" else _CHANGES[change](selected, amounts)
        images = changed if len(rows) == len(images) else images.index_copy_(0, rows, changed)
    return images


def grey(images: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 1, H, W] luma."""
    red, green, blue = images.unbind(dim=1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)[:, None]


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply each image by its factor [B]."""
    return (images * factor.view(-1, 1, 1, 1)).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its mean luma."""
    return _blend(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its greyscale version."""
    return _blend(images, grey(images), factor)


@cache
def _channel_offsets(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Distance of red, green and blue on the colour circle in sectors, [1, 3, 1, 1]; copied to a device once."""
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used outside of it
        return torch.tensor([5.0, 3.0, 1.0], dtype=dtype).view(1, 3, 1, 1).to(device)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of each image by its share [B] of the colour circle, in [-.5, .5]."""
    value, brightest = images.max(dim=1)  # [B, H, W]
    chroma = value - images.min(dim=1).values
    red, green, blue = images.unbind(dim=1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sector = torch.where(
        brightest == 0,
        ((green - blue) / safe) % 6,
        torch.where(brightest == 1, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sector = (sector + 6 * shift.view(-1, 1, 1)) % 6
    # HSV back to RGB without branches: each channel falls and rises with its distance on the colour circle.
    k = (_channel_offsets(images.device, images.dtype) + sector[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def blur(images: Tensor, sigma: Tensor, kernel_share: float) -> Tensor:
    """Gaussian blur with a standard deviation per image, in pixels, and reflected borders.

    The kernel's side is `kernel_share` of the image's, made odd (23 at 224 px, as SimCLR and BYOL).
    """
    batch, channels, height, width = images.shape
    radius = max(1, int(kernel_share * height) // 2)
    x = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (x[None] / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)  # [B*C, k]
    flat = pad(images, (radius, radius, radius, radius), mode="reflect").reshape(
        1, batch * channels, height + 2 * radius, -1
    )
    flat = conv2d(flat, kernel[:, None, None, :], groups=batch * channels)
    flat = conv2d(flat, kernel[:, None, :, None], groups=batch * channels)
    return flat.reshape(batch, channels, height, width)


def solarize(images: Tensor) -> Tensor:
    """Invert values of at least one half (128 of 255)."""
    return torch.where(images >= 0.5, 1 - images, images)


_CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": shift_hue,
    "greyscale": lambda images, _: grey(images).repeat(1, 3, 1, 1),
    "solarise": lambda images, _: solarize(images),
}

"""Colour changes of a whole batch, each image with its own parameters (torchvision draws one set per call).

Order and meaning follow BYOL (arXiv:2006.07733, appendix B) and torchvision: colour jitter with its four parts in an
order drawn per image, greyscale, Gaussian blur, solarisation. Parameters are drawn on the CPU, so a batch is the
same on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, pad

from methods.args import PhotometryArgs
from methods.views.geometry import uniform

_GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as torchvision


@dataclass(frozen=True, slots=True)
class Parameters:
    """What was drawn for each image of a batch; an image changes where its `chance` is below the probability."""

    amounts: Tensor  # float64 [B, 4]: factors of brightness, contrast and saturation, shift of hue
    order: Tensor  # int64 [B, 4]: which part of the jitter comes first, second, ...
    chance: Tensor  # float64 [B, 4]: of jitter, greyscale, blur, solarisation
    sigma: Tensor  # float64 [B]: of the blur, pixels

    def with_colour_of(self, other: Parameters) -> Parameters:
        """These parameters with the jitter and greyscale of `other`; blur and solarisation stay."""
        chance = torch.cat([other.chance[:, :2], self.chance[:, 2:]], dim=1)
        return Parameters(other.amounts, other.order, chance, self.sigma)


def draw(batch: int, args: PhotometryArgs, rng: Generator) -> Parameters:
    """Parameters for `batch` images, all of them always, so that the amount drawn depends on nothing else."""
    strengths = (args.brightness, args.contrast, args.saturation)
    factors = [uniform(rng, (batch,), max(0.0, 1 - s), 1 + s) for s in strengths]
    hue = uniform(rng, (batch,), -args.hue, args.hue)
    order = uniform(rng, (batch, 4)).argsort(dim=1)
    chance = uniform(rng, (batch, 4))
    sigma = uniform(rng, (batch,), *args.blur_sigma)
    return Parameters(torch.stack([*factors, hue], dim=1), order, chance, sigma)


def photometry(images: Tensor, args: PhotometryArgs, rng: Generator) -> Tensor:
    """float32 [B, 3, H, W] in [0, 1] -> the same shape and range, changed image by image."""
    return apply(images, args, draw(images.shape[0], args, rng))


def apply(images: Tensor, args: PhotometryArgs, drawn: Parameters) -> Tensor:
    """`photometry` with parameters drawn before."""
    images = images.clone()
    jittered = drawn.chance[:, 0] < args.jitter_p
    parts: list[Callable[[Tensor, Tensor], Tensor]] = [brightness, contrast, saturation, shift_hue]
    amounts = drawn.amounts.to(images.dtype)
    for turn in range(4):
        for part, change in enumerate(parts):
            rows = (jittered & (drawn.order[:, turn] == part)).nonzero()[:, 0].to(images.device)
            if len(rows):
                images[rows] = change(images[rows], amounts[rows.cpu(), part].to(images.device))
    for column, probability, change in (
        (1, args.gray_p, lambda x, _: grey(x).expand_as(x)),
        (2, args.blur_p, lambda x, s: blur(x, s, args.blur_kernel)),
        (3, args.solarize_p, lambda x, _: solarize(x)),
    ):
        rows = (drawn.chance[:, column] < probability).nonzero()[:, 0]
        if len(rows):
            here = rows.to(images.device)
            images[here] = change(images[here], drawn.sigma[rows].to(images))
    return images


def grey(images: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 1, H, W] luma."""
    red, green, blue = images.unbind(dim=1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)[:, None]


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale each image by its factor [B]."""
    return (images * factor.view(-1, 1, 1, 1)).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its mean luma."""
    return _blend(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its greyscale version."""
    return _blend(images, grey(images), factor)


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
    offset = images.new_tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)
    k = (offset + sector[:, None]) % 6
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

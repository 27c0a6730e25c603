"""Multiply-adds and parameters of a backbone, without torch: for estimates of time and disk."""

from __future__ import annotations

from functools import cache

from methods.args import BackboneArgs

_STEMS = {"imagenet": (7, 2), "half": (3, 2), "small": (3, 1)}  # kernel, stride
_DEPTHS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


@cache
def resnet(args: BackboneArgs, side: int) -> tuple[int, int]:
    """Multiply-adds of one forward pass over a square image of `side` px, and trainable parameters; of
    methods/backbone.py's network, convolutions and batch normalisation counted as torch counts them."""
    multiply_adds = parameters = 0

    def convolution(inputs: int, outputs: int, kernel: int, stride: int, size: int) -> int:
        nonlocal multiply_adds, parameters
        size = (size + 2 * (kernel // 2) - kernel) // stride + 1
        weights = inputs * outputs * kernel**2
        multiply_adds += weights * size**2
        parameters += weights + 2 * outputs  # with the batch normalisation behind it
        return size

    kernel, stride = _STEMS[args.stem]
    size = convolution(3, args.width, kernel, stride, side)
    if args.stem == "imagenet":
        size = (size - 1) // 2 + 1  # max-pooling
    bottleneck = args.arch == "resnet50"
    channels = args.width
    for stage, depth in enumerate(_DEPTHS[args.arch]):
        planes = args.width * 2**stage
        outputs = 4 * planes if bottleneck else planes
        for block in range(depth):
            stride = 2 if stage and not block else 1
            before = size
            if bottleneck:
                convolution(channels, planes, 1, 1, size)
                size = convolution(planes, planes, 3, stride, size)
                convolution(planes, outputs, 1, 1, size)
            else:
                size = convolution(channels, planes, 3, stride, size)
                convolution(planes, outputs, 3, 1, size)
            if stride != 1 or channels != outputs:
                convolution(channels, outputs, 1, stride, before)
            channels = outputs
    return multiply_adds, parameters

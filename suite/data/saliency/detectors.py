"""Saliency detectors. An oracle reads the dataset's own annotation, so its results are not self-supervised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from suite.data.datasets.files import decode
from suite.data.record import Dataset
from suite.errors import DataError, UsageError, unknown

if TYPE_CHECKING:
    import numpy.typing as npt

    from suite.data.record import Dataset, Record


class Identity(Protocol):
    """Identity of a detector: enough to find its maps on the disk, without weights or onnxruntime."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> str: ...  # noqa: D102  (raised when the maps change)
    @property
    def oracle(self) -> bool: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str | None: ...  # noqa: D102


class Detector(Identity, Protocol):
    """A saliency detector. Called from several threads at once."""

    def __call__(self, image: npt.NDArray[np.uint8], record: Record, dataset: Dataset) -> npt.NDArray[np.float32]:
        """The saliency of an image [H, W, 3] as [H, W] in [0, 1]; a banner is already cut off the image."""
        ...


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """The identity of a built-in detector."""

    name: str
    version: str
    oracle: bool
    weights_sha256: str | None
    summary: str


DETECTORS: dict[str, DetectorInfo] = {
    info.name: info
    for info in (
        DetectorInfo(
            "u2netp", "1", False, "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
            "U^2-Net-p, trained on hand-drawn masks of other images (DUTS); 0.36 s per image and core",
        ),
        DetectorInfo("spectral", "1", False, None, "spectral residual with a centre prior; no training at all, fast"),
        DetectorInfo("boxes", "1", True, None, "oracle: the dataset's official bounding box, filled"),
        DetectorInfo("masks", "1", True, None, "oracle: the dataset's official segmentation masks"),
    )
}  # fmt: skip


def make_detector(name: str, data_root: Path, cache: Path, weights: Path | None = None) -> Detector:
    """The detector `name`. `weights` is for u2netp only; without it its file is searched for, or downloaded.

    Raises UsageError for an unknown name or needless weights, DataError for weights that are missing or wrong.
    """
    if name not in DETECTORS:
        raise unknown("saliency detector", name, DETECTORS)
    if name == "u2netp":
        from suite.data.saliency.u2netp import U2NetP, find_weights

        return U2NetP(weights if weights is not None else find_weights(data_root, cache))
    if weights is not None:
        raise UsageError(f"the detector '{name}' has no weights: leave out --weights, or use --detector u2netp.")
    without_weights: dict[str, Callable[[], Detector]] = {
        "spectral": Spectral,
        "boxes": OfficialBoxes,
        "masks": OfficialMasks,
    }
    return without_weights[name]()


class Spectral:
    """Spectral residual (Hou & Zhang, CVPR 2007), summed over R, G, B and weighted with a centre prior.

    Differs from the paper: colour, a blur of 8 % of the 64-pixel long side, and a centre prior exp(-r^2 / (2 0.5^2)),
    r = 1 at the middle of an edge. Mean overlap with the boxes of 600 CUB training images: .57; without the
    prior about .40, the whole image .38, the best fixed central box .54. Blur and prior were set on the boxes of some
    300 of these, so even this detector has used some annotation. It is a lower bound to compare with.
    """

    name, version, oracle = "spectral", "1", False
    weights_sha256: str | None = None

    def __call__(self, image: npt.NDArray[np.uint8], record: Record, dataset: Dataset) -> npt.NDArray[np.float32]:
        """See Detector."""
        from scipy import ndimage

        height, width = image.shape[:2]
        scale = 64 / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), dtype=np.float64) / 255
        spectrum = np.fft.fft2(small, axes=(0, 1))
        log_amplitude = np.log(np.abs(spectrum) + 1e-8)
        residual = log_amplitude - ndimage.uniform_filter(log_amplitude, size=(3, 3, 1), mode="wrap")
        unusual = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)), axes=(0, 1))) ** 2
        smooth = ndimage.gaussian_filter(unusual.sum(axis=2), sigma=0.08 * 64, mode="nearest")
        y, x = np.linspace(-1, 1, size[1])[:, None], np.linspace(-1, 1, size[0])[None]
        weighted = smooth * np.exp(-(x**2 + y**2) / (2 * 0.5**2))
        low, high = float(weighted.min()), float(weighted.max())
        scaled = Image.fromarray(((weighted - low) / max(high - low, 1e-12)).astype(np.float32))
        full = np.asarray(scaled.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
        return np.clip(full, 0, 1)


class OfficialBoxes:
    """Oracle: 1 inside the official bounding box, 0 outside."""

    name, version, oracle = "boxes", "1", True
    weights_sha256: str | None = None

    def __call__(self, image: npt.NDArray[np.uint8], record: Record, dataset: Dataset) -> npt.NDArray[np.float32]:
        """See Detector. DataError if the record has no box."""
        if record.box is None:
            raise DataError(f"{dataset.info.label} has no official box for '{record.path}'. {_others(dataset)}")
        filled = np.zeros(image.shape[:2], dtype=np.float32)
        x0, y0, x1, y1 = (max(0, round(v)) for v in record.box)
        filled[y0:y1, x0:x1] = 1
        return filled


class OfficialMasks:
    """Oracle: the official segmentation, kept soft where several annotators disagree (CUB's grey levels)."""

    name, version, oracle = "masks", "1", True
    weights_sha256: str | None = None

    def __call__(self, image: npt.NDArray[np.uint8], record: Record, dataset: Dataset) -> npt.NDArray[np.float32]:
        """See Detector. DataError if there is no mask or it has another shape than the image."""
        places = mask_places(record, dataset)
        file = next((p for p in places if p.is_file()), None)
        if file is None:
            looked = " and ".join(str(p) for p in places)
            raise DataError(f"no segmentation mask for '{record.path}': looked for {looked}. {_others(dataset)}")
        mask = decode(file)[..., 0]
        height, width = image.shape[0] + dataset.banner, image.shape[1]
        if abs(mask.shape[1] * height - mask.shape[0] * width) > 0.02 * width * mask.shape[0]:
            raise DataError(f"{file} is {mask.shape[1]} x {mask.shape[0]}, its image {width} x {height}: not its mask.")
        if mask.shape != (height, width):  # the images were reduced after they were segmented
            mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))
        return mask[: image.shape[0]].astype(np.float32) / np.float32(255)


def _others(dataset: Dataset) -> str:
    """Advice where a dataset lacks the annotations of an oracle: the commands for a detector that needs none."""
    return (
        f"Maps can be computed instead: suite data saliency {dataset.name} --detector u2netp, "
        "then suite run with --set saliency.detector=u2netp"
    )


def mask_places(record: Record, dataset: Dataset) -> list[Path]:
    """Possible places of a mask: segmentations/ beside images/, or for Cars segmentations_train/ beside cars_train/.

    CUB's masks are a separate archive, so segmentations/ may also be beside the dataset's folder.
    """
    folder, _, file = record.path.rpartition("/")
    file = file.rpartition(".")[0] + ".png"
    if folder.startswith("cars_"):
        return [dataset.root / folder.partition("/")[0].replace("cars_", "segmentations_") / file]
    if "images" not in folder.split("/"):
        return [dataset.root / "segmentations" / file]
    below = f"{folder}/".replace("images/", "segmentations/", 1) + file
    return [dataset.root / below, dataset.root.parent / below]


DETECTOR_IDENTITIES = {name: (info.version, info.weights_sha256) for name, info in DETECTORS.items()}


def masked(datasets: Iterable[Dataset]) -> set[str]:
    """Names of the datasets whose first test image has an official mask."""
    return {
        dataset.name
        for dataset in datasets
        if dataset.test and any(place.is_file() for place in mask_places(dataset.test[0], dataset))
    }

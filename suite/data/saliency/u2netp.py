"""U^2-Net-p, a 4.6 MB salient object network (Qin et al. 2020, arXiv:2005.09007), run with onnxruntime.

The network was trained on DUTS: 10,553 images of ImageNet DET with hand-drawn masks. It therefore brings in outside
supervision, as BASNet does in DiLo (arXiv:2004.06638); the detector `spectral` does not.

One image per call, since the published file has a fixed batch of one, and as many calls at once as there are cores. On
CPUs every call has one thread: 0.36 core-seconds an image, against 0.50 with two threads per call (two cores measured).
With onnxruntime-gpu the network runs on the GPU while the threads decode, resize and write; TF32 is off. The grey
levels of maps from a GPU and from a CPU can differ in their last place: a study should compute its maps on one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from suite.errors import DataError, UsageError
from suite.paths import path_from_environment

if TYPE_CHECKING:
    import numpy.typing as npt

    from suite.data.record import Dataset, Record

FILE = "u2netp.onnx"
MD5 = "8e83ca70e441ab06c318d82300c84806"
URL = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2netp.onnx"  # weights: Apache-2.0
SIDE = 320  # pixels, the side of the network's square input
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)  # ImageNet's, of pixels divided by 255
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


class U2NetP:
    """The detector `u2netp`.

    Args:
        weights: the published file; its MD5 is checked.

    Raises:
        UsageError: onnxruntime is not installed.
        DataError: the file cannot be read, or is another one.
    """

    name = "u2netp"
    version = "1"
    oracle = False

    def __init__(self, weights: Path) -> None:
        try:
            import onnxruntime
        except ImportError as e:
            raise UsageError(
                "the detector 'u2netp' needs onnxruntime, which is not installed: "
                "pip install -e '.[saliency]', or use --detector spectral, which needs nothing."
            ) from e
        data = checked_weights(weights)
        self.weights_sha256: str | None = hashlib.sha256(data).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            data, options, providers=providers(onnxruntime.get_available_providers())
        )
        self._input: str = self._session.get_inputs()[0].name
        self._output: str = self._session.get_outputs()[0].name  # the fused map; the others are its side outputs

    def __call__(self, image: npt.NDArray[np.uint8], record: Record, dataset: Dataset) -> npt.NDArray[np.float32]:
        """The saliency of an image [H, W, 3] as [H, W] in [0, 1]: first output, min-max scaled per image."""
        height, width = image.shape[:2]
        square = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        x = (np.asarray(square, dtype=np.float32) / 255 - MEAN) / STD
        tensor = np.ascontiguousarray(x.transpose(2, 0, 1)[None])
        out: npt.NDArray[np.float32] = self._session.run([self._output], {self._input: tensor})[0][0, 0]
        low, high = float(out.min()), float(out.max())
        if high - low < 1e-6:  # a constant answer finds nothing; scaling it would only show rounding noise
            return np.zeros((height, width), dtype=np.float32)
        scaled = Image.fromarray((out - low) / (high - low))
        full = np.asarray(scaled.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
        return np.clip(full, 0, 1)


def providers(available: Sequence[str]) -> list[str | tuple[str, dict[str, str]]]:
    """Execution providers in the order of preference: CUDA where onnxruntime has it, and a CPU."""
    cuda = [("CUDAExecutionProvider", {"use_tf32": "0"})] if "CUDAExecutionProvider" in available else []
    return [*cuda, "CPUExecutionProvider"]


def find_weights(data_root: Path, cache: Path) -> Path:
    """The weight file: from $SUITE_MODELS or a folder `models`, else downloaded to `cache`/models.

    Raises DataError if it is in none of them and cannot be downloaded.
    """
    file = existing_weights(data_root, cache)
    return file if file is not None else download_weights(cache / "models", weight_folders(data_root, cache))


def existing_weights(data_root: Path, cache: Path) -> Path | None:
    """The weight file on this machine, unchecked; None if there is none."""
    places = (folder / FILE for folder in weight_folders(data_root, cache))
    return next((place for place in places if place.is_file()), None)


def weight_folders(data_root: Path, cache: Path) -> list[Path]:
    """The places where the weights may be, in the order of the search."""
    named = path_from_environment("SUITE_MODELS")
    folders = [data_root / "models", data_root.resolve().parent / "models", cache / "models"]
    return [named, *folders] if named else folders


def download_weights(folder: Path, looked_in: list[Path]) -> Path:
    """Download the weights into `folder` and check them; DataError if that does not work."""
    import pooch

    try:
        return Path(pooch.retrieve(URL, known_hash=f"md5:{MD5}", fname=FILE, path=folder))
    except (OSError, ValueError) as e:  # no network, no right to write; ValueError: another checksum came
        places = ", ".join(str(f) for f in looked_in)
        raise DataError(
            f"the weights of u2netp are not in {places} and could not be downloaded ({type(e).__name__}: {e}). "
            f"Download {URL} (4.6 MB, md5 {MD5}) on a machine with a network and copy it to {folder / FILE}, or into "
            "$SUITE_MODELS. For one dataset: suite data saliency DATASET --detector u2netp --weights FILE"
        ) from e


def checked_weights(path: Path) -> bytes:
    """The file's content, after comparing its md5 with the published one; DataError if it differs or is absent."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise DataError(
            f"cannot read the u2netp weights {path}: {e.strerror}. Get {URL} and give its place with --weights FILE."
        ) from e
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if digest != MD5:
        raise DataError(
            f"{path} is not the expected {FILE}: md5 {digest} ({len(data):,} bytes), expected {MD5}. "
            f"Delete it and get it again from {URL}."
        )
    return data

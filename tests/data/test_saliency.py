"""Saliency: boxes from maps, the detectors, and the cache that every job reads."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import json
import os
import pickle
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from suite.data.datasets.fingerprint import fingerprint
from suite.data.datasets.load import load_dataset
from suite.data.decoded.images import build_store
from suite.data.decoded.saliency import build_maps
from suite.data.record import Box
from suite.data.saliency import u2netp
from suite.data.saliency.box import overlap, salient_box
from suite.data.saliency.detectors import DETECTORS, Spectral, make_detector
from suite.data.saliency.maps import SaliencyMaps, box_quality, compute_saliency
from suite.data.spec import SaliencySpec
from suite.errors import DataError, UsageError


class Counting:
    """Finds the left half of every image, and counts its calls; stops with an error after `limit` of them."""

    name, version, oracle = "counting", "1", False
    weights_sha256 = None

    def __init__(self, limit: int = 1000) -> None:
        self.calls: list[str] = []
        self.limit = limit

    def __call__(self, image, record, dataset):
        if len(self.calls) >= self.limit:
            raise KeyboardInterrupt
        self.calls.append(record.path)
        saliency = np.zeros(image.shape[:2], dtype=np.float32)
        saliency[:, : image.shape[1] // 2] = 1
        return saliency


def blank(*rectangles: tuple[int, int, int, int, int]) -> np.ndarray:
    """A map of 40 x 60 (height x width) with rectangles x0 y0 x1 y1 of a value."""
    saliency = np.zeros((40, 60), dtype=np.uint8)
    for x0, y0, x1, y1, value in rectangles:
        saliency[y0:y1, x0:x1] = value
    return saliency


WHOLE = Box(0, 0, 60, 40)


@pytest.mark.parametrize(
    ("saliency", "expected"),
    [
        (blank((10, 5, 30, 25, 255)), (Box(10, 5, 30, 25), None)),
        (blank((10, 5, 30, 25, 90)), (Box(10, 5, 30, 25), None)),  # relative to the maximum
        (blank((10, 5, 30, 25, 200), (40, 30, 50, 38, 255)), (Box(10, 5, 30, 25), None)),  # the largest region
        (blank((5, 5, 50, 35, 70), (10, 10, 30, 30, 255)), (Box(10, 10, 30, 30), None)),  # below the threshold
        (blank((10, 10, 20, 20, 255), (20, 20, 25, 25, 255)), (Box(10, 10, 25, 25), None)),  # joined by a corner
        (blank((0, 0, 60, 20, 255)), (Box(0, 0, 60, 20), None)),
        (blank(), (WHOLE, "empty")),
        (blank((0, 0, 60, 40, 255)), (WHOLE, "full")),
        (blank((0, 0, 59, 39, 255)), (WHOLE, "full")),
        (blank((10, 10, 12, 30, 255)), (WHOLE, "small")),
        (blank((10, 10, 40, 11, 255)), (WHOLE, "small")),
    ],
)
def test_salient_box(saliency, expected):
    assert salient_box(saliency, threshold=0.3, min_side=0.05) == expected


@given(st.integers(0, 50), st.integers(0, 30), st.integers(6, 60), st.integers(6, 40))
def test_a_rectangle_is_its_own_box(x, y, width, height):
    box, reason = salient_box(blank((x, y, min(60, x + width), min(40, y + height), 255)), 0.3, 0.05)
    assert box == (WHOLE if reason else (x, y, min(60, x + width), min(40, y + height)))


def test_overlap():
    assert overlap(Box(0, 0, 10, 10), Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap(Box(0, 0, 10, 10), Box(10, 0, 20, 10)) == 0
    assert overlap(WHOLE, WHOLE) == 1


def test_maps_are_computed_once_and_described(layouts, tmp_path):
    layouts.cub()
    dataset = load_dataset("cub", layouts.root)
    heard, detector = [], Counting()
    maps = compute_saliency(
        dataset, dataset.train, detector, tmp_path, 2, progress=lambda done, of: heard.append((done, of))
    )
    assert heard == [(n, 4) for n in range(1, 5)]
    assert maps.missing(dataset.train) == []
    assert maps.missing(dataset.test) == list(dataset.test)
    assert maps.manifest["computed"] == 4
    compute_saliency(dataset, (*dataset.train, *dataset.test), detector, tmp_path)
    assert len(detector.calls) == len(set(detector.calls)) == 6
    facts = maps.manifest
    assert (facts["detector"], facts["version"], facts["oracle"], facts["weights_sha256"]) == (
        "counting",
        "1",
        False,
        None,
    )
    assert (facts["computed"], facts["images"]) == (6, 6)
    assert maps.folder.name.startswith("cub-counting-")
    record = dataset.train[0]
    assert maps.file(record) == maps.folder / "maps/images/003.Third/003.Third_0.png"
    picture = maps.map(record)
    assert picture.shape == (30, 40)
    assert picture.dtype == np.uint8
    assert salient_box(picture, 0.3, 0.05) == ((0, 0, 20, 30), None)
    assert not list(tmp_path.rglob("*.tmp"))
    assert pickle.loads(pickle.dumps(maps)) == maps


def test_interrupted_work_goes_on_where_it_stopped(layouts, tmp_path):
    layouts.cub()
    dataset = load_dataset("cub", layouts.root)
    with pytest.raises(KeyboardInterrupt):
        compute_saliency(dataset, dataset.train, Counting(limit=2), tmp_path)
    maps = SaliencyMaps.of(dataset, Counting(), tmp_path)
    assert len(maps.missing(dataset.train)) == 2
    with pytest.raises(DataError, match="suite data saliency cub --detector counting"):
        _ = maps.manifest
    with maps.file(dataset.train[0]).open("r+b") as f:
        f.truncate(20)  # as after a power cut
    second = Counting()
    compute_saliency(dataset, dataset.train, second, tmp_path)
    assert len(second.calls) == 3
    assert maps.manifest["computed"] == 4


def test_an_exchanged_image_is_computed_again(layouts, tmp_path):
    root = layouts.cub()
    dataset = load_dataset("cub", layouts.root)
    detector = Counting()
    maps = compute_saliency(dataset, dataset.train, detector, tmp_path)
    Image.new("RGB", (50, 20)).save(root / dataset.train[1].path)
    assert maps.missing(dataset.train) == [dataset.train[1]]
    compute_saliency(dataset, dataset.train, detector, tmp_path)
    assert maps.map(dataset.train[1]).shape == (20, 50)
    assert len(detector.calls) == 5


def test_two_at_once_share_the_work(layouts, tmp_path):
    layouts.cub()
    dataset = load_dataset("cub", layouts.root)
    detector = Counting()
    runs = [
        threading.Thread(target=compute_saliency, args=(dataset, dataset.train, detector, tmp_path)) for _ in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(detector.calls) == 4


def test_fallbacks_are_counted_and_logged(layouts, tmp_path, caplog):
    root = layouts.cub()
    dataset = load_dataset("cub", layouts.root)
    boxes = [Box(0, 0, 40, 30), Box(5, 5, 6, 30), Box(50, 50, 60, 60), Box(5, 5, 20, 20)]
    odd = dataclasses.replace(
        dataset, train=tuple(dataclasses.replace(r, box=b) for r, b in zip(dataset.train, boxes, strict=True))
    )
    maps = compute_saliency(odd, odd.train, make_detector("boxes", root, tmp_path), tmp_path)
    assert maps.folder != SaliencyMaps.of(dataset, DETECTORS["boxes"], tmp_path).folder
    quality = box_quality(odd, maps, 0.3, 0.05)
    assert quality["fallbacks"] == 3
    assert quality["images"] == 4
    store = build_store(odd, fingerprint(odd, tmp_path), 30, tmp_path)
    spec = SaliencySpec(
        detector="boxes", threshold=0.3, min_side=0.05, version=DETECTORS["boxes"].version, weights_sha256=None
    )
    assert build_maps(store, odd, spec, maps).fallbacks == {"empty": 1, "small": 1, "full": 1}
    assert "of 4 maps" in caplog.text
    narrow = spec.model_copy(update={"min_side": 0.02})
    assert build_maps(store, odd, narrow, maps).fallbacks == {"empty": 1, "full": 1}
    assert box_quality(odd, maps, 0.3, 0.02)["fallbacks"] == 2


def test_oracle_boxes_say_what_they_are(layouts, tmp_path):
    layouts.cub()
    dataset = load_dataset("cub", layouts.root)
    maps = compute_saliency(dataset, dataset.train, make_detector("boxes", layouts.root, tmp_path), tmp_path)
    assert "-boxes-oracle-" in maps.folder.name
    assert maps.manifest["oracle"] is True
    quality = box_quality(dataset, maps, 0.3, 0.05)
    assert quality["mean_iou"] > 0.9 > quality["whole_image_iou"]
    assert quality["above_half"] == 1


def test_an_oracle_needs_annotation(layouts, tmp_path):
    layouts.coco()
    dataset = load_dataset("coco", layouts.root)
    with pytest.raises(DataError, match="COCO has no official box"):
        compute_saliency(dataset, dataset.train, make_detector("boxes", layouts.root, tmp_path), tmp_path)
    with pytest.raises(DataError, match=r"no segmentation mask for 'train2017/000000000009.jpg'"):
        compute_saliency(dataset, dataset.train, make_detector("masks", layouts.root, tmp_path), tmp_path)
    maps = compute_saliency(dataset, dataset.train, Spectral(), tmp_path)
    with pytest.raises(DataError, match="no image has both"):
        box_quality(dataset, maps, 0.3, 0.05)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("cub", "segmentations/003.Third/003.Third_0.png"),
        ("cub", "../segmentations/003.Third/003.Third_0.png"),
        ("nabirds", "segmentations/003.Third/003.Third_0.png"),
        ("aircraft", "data/segmentations/0000001.png"),
        ("cars", "segmentations_train/00001.png"),
        ("coco", "segmentations/000000000009.png"),
    ],
)
def test_official_masks_stay_soft(layouts, tmp_path, name, place):
    file = getattr(layouts, name)() / place
    dataset = load_dataset(name, layouts.root)
    file.parent.mkdir(parents=True)
    soft = np.zeros((30, 40), dtype=np.uint8)
    soft[2:9, 10:30] = 255
    soft[9:10, 10:30] = 51
    Image.fromarray(soft).save(file)
    maps = compute_saliency(dataset, dataset.train[:1], make_detector("masks", layouts.root, tmp_path), tmp_path)
    assert (maps.map(dataset.train[0]) == soft).all()
    assert "-masks-oracle-" in maps.folder.name


def test_masks_of_larger_originals_and_of_other_images(layouts, tmp_path):
    file = layouts.cub() / "segmentations/003.Third/003.Third_0.png"
    dataset = load_dataset("cub", layouts.root)
    file.parent.mkdir(parents=True)
    Image.new("L", (80, 60), 255).save(file)
    detector = make_detector("masks", layouts.root, tmp_path)
    assert compute_saliency(dataset, dataset.train[:1], detector, tmp_path).map(dataset.train[0]).shape == (30, 40)
    Image.new("L", (60, 60), 255).save(file)
    with pytest.raises(DataError, match="60 x 60, its image 40 x 30"):
        compute_saliency(dataset, dataset.train[:1], detector, tmp_path / "again")


def test_a_banner_is_never_salient(layouts, tmp_path):
    layouts.aircraft()
    dataset = load_dataset("aircraft", layouts.root)

    class Everything(Counting):
        def __call__(self, image, record, dataset):
            assert image.shape == (10, 40, 3)
            return np.ones(image.shape[:2], dtype=np.float32)

    maps = compute_saliency(dataset, dataset.train, Everything(), tmp_path)
    assert (maps.map(dataset.train[0])[:10] == 255).all()
    assert (maps.map(dataset.train[0])[10:] == 0).all()
    assert salient_box(maps.map(dataset.train[0])[:10], 0.3, 0.05) == ((0, 0, 40, 10), "full")


def test_maps_are_upright(layouts, tmp_path):
    root = layouts.cub()
    dataset = load_dataset("cub", layouts.root)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(root / dataset.train[0].path, exif=exif)
    assert compute_saliency(dataset, dataset.train, Counting(), tmp_path).map(dataset.train[0]).shape == (40, 30)


@pytest.mark.parametrize("shape", [(200, 300), (300, 200), (3, 500), (1, 1)])
def test_spectral_finds_the_odd_one_out(layouts, shape):
    image = np.full((*shape, 3), 90, dtype=np.uint8)
    y, x = (int(side * 0.4) for side in shape)
    image[y : y + max(1, shape[0] // 5), x : x + max(1, shape[1] // 5)] = (250, 30, 10)
    found = Spectral()(image, None, None)
    assert found.shape == shape
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    if min(shape) > 100:
        box, reason = salient_box(np.round(found * 255).astype(np.uint8), 0.3, 0.05)
        assert reason is None
        assert box.x0 < shape[1] / 2 < box.x1
        assert box.y0 < shape[0] / 2 < box.y1


def test_which_detectors_there_are(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'u2netp'"):
        make_detector("u2net", tmp_path, tmp_path)
    with pytest.raises(UsageError, match="'spectral' has no weights"):
        make_detector("spectral", tmp_path, tmp_path, weights=tmp_path / "w")
    for name in ("spectral", "boxes", "masks"):
        made, info = make_detector(name, tmp_path, tmp_path), DETECTORS[name]
        assert (made.name, made.version, made.oracle) == (info.name, info.version, info.oracle)


def test_wrong_weights(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "w.onnx").write_bytes(b"something else")
    with pytest.raises(DataError, match=f"md5 6c7ba9c5a141421e1c03cb9807c97c74 .*{u2netp.MD5}"):
        make_detector("u2netp", tmp_path, tmp_path, weights=tmp_path / "w.onnx")
    with pytest.raises(DataError, match=r"cannot read the u2netp weights .*none.onnx"):
        make_detector("u2netp", tmp_path, tmp_path, weights=tmp_path / "none.onnx")


class FakeRuntime:
    """In the place of onnxruntime: a network that finds the left half of an image."""

    class SessionOptions:
        pass

    class InferenceSession:
        def __init__(self, data, options, providers):
            self.threads = options.intra_op_num_threads
            self.providers = providers

        def get_inputs(self):
            return [SimpleNamespace(name="input")]

        def get_outputs(self):
            return [SimpleNamespace(name="fused"), SimpleNamespace(name="side")]

        def run(self, outputs, feed):
            assert outputs == ["fused"]  # the side outputs are not copied back from a GPU
            assert feed["input"].shape == (1, 3, 320, 320)
            assert feed["input"].flags.c_contiguous
            out = np.zeros((1, 1, 320, 320), np.float32)
            out[..., :160] = 1
            return [out]

    def __init__(self, *available):
        self.get_available_providers = lambda: list(available)


@pytest.mark.parametrize("gpu", [False, True])
def test_the_gpu_is_used_where_onnxruntime_has_it(gpu, tmp_path, monkeypatch, drawn):
    available = [*["TensorrtExecutionProvider", "CUDAExecutionProvider"] * gpu, "CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeRuntime(*available))
    (tmp_path / "w.onnx").write_bytes(b"a network")
    monkeypatch.setattr(u2netp, "MD5", hashlib.md5(b"a network").hexdigest())
    detector = make_detector("u2netp", tmp_path, tmp_path, tmp_path / "w.onnx")
    assert detector._session.threads == 1
    expected = [("CUDAExecutionProvider", {"use_tf32": "0"})] * gpu
    assert detector._session.providers == [*expected, "CPUExecutionProvider"]
    dataset = load_dataset("cub", drawn)
    maps = compute_saliency(dataset, dataset.test[:3], detector, tmp_path, threads=3)
    columns = maps.map(dataset.test[0]).max(axis=0)
    assert columns[0] == 255
    assert columns[-1] == 0


def test_no_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install -e '.\[saliency\]'"):
        make_detector("u2netp", tmp_path, tmp_path, weights=tmp_path / "w.onnx")


def test_where_weights_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("SUITE_MODELS", raising=False)
    monkeypatch.setattr(u2netp, "URL", "http://127.0.0.1:9/u2netp.onnx")  # nobody listens there
    root, cache = tmp_path / "data", tmp_path / "cache"
    with pytest.raises(
        DataError, match=r"could not be downloaded.*suite data saliency DATASET --detector u2netp --weights"
    ):
        u2netp.find_weights(root, cache)
    places = [cache / "models", tmp_path / "models", root / "models", tmp_path / "named"]
    monkeypatch.setenv("SUITE_MODELS", str(tmp_path / "named"))
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / "u2netp.onnx").write_bytes(b"")
        assert u2netp.find_weights(root, cache) == place / "u2netp.onnx"


def test_weights_are_downloaded_and_checked(tmp_path, monkeypatch):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/u2netp.onnx").write_bytes(b"weights")
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(u2netp, "URL", f"http://127.0.0.1:{server.server_port}/u2netp.onnx")
        with pytest.raises(DataError, match="could not be downloaded"):  # another md5 than the published one
            u2netp.download_weights(tmp_path / "cache", [])
        monkeypatch.setattr(u2netp, "MD5", hashlib.md5(b"weights").hexdigest())
        assert u2netp.download_weights(tmp_path / "cache", []).read_bytes() == b"weights"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_u2netp_on_real_birds(real_data, tmp_path):
    pytest.importorskip("onnxruntime")
    places = [
        Path(os.environ.get("SUITE_MODELS", real_data / "../models")),
        real_data / "../models",
        real_data / "models",
    ]
    weights = next((p / "u2netp.onnx" for p in places if (p / "u2netp.onnx").is_file()), None)
    if weights is None:
        pytest.skip("no u2netp.onnx in SUITE_MODELS or a models folder at SUITE_DATA")
    if not (real_data / "CUB_200_2011").is_dir():
        pytest.skip("no CUB_200_2011 in SUITE_DATA")
    dataset = load_dataset("cub", real_data)
    detector = make_detector("u2netp", real_data, tmp_path, weights)
    assert detector.weights_sha256 == DETECTORS["u2netp"].weights_sha256
    maps = compute_saliency(dataset, dataset.train[::30], detector, tmp_path)
    quality = box_quality(dataset, maps, 0.3, 0.05)
    assert quality["images"] == len(dataset.train[::30])
    assert quality["mean_iou"] > 0.7
    assert json.loads((maps.folder / "manifest.json").read_text())["weights_sha256"] == detector.weights_sha256

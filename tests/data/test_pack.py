"""`suite data pack`: balanced, in the official layout, the same bytes for the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from suite.data.datasets.load import load_dataset
from suite.data.pack import SubsetSpec, pack
from suite.data.synthetic.spec import Counts, SyntheticSpec
from suite.data.synthetic.write import write_synthetic
from suite.data.verify import verify
from suite.errors import DataError, UsageError

NAMES = ("cub", "nabirds", "aircraft", "cars")
COUNTS = Counts(classes=5, train=6, test=4)


def quiet(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "data"
    spec = SyntheticSpec(
        short_side=40, sets=(*NAMES, "coco"), cub=COUNTS, nabirds=COUNTS, aircraft=COUNTS, cars=COUNTS, coco=9
    )
    write_synthetic(root, spec, workers=1)
    return root


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_is_balanced_official_and_reproducible(name: str, source: Path, tmp_path: Path) -> None:
    whole = load_dataset(name, source)
    made = pack(name, source, tmp_path / "a", SubsetSpec(3, 2, seed=1), quiet)
    assert len(made.classes) == 3
    for split in ("train", "test"):
        assert set(Counter(record.label for record in made.split(split)).values()) == {2}
    old = {record.id: (record, whole.classes[record.label]) for record in (*whole.train, *whole.test)}
    for record in (*made.train, *made.test):
        was, label = old[record.id]
        assert (record.path, record.box, made.classes[record.label]) == (was.path, was.box, label)
        assert (made.root / record.path).read_bytes() == (whole.root / record.path).read_bytes()
    assert made.synthetic  # the mark of synthetic images is copied
    assert verify(name, tmp_path / "a", tmp_path / "cache", quiet).sound

    pack(name, source, tmp_path / "b", SubsetSpec(3, 2, seed=1), quiet)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    others = [pack(name, source, tmp_path / str(seed), SubsetSpec(3, 2, seed), quiet) for seed in (2, 3)]
    assert any({r.path for r in other.train} != {r.path for r in made.train} for other in others)


def test_a_pack_of_first_stage_sets(source: Path, layouts, tmp_path: Path) -> None:
    made = pack("coco", source, tmp_path / "a", SubsetSpec(1, 4, seed=0), quiet)
    drawn = [record.id for record in load_dataset("coco", source).train]
    assert [drawn.index(record.id) for record in made.train] == [0, 2, 4, 6]  # the same in every process
    with pytest.raises(UsageError, match="the dataset has 1 classes"):
        pack("coco", source, tmp_path / "b", SubsetSpec(2, 4, seed=0), quiet)
    layouts.imagenet()
    made = pack("imagenet", layouts.root, tmp_path / "c", SubsetSpec(1, 1, seed=0), quiet)
    assert [record.path.split("/")[1] for record in made.train] in (["n01"], ["n02"])


def test_what_cannot_be_packed(source: Path, layouts, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"only 0 classes have 5 images in each split, but 3 are asked for; .* --per-class .* most 4"
    ):
        pack("cub", source, tmp_path / "a", SubsetSpec(3, 5, seed=0), quiet)
    with pytest.raises(UsageError, match="the dataset has 5 classes"):
        pack("cub", source, tmp_path / "a", SubsetSpec(9, 1, seed=0), quiet)
    assert not (tmp_path / "a").exists()
    layouts.cub()
    with pytest.raises(DataError, match="holds other data"):
        pack("cub", source, layouts.root, SubsetSpec(3, 2, seed=0), quiet)
    with pytest.raises(DataError, match="must not mix"):
        pack("cars", source, layouts.root, SubsetSpec(3, 2, seed=0), quiet)
    pack("cars", source, tmp_path / "b", SubsetSpec(3, 2, seed=0), quiet)
    assert pack("cars", source, tmp_path / "b", SubsetSpec(3, 2, seed=0), quiet).classes  # there already
    with pytest.raises(DataError, match="holds other data"):
        pack("cars", source, tmp_path / "b", SubsetSpec(3, 2, seed=1), quiet)
    with pytest.raises(DataError, match="holds synthetic images"):
        pack("cub", layouts.root, tmp_path / "b", SubsetSpec(1, 1, seed=0), quiet)


@pytest.mark.parametrize(
    ("name", "choice"), [("cub", SubsetSpec(4, 5, 0)), ("cars", SubsetSpec(4, 5, 0)), ("coco", SubsetSpec(1, 9, 0))]
)
def test_real_packs_of_packs(name: str, choice: SubsetSpec, real_data: Path, tmp_path: Path) -> None:
    try:
        load_dataset(name, real_data)
    except DataError as error:
        pytest.skip(str(error)[:80])
    made = pack(name, real_data, tmp_path, choice, quiet)
    assert len(made.train) == choice.classes * choice.per_class
    assert not made.synthetic

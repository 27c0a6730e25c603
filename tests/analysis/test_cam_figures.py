"""Figures of class activation maps from networks with random weights: which cells, which images, what is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.cam.images import figure_images, finetune_spec, refuse_unknown
from analysis.cam.layout import StageMaps, networks_figure, stages_figure
from analysis.cam.options import CamOptions
from analysis.cam.stages import stage_cells, write_panels
from analysis.figures.style import CamColumn, density
from suite.errors import UsageError
from suite.jobs.identity import Job
from suite.store.cells import CellRecord
from suite.store.ledger import read_cells
from suite.workspace import Workspace

from .stores import made_up_store

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> Workspace:
    """Birds and cars after one stage and after two. BYOL+CVSA's second stage alone is missing on the cars."""
    runs = tmp_path_factory.mktemp("both")
    methods = ("byol", "byol_cvsa")

    def fate(job: Job) -> str:
        return "new" if job.name == "finetune byol_cvsa cars s0" else "done"

    made_up_store(runs, drawn, tiny_profile, "paper_table1", methods=methods, weights=True, fate=fate)
    return made_up_store(runs, drawn, tiny_profile, "paper_table2", methods=methods, weights=True)


def finetuned(workspace: Workspace, dataset: str) -> list[str]:
    entries = [entry for entry in read_cells(workspace.runs) if entry.dataset == dataset]
    return [entry.measured["finetune"] for entry in entries]


def test_the_posters_panel_is_drawn_from_both_grids_and_names_its_missing_maps(both: Workspace, tmp_path: Path) -> None:
    written = write_panels(both, read_cells(both.runs), tmp_path, CamOptions(count=2, colours="jet"))
    assert [(panel.dataset, panel.stage1, panel.seed) for panel, _ in written] == [
        ("cub", "coco", 0),
        ("cars", "coco", 0),
    ]
    names = [path.name for _, files in written for path in files]
    assert names == [
        f"stages_gradcam_coco_{data}.{kind}" for data in ("cub", "cars") for kind in ("pdf", "png", "json")
    ]
    birds, cars = (json.loads((tmp_path / f"stages_gradcam_coco_{data}.json").read_text()) for data in ("cub", "cars"))
    assert list(birds["networks"]) == ["a: BYOL", "b: BYOL", "b: BYOL+CVSA", "c: BYOL", "c: BYOL+CVSA"]
    assert (birds["holes"], len(birds["images"]), birds["colormap"], birds["image_seed"]) == ({}, 2, "jet", 0)
    assert cars["holes"] == {"b: BYOL+CVSA": "no finished cell of BYOL+CVSA, seed 0"}
    of = {(e.grid, e.row, e.dataset): e.measured["finetune"] for e in read_cells(both.runs)}
    assert birds["networks"]["a: BYOL"] == of["paper_table2", "byol_stage1", "cub"]
    assert birds["networks"]["b: BYOL+CVSA"] == of["paper_table1", "byol_cvsa", "cub"]
    assert birds["networks"]["c: BYOL+CVSA"] == of["paper_table2", "byol_cvsa", "cub"]


def test_one_grid_alone_makes_no_panel(both: Workspace, tmp_path: Path) -> None:
    for grid in ("paper_table1", "paper_table2"):
        assert write_panels(both, read_cells(both.runs, grid), tmp_path, CamOptions()) == []
    assert list(tmp_path.iterdir()) == []


def entry(stage1: str, stage2: str, method: str, seed: int) -> CellRecord:
    key = f"{stage1}-{stage2}-{method}-{seed}"
    return CellRecord.model_construct(
        profile="p", dataset="cub", stage1=stage1, stage2=stage2, method=method, seed=seed, measured={"finetune": key}
    )


def test_a_panel_takes_the_seed_with_the_most_cells_and_mixes_no_seeds() -> None:
    first = [entry("none", "yes", "byol", 0), entry("coco", "yes", "byol_cvsa", 1), entry("imagenet", "no", "byol", 1)]
    second = [entry("none", "yes", "byol", 1), entry("none", "yes", "byol_cvsa", 1), entry("none", "yes", "simclr", 1)]
    entries = [*first, *second]
    panels = stage_cells(entries, {e.measured["finetune"] for e in entries})
    assert [(panel.stage1, panel.seed) for panel in panels] == [("coco", 1), ("imagenet", 1)]
    assert [position for position, cell in panels[0].cells.items() if cell] == [
        ("b", "byol"),
        ("b", "byol_cvsa"),
        ("c", "byol_cvsa"),
    ]
    assert [position for position, cell in panels[1].cells.items() if cell] == [
        ("a", "byol"),
        ("b", "byol"),
        ("b", "byol_cvsa"),
    ]
    assert stage_cells(entries, {"none-yes-byol-0", "coco-yes-byol_cvsa-1"}) == []  # nothing of one seed to compare


def test_own_first_stages_have_a_panel_of_their_own() -> None:
    def own(stage2: str) -> CellRecord:
        record = entry("coco", stage2, "byol_cvsa", 0)
        return record.model_copy(update={"first_stage": "own", "measured": {"finetune": f"own-{stage2}"}})

    scratch = [entry("none", "yes", method, 0) for method in ("byol", "byol_cvsa")]
    plain = [entry("coco", "no", "byol", 0), entry("coco", "yes", "byol_cvsa", 0)]
    entries = [*scratch, *plain, own("no"), own("yes")]
    panels = stage_cells(entries, {e.measured["finetune"] for e in entries})
    assert [(panel.own_first_stage, panel.first) for panel in panels] == [
        (False, ("byol",)),
        (True, ("byol", "byol_cvsa")),
    ]
    keys = [
        {position: record.measured["finetune"] for position, record in panel.cells.items() if record}
        for panel in panels
    ]
    assert keys[0]["c", "byol_cvsa"] == "coco-yes-byol_cvsa-0"
    assert ("a", "byol_cvsa") not in panels[0].cells
    assert (keys[1]["a", "byol_cvsa"], keys[1]["c", "byol_cvsa"]) == ("own-no", "own-yes")
    assert keys[1]["a", "byol"] == keys[0]["a", "byol"] == "coco-no-byol-0"
    assert "by each method itself" in panels[1].title
    assert len(stage_cells([*scratch, *plain], {e.measured["finetune"] for e in entries})) == 1


def test_images_are_named_or_drawn(both: Workspace) -> None:
    spec = finetune_spec(both.store, finetuned(both, "cub")[0])
    random = figure_images(both, spec, CamOptions(count=3))
    assert random.paths == figure_images(both, spec, CamOptions(count=3)).paths
    assert any(random.paths != figure_images(both, spec, CamOptions(count=3, seed=seed)).paths for seed in (1, 2, 3))
    wanted = (Path(random.paths[2]).name, random.paths[0])
    named = figure_images(both, spec, CamOptions(files=wanted))
    assert named.paths == (random.paths[2], random.paths[0])  # by file name and by path, in the order given
    assert (random.sampled, named.sampled) == (True, False)
    np.testing.assert_array_equal(named.display, random.display[[2, 0]])
    cars = finetune_spec(both.store, finetuned(both, "cars")[0])
    assert figure_images(both, cars, CamOptions(count=2, files=wanted)).sampled  # they are birds


def test_an_unknown_image_is_refused_with_the_nearest(both: Workspace) -> None:
    keys = [finetuned(both, data)[0] for data in ("cub", "cars")]
    spec = finetune_spec(both.store, keys[0])
    name = Path(figure_images(both, spec, CamOptions(count=1)).paths[0]).name
    refuse_unknown(both, keys, [name])
    with pytest.raises(UsageError, match=rf"test image of CUB.*Did you mean '{name}'"):
        refuse_unknown(both, keys, [name, name.replace(".jpg", "x.jpg")])
    training = Path(figure_images(both, spec, CamOptions(count=1)).store.paths[0]).name
    with pytest.raises(UsageError, match="it is a training image"):
        refuse_unknown(both, keys, [training])
    with pytest.raises(UsageError, match="any finished cell"):
        refuse_unknown(both, [], [name])


def test_networks_below_each_other_share_one_scale_per_image() -> None:
    maps = [RNG.random((2, 24, 24)) ** power for power in range(1, 8)]
    columns = [CamColumn(f"Network {number} (no stage 2)", m) for number, m in enumerate(maps)]
    figure = networks_figure(columns, IMAGES, ["a\nb.jpg", "c\nd.jpg"], boxes=[None, None], notes=["A note."])
    shades = [image for axes in figure.axes for image in axes.images if image.get_alpha() is not None]
    highest = np.max([density(m) for m in maps], axis=(0, 2, 3))
    assert len(shades) == 14
    for column in (0, 1):
        for shade in shades[7 * column : 7 * column + 7]:
            np.testing.assert_allclose(shade.get_clim(), (0, highest[column]), rtol=1e-6)
    texts = [text.get_text() for text in figure.texts]
    assert texts[:2] == ["Image", "Network 0\n(no stage 2)"]
    assert "A note." in texts
    assert max(figure.get_size_inches()) < 9.7  # fits a page


def test_the_panel_draws_what_is_shared_once_and_says_what_is_missing() -> None:
    maps = RNG.random((2, 24, 24))
    stages = StageMaps(("BYOL", "BYOL+CVSA"), maps, (maps**2, "no finished cell"), (maps**3, maps**4))
    figure = stages_figure(stages, IMAGES, ["a", "b"], boxes=[None, None], colours="jet")
    shades = [image for axes in figure.axes for image in axes.images if image.get_alpha() is not None]
    assert len(shades) == 2 * 4
    assert {shade.get_cmap().name for shade in shades} == {"jet"}
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["no finished cell"] * 2
    assert len({shade.get_clim() for shade in shades}) == 2  # one scale per image
    own = StageMaps(("BYOL", "BYOL+CVSA"), (maps, maps**2), (maps**3, "no finished cell"), (maps**4, maps**5))
    figure = stages_figure(own, IMAGES, ["a", "b"], boxes=[None, None])
    shades = [image for axes in figure.axes for image in axes.images if image.get_alpha() is not None]
    assert len(shades) == 2 * 5
    column = [image.axes.get_position() for image in shades[:2]]  # (a) of the first image
    assert column[0].x0 == column[1].x0
    assert column[0].y0 > column[1].y0
    names = {text.get_text(): text.get_position()[0] for text in figure.texts}
    assert names["BYOL"] < column[0].x0  # the names stand left of (a)
    everything = StageMaps(("BYOL", "BYOL+CVSA"), "no", ("no", "no"), ("no", "no"))
    assert len(stages_figure(everything, IMAGES, ["a", "b"], boxes=[None, None]).axes) == 2 * 6

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.figures.style import CamColumn, cam_figure, contact_sheet, density, save
from suite.data.record import Box

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
MAPS = RNG.random((2, 24, 32), dtype=np.float32)
LABELS = ["Black footed Albatross\nBlack_Footed_Albatross_0046_18.jpg", "Costs $5 or $6"]


def columns() -> list[CamColumn]:
    return [CamColumn("Random init", MAPS * 0.01), CamColumn("BYOL", MAPS**4 * 50)]


def test_density_is_one_on_average_and_blind_to_the_height_of_the_logits() -> None:
    found = density(MAPS)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), 1)
    np.testing.assert_allclose(density(MAPS * 1000), found)
    np.testing.assert_allclose(found / found[:, :1, :1], MAPS / MAPS[:, :1, :1], rtol=1e-5)  # nothing but a factor


def test_density_tells_a_flat_map_from_a_peaked_one_and_keeps_zero_maps_zero() -> None:
    flat, peak = np.full((1, 4, 4), 0.3), np.zeros((1, 4, 4))
    peak[0, 1, 2] = 0.3
    np.testing.assert_allclose(density(flat), 1)
    assert density(peak).max() == 16
    assert not density(np.zeros((1, 4, 4))).any()


@pytest.mark.parametrize("bad", [np.full((1, 2, 2), np.nan), np.full((1, 2, 2), -1.0), np.ones((2, 2))])
def test_density_refuses_what_is_no_raw_map(bad: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="not negative"):
        density(bad)


def test_every_row_has_one_colour_scale_that_spans_its_highest_density() -> None:
    figure = cam_figure(columns(), IMAGES, LABELS)
    drawn = [image for axes in figure.axes for image in axes.images]
    shades = [image for image in drawn if image.get_alpha() is not None]
    rows = [shades[:2], shades[2:]]
    expected = np.maximum(density(MAPS), density(MAPS**4)).max(axis=(1, 2))
    for row, highest in zip(rows, expected, strict=True):
        for shade in row:
            np.testing.assert_allclose(shade.get_clim(), (0, highest), rtol=1e-5)
    assert rows[0][0].get_clim() != rows[1][0].get_clim()  # the scale is the row's, not the figure's


def test_titles_labels_boxes_and_notes_are_drawn() -> None:
    figure = cam_figure(
        columns(), IMAGES, LABELS, boxes=[Box(2, 3, 10, 13), None], title="CUB", notes=["One note.", "Another."]
    )
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["Image", "Random init", "BYOL"]
    assert [text.get_text() for text in figure.texts] == ["CUB", "One note. Another."]
    labels = [text for axes in figure.axes for text in axes.texts if "Costs" in text.get_text()]
    assert [text.get_parse_math() for text in labels] == [False]  # a dollar sign in a file name is no formula
    white = [p for axes in figure.axes for p in axes.patches if p.get_linewidth() == 0.6]
    corners = [p.get_patch_transform().transform([(0, 0), (1, 1)]).tolist() for p in white]
    assert corners == [[[1.5, 2.5], [9.5, 12.5]]] * 3  # edges of pixels, in each panel of the first row only


def test_a_zero_map_says_so() -> None:
    zeros = [CamColumn("dead", np.zeros_like(MAPS))]
    texts = [text.get_text() for axes in cam_figure(zeros, IMAGES, LABELS).axes for text in axes.texts]
    assert texts.count("zero map") == 2


def test_shapes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="no match"):
        cam_figure(columns(), IMAGES[:1], LABELS)
    with pytest.raises(ValueError, match="no match"):
        cam_figure(columns(), IMAGES, LABELS[:1])
    with pytest.raises(ValueError, match="no match"):
        contact_sheet(list(IMAGES), titles=["one"])


def test_saved_files_are_the_same_bytes_each_time_and_hold_no_date(tmp_path: Path) -> None:
    record = {"images": ["a.jpg", "é.jpg"]}
    first = save(cam_figure(columns(), IMAGES, LABELS), tmp_path / "cub.v1", record)
    second = save(cam_figure(columns(), IMAGES, LABELS), tmp_path / "again", record)
    assert [path.name for path in first] == ["cub.v1.pdf", "cub.v1.png", "cub.v1.json"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"CreationDate" not in first[0].read_bytes()
    assert b"/Type3" not in first[0].read_bytes()  # fonttype 42
    assert json.loads(first[2].read_text("utf-8")) == record
    assert len(save(cam_figure(columns(), IMAGES, LABELS), tmp_path / "bare")) == 2


def test_contact_sheet_outlines_masks_of_any_type_and_leaves_the_rest_alone() -> None:
    grey = [np.full((40, 60, 3), 128, dtype=np.uint8)] * 3
    inside = np.zeros((40, 60))
    inside[10:30, 10:30] = 1
    plain = np.asarray(contact_sheet(grey, columns=3))
    sheets = [
        np.asarray(contact_sheet(grey, masks=[None, mask, None], columns=3))
        for mask in (inside, inside > 0, (inside * 255).astype(np.uint8))
    ]
    for sheet in sheets:
        np.testing.assert_array_equal(sheet, sheets[0])
        changed = np.flatnonzero((sheet != plain).any(axis=(0, 2))) / sheet.shape[1]
        assert 1 / 3 < changed.min() < changed.max() < 2 / 3  # in the second picture, and nowhere else


def test_contact_sheet_takes_pictures_of_different_sizes(tmp_path: Path) -> None:
    sheet = contact_sheet([IMAGES[0], IMAGES[0, :10, :10], IMAGES[1]], titles=["a", "b", "c"], columns=2)
    assert sheet.mode == "RGB"
    assert sheet.size == (450, 495)  # two columns, two rows, 150 dpi
    sheet.save(tmp_path / "sheet.png")


def test_drawing_leaves_pyplot_alone() -> None:
    program = (
        "import sys, numpy as np; from analysis.figures.style import *\n"
        "i = np.zeros((1, 8, 8, 3), np.uint8); cam_figure([CamColumn('x', np.ones((1, 8, 8)))], i, ['y'])\n"
        "contact_sheet(list(i)); sys.exit('pyplot' if 'matplotlib.pyplot' in sys.modules else None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

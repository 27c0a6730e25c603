"""Figures of all views on synthetic birds, as `suite data preview` makes them."""

from __future__ import annotations

from pathlib import Path

from methods.registry import VIEWS

MARK = "<!-- The documentation site shows the figures of all views here. -->"
_PROFILE = Path(__file__).with_name("views.yaml")
_IMAGES = 2
_WIDTH = 1100  # px of a figure


def write_figures(folder: Path) -> dict[str, Path]:
    """One picture per view, in `folder`."""
    from PIL import Image

    from analysis.figures.views_preview import preview_sheet
    from suite.workspace import Workspace

    workspace, figures = Workspace.of(folder / "data", folder / "runs"), {}
    for name in VIEWS:
        path = preview_sheet(workspace, "cub", name, str(_PROFILE), [], _IMAGES, 0, folder / f"{name}.png")
        with Image.open(path) as sheet:
            sheet.thumbnail((_WIDTH, 2 * _WIDTH))
            sheet.convert("RGB").quantize(256).save(path, optimize=True)
        figures[name] = path
    return figures


def figure_section(lines: dict[str, str]) -> str:
    """Markdown that shows them. `lines`: a sentence per view."""
    sections = [
        "Two synthetic birds per view, with the paper's recipe at 224 px: the image, then each view before and after "
        "its colour changes. Masks and boxes that a view carries are outlined."
    ]
    sections += [f"### {name}\n\n{line}\n\n![The view {name}](images/views/{name}.png)" for name, line in lines.items()]
    return "\n\n".join(sections)
